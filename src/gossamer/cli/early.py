"""What can be refused at once: paths with nothing there and numbers that cannot be meant.

Commands call these before they import what computes: a mistake in the line costs no seconds of imports and of reading a
model. Nothing here may import torch.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gossamer.errors import UsageError

_FACTS = ("site", "model_name", "format", "norm_scaling_factor")
# Endings of files of prompts, as gossamer.tasks.published has them.
_PROMPTS = (".json", ".jsonl", ".csv")


def require_dictionaries(sources: Sequence[str] | None) -> None:
    """Refuse a folder or file of dictionaries that is not there."""
    for source in sources or ():
        if not source.startswith("hub:") and not Path(source).exists():
            raise UsageError(f"{source}: no such file or folder; give a dictionary's folder, or hub:owner/repo/path")


def dictionary_facts(given: Sequence[str] | None) -> dict[str, Any]:
    """What `--fact` said, as arguments of :meth:`Dictionary.load`."""
    found: dict[str, Any] = {}
    for fact in given or ():
        name, equals, value = fact.partition("=")
        if name not in _FACTS or not equals or not value or name in found:
            raise UsageError(f"--fact: each of {'=, '.join(_FACTS)}= once expected, with a value, found {fact!r}")
        try:
            found[name] = float(value) if name == "norm_scaling_factor" else value
        except ValueError:
            raise UsageError(f"--fact: norm_scaling_factor=NUMBER expected, found {fact!r}") from None
    return found


def require_texts(paths: Iterable[Path]) -> None:
    """Refuse a text that is not there."""
    for path in paths:
        if not str(path).startswith("hub:") and not path.exists():
            raise UsageError(f"{path}: no such file; give the path of an existing file or folder of text")


def require_task(name: str | None) -> None:
    """Refuse a file of prompts that is not there; names of tasks are looked up later."""
    if name is not None and name.lower().endswith(_PROMPTS) and not Path(name).is_file():
        raise UsageError(
            f"{name}: no such file; give the path of an existing file of prompts (JSON, JSON lines or CSV)"
        )


def require_store(url: str | None) -> None:
    """Refuse a local folder that is no feature store; URLs are looked at later."""
    if url is not None and "://" not in url and not (Path(url) / "store.json").is_file():
        raise UsageError(f"{url}: a feature store expected, found no store.json; build one first")


def require_files(paths: Iterable[Path] | None, what: str) -> None:
    """Refuse files that are not there."""
    for path in paths or ():
        if not path.is_file():
            raise UsageError(f"{path}: no such file; give the path of an existing file of {what}")
