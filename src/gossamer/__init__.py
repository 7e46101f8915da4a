"""gossamer: find, test and look at sparse feature circuits in language models."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.circuits.circuit import Circuit
    from gossamer.circuits.findings import findings
    from gossamer.circuits.study import StudySettings, find_circuit
    from gossamer.dictionary import Dictionary, DictionarySet
    from gossamer.model import LanguageModel, Site
    from gossamer.report import write_report
    from gossamer.tasks import Task

_HOMES = {
    "Circuit": "gossamer.circuits.circuit",
    "Dictionary": "gossamer.dictionary",
    "DictionarySet": "gossamer.dictionary",
    "LanguageModel": "gossamer.model",
    "Site": "gossamer.model",
    "StudySettings": "gossamer.circuits.study",
    "Task": "gossamer.tasks",
    "find_circuit": "gossamer.circuits.study",
    "findings": "gossamer.circuits.findings",
    "write_report": "gossamer.report",
}

__all__ = [
    "Circuit",
    "Dictionary",
    "DictionarySet",
    "LanguageModel",
    "Site",
    "StudySettings",
    "Task",
    "find_circuit",
    "findings",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `gossamer --help` need not wait for torch.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gossamer' has no attribute {name!r}")
