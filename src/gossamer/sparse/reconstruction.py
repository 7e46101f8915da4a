"""The sparse pass through the few latents of a batch that are active, forwards and backwards.

Of tokens * n_latents pre-activations a few in a thousand survive, so everything after the encoder's product works on
those alone.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.sparse.latents import SparseLatents


def reconstruct(
    x: Float[Tensor, "tokens d"],
    W_enc: Float[Tensor, "d n"],
    b_enc: Float[Tensor, "n"],
    W_dec: Float[Tensor, "n d"],
    latents: SparseLatents,
) -> Float[Tensor, "tokens d"]:
    """The latents times W_dec, differentiable in x, W_enc, b_enc and W_dec with the active set held fixed.

    Their activations are x @ W_enc + b_enc at the entries, without autograd; b_dec is the caller's to add.
    """
    return _SparseReconstruction.apply(x, W_enc, b_enc, W_dec, latents.activations, latents, latents)  # type: ignore[no-untyped-call]


def reconstruct_parts(
    x: Float[Tensor, "tokens d"],
    W_enc: Float[Tensor, "d n"],
    b_enc: Float[Tensor, "n"],
    W_dec: Float[Tensor, "n d"],
    latents: SparseLatents,
    bounds: Sequence[int],
) -> Float[Tensor, "tokens parts d"]:
    """As :func:`reconstruct`, but what each part of the latents writes by itself (see :meth:`SparseLatents.in_parts`).

    One sparse product for all parts.
    """
    parts, values = latents.in_parts(bounds), latents.activations
    written = _SparseReconstruction.apply(x, W_enc, b_enc, W_dec, values, latents, parts)  # type: ignore[no-untyped-call]
    return written.reshape(*parts.shape, -1)


class _SparseReconstruction(torch.autograd.Function):
    """`latents` say where entries were read, `written` in which rows the same entries are decoded.

    Under autocast the sparse products are in float32: they are no time, and in bfloat16 there are none.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any,
        x: Tensor,
        W_enc: Tensor,
        b_enc: Tensor,
        W_dec: Tensor,
        values: Tensor,
        latents: SparseLatents,
        written: SparseLatents,
    ) -> Tensor:
        ctx.latents, ctx.written = latents, written
        ctx.save_for_backward(x, W_enc, W_dec, values)
        return written.sums(values, W_dec)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        latents: SparseLatents = ctx.latents
        written: SparseLatents = ctx.written
        x, W_enc, W_dec, values = ctx.saved_tensors
        # An entry of 0 is one that fills a row: it is chosen, and not active.
        d_values = written.products(gradient, W_dec) * (values != 0)
        order = latents.order
        read = latents.by_latent(order)
        decoded = read if written is latents else written.by_latent(order)
        d_read = d_values[order]
        d_W_dec = decoded.sums(values[order], gradient)
        d_W_enc = read.sums(d_read, x).t()
        # As a product too: sums in no order would differ from run to run on a GPU.
        d_b_enc = read.sums(d_read, x.new_ones(len(x), 1))[:, 0]
        d_x = latents.sums(d_values, W_enc.t()) if ctx.needs_input_grad[0] else None
        return d_x, d_W_enc, d_b_enc, d_W_dec, None, None, None
