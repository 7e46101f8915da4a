"""A trainer's parameters as a dictionary that works on raw activations."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.dictionary.config import Contents, DictionaryConfig
from gossamer.dictionary.dictionary import Dictionary
from gossamer.training.units import Units

# What stands after W_enc's product: each scales with its latent and takes up a shift of the input.
_BIASES = ("b_enc", "b_gate")


def folded(
    p: Mapping[str, Tensor], read: Units, written: Units, norms: Float[Tensor, "n"], *, pre_bias: bool
) -> dict[str, Tensor]:
    """The parameters on raw activations: units folded in, latent j in units in which it is `norms[j]` times as large.

    A latent that is larger by a factor, with a decoder row smaller by it, writes the same.
    """
    encoder = read.into @ p["W_enc"] * norms
    shift = read.mean @ encoder
    if pre_bias:
        shift = shift + p["b_dec"] @ p["W_enc"] * norms
    tensors = {
        "W_enc": encoder,
        "W_dec": written.directions(p["W_dec"]) / norms[:, None],
        "b_dec": written.directions(p["b_dec"][None])[0] + written.mean,
    }
    tensors |= {name: p[name] * norms - shift for name in _BIASES if name in p}
    if "b_mag" in p:
        tensors |= {"b_mag": p["b_mag"] * norms - shift * p["r_mag"].exp(), "r_mag": p["r_mag"]}
    if "threshold" in p:
        tensors["threshold"] = p["threshold"] * norms
    return {name: value.clone() for name, value in tensors.items()}


def latent_norms(p: Mapping[str, Tensor], written: Units, *, one: bool) -> Float[Tensor, "n"]:
    """Norms of the decoder's rows in the model's units; their mean for all where `one` is asked for.

    A row of norm 0 counts as 1: it writes nothing in any unit.
    """
    norms = written.directions(p["W_dec"]).norm(dim=1)
    norms = torch.where(norms > 0, norms, 1.0)
    return norms.mean().expand(len(norms)) if one else norms


def assembled(config: DictionaryConfig, tensors: Mapping[str, Tensor], provenance: dict[str, Any]) -> Dictionary:
    """A frozen dictionary with these parameters and no claims."""
    return Dictionary.from_contents(Contents(config, dict(tensors), provenance))
