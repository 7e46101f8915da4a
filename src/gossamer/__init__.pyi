from . import bundled, circuits, dictionary, errors, jax, model, report, tasks, toys, training
from .circuits.circuit import Circuit
from .circuits.evaluate.rerun import evaluate_circuit
from .circuits.findings import findings
from .circuits.search import SearchSettings
from .circuits.study import StudySettings, find_circuit
from .dictionary.dictionary import Dictionary
from .dictionary.set import DictionarySet
from .model.language_model import LanguageModel
from .model.site import Site
from .report.write import write_report
from .tasks.task import Task

__version__: str

__all__ = [
    "Circuit",
    "Dictionary",
    "DictionarySet",
    "LanguageModel",
    "SearchSettings",
    "Site",
    "StudySettings",
    "Task",
    "__version__",
    "bundled",
    "circuits",
    "dictionary",
    "errors",
    "evaluate_circuit",
    "find_circuit",
    "findings",
    "jax",
    "model",
    "report",
    "tasks",
    "toys",
    "training",
    "write_report",
]
