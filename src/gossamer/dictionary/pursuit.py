r"""Inference-time optimisation: sparse codes from the decoder alone, by greedy pursuit.

For the vector x of a token (decoder bias subtracted) and decoder rows d_j brought to norm 1, find a >= 0 with at most k
entries that are not zero and a small residual r = x - a D. Three methods, each for a whole batch of tokens at once:

matching    pick j = argmax <d_j, r>; a_j += <d_j, r>                                     (Mallat & Zhang 1993)
gradient    add j to the support S; step along g = <d, r> restricted to S, by the length that is best for it,
            eta = <g D, r> / <g D, g D>; a = max(a + eta g, 0)                             (Blumensath & Davies 2008)
orthogonal  add j to S; non-negative least squares on S                                    (Pati et al. 1993)

Their use in place of an encoder is from Smith 2024 and appendix A of Rajamanoharan et al. 2024 (arXiv 2404.16014). The
whole dictionary is touched once a step, to find the largest product, on a CPU through bounds first
(:mod:`gossamer.dictionary.slopes`); everything else works on the rows in use. With the products of all pairs of rows at
hand (`DecoderRows.gram`, if n is small enough) even that touch is a sum of a few rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.least_squares import nonnegative_least_squares
from gossamer.dictionary.slopes import DecoderRows, Held, Slopes
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.sparse.latents import SparseLatents

# Products of a step that exist at once: tokens * latents.
_BLOCK_VALUES = 2**24


@dataclass
class _Codes:
    """Codes in the making. Slot s of a token holds latent indices[s] if used[s]; a slot is filled a step.

    `slopes` are <d_j, r> for all j: the one thing as wide as the dictionary. `energy` is ||r||^2, `measured` what it
    was when it was last computed from the residual itself.
    """

    source: DecoderRows
    x: Float[Tensor, "tokens d"]
    indices: Int[Tensor, "tokens slot"]
    values: Float[Tensor, "tokens slot"]
    used: Bool[Tensor, "tokens slot"]
    support: Bool[Tensor, "tokens slot"]
    slopes: Slopes
    energy: Float[Tensor, "tokens"]
    measured: Float[Tensor, "tokens"]

    def pick(self, slot: int, wanted: Bool[Tensor, "tokens"]) -> None:
        """Put the latent of the largest product into the support, in the slot it has or else in slot `slot`."""
        value, latent = self.slopes.largest()
        fresh = wanted & (value > 0)
        known = (self.indices[:, :slot] == latent[:, None]) & self.used[:, :slot] & fresh[:, None]
        self.support[:, :slot] |= known
        self.indices[:, slot] = latent
        self.used[:, slot] = self.support[:, slot] = fresh & ~known.any(dim=1)

    def mapped(
        self, weights: Float[Tensor, "some slot"], tokens: Bool[Tensor, "tokens"] | slice
    ) -> Float[Tensor, "some _"]:
        """g D for g = `weights` on the slots of the chosen tokens; g D D^T if the products of all pairs are there."""
        table = self.source.rows if self.source.gram is None else self.source.gram
        return embedding_bag(self.indices[tokens, : weights.shape[1]], table, per_sample_weights=weights, mode="sum")

    def length(self, weights: Float[Tensor, "some slot"], mapped: Tensor, tokens: Tensor | slice) -> Tensor:
        """<g D, g D> for each of the chosen tokens, from what :meth:`mapped` gave."""
        if self.source.gram is None:
            return mapped.square().sum(dim=1)
        return (mapped.gather(1, self.indices[tokens, : weights.shape[1]]) * weights).sum(dim=1)

    def move(
        self,
        change: Float[Tensor, "some slot"],
        tokens: Bool[Tensor, "tokens"] | slice = slice(None),
        mapped: Tensor | None = None,
    ) -> None:
        """Add `change` to the values of the chosen tokens, and bring energy and slopes up to date.

        `mapped` is that of `change`, if it is known. Without the pairs slopes are left to :meth:`refresh`.
        """
        width = change.shape[1]
        mapped = self.mapped(change, tokens) if mapped is None else mapped
        slope = self.slopes.along(change, self.indices[tokens, :width], mapped, tokens)
        self.energy[tokens] += self.length(change, mapped, tokens) - 2 * slope
        self.values[tokens, :width] += change
        if self.source.gram is not None:
            assert isinstance(self.slopes, Held)
            self.slopes.products[tokens] -= mapped

    def refresh(self, width: int, tokens: Tensor | slice = slice(None)) -> None:
        """Slopes and energy of the chosen tokens (without the pairs, of all) from the values themselves."""
        indices, values = self.indices[tokens, :width], self.values[tokens, :width]
        residual = self.x[tokens] - embedding_bag(indices, self.source.rows, per_sample_weights=values, mode="sum")
        self.energy[tokens] = self.measured[tokens] = residual.square().sum(dim=1)
        if self.source.gram is None:
            self.slopes = self.source.slopes(residual)
        else:
            assert isinstance(self.slopes, Held)
            self.slopes.products[tokens] = residual @ self.source.rows.T

    def refresh_worn(self, width: int) -> None:
        """:meth:`refresh` for tokens whose residual has become so small that sums of changes leave nothing of it."""
        worn = self.energy < torch.finfo(self.energy.dtype).eps ** 0.5 * self.measured
        if worn.any():
            self.refresh(width, worn)


def pursue(
    x: Float[Tensor, "tokens d"],
    rows: DecoderRows,
    k: int,
    *,
    method: str = "gradient",
    support: str = "active",
    start: SparseLatents | None = None,
    tolerance: float = 0.0,
) -> SparseLatents:
    """Codes of `x` (decoder bias subtracted) in at most `k` steps: a x of at most k latents besides those of `start`.

    Args:
        x: one vector a token.
        rows: see :meth:`DecoderRows.of`.
        k: steps; each adds at most one latent (fewer are active if one is picked twice or goes to zero).
        method: "gradient", "matching" or "orthogonal".
        support: for "gradient": "active" lets a latent leave the support when its value becomes 0, "sticky" does not.
        start: codes to begin with (activations of decoder rows as they are, not of norm 1).
        tolerance: a token is done when ||r|| <= tolerance * ||x||.

    Memory: tokens * n products, worked through in blocks; fewer where they are looked up.

    Raises:
        UsageError: k, a method or a support rule that is none, or another width.
        NotFiniteError: x is not finite.
    """
    _check(x, rows, k, method, support)
    require_finite(x, "vectors to pursue")
    size = max(1, _BLOCK_VALUES // len(rows))
    parts = []
    for place in range(0, len(x), size):
        block = slice(place, place + size)
        begun = None if start is None else (start.values[block], start.indices[block])
        codes = _begin(x[block], rows, k, begun)
        _run(codes, k, _STEPS[method], support == "sticky", tolerance)
        parts.append(_finished(codes))
    if not parts:
        return SparseLatents.from_padded(x.new_zeros(0, 1), x.new_zeros(0, 1).long(), len(rows))
    return SparseLatents.concatenate(parts)


def _check(x: Tensor, rows: DecoderRows, k: int, method: str, support: str) -> None:
    if x.ndim != 2 or x.shape[1] != rows.rows.shape[1]:
        raise UsageError(f"pursuit: vectors of width {rows.rows.shape[1]} expected, found a shape of {tuple(x.shape)}")
    if not 1 <= k <= len(rows):
        raise UsageError(f"pursuit: k from 1 to the {len(rows)} latents expected, found {k}")
    for name, value, known in (("method", method, tuple(_STEPS)), ("support", support, ("active", "sticky"))):
        if value not in known:
            raise UsageError(f"pursuit: {name} {' or '.join(known)} expected, found {value!r}")


def _begin(x: Tensor, rows: DecoderRows, k: int, start: tuple[Tensor, Tensor] | None) -> _Codes:
    """`start` has values and indices."""
    given = 0 if start is None else start[0].shape[1]
    indices = torch.zeros(len(x), given + k, dtype=torch.long, device=x.device)
    values = x.new_zeros(len(x), given + k)
    used = torch.zeros_like(values, dtype=torch.bool)
    if start is not None:
        indices[:, :given] = start[1]
        values[:, :given] = start[0] * rows.norms[start[1]]
        used[:, :given] = start[0] > 0
    energy = x.square().sum(dim=1)
    codes = _Codes(rows, x, indices, values, used, used.clone(), rows.slopes(x), energy, energy.clone())
    if given:
        codes.refresh(given)
    return codes


Step = Callable[[_Codes, int, Bool[Tensor, "tokens"]], None]


def _run(codes: _Codes, k: int, step: Step, sticky: bool, tolerance: float) -> None:
    whole, first = codes.x.square().sum(dim=1), codes.indices.shape[1] - k
    for slot in range(first, first + k):
        wanted = codes.energy > tolerance**2 * whole
        if not wanted.any():
            break
        if not sticky:
            codes.support &= codes.values > 0
        codes.pick(slot, wanted)
        step(codes, slot, wanted)
        if codes.source.gram is None:
            codes.refresh(slot + 1)
        else:
            codes.refresh_worn(slot + 1)


def _gradient_step(codes: _Codes, slot: int, wanted: Bool[Tensor, "tokens"]) -> None:
    width = slot + 1
    within = codes.support[:, :width] & wanted[:, None]
    gradient = codes.slopes.at(codes.indices[:, :width]) * within
    mapped = codes.mapped(gradient, slice(None))
    length = codes.length(gradient, mapped, slice(None))
    # <g D, r> is the squared length of g. No direction, no step.
    step = torch.where(length > 0, gradient.square().sum(dim=1) / length.clamp(min=_tiny(length)), 0.0)[:, None]
    change = step * gradient
    present = codes.values[:, :width]
    clipped = (present + change < 0).any(dim=1)
    if not clipped.any():
        codes.move(change, mapped=mapped.mul_(step))
        return
    codes.move(change[~clipped], ~clipped, mapped[~clipped] * step[~clipped])
    codes.move((present + change).clamp(min=0)[clipped] - present[clipped], clipped)


def _matching_step(codes: _Codes, slot: int, wanted: Bool[Tensor, "tokens"]) -> None:
    # What was picked stands in this slot, even if another one holds it already.
    latent = codes.indices[:, slot : slot + 1]
    value = codes.slopes.at(latent).clamp(min=0) * wanted[:, None]
    codes.move(((codes.indices[:, : slot + 1] == latent) & codes.used[:, : slot + 1]) * value)


def _orthogonal_step(codes: _Codes, slot: int, wanted: Bool[Tensor, "tokens"]) -> None:
    width = slot + 1
    present = codes.values[:, :width]
    values = _refitted(codes.x, codes.source, codes.indices[:, :width], codes.support[:, :width], present)
    codes.support[:, :width] &= values > 0
    codes.move(torch.where(wanted[:, None], values - present, 0.0))


def refit_latents(x: Float[Tensor, "tokens d"], rows: DecoderRows, codes: SparseLatents) -> SparseLatents:
    """The same choice of latents (or fewer) with non-negative weights of the smallest residual, never a larger one."""
    norms = rows.norms[codes.indices]
    values = _refitted(x, rows, codes.indices, codes.values > 0, codes.values * norms)
    return SparseLatents.from_padded(values / norms.clamp(min=_tiny(values)), codes.indices, codes.n_latents)


def _refitted(
    x: Float[Tensor, "tokens d"],
    source: DecoderRows,
    indices: Int[Tensor, "tokens w"],
    support: Bool[Tensor, "tokens w"],
    given: Float[Tensor, "tokens w"],
) -> Float[Tensor, "tokens w"]:
    rows = source.rows[indices]
    targets = torch.einsum("twd,td->tw", rows, x)
    pairs = torch.einsum("tvd,twd->tvw", rows, rows)
    return nonnegative_least_squares(pairs, targets, support, given)


_STEPS: dict[str, Step] = {
    "gradient": _gradient_step,
    "matching": _matching_step,
    "orthogonal": _orthogonal_step,
}


def _finished(codes: _Codes) -> SparseLatents:
    """The codes as activations of the decoder's own rows, strongest first."""
    values = codes.values * codes.used / codes.source.norms[codes.indices].clamp(min=_tiny(codes.values))
    values, order = values.sort(dim=1, descending=True, stable=True)
    width = max(1, int((values > 0).sum(dim=1).max())) if len(values) else 1
    return SparseLatents.from_padded(values[:, :width], codes.indices.gather(1, order)[:, :width], len(codes.source))


def _tiny(values: Tensor) -> float:
    return torch.finfo(values.dtype).tiny


class Pursuit:
    """A dictionary whose encoder is replaced by pursuit: called on a stream it gives the reconstruction.

    So it can stand wherever a dictionary is spliced in, as in ``model.edit({site: Pursuit(dictionary, k=20)})``.
    """

    def __init__(
        self,
        dictionary: Dictionary,
        k: int,
        *,
        method: str = "gradient",
        support: str = "active",
        rows: DecoderRows | None = None,
    ) -> None:
        """`rows` are those of the decoder, for several pursuits that share them.

        Raises:
            UsageError: a transcoder.
        """
        dictionary.require_reconstruction("pursuit")
        self.dictionary, self.k, self.method, self.support = dictionary, k, method, support
        self.rows = DecoderRows.of(dictionary.W_dec.detach()) if rows is None else rows

    def encode(self, x: Float[Tensor, "*tokens d"], start: SparseLatents | None = None) -> SparseLatents:
        """Codes of `x`, in the scale of the dictionary's own activations."""
        normal, _ = self.dictionary.normalise(x)
        flat = (normal - self.dictionary.b_dec).reshape(-1, x.shape[-1])
        start = None if start is None else start.reshape(len(flat))
        with torch.no_grad():
            found = pursue(flat, self.rows, self.k, method=self.method, support=self.support, start=start)
        return found.reshape(*x.shape[:-1])

    def __call__(self, x: Float[Tensor, "*tokens d"]) -> Float[Tensor, "*tokens d"]:
        """The reconstruction of `x` from its codes, in the dtype of `x`."""
        return self.dictionary.reconstruct(x, self.encode(x)).to(x.dtype)
