"""What stands in the residual stream at one token, as a sum of vectors: the parts that queries and keys are made of."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.attention.codes import Codes
from gossamer.attention.frozen import FrozenPass
from gossamer.attention.source import Kind, Source
from gossamer.display import plural, short_repr
from gossamer.model.site import Site


@dataclass(frozen=True, eq=False)
class Parts:
    """Vectors whose sum is a value, with what each is.

    Attributes:
        sources: what they are.
        vectors: the parts.
    """

    sources: tuple[Source, ...]
    vectors: Float[Tensor, "part d"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.sources), "part")

    def __add__(self, other: "Parts") -> "Parts":
        return Parts((*self.sources, *other.sources), torch.cat([self.vectors, other.vectors]))

    def with_vectors(self, vectors: Float[Tensor, "part d"]) -> "Parts":
        """The same parts after a linear map."""
        return Parts(self.sources, vectors)


def stream_parts(frozen: FrozenPass, point: Site, row: int, position: int) -> Parts:
    """The stream at `point` and one token: the last residual dictionary up to there, and what was added since.

    `position` is a column of the tokens. The parts are those that :func:`gossamer.attention.upstream.upstream` weighs.
    """
    at = torch.tensor([row]), torch.tensor([position])
    before = frozen.residual_before(point, inclusive=True)
    if before is not None:
        found = _of_codes(frozen.codes[before], before, row, position)
    else:
        tokens, positions = frozen.embeddings
        found = _one("token", Site("embed"), tokens[at], position)
        if positions is not None:
            found += _one("position", Site("embed"), positions[at], position)
    for site in frozen.written_between(before, point):
        codes = frozen.writers.get(site)
        if codes is None:
            found += _one("attention" if site.kind == "attn_out" else "mlp", site, frozen.values[site][at], position)
        elif codes.writes.kind == "z":
            inside = _of_codes(codes, codes.reads, row, position)
            pushed, bias = frozen.output_of(site.layer or 0, inside.vectors, at)
            found += inside.with_vectors(pushed) + _one("bias", site, bias, position)
        else:
            found += _of_codes(codes, codes.reads, row, position)
    return found


def latent_parts(
    frozen: FrozenPass, point: Site, row: int, position: int
) -> Iterator[tuple[Site, Float[Tensor, "n d_model"]]]:
    """What one unit of every latent, active or not, would write into the stream at one token, dictionary by dictionary.

    These are the dictionaries whose latents are parts in :func:`stream_parts`. Memory: a decoder at a time.
    """
    at = torch.tensor([row]), torch.tensor([position])
    before = frozen.residual_before(point, inclusive=True)
    added = [frozen.writers.get(site) for site in frozen.written_between(before, point)]
    for codes in ([] if before is None else [frozen.codes[before]]) + [one for one in added if one is not None]:
        vectors = _units(codes, slice(None), row, position)
        if codes.writes.kind == "z":
            vectors, _ = frozen.output_of(codes.writes.layer or 0, vectors, at)
        yield codes.reads, vectors


def _of_codes(codes: Codes, site: Site, row: int, position: int) -> Parts:
    """What a dictionary makes of the value that it explains at one token."""
    active = codes.active(row, position)
    activations = codes.error.new_tensor(list(active.values()))
    vectors = activations.unsqueeze(1) * _units(codes, list(active), row, position)
    found = Parts(tuple(Source("latent", site, latent, position) for latent in active), vectors)
    rest: list[tuple[Kind, Tensor | None]] = [("skip", codes.skip), ("bias", codes.bias), ("error", codes.error)]
    for kind, value in rest:
        if value is not None:
            found += _one(kind, codes.writes, value[row, position].unsqueeze(0), position)
    return found


def _units(codes: Codes, latents: slice | list[int], row: int, position: int) -> Float[Tensor, "n d"]:
    """What one unit of each latent adds at one token to the value that its dictionary explains."""
    vectors = codes.dictionary.W_dec[latents].to(codes.error)
    return vectors if codes.output_scale is None else vectors * codes.output_scale[row, position]


def _one(kind: Kind, site: Site, vector: Float[Tensor, "1 d"], position: int) -> Parts:
    return Parts((Source(kind, site, None, position),), vector)
