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


def fisher_z(correlation: Floats, tokens: int, z: float = Z) -> tuple[Floats, Floats]:
    """The interval of a correlation by Fisher's transformation; (-1, 1) of at most 3 tokens. Tokens
    count as independent, which neighbours in a text are not: true intervals are wider, those of
    :func:`gossamer.statistics.wilson` too.
    """
    correlation = np.asarray(correlation, float)
    if tokens <= 3:
        return np.full_like(correlation, -1.0), np.full_like(correlation, 1.0)
    inside = np.arctanh(np.clip(correlation, -1 + 1e-15, 1 - 1e-15))
    half = z / np.sqrt(tokens - 3)
    return np.tanh(inside - half), np.tanh(inside + half)


def support_needed(threshold: float, z: float = Z) -> int:
    """Activations below which even a perfect share, c = n, does not have its Wilson interval above `threshold`.

    The lower end of n of n is n / (n + z^2): a latent of fewer activations is too rare to judge at this threshold.
    """
    return int(np.ceil(z**2 * threshold / (1 - threshold))) if threshold < 1 else np.iinfo(np.int64).max
