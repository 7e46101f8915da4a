"""The activation functions of the architectures.

Their gradient in the pre-activations is that of the function where it is smooth: the incoming gradient at active
latents, zero elsewhere. No straight-through estimator acts here; training objectives bring their own.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def relu(pre: Float[Tensor, "*tokens n"]) -> Float[Tensor, "*tokens n"]:
    """max(pre, 0)."""
    return torch.relu(pre)


def jumprelu(pre: Float[Tensor, "*tokens n"], threshold: Float[Tensor, "..."]) -> Float[Tensor, "*tokens n"]:
    """ReLU(pre) where pre > threshold, else 0 (Rajamanoharan et al. 2024, arXiv 2407.14435).

    `threshold` is one number per latent, or one for all: that is BatchTopK at inference
    (Bussmann et al. 2024, arXiv 2412.06410).
    """
    # A product, not torch.where: a NaN must stay visible instead of comparing as inactive.
    return torch.relu(pre) * (pre > threshold)


def topk(pre: Float[Tensor, "*tokens n"], k: int) -> tuple[Float[Tensor, "*tokens {k}"], Int[Tensor, "*tokens {k}"]]:
    """The k largest pre-activations, then ReLU (Gao et al. 2024, arXiv 2406.04093): values and latent indices."""
    values, indices = pre.topk(k, dim=-1)
    return torch.relu(values), indices


def gated(
    projection: Float[Tensor, "*tokens n"],
    b_gate: Float[Tensor, "n"],
    b_mag: Float[Tensor, "n"],
    r_mag: Float[Tensor, "n"],
) -> Float[Tensor, "*tokens n"]:
    """ReLU(exp(r_mag) * projection + b_mag) where projection + b_gate > 0, else 0.

    `projection` is the input times W_enc, without bias; both paths share it (Rajamanoharan et al.,
    arXiv 2404.16014).
    """
    magnitude = torch.relu(projection * r_mag.exp() + b_mag)
    return magnitude * (projection + b_gate > 0)
