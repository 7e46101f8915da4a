"""How alike two latents are, from counts and sums: seven measures, their intervals, and what is too rare to judge.

With a_i(t) = [f_i(t) > theta_i] and b_j(t) = [g_j(t) > theta_j] over T tokens, n_i = sum a_i, m_j = sum b_j,
c_ij = sum a_i b_j:

    jaccard             c / (n + m - c)
    sufficiency         c / n                                     P(j active | i active)
    necessity           c / m                                     P(i active | j active)
    mutual_information  sum of p ln(p / (p_row p_column)) over the four cells of (a, b), in nats
    cosine              sum f g / (|f| |g|)                       uncentred, on activations
    pearson             (sum f g / T - mean f mean g) / (std f std g), population, zeros included
    decoder_cosine      cosine of the decoder rows; no data

The first four read activity above a threshold, cosine and pearson the activations themselves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from gossamer.features import neighbours
from gossamer.statistics import Z

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PairCounts:
    """Counts and sums of some pairs of latents; arrays of one shape, or that broadcast to one.

    Attributes:
        tokens: how many there were.
        n, m: tokens at which the upstream and the downstream latent are active.
        c: tokens at which both are.
        products: sum of f g.
        sums, squares: sum of f and of f^2, upstream then downstream.
    """

    tokens: int
    n: Ints
    m: Ints
    c: Ints
    products: Floats
    sums: tuple[Floats, Floats]
    squares: tuple[Floats, Floats]


def _ratio(above: Floats | Ints, below: Floats | Ints) -> Floats:
    """0 where the denominator is: of a latent that is never active nothing is passed on; it is judged as dead."""
    above, below = np.broadcast_arrays(np.asarray(above, float), np.asarray(below, float))
    return np.divide(above, below, out=np.zeros(above.shape), where=below > 0)


def jaccard(counts: PairCounts) -> Floats:
    """Shared tokens of all tokens of either."""
    return _ratio(counts.c, counts.n + counts.m - counts.c)


def sufficiency(counts: PairCounts) -> Floats:
    """P(downstream active | upstream active)."""
    return _ratio(counts.c, counts.n)


def necessity(counts: PairCounts) -> Floats:
    """P(upstream active | downstream active)."""
    return _ratio(counts.c, counts.m)


def mutual_information(counts: PairCounts) -> Floats:
    """Of the two activities, in nats; 0 ln 0 is 0."""
    n, m, c, tokens = (np.asarray(one, float) for one in (counts.n, counts.m, counts.c, counts.tokens))
    cells = ((c, n, m), (n - c, n, tokens - m), (m - c, tokens - n, m), (tokens - n - m + c, tokens - n, tokens - m))
    return np.sum([_cell(joint, row, column, tokens) for joint, row, column in cells], axis=0)


def _cell(joint: Floats, row: Floats, column: Floats, tokens: Floats) -> Floats:
    there = joint > 0
    ratio = np.divide(joint * tokens, row * column, out=np.ones(np.broadcast(joint, row, column).shape), where=there)
    return joint / tokens * np.log(ratio)


def cosine(counts: PairCounts) -> Floats:
    """Uncentred cosine of the activations."""
    return _ratio(counts.products, np.sqrt(counts.squares[0]) * np.sqrt(counts.squares[1]))


def pearson(counts: PairCounts) -> Floats:
    """Correlation of the activations, zeros included."""
    tokens = counts.tokens
    means = [one / tokens for one in counts.sums]
    variances = [np.maximum(square / tokens - mean**2, 0) for square, mean in zip(counts.squares, means, strict=True)]
    return _ratio(counts.products / tokens - means[0] * means[1], np.sqrt(variances[0]) * np.sqrt(variances[1]))


MEASURES: Mapping[str, Callable[[PairCounts], Floats]] = {
    "jaccard": jaccard,
    "sufficiency": sufficiency,
    "necessity": necessity,
    "mutual_information": mutual_information,
    "cosine": cosine,
    "pearson": pearson,
}
DECODER_COSINE = neighbours.DECODER_COSINE
# Of what is said of latents: for sweeps of thresholds, not for edges.
EXPLANATION_COSINE = "explanation_cosine"


def pearson_interval(counts: PairCounts, z: float = Z) -> tuple[Floats, Floats]:
    """The interval of Pearson's correlation by the delta method, on the scale of its inverse hyperbolic tangent.

    For standardised f and g the variance of r is that of f g - r (f^2 + g^2) / 2, over the tokens (Steiger and
    Hakstian 1982); Fisher's, for normal variables, is far too narrow where activity is sparse. Its fourth moments are
    not counted: they are those of lognormal activations with the sums that are, independent but for a factor by which
    both are larger where both latents are active; of latents that are on or off they are exact. Tokens count as
    independent, which neighbours in a text are not: true intervals are wider, those of
    :func:`gossamer.statistics.wilson` too.

    Returns:
        The ends; -1 and 1 where one of the two is the same at every token.
    """
    upstream, downstream, joint = _fitted(counts)

    def raw(a: int, b: int) -> Floats:
        if not a or not b:
            return downstream.moment(b) if b else upstream.moment(a)
        return upstream.shares[0] * upstream.together(a) * downstream.together(b) * joint ** (a * b)

    def central(a: int, b: int) -> Floats:
        less = [(-raw(1, 0)) ** (a - i) * (-raw(0, 1)) ** (b - j) for i in range(a + 1) for j in range(b + 1)]
        parts = [comb(a, i) * comb(b, j) * raw(i, j) for i in range(a + 1) for j in range(b + 1)]
        return np.sum([one * part for one, part in zip(less, parts, strict=True)], axis=0)

    def standardised(a: int, b: int) -> Floats:
        return _ratio(central(a, b), scales[0] ** a * scales[1] ** b)

    scales = [np.sqrt(np.maximum(central(*which), 0)) for which in ((2, 0), (0, 2))]
    # Nearer to 1 the rounding of moments is more than what they say.
    value = pearson(counts)
    r = np.clip(value, -1 + 1e-6, 1 - 1e-6)
    both = standardised(2, 2)
    spread = (
        both
        - r * (standardised(3, 1) + standardised(1, 3))
        + r**2 / 4 * (standardised(4, 0) + standardised(0, 4) + 2 * both)
    )
    half = z * np.sqrt(np.maximum(spread, 0) / counts.tokens) / (1 - r**2)
    still = (scales[0] == 0) | (scales[1] == 0)
    low, high = np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)
    return np.where(still, -1.0, np.minimum(low, value)), np.where(still, 1.0, np.maximum(high, value))


@dataclass(frozen=True)
class _Activations:
    """One latent of a pair: lognormal where it is active, of one shape, with another mean where both are.

    Attributes:
        shares: of the tokens, those with both, and those with it alone.
        means: of the activation there.
        shape: mean of its square over the square of its mean, in each of the two.
    """

    shares: tuple[Floats, Floats]
    means: tuple[Floats, Floats]
    shape: Floats

    def together(self, k: int) -> Floats:
        """The k-th moment where both are active."""
        return self.means[0] ** k * self.shape ** (k * (k - 1) / 2)

    def moment(self, k: int) -> Floats:
        """The k-th moment over all tokens."""
        if not k:
            return np.ones_like(self.shape)
        powers = [share * mean**k for share, mean in zip(self.shares, self.means, strict=True)]
        return (powers[0] + powers[1]) * self.shape ** (k * (k - 1) / 2)


def _fitted(counts: PairCounts) -> tuple[_Activations, _Activations, Floats]:
    """Both latents of each pair with the sums that were counted, and by how much the mean of their products is above
    the product of their means where both are active."""
    # Products are of all activations, counts of those above a threshold.
    c = np.maximum(counts.c, counts.products > 0).astype(float)
    n, m = (np.maximum(one, c) for one in (counts.n, counts.m))
    means = (_ratio(counts.sums[0], n), _ratio(counts.sums[1], m))
    products = np.where(c > 0, _ratio(counts.products, c * means[0] * means[1]), 1.0)

    def factor(own: Floats, wanted: Floats) -> Floats:
        """Of one that is never alone 1; else at most n / c, from where on it has nothing left for where it is alone."""
        return np.where((own == c) | (c == 0), 1.0, np.minimum(wanted, _ratio(own, c)))

    first = factor(n, np.sqrt(products))
    second = factor(m, _ratio(products, first))
    first = factor(n, _ratio(products, second))
    sides = []
    for own, mean, more, squares in zip((n, m), means, (first, second), counts.squares, strict=True):
        alone = _ratio(own - c * more, own - c)
        shape = np.maximum(_ratio(squares, mean**2 * (c * more**2 + (own - c) * alone**2)), 1.0)
        shares = (c / counts.tokens, (own - c) / counts.tokens)
        sides.append(_Activations(shares, (mean * more, mean * alone), shape))
    return sides[0], sides[1], _ratio(products, first * second)


def support_needed(threshold: float, z: float = Z) -> int:
    """Activations below which even a perfect share, c = n, does not have its Wilson interval above `threshold`.

    The lower end of n of n is n / (n + z^2): a latent of fewer activations is too rare to judge at this threshold.
    """
    return int(np.ceil(z**2 * threshold / (1 - threshold))) if threshold < 1 else np.iinfo(np.int64).max
