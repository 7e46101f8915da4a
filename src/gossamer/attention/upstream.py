"""One hop back: what a linear function of a value is the sum of, term by term.

A function of the stream is the sum of what was written before it: the embeddings, or the latents of the last residual
dictionary before it; then what every attention layer and MLP since has added, as latents where a dictionary explains
it. A function of z is first taken back to the tokens that were attended to (frozen patterns), each head apart. The
terms of one function sum to it: biases and errors are terms too. What is then missing is what the model rounds (a norm
that computes in float32 in a model of float64, a stream in bfloat16) or clips (OLMo's values).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.attention.codes import Codes
from gossamer.attention.frozen import FrozenPass
from gossamer.attention.source import Kind
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.site import Site


@dataclass(frozen=True)
class Terms:
    """Terms of one kind at one site, one for each token or active latent, in the units of the function.

    Attributes:
        kind: see :class:`gossamer.attention.source.Source`.
        site: where it is written, or the dictionary reads; for a bias, the site whose function it is the constant of.
        tokens: token of each term, counted over all rows.
        values: the term, by the head that moved it (heads last), or one column where no attention lies between.
        latents: latent of each term.
        per_unit: of latents, how much the function moves with one unit of activation.
        cotangent: of attention and skip, the function of what is written that the terms are the values of: with it they
            can be taken back further.
    """

    kind: Kind
    site: Site
    tokens: Int[Tensor, "terms"]
    values: Float[Tensor, "terms heads"]
    latents: Int[Tensor, "terms"] | None = None
    per_unit: Float[Tensor, "terms"] | None = None
    cotangent: Float[Tensor, "batch pos d"] | None = None

    __repr__ = short_repr


def of_latents(codes: Codes, latent: int, weight: Float[Tensor, "batch pos"]) -> tuple[Tensor, Terms]:
    """A latent's pre-activation, weighted token by token, as a cotangent of what its dictionary reads, and its bias."""
    vectors, constants = codes.encoder(torch.tensor([latent], device=weight.device), weight)
    bias = _everywhere("bias", codes.reads, (weight * constants[0]).unsqueeze(-1))
    return codes.at_input(weight.unsqueeze(-1) * vectors[0]), bias


def upstream(frozen: FrozenPass, site: Site, cotangent: Float[Tensor, "batch pos d"]) -> Iterator[Terms]:
    """The terms of the function `cotangent` . value of `site`, summed over tokens and rows.

    Raises:
        UsageError: functions of this site cannot be taken back.
    """
    layer = site.layer or 0
    if site.facts.stream:
        yield from _of_stream(frozen, site, cotangent.unsqueeze(2), inclusive=False)
    elif site.kind == "z":
        yield from _through_attention(frozen, layer, cotangent)
    elif site.kind == "attn_out":
        at_z, constant = frozen.through_output(layer, cotangent)
        yield _everywhere("bias", site, constant.unsqueeze(-1))
        yield from _through_attention(frozen, layer, at_z)
    elif site.kind in ("mlp_in", "attn_in"):
        stream, constant = frozen.through_norm(site, cotangent.unsqueeze(2))
        yield _everywhere("bias", site, constant)
        yield from _of_stream(frozen, _read_stream(frozen, site), stream, inclusive=True)
    elif site.kind == "mlp_out":
        yield from _of_writer(frozen, site, cotangent.unsqueeze(2))
    else:
        raise UsageError(
            f"{site}: a function of the stream, z, attn_out, mlp_out, attn_in or mlp_in expected, which can be taken "
            "back; trace dictionaries at those sites"
        )


def _read_stream(frozen: FrozenPass, site: Site) -> Site:
    """The stream that what enters attention or the MLP is the norm of."""
    serial = site.kind == "mlp_in" and not frozen.model.anatomy.parallel
    return Site("resid_mid" if serial else "resid_pre", site.layer)


def _through_attention(frozen: FrozenPass, layer: int, at_z: Float[Tensor, "batch pos heads"]) -> Iterator[Terms]:
    stream, constant = frozen.through_values(layer, frozen.through_pattern(layer, at_z))
    yield _everywhere("bias", Site("v", layer), constant)
    yield from _of_stream(frozen, Site("resid_pre", layer), stream, inclusive=True)


def _of_stream(
    frozen: FrozenPass, point: Site, cotangent: Float[Tensor, "batch pos head d"], *, inclusive: bool
) -> Iterator[Terms]:
    """Of the stream at `point`: the last residual dictionary before it (or at it), and what was added since."""
    before = frozen.residual_before(point, inclusive=inclusive)
    if before is not None:
        yield from _explained(before, frozen.codes[before], cotangent)
    else:
        yield from _embeddings(frozen, cotangent)
    for site in frozen.written_between(before, point):
        yield from _of_writer(frozen, site, cotangent)


def _embeddings(frozen: FrozenPass, cotangent: Tensor) -> Iterator[Terms]:
    site = Site("embed")
    tokens, positions = frozen.embeddings
    yield _everywhere("token", site, _dot(cotangent, tokens))
    if positions is not None:
        yield _everywhere("position", site, _dot(cotangent, positions))


def _of_writer(frozen: FrozenPass, site: Site, cotangent: Float[Tensor, "batch pos head d"]) -> Iterator[Terms]:
    """Of what a layer adds to the stream: latents where a dictionary explains it, else the whole."""
    layer, codes = site.layer or 0, frozen.writers.get(site)
    if codes is None:
        kind: Kind = "attention" if site.kind == "attn_out" else "mlp"
        kept = cotangent.sum(dim=2) if kind == "attention" else None
        yield _everywhere(kind, site, _dot(cotangent, frozen.values[site]), kept)
        return
    if codes.writes.kind == "z":
        cotangent, constant = frozen.through_output(layer, cotangent)
        yield _everywhere("bias", site, constant)
    yield from _explained(codes.reads, codes, cotangent)


def _explained(site: Site, codes: Codes, cotangent: Float[Tensor, "batch pos head d"]) -> Iterator[Terms]:
    """Of a value that a dictionary explains."""
    per_head = codes.written(cotangent)
    latents = codes.latents
    values = per_head * latents.activations.to(per_head).unsqueeze(1)
    yield Terms("latent", site, latents.tokens, values, latents.latents, per_head.sum(dim=1))
    if codes.skip is not None:
        assert codes.dictionary.W_skip is not None
        kept = cotangent.sum(dim=2) * codes.counted.unsqueeze(-1)
        back = kept @ codes.dictionary.W_skip.to(kept).T
        yield _everywhere("skip", site, _dot(cotangent, codes.skip), back)
    yield _everywhere("bias", codes.writes, _dot(cotangent, codes.bias))
    yield _everywhere("error", codes.writes, _dot(cotangent, codes.error))


def _dot(cotangent: Float[Tensor, "batch pos head d"], value: Float[Tensor, "batch pos d"]) -> Tensor:
    return torch.einsum("bphd,bpd->bph", cotangent, value.to(cotangent))


def _everywhere(
    kind: Kind, site: Site, values: Float[Tensor, "batch pos heads"], cotangent: Tensor | None = None
) -> Terms:
    """Terms of every token."""
    flat = values.flatten(0, 1)
    return Terms(kind, site, torch.arange(len(flat), device=flat.device), flat, cotangent=cotangent)
