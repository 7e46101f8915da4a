"""In which units the one threshold of the oldest Llama Scope files is: measured on activations, not guessed.

Their makers' code compares the number with pre-activations of the scaled input. SAELens multiplies it by the input's
scale first, as if it were in the model's own units, and the published numbers do grow with the mean norm at the
output. So every reading is tried on what the model has at the site, and the one that yields the published L0 is taken.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.errors import GossamerError, UsageError
from gossamer.finite import require_finite

NEAR = 1.5
_FEWEST_TOKENS = 16
_BLOCK_VALUES = 2**24


@dataclass(frozen=True)
class Threshold:
    """A threshold whose units were measured.

    Attributes:
        value: to be compared with pre-activations (times decoder norms, where these count).
        reading: what was done to the number in the file.
        l0: latents per token that it leaves on the activations given.
        published: latents per token as the makers state.
    """

    value: float
    reading: str
    l0: float
    published: float


def settle(
    readings: Mapping[str, float],
    scores: Mapping[str, float],
    published: float,
    path: Path,
) -> Threshold:
    """The reading whose L0 is within a factor NEAR of the published one.

    Args:
        readings: thresholds by what was done to the number in the file.
        scores: the mean L0 that each of them leaves (:func:`mean_l0`).
        published: the mean L0 that the makers state.
        path: the file, for messages.

    Raises:
        GossamerError: no reading is near the published L0, or several are.
    """
    near = [reading for reading in readings if published / NEAR <= scores[reading] <= published * NEAR]
    if len(near) == 1:
        return Threshold(readings[near[0]], near[0], scores[near[0]], published)
    found = ", ".join(f"{scores[reading]:.4g} with the threshold {reading}" for reading in readings)
    advice = (
        "give more tokens, by which they may differ more"
        if near
        else "give activations of its own site and model, on ordinary text without BOS"
    )
    raise GossamerError(
        f"{path}: expected one reading of the threshold to give an L0 near the published {published:g}, found {found}; "
        f"{advice}"
    )


def readings_of(stored: float, scale_in: float, scale_out: float) -> dict[str, float]:
    """The thresholds that a stored number may mean; equal ones only once."""
    found = {
        "as it stands": stored,
        "times the input's scale": stored * scale_in,
        "times the output's scale": stored * scale_out,
    }
    return {
        reading: value
        for index, (reading, value) in enumerate(found.items())
        if not any(math.isclose(value, earlier) for earlier in list(found.values())[:index])
    }


def mean_l0(
    activations: Float[Tensor, "*tokens d"],
    tensors: Mapping[str, Tensor],
    gates: Float[Tensor, "n"] | None,
    thresholds: Mapping[str, float],
    path: Path,
) -> dict[str, float]:
    """Mean number of latents above each threshold.

    Args:
        activations: what the model has at the site, not scaled.
        tensors: W_enc (d, n) and b_enc (n), with the input's scale folded in.
        gates: factors of the pre-activations before they are compared; None: none.
        thresholds: by name.
        path: the file, for messages.

    Memory: at most 2**24 pre-activations at once, or those of one token.

    Raises:
        UsageError: fewer than 16 tokens, or vectors of another width.
        NotFiniteError: an activation is not finite.
    """
    d_in, n_latents = tensors["W_enc"].shape
    if activations.shape[-1] != d_in or activations.numel() < _FEWEST_TOKENS * d_in:
        raise UsageError(
            f"{path}: expected activations of at least {_FEWEST_TOKENS} tokens of width {d_in}, found shape "
            f"{tuple(activations.shape)}"
        )
    x = require_finite(activations.detach().reshape(-1, d_in), "activations").to(tensors["W_enc"])
    counts = dict.fromkeys(thresholds, 0)
    for block in torch.split(x, max(1, _BLOCK_VALUES // n_latents)):
        pre = block @ tensors["W_enc"] + tensors["b_enc"]
        score = pre if gates is None else pre * gates
        for name, threshold in thresholds.items():
            counts[name] += int((score > threshold).sum())
    return {name: count / len(x) for name, count in counts.items()}
