r"""Step and JumpReLU with a gradient for their thresholds (Rajamanoharan et al. 2024, arXiv 2407.14435).

Both jump at the threshold, so their derivative in it is a Dirac pulse, of which a batch sees nothing. The estimate
replaces the pulse by a rectangle of width `bandwidth` and height 1 / bandwidth, K((pre - threshold) / bandwidth):

    d step(pre)     / d threshold = -K / bandwidth
    d jumprelu(pre) / d threshold = -threshold * K / bandwidth

and, where asked for (Anthropic, Circuits Updates January 2025), the negative of each in `pre`, so that the encoder
learns from it too. Else `pre` gets the true gradient where there is one.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def step(
    pre: Float[Tensor, "tokens n"], threshold: Float[Tensor, "n"], bandwidth: float, *, through_encoder: bool
) -> Float[Tensor, "tokens n"]:
    """1 where pre > threshold, else 0."""
    return _Jump.apply(pre, threshold, bandwidth, through_encoder, False)  # type: ignore[no-untyped-call]


def jumprelu(
    pre: Float[Tensor, "tokens n"], threshold: Float[Tensor, "n"], bandwidth: float, *, through_encoder: bool
) -> Float[Tensor, "tokens n"]:
    """`pre` where it exceeds its threshold, which must not be negative, else 0."""
    return _Jump.apply(pre, threshold, bandwidth, through_encoder, True)  # type: ignore[no-untyped-call]


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float, through_encoder: bool, linear: bool
    ) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.settings = bandwidth, through_encoder, linear
        above = (pre > threshold).to(pre)
        return pre * above if linear else above

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        pre, threshold = ctx.saved_tensors
        bandwidth, through_encoder, linear = ctx.settings
        height = threshold / bandwidth if linear else 1 / bandwidth
        # Strictly inside the rectangle, as in the libraries this is compared with.
        pulse = (((pre - threshold) / bandwidth).abs() < 0.5) * gradient * height
        smooth = gradient * (pre > threshold) if linear else torch.zeros_like(gradient)
        return smooth + pulse if through_encoder else smooth, -pulse.sum(dim=0), None, None, None
