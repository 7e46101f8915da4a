"""What work with a model will cost, told before it is done: time from numbers of operations and a measured speed.

Only products with weight matrices are counted. That, and the speed of one product, makes estimates that are right to
about a factor of 1.5 for models whose layers are wide and rows short.
"""

import math
import time
from dataclasses import dataclass

import torch

from gossamer.display import brief
from gossamer.model.language_model import LanguageModel
from gossamer.progress import duration

# Libraries, tokenizer and what a pass holds for a moment, in bytes.
_BASE = 800 * 2**20
_ROWS, _TRIES = 512, 3
# Of the speed of large products, what a pass with its norms, attention and many smaller products reaches.
_REACHED = 0.75
# Operations of a pass that one of the head's is worth: products of few rows with a wide vocabulary are slower, and
# softmaxes are taken of their outcome.
HEAD = 1.5


@dataclass(frozen=True)
class Cost:
    """Seconds, and bytes of memory beside the libraries and the model."""

    seconds: float
    nbytes: int

    def told(self, model: LanguageModel) -> str:
        """In words, for the whole process."""
        weights = sum(parameter.nbytes for parameter in model.hf.parameters())
        size = (_BASE + weights + self.nbytes) / 2**30
        return f"about {duration(self.seconds)} and {size:.1f} GiB of memory ({brief(model.dtype)} on {model.device})"


def pass_operations(model: LanguageModel, first: int = 0, stop: int | None = None) -> float:
    """Floating-point operations for each token in the layers from `first` to `stop` (exclusive; default: the last)."""
    layers = list(model.anatomy.layers)[first:stop]
    return 2.0 * sum(weight.numel() for layer in layers for weight in layer.parameters() if weight.dim() > 1)


def head_operations(model: LanguageModel) -> float:
    """Floating-point operations for the logits of one position."""
    return 2.0 * model.d_model * model.d_vocab


@torch.no_grad()
def operations_per_second(model: LanguageModel) -> float:
    """What passes of this model reach here and now; measured on one product of an MLP's size, in some milliseconds."""
    x = torch.ones(_ROWS, model.d_model, dtype=model.dtype, device=model.device)
    weight = torch.ones(4 * model.d_model, model.d_model, dtype=model.dtype, device=model.device)
    best = math.inf
    # The first one loads code, and others may be interrupted.
    for _ in range(1 + _TRIES):
        begun = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        best = min(best, time.perf_counter() - begun)
    return _REACHED * 2 * x.numel() * len(weight) / best
