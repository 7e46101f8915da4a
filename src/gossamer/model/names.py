"""What models are called: names for readers, without this machine's paths, and whether two names mean one model."""

import re
from pathlib import Path

# Names of folders that say nothing of the model in them.
_NAMELESS = re.compile(r"hf|models?|weights|final|last|best|checkpoint(-\d+)?|[0-9a-f]{40}")
# Names that TransformerLens gives to models which the hub calls otherwise.
_ALIASES = {"gpt2-small": "gpt2"}


def title_of(name: str) -> str:
    """The name for readers of the model that was loaded from `name`.

    Of a local model its folder's name, with that of the folder above where it says nothing ("hf", "checkpoint-9");
    of a snapshot that the hub's client keeps, the model's id; of a GGUF file that its weights were dequantised.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return f"{path.name} (dequantised)"
    if not path.is_dir():
        return name
    *_, cached, above, folder = ("", "", *path.resolve().parts)
    if above == "snapshots" and cached.startswith("models--"):
        return cached.removeprefix("models--").replace("--", "/")
    return f"{above}/{folder}" if _NAMELESS.fullmatch(folder.lower()) else folder


def same_model(one: str, other: str) -> bool:
    """Whether two names mean one model, as far as names say: owners and folders above do not count."""
    return _key(one) == _key(other)


def _key(name: str) -> str:
    *above, last = title_of(name).rstrip("/").casefold().split("/")
    key = f"{above[-1]}/{last}" if above and _NAMELESS.fullmatch(last) else last
    return _ALIASES.get(key, key)
