"""Weights of attention by head, whatever the family's way of storing them."""

from dataclasses import dataclass

import torch
from accelerate.utils import align_module_device
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.anatomy import Anatomy


@dataclass(frozen=True)
class AttentionWeights:
    """Attention of one layer as products from the left, head by head; zeros where the model has no bias.

    q_proj = attn_in @ W_Q + b_Q        likewise k_proj with W_K, and v with W_V
    attn_out = sum over heads of z[head] @ W_O[head] + b_O, but for a norm after attention

    Key and value heads are those of the model: query head h reads key head h // group. A multiplier of what attention
    adds (Granite) is in W_O and b_O. Query/key norms, rotations and clipping come after the projection and are not in
    here; the sites q_proj, k_proj, q and k show what they do.

    Attributes:
        group: query heads that share one key and value head; 1 unless queries are grouped.
    """

    W_Q: Float[Tensor, "head d_model d_head"]
    W_K: Float[Tensor, "kv_head d_model d_head"]
    W_V: Float[Tensor, "kv_head d_model d_head"]
    W_O: Float[Tensor, "head d_head d_model"]
    b_Q: Float[Tensor, "head d_head"]
    b_K: Float[Tensor, "kv_head d_head"]
    b_V: Float[Tensor, "kv_head d_head"]
    b_O: Float[Tensor, "d_model"]
    group: int

    __repr__ = short_repr


def attention_weights(anatomy: Anatomy, layer: int) -> AttentionWeights:
    """The weights of one layer, views of the model's own where these are plain matrices."""
    if anatomy.family.q is None or anatomy.family.k is None or anatomy.family.v is None:
        raise UsageError(f"family {anatomy.family.name} does not say where q, k and v are projected: add these fields")
    found = {}
    for which in ("q", "k", "v"):
        weight, bias = _linear(anatomy.part(layer, which), anatomy.d_model)
        name = which.upper()
        found[f"W_{name}"] = anatomy.heads(weight, which).transpose(0, 1)
        found[f"b_{name}"] = anatomy.heads(bias, which)
    weight, bias = _linear(anatomy.part(layer, "z"), anatomy.n_heads * anatomy.d_head)
    if anatomy.residual_multiplier != 1:
        weight, bias = weight * anatomy.residual_multiplier, bias * anatomy.residual_multiplier
    found |= {"W_O": torch.unflatten(weight, 0, (anatomy.n_heads, -1)), "b_O": bias}
    return AttentionWeights(**found, group=anatomy.n_heads // anatomy.n_kv_heads)


def _linear(module: nn.Module, d_in: int) -> tuple[Float[Tensor, "d_in d_out"], Float[Tensor, "d_out"]]:
    """Matrix and bias of a module that computes x @ W + b. One that keeps no plain matrix (an adapter) is run."""
    with align_module_device(module):
        if isinstance(module, Conv1D):
            return module.weight, module.bias
        if type(module) is nn.Linear:
            weight = module.weight.T
            return weight, weight.new_zeros(weight.shape[1]) if module.bias is None else module.bias
        reference = next(module.parameters())
        probes = torch.eye(d_in + 1, d_in, device=reference.device, dtype=torch.float32)
        kind = reference.dtype if reference.dtype.is_floating_point else torch.bfloat16
        out = module.forward(probes.to(kind))
        return out[:-1] - out[-1], out[-1]
