"""The check at load: are the facts of a family true of the model at hand?"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gossamer.errors import GossamerError
from gossamer.model import attention
from gossamer.model.editing import evaluating
from gossamer.model.kinds import named
from gossamer.model.language_model import LanguageModel
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
    closed = () if attention.opens(model.anatomy) else named(inside_attention=True)
    sites = [site for kind in model.kinds if kind not in closed for site in model.sites(kind)]
    values = model.capture(tokens, sites)
    for layer in range(model.n_layers):
        here = {site.kind: value for site, value in values.items() if site.layer == layer}
        before = values[Site("resid_post", layer - 1) if layer else Site("embed")]
        yield _Claim(f"resid_pre.{layer} == what came before", here["resid_pre"], before)
        yield from _stream_claims(model, layer, here)
        yield from _norm_claims(model, layer, here)
        yield from _attention_claims(model, layer, here)
    logits = model.logits(tokens)
    raw = model.hf(input_ids=tokens.ids.to(model.device), use_cache=False).logits
    yield _Claim("logits as the model itself computes them", logits, raw)
    last = values[Site("resid_post", model.n_layers - 1)]
    yield _Claim("unembed(last resid_post) == logits", model.unembed(last), logits)
    with model.edit(dict.fromkeys(sites, torch.clone)):
        yield _Claim("logits unchanged by edits that change nothing", model.logits(tokens), logits)


def _stream_claims(model: LanguageModel, layer: int, here: dict[str, Tensor]) -> Iterator[_Claim]:
    if not model.anatomy.parallel:
        middle = here["resid_pre"] + here["attn_out"]
        yield _Claim(f"resid_mid.{layer} == resid_pre + attn_out", here["resid_mid"], middle, rounded=True)
    total = here["resid_pre"] + here["attn_out"] + here["mlp_out"]
    what = f"resid_pre + attn_out + mlp_out == resid_post at layer {layer}"
    yield _Claim(what, total, here["resid_post"], rounded=True)


def _norm_claims(model: LanguageModel, layer: int, here: dict[str, Tensor]) -> Iterator[_Claim]:
    anatomy = model.anatomy
    reads = {"attn": "resid_pre", "mlp": "resid_pre" if anatomy.parallel else "resid_mid"}
    norms = {
        "attn": None if anatomy.family.attention_norm is None else anatomy.part(layer, "attention_norm"),
        "mlp": anatomy.mlp_norm(layer),
    }
    for part, norm in norms.items():
        x, inside = here[reads[part]], here[f"{part}_in"]
        if norm is None:
            yield _Claim(f"{part}_in.{layer} == the stream", inside, x)
            continue
        yield _Claim(f"{part}_in.{layer} == norm of the stream", inside, norm(x))
        again = anatomy.norm_of(norm).output(here[f"{part}_normalized"], inside.dtype)
        yield _Claim(f"{part}_in.{layer} == gain * {part}_normalized + bias", again, inside, rounded=True)


def _attention_claims(model: LanguageModel, layer: int, here: dict[str, Tensor]) -> Iterator[_Claim]:
    repeats = model.n_heads // model.n_kv_heads
    if "pattern" in here:
        repeated = here["v"].repeat_interleave(repeats, dim=2)
        mixed = torch.einsum("bhqk,bkhd->bqhd", here["pattern"], repeated).flatten(2)
        yield _Claim(f"pattern @ v == z at layer {layer}", mixed, here["z"], rounded=True)
    # The same modules everywhere: two layers say how their weights are stored, all would double the time of a load.
    if "q_proj" not in here or layer not in (0, model.n_layers - 1):
        return
    weights = model.attention_weights(layer)
    for kind, W, b in (("q_proj", weights.W_Q, weights.b_Q), ("k_proj", weights.W_K, weights.b_K)):
        projected = torch.einsum("bpd,hde->bphe", here["attn_in"], W) + b
        yield _Claim(f"attn_in @ W_{kind[0].upper()} == {kind} at layer {layer}", projected, here[kind], rounded=True)
    if "v" in here:
        values = torch.einsum("bpd,hde->bphe", here["attn_in"], weights.W_V) + weights.b_V
        clip = getattr(model.anatomy.config, "clip_qkv", None)
        values = values if clip is None else values.clamp(-clip, clip)
        yield _Claim(f"attn_in @ W_V == v at layer {layer}", values, here["v"], rounded=True)
    if not model.family.post_norms:
        z = torch.unflatten(here["z"], -1, (model.n_heads, -1))
        added = torch.einsum("bphd,hde->bpe", z, weights.W_O) + weights.b_O
        yield _Claim(f"z @ W_O == attn_out at layer {layer}", added, here["attn_out"], rounded=True)
