"""The check at load: are the facts of a family true of the model at hand?"""

from collections.abc import Iterator

import torch
from torch import Tensor

from gossamer.errors import GossamerError
from gossamer.model.language_model import LanguageModel, evaluating
from gossamer.model.site import Site
from gossamer.tokens import Tokens

# Largest root-mean-square difference, relative to the value's own size, that rounding may cause; wrong facts cause
# differences near 1. In half precision eager attention rounds its scores, which moves a pattern by several per cent.
_TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-6}
_HALF_TOLERANCE = 0.15


def check(model: LanguageModel) -> None:
    """Run a few tokens and compare what the family says with what the model does.

    Raises:
        GossamerError: something differs; the message names the family and the first difference.
    """
    tokens = _tokens(model)
    with torch.no_grad(), evaluating(model.hf):
        for what, found, expected in _claims(model, tokens):
            difference = _difference(found, expected)
            if not difference <= _TOLERANCE.get(model.dtype, _HALF_TOLERANCE):
                raise GossamerError(
                    f"{model.name}: the facts of family {model.family.name} do not hold: expected {what}, found a "
                    f"relative difference of {difference:.2g}; correct the Family (module paths, parallel, softcap)"
                )


def _tokens(model: LanguageModel) -> Tokens:
    length = min(6, model.n_context)
    ids = (torch.arange(2 * length) * 7919 + 13) % model.d_vocab
    return Tokens.full(ids.view(2, length))


def _difference(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    expected = expected.to(found.device).double()
    return float((found.double() - expected).norm() / expected.norm().clamp(min=1e-12))


def _claims(model: LanguageModel, tokens: Tokens) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(what is claimed, found, expected), one pass of the model for several claims."""
    sites = [site for kind in model.anatomy.kinds() for site in model.sites(kind)]
    values = _read(model, tokens, sites)
    for layer in range(model.n_layers):
        yield from _layer_claims(model, layer, values)
    logits = model.logits(tokens)
    raw = model.hf(input_ids=tokens.ids.to(model.device), use_cache=False).logits
    yield "logits as the model itself computes them", logits, raw
    last = values[Site("resid_post", model.n_layers - 1)]
    yield "unembed(last resid_post) == logits", model.unembed(last), logits
    with model.edit(dict.fromkeys(sites, torch.clone)):
        yield "logits unchanged by edits that change nothing", model.logits(tokens), logits


def _read(model: LanguageModel, tokens: Tokens, sites: list[Site]) -> dict[Site, Tensor]:
    try:
        return model.capture(tokens, sites)
    except KeyError as error:
        raise GossamerError(
            f"{model.name}: the facts of family {model.family.name} do not hold: {error.args[0]} is never reached "
            f"in a forward pass; correct the Family (module paths)"
        ) from error


def _layer_claims(model: LanguageModel, layer: int, values: dict[Site, Tensor]) -> Iterator[tuple[str, Tensor, Tensor]]:
    def at(kind: str) -> Tensor:
        return values[Site(kind, layer)]

    before = values[Site("resid_post", layer - 1) if layer else Site("embed")]
    yield f"resid_pre.{layer} == what came before", at("resid_pre"), before
    if not model.anatomy.parallel:
        yield f"resid_mid.{layer} == resid_pre + attn_out", at("resid_mid"), at("resid_pre") + at("attn_out")
    total = at("resid_pre") + at("attn_out") + at("mlp_out")
    yield f"resid_pre + attn_out + mlp_out == resid_post at layer {layer}", total, at("resid_post")
    repeated = at("v").repeat_interleave(model.n_heads // model.n_kv_heads, dim=2)
    mixed = torch.einsum("bhqk,bkhd->bqhd", at("pattern"), repeated).flatten(2)
    yield f"pattern @ v == z at layer {layer}", mixed, at("z")
    block = model.anatomy.layers[layer]
    norm, mlp_input = (
        block.get_submodule(model.family.mlp_norm),
        at("resid_pre" if model.anatomy.parallel else "resid_mid"),
    )
    yield f"mlp_in.{layer} == norm of the stream", norm(mlp_input), at("mlp_in")
