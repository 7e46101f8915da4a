"""The check at load: are the facts of a family true of the model at hand?"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gossamer.errors import GossamerError
from gossamer.model import attention
from gossamer.model.family import ATTENTION_KINDS
from gossamer.model.language_model import LanguageModel, evaluating
from gossamer.model.site import Site
from gossamer.tokens import Tokens

# Largest root-mean-square difference, relative to the value's own size. The same operations on the same numbers may
# differ by a little on a GPU; other ways to the same value differ by rounding. In half precision eager attention
# rounds its scores, which moves a pattern by several per cent; wrong facts cause differences near 1.
_SAME = 2e-3
_ROUNDED = 0.15


class _Claim(NamedTuple):
    what: str
    found: Tensor
    expected: Tensor
    rounded: bool = False

    def difference(self) -> float:
        if self.found.shape != self.expected.shape:
            return float("inf")
        expected = self.expected.to(self.found.device).double()
        return float((self.found.double() - expected).norm() / expected.norm().clamp(min=1e-12))

    def holds(self) -> bool:
        halves = self.found.dtype in (torch.bfloat16, torch.float16)
        return self.difference() <= (_ROUNDED if self.rounded and halves else _SAME)


def check(model: LanguageModel) -> None:
    """Run a few tokens and compare what the family says with what the model does.

    Raises:
        GossamerError: something differs; the message names the family and the first difference.
    """
    length = min(6, model.n_context)
    tokens = Tokens.full(((torch.arange(2 * length) * 7919 + 13) % model.d_vocab).view(2, length))
    with torch.no_grad(), evaluating(model.hf):
        for claim in _claims(model, tokens):
            if not claim.holds():
                raise GossamerError(
                    f"{model.name}: the facts of family {model.family.name} do not hold: expected {claim.what}, found "
                    f"a relative difference of {claim.difference():.2g}; "
                    f"correct the Family (module paths, parallel, softcap)"
                )


def _claims(model: LanguageModel, tokens: Tokens) -> Iterator[_Claim]:
    """One pass of the model for all claims about its layers, then one for each about its logits."""
    closed = () if attention.opens(model.anatomy) else ATTENTION_KINDS
    sites = [site for kind in model.anatomy.kinds() if kind not in closed for site in model.sites(kind)]
    values = model.capture(tokens, sites)
    for layer in range(model.n_layers):
        yield from _layer_claims(model, layer, values)
    logits = model.logits(tokens)
    raw = model.hf(input_ids=tokens.ids.to(model.device), use_cache=False).logits
    yield _Claim("logits as the model itself computes them", logits, raw)
    last = values[Site("resid_post", model.n_layers - 1)]
    yield _Claim("unembed(last resid_post) == logits", model.unembed(last), logits)
    with model.edit(dict.fromkeys(sites, torch.clone)):
        yield _Claim("logits unchanged by edits that change nothing", model.logits(tokens), logits)


def _layer_claims(model: LanguageModel, layer: int, values: dict[Site, Tensor]) -> Iterator[_Claim]:
    here = {site.kind: value for site, value in values.items() if site.layer == layer}
    before = values[Site("resid_post", layer - 1) if layer else Site("embed")]
    yield _Claim(f"resid_pre.{layer} == what came before", here["resid_pre"], before)
    if not model.anatomy.parallel:
        middle = here["resid_pre"] + here["attn_out"]
        yield _Claim(f"resid_mid.{layer} == resid_pre + attn_out", here["resid_mid"], middle, rounded=True)
    total = here["resid_pre"] + here["attn_out"] + here["mlp_out"]
    what = f"resid_pre + attn_out + mlp_out == resid_post at layer {layer}"
    yield _Claim(what, total, here["resid_post"], rounded=True)
    if "pattern" in here:
        repeated = here["v"].repeat_interleave(model.n_heads // model.n_kv_heads, dim=2)
        mixed = torch.einsum("bhqk,bkhd->bqhd", here["pattern"], repeated).flatten(2)
        yield _Claim(f"pattern @ v == z at layer {layer}", mixed, here["z"], rounded=True)
    norm = model.anatomy.layers[layer].get_submodule(model.family.mlp_norm)
    read = norm(here["resid_pre" if model.anatomy.parallel else "resid_mid"])
    yield _Claim(f"mlp_in.{layer} == norm of the stream", read, here["mlp_in"])
