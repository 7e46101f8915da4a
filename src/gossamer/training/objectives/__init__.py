"""What a dictionary is asked for while it learns: one objective a file, each a frozen record of its own settings.

Every objective is a function of plain tensors. Its loss is that of its paper, with squared errors summed over the d
dimensions and averaged over tokens, then divided by d as a whole: coefficients mean what they mean there, and the
gradient's norm, which is clipped, does not grow with d.
"""

from gossamer.training.objectives.auxk import AuxK
from gossamer.training.objectives.batchtopk import BatchTopK
from gossamer.training.objectives.gated import Gated
from gossamer.training.objectives.jumprelu import JumpReLU, QuadraticL0, StepL0, TanhPenalty
from gossamer.training.objectives.l1 import L1
from gossamer.training.objectives.matryoshka import Matryoshka
from gossamer.training.objectives.norm_weighted_l1 import NormWeightedL1
from gossamer.training.objectives.objective import Objective, ObjectiveOutput, StepContext
from gossamer.training.objectives.topk import TopK

__all__ = [
    "L1",
    "AuxK",
    "BatchTopK",
    "Gated",
    "JumpReLU",
    "Matryoshka",
    "NormWeightedL1",
    "Objective",
    "ObjectiveOutput",
    "QuadraticL0",
    "StepContext",
    "StepL0",
    "TanhPenalty",
    "TopK",
]
