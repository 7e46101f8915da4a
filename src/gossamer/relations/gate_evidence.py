"""What truth tables say for a gate beyond its best single input, and how much of that is chance."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2  # type: ignore[import-untyped]

from gossamer.relations.measures import Floats
from gossamer.relations.truth_tables import TruthTable


def by_inputs(tables: Sequence[TruthTable]) -> Iterator[tuple[int, NDArray[np.int64], Floats]]:
    """Numbers of inputs, with the places of the tables that have so many, and their counts (tables, patterns, 2)."""
    sizes = np.array([one.inputs for one in tables], np.int64)
    for size in np.unique(sizes).tolist():
        places = np.flatnonzero(sizes == size)
        yield size, places, np.array([tables[place].counts for place in places.tolist()], float)


def gains_of(tables: Sequence[TruthTable]) -> Floats:
    """Of each table, the information on the output that all inputs have over the best single one, in nats."""
    found = np.zeros(len(tables))
    for size, places, counts in by_inputs(tables):
        on = np.arange(2**size)[:, None] >> np.arange(size) & 1 == 1
        single = [_information(np.stack([counts[:, side].sum(axis=1) for side in (~own, own)], axis=1)) for own in on.T]
        found[places] = _information(counts) - np.max(single, axis=0)
    return found


def _information(counts: Floats) -> Floats:
    """Mutual information of rows and columns of tables of counts (tables, rows, columns), in nats; 0 of nothing."""
    total = counts.sum(axis=(1, 2), keepdims=True)
    expected = counts.sum(axis=2, keepdims=True) * counts.sum(axis=1, keepdims=True)
    ratio = np.divide(counts * total, expected, out=np.ones_like(counts), where=counts > 0)
    found: Floats = (counts / np.maximum(total, 1) * np.log(ratio)).sum(axis=(1, 2))
    return found


def p_values_of(tables: Sequence[TruthTable], gains: Floats, shuffled: Sequence[TruthTable]) -> Floats:
    """Of 2 T gain, which is chi-squared with 2^k - 2 degrees of freedom where one input says all and tokens are
    independent; scaled by its mean over the shuffled candidates where neighbouring tokens make it larger."""
    found = np.ones(len(tables))
    tokens = np.array([[np.sum(one.counts) for one in two] for two in (tables, shuffled)], float)
    real, chance = 2 * tokens[0] * gains, 2 * tokens[1] * gains_of(shuffled)
    sizes = np.array([one.inputs for one in tables])
    for size in np.unique(sizes):
        own, freedom = sizes == size, 2.0**size - 2
        scale = max(1.0, float(chance[own].mean()) / freedom)
        found[own] = chi2.sf(real[own] / scale, freedom)
    return found


def benjamini_hochberg(p_values: Floats) -> Floats:
    """Adjusted for as many tests: rejecting what is at most q leaves a share q of false ones (1995)."""
    order = np.argsort(-p_values, kind="stable")
    count = len(p_values)
    adjusted = np.minimum.accumulate(p_values[order] * count / np.arange(count, 0, -1))
    found = np.empty(count)
    found[order] = np.minimum(adjusted, 1)
    return found
