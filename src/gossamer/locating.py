"""Where the files of a model are, from what was typed."""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

from gossamer.errors import UsageError
from gossamer.files import read_json

BUNDLED = "bundled:"
_GGUF = b"GGUF"


@dataclass(frozen=True)
class Located:
    """A model's files, as transformers finds them.

    Attributes:
        name: what was typed, for messages.
        location: a folder or a Hugging Face id.
        options: what else transformers has to be told.
        adapter: folder of a PEFT adapter that belongs on top.
    """

    name: str
    location: str
    options: dict[str, str] = field(default_factory=dict)
    adapter: Path | None = None


def locate(source: str | Path) -> Located:
    """The files of a folder of a model or of a PEFT adapter, of a GGUF file, `bundled:NAME` or a Hugging Face id.

    Raises:
        UsageError: there are none, or a package that reads them is missing.
    """
    text = str(source)
    if text.startswith(BUNDLED):
        from gossamer import bundled

        return Located(text, str(bundled.path(text.removeprefix(BUNDLED))))
    path = Path(text).expanduser()
    if path.is_dir():
        if (path / "config.json").is_file():
            return Located(text, str(path))
        if (path / "adapter_config.json").is_file():
            return _adapter(text, path)
        raise UsageError(f"{path}: expected a model folder with config.json, found none")
    if path.is_file() and _is_gguf(path):
        _require("gguf", f"{text}: a GGUF file")
        return Located(text, str(path.parent), {"gguf_file": path.name})
    if isinstance(source, Path) or text.startswith((".", "~", "/")) or text.count("/") > 1 or path.exists():
        raise UsageError(f"{text}: no such folder; give a model folder, a GGUF file, a Hugging Face id or bundled:NAME")
    return Located(text, text)


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_GGUF)) == _GGUF


def _adapter(text: str, path: Path) -> Located:
    config = read_json(path / "adapter_config.json")
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not isinstance(base, str) or not base:
        raise UsageError(
            f"{text}: an adapter whose adapter_config.json names no base model; add base_model_name_or_path"
        )
    _require("peft", f"{text}: a PEFT adapter")
    if (path / "adapter_config.json").resolve().parent == Path(base).expanduser().resolve():
        raise UsageError(f"{text}: an adapter that names itself as its base model; correct base_model_name_or_path")
    found = locate(base)
    if found.adapter is not None:
        raise UsageError(f"{text}: an adapter on top of another adapter, {base}; merge that one into its model first")
    return Located(text, found.location, found.options, path)


def _require(package: str, what: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UsageError(f"{what}, which takes the package {package} to read: pip install 'gossamer[{package}]'")
