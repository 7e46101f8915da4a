"""Does similarity predict what ablating does? One upstream latent is taken out, the downstream ones are measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from gossamer.batching import in_batches
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.progress import begin
from gossamer.relations.ablation import AblatedBatch, ablation_ends
from gossamer.relations.latents import LatentSource, ModelLatents
from gossamer.relations.measures import Floats, Ints
from gossamer.relations.relation import RelatedPairs, Relation

# A change of the downstream latent below this share of its largest activation is next to nothing.
_STILL = 0.01


@dataclass(frozen=True)
class CausalSettings:
    """Which pairs are ablated, and where the effect is measured.

    Attributes:
        bins: of the measure's values, of equal width from 0 to 1 (or to the largest value).
        per_bin: pairs drawn from each bin, for each measure.
        relative: the downstream latent is measured at tokens where it is above this share of its largest activation.
        rows: most rows of text.
        batch_size: rows at once.
        resamples: bootstrap samples of upstream latents, for the interval of Spearman's correlation.
        seed: of the draws.
    """

    bins: int = 10
    per_bin: int = 10
    relative: float = 0.01
    rows: int = 64
    batch_size: int = 16
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.bins, self.per_bin, self.rows, self.batch_size, self.resamples) < 1 or not 0 <= self.relative < 1:
            raise UsageError(f"causal check: counts of at least 1 and a share from 0 to below 1 expected, found {self}")


@dataclass(frozen=True)
class RankAgreement:
    """How well one measure ranks pairs by their effect.

    Attributes:
        measure: which.
        pairs: of how many pairs.
        spearman: of the measure and the normalised effect; NaN where either is constant.
        low, high: its 95 % interval, from bootstrap samples of upstream latents with all their pairs.
        edges: bounds of the bins; `counts`: pairs of each; `means`, `medians`: of their normalised effects (NaN: none).
        quartiles: the middle half of the effects of each bin (NaN: none).
        still: share of each bin's effects below 0.01 either way: nothing happens (NaN: none).
    """

    measure: str
    pairs: int
    spearman: float
    low: float
    high: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    means: tuple[float, ...]
    medians: tuple[float, ...]
    quartiles: tuple[tuple[float, float], ...]
    still: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class AblationCheck:
    """Effects of ablations.

    Attributes:
        pairs: the ablated and the measured latents.
        effect: of each pair, mean of g - g' over the downstream latent's tokens, over its largest activation; NaN where
            it has no such token in the text.
        absolute: the same, not normalised.
        tokens: of how many tokens.
        drawn: for each measure, the pairs that were drawn by it.
        agreement: of each measure with the effect, over its own draw.
    """

    pairs: RelatedPairs
    effect: Floats
    absolute: Floats
    tokens: Ints
    drawn: Mapping[str, Ints]
    agreement: Mapping[str, RankAgreement] = field(default_factory=dict)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{len(self.pairs)} pairs"
        for name, one in self.agreement.items():
            yield f"{name} {one.spearman:.3f} [{one.low:.3f}, {one.high:.3f}]"


@dataclass(frozen=True)
class Ablations:
    """The ablations between two dictionaries, as files have them: an :class:`AblationCheck` in plain numbers.

    Attributes:
        upstream, downstream: names of the dictionaries.
        i, j: latents of each pair.
        effect: over the downstream latent's largest activation; NaN where it is not active in the text.
        absolute: not normalised; `tokens`: of how many. Files of pages of before have neither (empty).
        drawn: for each measure, places of the pairs that were drawn by it.
        agreement: of each measure with the effect.
        values: of each measure, of the pairs that were drawn by it; studies of before have none.
    """

    upstream: str
    downstream: str
    i: tuple[int, ...]
    j: tuple[int, ...]
    effect: tuple[float, ...]
    absolute: tuple[float, ...]
    tokens: tuple[int, ...]
    drawn: Mapping[str, tuple[int, ...]]
    agreement: tuple[RankAgreement, ...]
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, relation: Relation, check: AblationCheck) -> "Ablations":
        """What a check of a relation's pairs found."""
        return cls(
            *relation.pair,
            *(tuple(check.pairs.i.tolist()), tuple(check.pairs.j.tolist())),
            *(tuple(check.effect.tolist()), tuple(check.absolute.tolist()), tuple(check.tokens.tolist())),
            drawn={name: tuple(own.tolist()) for name, own in check.drawn.items()},
            agreement=tuple(check.agreement.values()),
            values={name: tuple(relation.values(name, check.pairs[own]).tolist()) for name, own in check.drawn.items()},
        )

    def check(self, relation: Relation) -> AblationCheck:
        """The inverse of :meth:`of`, for the same relation.

        Raises:
            UsageError: the relation did not keep these pairs.
        """
        # Only kept pairs are ablated; these are sorted by i and then j.
        width = len(relation.downstream.active)
        wanted = np.array(self.i, np.int64) * width + np.array(self.j, np.int64)
        known = relation.kept.i * width + relation.kept.j
        places = np.searchsorted(known, wanted)
        if not (places < len(known)).all() or not (known[places] == wanted).all():
            raise UsageError(f"ablations: kept pairs of {relation.pair} expected, found others; ablate again")
        pairs = relation.kept[places]
        drawn = {name: np.array(own, np.int64) for name, own in self.drawn.items()}
        numbers = (np.array(self.effect), np.array(self.absolute), np.array(self.tokens, np.int64))
        return AblationCheck(pairs, *numbers, drawn, {one.measure: one for one in self.agreement})


def ablation_check(
    stream: ModelLatents,
    relation: Relation,
    measures: Sequence[str],
    settings: CausalSettings | None = None,
) -> AblationCheck:
    """Ablate upstream latents, with the dictionary's error kept, and measure downstream ones, for kept pairs that are
    drawn from bins of each measure.

    The stream at the upstream site loses what the latent writes, x' = x + dec(f without i) - dec(f), at the tokens that
    count; the downstream dictionary reads what the model makes of it. The effect of a pair is the mean of g - g' over
    tokens where g is above a share of its maximum, divided by that maximum, so that large ranges do not dominate. Every
    pair has a place of its own, and an upstream latent is ablated once for all its pairs, in the rows where it is
    active: elsewhere nothing changes.

    Memory: dense latents (rows, pos, n) of one batch.

    Raises:
        UsageError: sources of two models, a downstream site that does not come after, an upstream dictionary that
            cannot be spliced, an unknown measure, or no kept pair.
    """
    settings = settings or CausalSettings()
    ends = ablation_ends(stream, relation.pair)
    drawn = {measure: _drawn(relation, measure, settings) for measure in measures}
    chosen = np.unique(np.concatenate([*drawn.values(), np.zeros(0, np.int64)]))
    if not len(chosen):
        raise UsageError(f"causal check: kept pairs of {relation.pair} expected, found none; keep more of them")
    pairs = relation.kept[chosen]
    absolute, tokens = _effects(stream, ends, relation, pairs, settings)
    tops = relation.downstream.maximum[pairs.j]
    effect = np.where(tokens > 0, absolute / tops, np.nan)
    places = {measure: np.searchsorted(chosen, own) for measure, own in drawn.items()}
    agreement = {
        measure: _agreement(measure, relation.values(measure, pairs)[own], effect[own], pairs.i[own], settings)
        for measure, own in places.items()
    }
    return AblationCheck(pairs, effect, np.where(tokens > 0, absolute, np.nan), tokens, places, agreement)


def joint_agreement(
    checks: Sequence[tuple[Relation, AblationCheck]], measure: str, settings: CausalSettings | None = None
) -> RankAgreement:
    """How well a measure ranks the drawn pairs of several checks together; bins, interval and all.

    Raises:
        UsageError: no check, or one that drew nothing by this measure.
    """
    if not checks or any(measure not in check.drawn for _, check in checks):
        known = ", ".join(dict.fromkeys(name for _, check in checks for name in check.drawn))
        raise UsageError(f"agreement: a measure that every check drew by expected ({known}), found {measure!r}")
    values, effect, upstream = [], [], []
    for place, (relation, check) in enumerate(checks):
        own = check.drawn[measure]
        values.append(relation.values(measure, check.pairs)[own])
        effect.append(check.effect[own])
        # Latents of two sites are different ones, whatever their numbers.
        upstream.append(check.pairs.i[own] * len(checks) + place)
    joined = np.concatenate(values), np.concatenate(effect), np.concatenate(upstream)
    return _agreement(measure, *joined, settings or CausalSettings())


def _edges(values: Floats, bins: int) -> Floats:
    top = 1.0 if values.max(initial=0) > np.log(2) else max(float(values.max(initial=0)), 1e-12)
    return np.linspace(0, top, bins + 1)


def _drawn(relation: Relation, measure: str, settings: CausalSettings) -> Ints:
    """Places of kept pairs, as many from each bin as there are, but at most `per_bin`."""
    values = relation.values(measure)
    draw = np.random.default_rng([settings.seed, *measure.encode()])
    places = np.digitize(values, _edges(values, settings.bins)[1:-1])
    positive = values > 0
    found = [
        draw.permutation(np.flatnonzero((places == one) & positive))[: settings.per_bin] for one in range(settings.bins)
    ]
    return np.sort(np.concatenate(found)).astype(np.int64)


@torch.no_grad()
def _effects(
    stream: ModelLatents,
    ends: tuple[LatentSource, LatentSource],
    relation: Relation,
    pairs: RelatedPairs,
    settings: CausalSettings,
) -> tuple[Floats, Ints]:
    tokens, counted = stream.tokens[: settings.rows], stream.counted[: settings.rows]
    columns, own = np.unique(pairs.j, return_inverse=True)
    limits = torch.from_numpy(settings.relative * relation.downstream.maximum[columns])
    totals, counts = np.zeros(len(pairs)), np.zeros(len(pairs), np.int64)
    latents = np.unique(pairs.i)
    advance = begin("ablations", len(latents) * len(tokens))

    def batch(rows: slice) -> tuple[Floats, Ints]:
        found = np.zeros(len(pairs))
        part = AblatedBatch(ends, tokens[rows], counted[rows], latents, columns)
        watched = part.before > limits
        for latent in latents.tolist():
            inside, changed = part.without([latent])
            advance(rows.stop - rows.start, "")
            loss = ((part.before[inside] - changed) * watched[inside]).sum(dim=0).numpy()
            mine = pairs.i == latent
            found[mine] += loss[own[mine]]
        return found, watched.sum(dim=0).numpy()[own]

    for found, seen in in_batches(len(tokens), settings.batch_size, batch):
        totals, counts = totals + found, counts + seen
    return totals / np.maximum(counts, 1), counts


def _agreement(measure: str, values: Floats, effect: Floats, upstream: Ints, settings: CausalSettings) -> RankAgreement:
    edges = _edges(values, settings.bins)
    known = ~np.isnan(effect)
    values, effect, upstream = values[known], effect[known], upstream[known]
    places = np.digitize(values, edges[1:-1])
    groups = [effect[places == one] for one in range(settings.bins)]
    draw = np.random.default_rng(settings.seed)
    samples = [_spearman(values[own], effect[own]) for own in _resampled(upstream, settings.resamples, draw)]
    finite = [one for one in samples if not np.isnan(one)]
    low, high = np.quantile(finite, [0.025, 0.975]).tolist() if finite else (float("nan"), float("nan"))
    known_groups = [one if len(one) else np.array([np.nan]) for one in groups]
    quartiles = tuple((float(np.quantile(one, 0.25)), float(np.quantile(one, 0.75))) for one in known_groups)
    return RankAgreement(
        measure,
        len(values),
        _spearman(values, effect),
        low,
        high,
        edges=tuple(edges.tolist()),
        counts=tuple(map(len, groups)),
        means=tuple(float(one.mean()) for one in known_groups),
        medians=tuple(float(np.median(one)) for one in known_groups),
        quartiles=quartiles,
        still=tuple(float((np.abs(one) < _STILL).mean()) if len(one) else float("nan") for one in groups),
    )


def _resampled(groups: Ints, count: int, draw: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Samples of groups with replacement, each with all its members."""
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    for _ in range(count if len(starts) else 0):
        chosen = draw.integers(len(starts), size=len(starts))
        own = sizes[chosen]
        yield order[np.repeat(starts[chosen] - np.cumsum(own) + own, own) + np.arange(own.sum())]


def _spearman(one: Floats, other: Floats) -> float:
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    ranks = [_ranks(values) for values in (one, other)]
    centred = [own - own.mean() for own in ranks]
    return float(centred[0] @ centred[1] / np.sqrt((centred[0] @ centred[0]) * (centred[1] @ centred[1])))


def _ranks(values: Floats) -> Floats:
    """From 1; equal values share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks
