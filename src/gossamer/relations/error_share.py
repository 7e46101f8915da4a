"""Whether a feature that the next dictionary does not have is still in the stream: in that dictionary's error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.features.lens import writes_to_stream
from gossamer.relations.counting import SitePair, maxima
from gossamer.relations.latents import LatentBatch, ModelLatents
from gossamer.relations.measures import Floats, Ints
from gossamer.sparse.latents import SparseLatents


@dataclass(frozen=True, eq=False)
class ErrorShare:
    """What the next dictionary's error holds of each upstream latent, over the tokens at which it is well active.

    Attributes:
        tokens: how many these are.
        activation: mean length of what the latent writes there, f |d|.
        projection: mean of <x - x_hat, d> / |d|, with x - x_hat the error of the next dictionary.
    """

    tokens: Ints
    activation: Floats
    projection: Floats

    @property
    def share(self) -> Floats:
        """Projection over activation; 0 where the latent is never active. Near 1: the direction is still in the stream
        and the next dictionary does not have it; near 0: it is gone or written otherwise."""
        none = np.zeros_like(self.projection)
        return np.divide(self.projection, self.activation, out=none, where=self.activation > 0)


def error_share(stream: ModelLatents, pair: SitePair, *, relative: float = 0.1) -> ErrorShare:
    """What the downstream dictionary's error holds of each upstream latent: :func:`error_shares` of one pair."""
    return error_shares(stream.only(pair), [pair], relative=relative)[pair]


def error_shares(
    stream: ModelLatents,
    pairs: Sequence[SitePair],
    *,
    relative: float = 0.1,
    tops: Mapping[str, Floats] | None = None,
) -> dict[SitePair, ErrorShare]:
    """Two passes for all pairs: each latent's maximum, then projections at tokens above `relative` of it.

    All is in the units of the stream: a dictionary that normalises its input has its reconstruction, and what its
    latents write, brought back to the scale of each token.

    Memory: one batch's errors and entries. No (tokens, n) projections are made: only those at active latents.

    Args:
        stream: with the dictionaries.
        pairs: their names.
        relative: share of each upstream latent's maximum.
        tops: those maxima by dictionary, where they are known, as a relation knows them: saves the first pass.

    Raises:
        UsageError: a dictionary that is unknown, of another model than the other, or does not write into the residual
            stream, a transcoder downstream, or a share outside 0 to 1.
    """
    if not 0 <= relative < 1:
        raise UsageError(f"error share: a relative threshold from 0 to below 1 expected, found {relative}")
    names = dict.fromkeys(name for pair in pairs for name in pair)
    _require_errors(stream, pairs, list(names))
    by_downstream: dict[str, list[SitePair]] = {}
    for pair in pairs:
        by_downstream.setdefault(pair.downstream, []).append(pair)
    rows = {pair.upstream: stream.sources[pair.upstream].dictionary.W_dec.detach() for pair in pairs}
    directions = {name: normalize(one, dim=1) for name, one in rows.items()}
    largest = maxima(stream) if tops is None else tops
    # Of each pair and latent: tokens, and sums of activations and of projections there.
    sums = {pair: np.zeros((3, len(rows[pair.upstream]))) for pair in pairs}

    def add(batch: LatentBatch) -> None:
        written = {
            name: _in_units_of_the_stream(stream.sources[name].dictionary, batch.values[name], batch.latents[name])
            for name in rows
        }
        for downstream, own_pairs in by_downstream.items():
            error = _error(stream.sources[downstream].dictionary, batch.values[downstream], batch.latents[downstream])
            for pair in own_pairs:
                own = batch.latents[pair.upstream]
                kept = own.data > relative * largest[pair.upstream][own.indices]
                found = _projections(error, directions[pair.upstream], own, kept) if kept.any() else None
                for total, values in zip(sums[pair], (None, written[pair.upstream][kept], found), strict=True):
                    total += np.bincount(own.indices[kept], values, minlength=len(total))

    stream.map(add, values=list(names))
    return {pair: _share(total, rows[pair.upstream]) for pair, total in sums.items()}


def _require_errors(stream: ModelLatents, pairs: Sequence[SitePair], names: Sequence[str]) -> None:
    """Refuse dictionaries whose errors and directions are not in one residual stream."""
    if unknown := [name for name in names if name not in stream.sources]:
        raise UsageError(f"error share: one of {', '.join(stream.sources)} expected, found {unknown[0]!r}")
    for name in names:
        one = stream.sources[name]
        if not writes_to_stream(one.dictionary.site_out or one.site):
            raise UsageError(f"error share: dictionaries of the residual stream expected, found {one.dictionary}")
    for pair in pairs:
        if len({id(stream.sources[name].model) for name in pair}) > 1:
            raise UsageError(f"error share: two dictionaries of one model expected, found those of two in {pair}")
        stream.sources[pair.downstream].dictionary.require_reconstruction("the error share")


def _share(sums: Floats, rows: Tensor) -> ErrorShare:
    tokens, activation, projection = sums
    lengths, some = rows.norm(dim=1).double().cpu().numpy(), np.maximum(tokens, 1)
    return ErrorShare(tokens.astype(np.int64), activation * lengths / some, projection / some)


@torch.no_grad()
def _in_units_of_the_stream(dictionary: Dictionary, x: Tensor, latents: Any) -> Floats:
    """The activations of scipy's CSR, each times what its token's latents are multiplied by once the normalisation of
    `x` is undone."""
    _, statistics = dictionary.normalise(x.to(dictionary.W_dec.device))
    if statistics is None:
        return np.asarray(latents.data)
    scales = statistics.scale[:, 0].double().cpu().numpy()
    return np.asarray(latents.data) * np.repeat(scales, np.diff(latents.indptr))


@torch.no_grad()
def _error(dictionary: Dictionary, x: Tensor, latents: Any) -> Tensor:
    """What the dictionary leaves of `x` when it decodes its own latents of it."""
    x = x.to(dictionary.W_dec.device)
    own = _entries(latents, dictionary.W_dec.dtype).to(x.device)
    return x - dictionary.reconstruct(x, own).to(x.dtype)


@torch.no_grad()
def _projections(error: Tensor, directions: Tensor, latents: Any, kept: NDArray[np.bool_]) -> Floats:
    entries = _entries(latents, directions.dtype).only(torch.from_numpy(kept)).to(directions.device)
    error = error.to(directions.dtype).to(directions.device)
    return entries.products(error, directions).double().cpu().numpy()


def _entries(latents: Any, dtype: torch.dtype) -> SparseLatents:
    """scipy's CSR as sparse latents."""
    starts, own = (torch.from_numpy(one).long() for one in (latents.indptr, latents.indices))
    return SparseLatents(starts, own, torch.from_numpy(latents.data).to(dtype), latents.shape[1], (latents.shape[0],))
