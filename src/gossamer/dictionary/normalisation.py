"""What is done to each token's vector before encoding, and undone after decoding."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.display import short_repr


@dataclass(frozen=True)
class Statistics:
    """What was removed from each token: a reconstruction is `out * scale + shift`."""

    scale: Float[Tensor, "*tokens one"]
    shift: Float[Tensor, "*tokens one"]

    __repr__ = short_repr


def normalise(x: Float[Tensor, "*tokens d"], kind: str) -> tuple[Float[Tensor, "*tokens d"], Statistics | None]:
    """Normalise each token's vector; returns it with what :func:`denormalise` needs to undo it.

    none: unchanged. centre: minus its mean (a model whose writing weights were centred). layer_norm:
    (x - mean) / (std + 1e-5) with the unbiased std and the constant outside the root (OpenAI, SAELens).
    constant_norm_rescale: to norm sqrt(d) (SAELens); a zero vector stays zero.
    """
    if kind == "none":
        return x, None
    if kind == "constant_norm_rescale":
        scale = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
        return x / scale.clamp(min=torch.finfo(x.dtype).tiny), Statistics(scale, torch.zeros_like(scale))
    mean = x.mean(dim=-1, keepdim=True)
    if kind == "centre":
        return x - mean, Statistics(torch.ones_like(mean), mean)
    std = x.std(dim=-1, keepdim=True)
    return (x - mean) / (std + 1e-5), Statistics(std, mean)


def linear_part(
    x: Float[Tensor, "*tokens d"], normal: Float[Tensor, "*tokens d"], kind: str
) -> tuple[Float[Tensor, "*tokens one"] | None, bool]:
    """What :func:`normalise` did to `x` as a linear map at the scale it found: a factor a token, and whether the mean
    went first; `normal` is what it returned. None: there is no factor.
    """
    if kind in ("none", "centre"):
        return None, kind == "centre"
    centred = kind == "layer_norm"
    before = x - x.mean(dim=-1, keepdim=True) if centred else x
    # The ratio of norms, which no zero coordinate disturbs.
    return normal.to(x).norm(dim=-1, keepdim=True) / before.norm(dim=-1, keepdim=True).clamp(min=1e-30), centred


def denormalise(out: Float[Tensor, "*tokens d"], statistics: Statistics | None) -> Float[Tensor, "*tokens d"]:
    """Undo :func:`normalise` on a decoder's output."""
    return out if statistics is None else out * statistics.scale + statistics.shift
