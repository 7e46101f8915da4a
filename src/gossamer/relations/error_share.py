"""Whether a feature that the next dictionary does not have is still in the stream: in that dictionary's error."""

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
    """Two passes: each latent's maximum, then projections at tokens above `relative` of it.

    All is in the units of the stream: a dictionary that normalises its input has its reconstruction, and what its
    latents write, brought back to the scale of each token.

    Memory: one batch's errors and entries. No (tokens, n) projections are made: only those at active latents.

    Raises:
        UsageError: a dictionary that is unknown, of another model than the other, or does not write into the residual
            stream, a transcoder downstream, or a share outside 0 to 1.
    """
    if not 0 <= relative < 1:
        raise UsageError(f"error share: a relative threshold from 0 to below 1 expected, found {relative}")
    if unknown := [name for name in pair if name not in stream.sources]:
        raise UsageError(f"error share: one of {', '.join(stream.sources)} expected, found {unknown[0]!r}")
    ends = [stream.sources[name] for name in pair]
    if ends[0].model is not ends[1].model:
        raise UsageError(f"error share: two dictionaries of one model expected, found those of two in {pair}")
    for one in ends:
        if not writes_to_stream(one.dictionary.site_out or one.site):
            raise UsageError(f"error share: dictionaries of the residual stream expected, found {one.dictionary}")
    upstream, downstream = (one.dictionary for one in ends)
    downstream.require_reconstruction("the error share")
    lengths = upstream.W_dec.detach().norm(dim=1).double().cpu().numpy()
    directions = normalize(upstream.W_dec.detach(), dim=1)
    thresholds = relative * maxima(stream)[pair.upstream]
    tokens, activation, projection = (np.zeros(upstream.n_latents) for _ in range(3))

    def add(batch: LatentBatch) -> None:
        own = batch.latents[pair.upstream]
        kept = own.data > thresholds[own.indices]
        if not kept.any():
            return
        found = _projections(downstream, directions, batch.values[pair.downstream], own, kept)
        strength = own.data * np.repeat(_scales(upstream, batch.values[pair.upstream]), np.diff(own.indptr))
        for sums, values in ((tokens, None), (activation, strength[kept]), (projection, found)):
            sums += np.bincount(own.indices[kept], values, minlength=len(sums))

    stream.map(add, values=list(dict.fromkeys(pair)))
    some = np.maximum(tokens, 1)
    return ErrorShare(tokens.astype(np.int64), activation * lengths / some, projection / some)


@torch.no_grad()
def _scales(dictionary: Dictionary, x: Tensor) -> Floats:
    """By what each token's latents are multiplied once their normalisation is undone; 1 where there is none."""
    _, statistics = dictionary.normalise(x.to(dictionary.W_dec.device))
    return np.ones(len(x)) if statistics is None else statistics.scale[:, 0].double().cpu().numpy()


@torch.no_grad()
def _projections(
    downstream: Dictionary, directions: Tensor, x: Tensor, latents: Any, kept: NDArray[np.bool_]
) -> Floats:
    x = x.to(downstream.W_dec.device)
    error = (x - downstream(x)).to(directions.dtype).to(directions.device)
    entries = SparseLatents(
        torch.from_numpy(latents.indptr).long(),
        torch.from_numpy(latents.indices).long(),
        torch.ones(latents.nnz, dtype=directions.dtype),
        latents.shape[1],
        (latents.shape[0],),
    ).only(torch.from_numpy(kept))
    return entries.to(directions.device).products(error, directions).double().cpu().numpy()
