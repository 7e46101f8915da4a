"""Prompts that a model fails on, sought with its circuit and without, at equal cost: does knowing the circuit help?"""

from gossamer.circuits.adversarial.edits import EditSpace, PromptEdit, Recipe, edit_space
from gossamer.circuits.adversarial.prompt_record import PromptRecord
from gossamer.circuits.adversarial.results import FORMAT, AdversarialResults
from gossamer.circuits.adversarial.seeds import SeedStudy, study_seeds
from gossamer.circuits.adversarial.settings import AdversarialSettings
from gossamer.circuits.adversarial.study import adversarial_study
from gossamer.circuits.adversarial.worst import WorstCase, WorstCaseSettings, worst_case

__all__ = [
    "FORMAT",
    "AdversarialResults",
    "AdversarialSettings",
    "EditSpace",
    "PromptEdit",
    "PromptRecord",
    "Recipe",
    "SeedStudy",
    "WorstCase",
    "WorstCaseSettings",
    "adversarial_study",
    "edit_space",
    "study_seeds",
    "worst_case",
]
