from . import (
    activations,
    attention,
    bundled,
    circuits,
    dictionary,
    errors,
    features,
    jax,
    model,
    replacement,
    report,
    results,
    sparse,
    steering,
    store,
    tasks,
    toys,
    training,
)
from .circuits.circuit import Circuit
from .circuits.evaluate.rerun import evaluate_circuit
from .circuits.find import find_circuit
from .circuits.findings import collect_findings
from .circuits.search import SearchSettings
from .circuits.study import StudySettings
from .dictionary.dictionary import Dictionary
from .dictionary.set import DictionarySet
from .features.cards import feature_cards
from .features.examples import ExampleSettings, top_examples
from .features.feature import Feature, Node
from .features.feature_card import FeatureCard
from .features.lens import logit_lens
from .model.language_model import LanguageModel
from .model.site import Site
from .replacement.replacement_model import ReplacementModel
from .report.write import write_report
from .store.build import build_store
from .store.feature_store import FeatureStore
from .tasks.task import Task

__version__: str

__all__ = [
    "Circuit",
    "Dictionary",
    "DictionarySet",
    "ExampleSettings",
    "Feature",
    "FeatureCard",
    "FeatureStore",
    "LanguageModel",
    "Node",
    "ReplacementModel",
    "SearchSettings",
    "Site",
    "StudySettings",
    "Task",
    "__version__",
    "activations",
    "attention",
    "build_store",
    "bundled",
    "circuits",
    "collect_findings",
    "dictionary",
    "errors",
    "evaluate_circuit",
    "feature_cards",
    "features",
    "find_circuit",
    "jax",
    "logit_lens",
    "model",
    "replacement",
    "report",
    "results",
    "sparse",
    "steering",
    "store",
    "tasks",
    "top_examples",
    "toys",
    "training",
    "write_report",
]
