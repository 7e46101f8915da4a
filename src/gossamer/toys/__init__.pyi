from .compiler import Compiled, compile_program
from .compression import compress
from .feature_scores import Alignment, FeatureScores, align, score_features
from .known import known_circuit, labelled_dictionaries, labelled_dictionary
from .parts import SHARP, SMOOTH, Sharpness
from .programs import PROGRAMS
from .pursuit_learning import learn_by_pursuit
from .recovery import Recovery, measure_recovery
from .superposition import FeatureGroup, SuperpositionConfig, SuperpositionModel, train_superposition
from .synthetic_world import WORLDS, World, WorldConfig
from .task import program_task

__all__ = [
    "PROGRAMS",
    "SHARP",
    "SMOOTH",
    "WORLDS",
    "Alignment",
    "Compiled",
    "FeatureGroup",
    "FeatureScores",
    "Recovery",
    "Sharpness",
    "SuperpositionConfig",
    "SuperpositionModel",
    "World",
    "WorldConfig",
    "align",
    "compile_program",
    "compress",
    "known_circuit",
    "labelled_dictionaries",
    "labelled_dictionary",
    "learn_by_pursuit",
    "measure_recovery",
    "program_task",
    "score_features",
    "train_superposition",
]
