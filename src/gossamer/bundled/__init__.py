"""The small model that ships with the package, and the seeded command that builds it.

`gossamer.bundled.path("spool")` is a folder that transformers' `AutoModelForCausalLM` and `AutoTokenizer` load; its
`dictionaries` folder holds the dictionaries trained on it. See `CARD.md` in that folder, and `gossamer.bundled.build`.
"""

from importlib import resources
from pathlib import Path

from gossamer.errors import UsageError


def names() -> list[str]:
    """The names that may follow `bundled:`."""
    return sorted(folder.name for folder in home().iterdir() if (folder / "model.safetensors").is_file())


def path(name: str) -> Path:
    """The folder of the bundled model `name`.

    Raises:
        UsageError: there is no such model; the message lists those there are.
    """
    if name not in names():
        raise UsageError(f"bundled:{name}: no such bundled model; expected one of {', '.join(names()) or 'none'}")
    return home() / name


def home() -> Path:
    """The folder of all bundled models."""
    # An installed package is a folder of files here: transformers cannot read weights out of an archive.
    return Path(str(resources.files(__name__)))
