"""What circuits cost: what is spared where every pass is expensive, and what is said before long work."""

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.circuits.splice import Splice
from gossamer.model.cost import pass_operations
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.prompt_pairs import PromptPairs

# Floating-point operations of one prompt's pass up to which nothing is spared on a CPU: two cores of a laptop do it in
# about 5 ms, and the whole job in minutes.
_CHEAP = 4e8


def prompt_operations(model: LanguageModel, start: Site, examples: PromptPairs) -> float:
    """Floating-point operations of one prompt's pass through the layers from `start` on, about."""
    first = (start.layer or 0) + (start.kind == "resid_post")
    return pass_operations(model, first) * examples.clean.tokens.mask.sum(dim=1).double().mean().item()


def spared(model: LanguageModel, each: float, most: int, least: int) -> int:
    """`most` of something; on a CPU fewer, in proportion, where `each` (a prompt's pass) is dear; not below `least`."""
    if model.device.type != "cpu":
        return most
    # A network without layers after its dictionaries costs nothing.
    return max(min(most, least), min(most, round(most * _CHEAP / max(each, 1.0))))


def affordable(splice: Splice, most: int, least: int) -> int:
    """:func:`spared` for the passes of a splice."""
    each = prompt_operations(splice.model, splice.prompts.network.start, splice.examples)
    return spared(splice.model, each, most, least)


def first_prompts(splice: Splice, count: int) -> Int[Tensor, "rows"]:
    """Positions of the first `count` prompts; a task's prompts are in random order."""
    return torch.arange(min(count, len(splice.examples)), device=splice.model.device)
