"""Boolean gates: latents that are active as a function of several others, found by their full truth tables."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.relations.counting import SitePair
from gossamer.relations.gate_evidence import benjamini_hochberg, by_inputs, gains_of, p_values_of
from gossamer.relations.latents import LatentStream
from gossamer.relations.measures import Floats
from gossamer.relations.relate import ActiveAbove, relate
from gossamer.relations.relation import Relation
from gossamer.relations.truth_tables import TruthTable, truth_tables

Candidate = tuple[tuple[int, ...], int]


@dataclass(frozen=True)
class GateSettings:
    """What counts as a gate.

    Attributes:
        inputs: most inputs of a gate, 2 to 4.
        partners: inputs that are combined for each output, of each kind of evidence.
        least_necessity, least_sufficiency: of an input for an output, to be a candidate.
        agreement: least share of the output's activity inside the gate's patterns (recall), and of those patterns with
            the output active (precision): both directions.
        support: tokens that each pattern which tells the gate from others must have.
        duplicate: Jaccard of two inputs from which on they are one feature twice.
        false_rate: of the gates that are reported, by Benjamini and Hochberg.
        limit: most candidates.
    """

    inputs: int = 2
    partners: int = 6
    least_necessity: float = 0.5
    least_sufficiency: float = 0.5
    agreement: float = 0.8
    support: int = 10
    duplicate: float = 0.8
    false_rate: float = 0.05
    limit: int = 100_000

    def __post_init__(self) -> None:
        shares = (self.least_necessity, self.least_sufficiency, self.agreement, self.duplicate, self.false_rate)
        if not 2 <= self.inputs <= 4 or self.partners < 2 or self.support < 1 or self.limit < 1:
            raise UsageError(
                f"gates: 2 to 4 inputs, partners of at least 2 and support of at least 1 expected, found {self}"
            )
        if not all(0 < share <= 1 for share in shares):
            raise UsageError(f"gates: shares above 0 and at most 1 expected, found {self}")


@dataclass(frozen=True)
class Gate:
    """An output that is, nearly, a Boolean function of its inputs.

    Attributes:
        kind: AND, OR, XOR, or AND NOT (all inputs but `negated`, without it).
        inputs, output: numbers of latents; `negated`: that one of the inputs, or None.
        table: its truth table.
        precision: share of the tokens whose pattern the gate is on at that have the output active; `recall`: share of
            the output's tokens that have such a pattern.
        gain: information on the output that all inputs have over the best single one, in nats.
        p_value: of the gain, calibrated on shuffled documents; `q_value`: its Benjamini-Hochberg.
    """

    kind: str
    inputs: tuple[int, ...]
    output: int
    negated: int | None
    table: TruthTable
    precision: float
    recall: float
    gain: float
    p_value: float
    q_value: float

    __repr__ = short_repr

    @property
    def patterns(self) -> tuple[int, ...]:
        """The patterns of its inputs at which it is on; bit k of a pattern is input k."""
        bit = None if self.negated is None else self.inputs.index(self.negated)
        return tuple(np.flatnonzero(_on_at(self.kind, bit, len(self.inputs))).tolist())

    def _facts(self) -> Iterator[str]:
        said = [f"not {one}" if one == self.negated else str(one) for one in self.inputs]
        yield f"{self.output} = {' and '.join(said) if self.kind == 'AND NOT' else f' {self.kind.lower()} '.join(said)}"
        yield f"precision {self.precision:.3f}, recall {self.recall:.3f}, gain {self.gain:.3g} nats"


@dataclass(frozen=True)
class GateSearch:
    """What a search for gates found, beside what it found by chance.

    Attributes:
        gates: the largest gain first.
        candidates: how many sets of inputs and an output were counted.
        by_chance: how many of them have the truth table of a gate on shuffled documents, whatever its evidence.
    """

    gates: tuple[Gate, ...]
    candidates: int
    by_chance: int

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(len(self.gates), 'gate')} of {plural(self.candidates, 'candidate')}"
        yield f"{self.by_chance} by chance"


def find_gates(
    stream: LatentStream,
    relation: Relation,
    *,
    among: Relation | None = None,
    active: ActiveAbove | None = None,
    settings: GateSettings | None = None,
) -> list[Gate]:
    """The gates of :func:`search_gates`, which has the arguments and the errors as well."""
    return list(search_gates(stream, relation, among=among, active=active, settings=settings).gates)


def search_gates(
    stream: LatentStream,
    relation: Relation,
    *,
    among: Relation | None = None,
    active: ActiveAbove | None = None,
    settings: GateSettings | None = None,
) -> GateSearch:
    """Gates of `relation`'s kept pairs, by the largest gain first, from one counting pass of their own.

    Candidates are inputs that an output needs (necessity), that suffice for it, and, with `among`, those that it needs
    beside one that often comes with one of them and, as far as is known, seldom with the output. What makes a gate is
    its truth table: the patterns at which the output is mostly active are those of an AND, OR, XOR or AND NOT, each
    pattern that tells it from another function has support, precision and recall are high, and no two inputs are one
    feature.

    For splits (an upstream feature that is the OR of downstream ones) and merges the other way, give the relation of
    the reversed pair. The evidence of a gain, 2 T gain, is held against the same candidates on shuffled documents, by
    numbers of inputs (:func:`p_values_of`).

    Memory: see :func:`gossamer.relations.truth_tables.truth_tables`.

    Args:
        among: the relation of the upstream dictionary with itself, for AND NOT.
        active: as the relation was counted.

    Raises:
        UsageError: `among` is not of the upstream dictionary, or there are more candidates than the limit.
    """
    settings = settings or GateSettings()
    if among is not None and set(among.pair) != {relation.pair.upstream}:
        raise UsageError(f"gates: {relation.pair.upstream} with itself expected, found {among.pair}")
    candidates = _candidates(relation, among, settings)
    if len(candidates) > settings.limit:
        raise UsageError(
            f"gates: at most {settings.limit:,} candidates expected, found {len(candidates):,}; "
            "raise the shares or the limit"
        )
    if not candidates:
        return GateSearch((), 0, 0)
    tables, shuffled = truth_tables(stream, relation.pair, candidates, _thresholds(relation, active))
    gains = gains_of(tables)
    p_values = p_values_of(tables, gains, shuffled)
    q_values = benjamini_hochberg(p_values)
    found = []
    for place in np.flatnonzero(_agreeing(tables, settings) & (q_values <= settings.false_rate)).tolist():
        numbers = float(gains[place]), float(p_values[place]), float(q_values[place])
        if gate := _gate(candidates[place], tables[place], numbers, settings):
            found.append(gate)
    chance = [
        place
        for place in np.flatnonzero(_agreeing(shuffled, settings)).tolist()
        if _gate(candidates[place], shuffled[place], (0.0, 1.0, 1.0), settings)
    ]
    ranked = tuple(sorted(found, key=lambda one: (-one.gain, one.output, one.inputs)))
    return GateSearch(ranked, len(candidates), len(chance))


def company_of(
    stream: LatentStream, relations: Iterable[SitePair], active: ActiveAbove | None = None
) -> dict[str, Relation]:
    """The relations of the upstream dictionaries of some pairs with themselves, which propose what an AND NOT lacks:
    the argument `among` of :func:`search_gates`, by dictionary. One pass; memory as of :func:`relate`."""
    pairs = [SitePair(name, name) for name in dict.fromkeys(pair.upstream for pair in relations)]
    found = relate(stream, pairs, activity=active, products=False, null=False)
    return {pair.upstream: relation for pair, relation in found.items()}


def recounted(
    stream: LatentStream, relation: Relation, gates: Sequence[Gate], *, active: ActiveAbove | None = None
) -> list[tuple[TruthTable, float, float]]:
    """The truth tables, precision and recall of gates that were found, on another text: of `stream`.

    Precision and recall are NaN where nothing there tells them. Args and memory: as of :func:`search_gates`.
    """
    if not gates:
        return []
    candidates = [(gate.inputs, gate.output) for gate in gates]
    tables, _ = truth_tables(stream, relation.pair, candidates, _thresholds(relation, active))
    return [(table, *_agreement(table, gate.patterns)) for gate, table in zip(gates, tables, strict=True)]


def _thresholds(relation: Relation, active: ActiveAbove | None) -> dict[str, Floats]:
    """Those that the relation was counted with: shares of the maxima that it knows."""
    sides = (relation.upstream, relation.downstream)
    return {name: (active or ActiveAbove()).of(one.maximum) for name, one in zip(relation.pair, sides, strict=True)}


def reversed_pair(relation: Relation) -> SitePair:
    """The pair whose relation has inputs downstream and outputs upstream: where splits are ORs."""
    return SitePair(relation.pair.downstream, relation.pair.upstream)


def _candidates(relation: Relation, among: Relation | None, settings: GateSettings) -> list[Candidate]:
    kept = relation.kept
    found: dict[Candidate, None] = {}
    evidence = {"necessity": settings.least_necessity, "sufficiency": settings.least_sufficiency}
    needed: dict[int, list[int]] = {}
    for measure, least in evidence.items():
        values = relation.values(measure)
        chosen = np.flatnonzero(values >= least)
        chosen = chosen[np.lexsort((-values[chosen], kept.j[chosen]))]
        partners: dict[int, list[int]] = {}
        for i, j in zip(kept.i[chosen].tolist(), kept.j[chosen].tolist(), strict=True):
            if len(own := partners.setdefault(j, [])) < settings.partners:
                own.append(i)
        for j, own in partners.items():
            for size in range(2, settings.inputs + 1):
                found.update(dict.fromkeys((tuple(sorted(one)), j) for one in combinations(own, size)))
        if measure == "necessity":
            needed = partners
    if among is not None:
        company, known = _company(among), _necessities(relation)
        for j, own in needed.items():
            for size in range(1, settings.inputs):
                for inputs in combinations(own, size):
                    others = _excluded(inputs, j, company, known, settings)
                    found.update(dict.fromkeys((tuple(sorted((*inputs, other))), j) for other in others))
    return list(found)


def _company(among: Relation) -> dict[int, list[int]]:
    """Of each latent, those that are active with it, the most often first."""
    shared = among.values("sufficiency")
    order = np.lexsort((-shared, among.kept.i))
    found: dict[int, list[int]] = {}
    for i, j in zip(among.kept.i[order].tolist(), among.kept.j[order].tolist(), strict=True):
        found.setdefault(i, []).append(j)
    return found


def _necessities(relation: Relation) -> dict[tuple[int, int], float]:
    pairs = zip(relation.kept.i.tolist(), relation.kept.j.tolist(), strict=True)
    return dict(zip(pairs, relation.values("necessity").tolist(), strict=True))


def _excluded(
    inputs: tuple[int, ...],
    j: int,
    company: dict[int, list[int]],
    known: dict[tuple[int, int], float],
    settings: GateSettings,
) -> list[int]:
    """Latents that may keep an output from being active beside its inputs: those that most often come with one of them,
    unless it is known that they come with the output more often than an AND NOT allows."""
    found: dict[int, None] = {}
    for one in inputs:
        own = [
            other
            for other in company.get(one, ())
            if other not in inputs and known.get((other, j), 0.0) <= 1 - settings.agreement
        ]
        found.update(dict.fromkeys(own[: settings.partners]))
    return list(found)


def _agreeing(tables: Sequence[TruthTable], settings: GateSettings) -> NDArray[np.bool_]:
    """Which tables agree with the function that their majorities make: all others :func:`_gate` would refuse."""
    found = np.zeros(len(tables), bool)
    for _, places, counts in by_inputs(tables):
        tokens = counts.sum(axis=2)
        on = (tokens >= settings.support) & (2 * counts[..., 1] > tokens)
        inside, active = (counts[..., 1] * on).sum(axis=1), counts[..., 1].sum(axis=1)
        # Rounding decides nothing here: what is just below is looked at again.
        least = settings.agreement - 1e-9
        found[places] = (inside >= least * (tokens * on).sum(axis=1)) & (inside >= least * active) & on.any(axis=1)
    return found


def _gate(
    candidate: Candidate, table: TruthTable, found: tuple[float, float, float], settings: GateSettings
) -> Gate | None:
    counts = np.array(table.counts)
    tokens = counts.sum(axis=1)
    if _duplicates(tokens, table.inputs, settings.duplicate):
        return None
    seen = tokens >= settings.support
    on = seen & (2 * counts[:, 1] > tokens)
    named = _named(on, seen, table.inputs)
    active = int(counts[:, 1].sum())
    if named is None or not on.any() or not active:
        return None
    kind, bit = named
    precision, recall = _agreement(table, np.flatnonzero(on))
    if min(precision, recall) < settings.agreement:
        return None
    inputs, output = candidate
    negated = None if bit is None else inputs[bit]
    return Gate(kind, inputs, output, negated, table, precision, recall, *found)


def _agreement(table: TruthTable, on: Sequence[int] | NDArray[np.int64]) -> tuple[float, float]:
    """Of the patterns that a gate is on at: share with the output active, and share of its activity that they have."""
    counts = np.array(table.counts, float)
    inside, tokens, active = counts[list(on), 1].sum(), counts[list(on)].sum(), counts[:, 1].sum()
    return float(inside / tokens) if tokens else float("nan"), float(inside / active) if active else float("nan")


def _on_at(kind: str, bit: int | None, inputs: int) -> NDArray[np.bool_]:
    """At which patterns of `inputs` inputs a gate is on; `bit` is the negated one of an AND NOT."""
    whole, patterns = 2**inputs - 1, np.arange(2**inputs)
    ones = np.array([int(one).bit_count() for one in patterns])
    if kind == "AND NOT":
        assert bit is not None
        return patterns == whole ^ 1 << bit
    found: NDArray[np.bool_] = {"AND": patterns == whole, "OR": patterns > 0, "XOR": ones % 2 == 1}[kind]
    return found


def _duplicates(tokens: NDArray[np.int64], inputs: int, threshold: float) -> bool:
    on = [np.arange(len(tokens)) >> bit & 1 == 1 for bit in range(inputs)]
    return any(
        tokens[one & other].sum() >= threshold * max(tokens[one | other].sum(), 1) for one, other in combinations(on, 2)
    )


def _named(on: NDArray[np.bool_], seen: NDArray[np.bool_], inputs: int) -> tuple[str, int | None] | None:
    """The gate whose patterns these are, if the patterns that tell it from others were seen; with the negated bit.

    Told from others: AND by all inputs and by all but each one; OR by each alone; XOR by each alone and all pairs;
    AND NOT by what it needs, with and without the negated one, and by all but each that it needs.
    """
    whole, patterns = 2**inputs - 1, np.arange(2**inputs)
    alone = [1 << bit for bit in range(inputs)]
    ones = np.array([int(one).bit_count() for one in patterns])
    kinds: list[tuple[str, int | None, list[int]]] = [
        ("AND", None, [whole, *(whole ^ one for one in alone)]),
        ("OR", None, alone),
        ("XOR", None, [*alone, *patterns[ones == 2].tolist()]),
    ]
    for bit, one in enumerate(alone):
        rest = whole ^ one
        kinds.append(("AND NOT", bit, [rest, whole, *(rest ^ other for other in alone if other != one and inputs > 2)]))
    for kind, negated, needs in kinds:
        if seen[needs].all() and (on == _on_at(kind, negated, inputs))[seen].all():
            return kind, negated
    return None
