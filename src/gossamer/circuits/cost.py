"""What circuits cost: what is spared where every pass is expensive, and what is said before long work."""

from collections.abc import Sequence

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


# Gradients of a prompt that a ranking takes, by its score; integrated gradients as many at every site.
_GRADIENTS = {
    "integrated gradients": 10.0,
    "EAP-IG inputs": 5.0,
    "attribution patching": 1.0,
    "RelP": 1.0,
    "activation difference": 0.0,
    "random": 0.0,
}
# Of a gradient, what a pass without one takes; of a search, what exact steps at all sizes take, and at one.
_PASS, _IMPROVING, _IMPROVING_ONE = 0.4, 2.0, 0.3
# Passes of the held-out prompts for all else that a report has, but its comparison: cards, completeness, single errors.
_REPORT_PASSES = 120


def report_seconds(
    search: float, gradients: int, methods: Sequence[str], sites: int, training: int, held_out: int, reruns: int
) -> float:
    """Seconds that it takes to measure a circuit in full, about, from what its search took.

    Args:
        search: seconds of the mask search, and `gradients` of a prompt in it.
        methods: rankings beside it; any other method is not counted (:func:`uncounted`).
        sites, training, held_out: dictionaries, and prompts on each side.
        reruns: searches on samples of the prompts; with any, two on halves of them follow.
    """
    each, scores = search / gradients, {*map(_score, methods)} & set(_GRADIENTS)
    ranked = sum(_GRADIENTS[score] * (sites if score == "integrated gradients" else 1) for score in scores)
    sizes = 20
    compared = ranked * training + _PASS * held_out * (sizes * (1 + len(methods)) + _REPORT_PASSES)
    again = (1 + _IMPROVING_ONE) * (reruns + 2 if reruns else 0)
    return each * compared + search * (_IMPROVING + again)


def uncounted(methods: Sequence[str]) -> list[str]:
    """Those of the methods that :func:`report_seconds` knows nothing of: searches of their own."""
    return [method for method in methods if _score(method) not in _GRADIENTS]


def _score(method: str) -> str:
    """The score that a ranking is of."""
    return method.removesuffix(", signed").removesuffix(" by site")


def affordable(splice: Splice, most: int, least: int) -> int:
    """:func:`spared` for the passes of a splice."""
    each = prompt_operations(splice.model, splice.prompts.network.start, splice.examples)
    return spared(splice.model, each, most, least)


def first_prompts(splice: Splice, count: int) -> Int[Tensor, "rows"]:
    """Positions of the first `count` prompts; a task's prompts are in random order."""
    return torch.arange(min(count, len(splice.examples)), device=splice.model.device)
