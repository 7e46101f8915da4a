"""Models whose features are known: toy models of superposition, and programs compiled into transformers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.toys.compiler import Compiled, compile_program
    from gossamer.toys.compression import compress
    from gossamer.toys.known import known_circuit, labelled_dictionaries, labelled_dictionary
    from gossamer.toys.parts import SHARP, SMOOTH, Sharpness
    from gossamer.toys.programs import PROGRAMS
    from gossamer.toys.recovery import Recovery, measure_recovery
    from gossamer.toys.superposition import FeatureGroup, SuperpositionConfig, SuperpositionModel, train_superposition
    from gossamer.toys.task import program_task

_HOMES = {
    "PROGRAMS": "gossamer.toys.programs",
    "SHARP": "gossamer.toys.parts",
    "SMOOTH": "gossamer.toys.parts",
    "Compiled": "gossamer.toys.compiler",
    "FeatureGroup": "gossamer.toys.superposition",
    "Recovery": "gossamer.toys.recovery",
    "Sharpness": "gossamer.toys.parts",
    "SuperpositionConfig": "gossamer.toys.superposition",
    "SuperpositionModel": "gossamer.toys.superposition",
    "compile_program": "gossamer.toys.compiler",
    "compress": "gossamer.toys.compression",
    "known_circuit": "gossamer.toys.known",
    "labelled_dictionaries": "gossamer.toys.known",
    "labelled_dictionary": "gossamer.toys.known",
    "measure_recovery": "gossamer.toys.recovery",
    "program_task": "gossamer.toys.task",
    "train_superposition": "gossamer.toys.superposition",
}

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


def __getattr__(name: str) -> Any:
    # Loaded on first use: writing a program needs no torch.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gossamer.toys' has no attribute {name!r}")
