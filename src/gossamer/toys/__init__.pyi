from .compiler import Compiled, compile_program
from .compression import compress
from .known import known_circuit, labelled_dictionaries, labelled_dictionary
from .parts import SHARP, SMOOTH, Sharpness
from .programs import PROGRAMS
from .recovery import Recovery, measure_recovery
from .superposition import FeatureGroup, SuperpositionConfig, SuperpositionModel, train_superposition
from .task import program_task

__all__ = [
    "PROGRAMS",
    "SHARP",
    "SMOOTH",
    "Compiled",
    "FeatureGroup",
    "Recovery",
    "Sharpness",
    "SuperpositionConfig",
    "SuperpositionModel",
    "compile_program",
    "compress",
    "known_circuit",
    "labelled_dictionaries",
    "labelled_dictionary",
    "measure_recovery",
    "program_task",
    "train_superposition",
]
