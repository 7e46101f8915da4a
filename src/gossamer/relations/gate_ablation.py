"""Whether a gate is what the model computes: its inputs are ablated one by one and together, and the output is read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gossamer.batching import in_batches
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.progress import begin
from gossamer.relations.ablation import AblatedBatch, ablation_ends
from gossamer.relations.causal import CausalSettings
from gossamer.relations.gates import Gate
from gossamer.relations.latents import ModelLatents
from gossamer.relations.measures import Ints
from gossamer.relations.relate import ActiveAbove
from gossamer.relations.relation import Relation


@dataclass(frozen=True)
class AblatedPattern:
    """What became of the output at tokens of one pattern when some of its active inputs were taken out.

    Attributes:
        pattern: before; bit k is input k. `ablated`: the inputs that were taken out, a part of the pattern.
        predicted: whether the gate is on at what is left.
        tokens: of the pattern. `on`: those at which the output was active after the ablation.
    """

    pattern: int
    ablated: int
    predicted: bool
    tokens: int
    on: int

    @property
    def left(self) -> int:
        """The pattern after the ablation."""
        return self.pattern ^ self.ablated

    @property
    def agreement(self) -> float:
        """Share of the tokens at which the output is as predicted; NaN of none."""
        right = self.on if self.predicted else self.tokens - self.on
        return right / self.tokens if self.tokens else float("nan")


@dataclass(frozen=True)
class GateCheck:
    """A gate and what ablating its inputs did.

    Attributes:
        gate: as it was found in counts.
        patterns: every pattern with every part of it that was ablated, also those that no token has.
        support: tokens from which on a pattern is judged.
    """

    gate: Gate
    patterns: tuple[AblatedPattern, ...]
    support: int

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield from self.gate._facts()
        yield f"ablation agrees at {self.agreement:.1%} or more" if self.judged else "too rare to check"

    @property
    def judged(self) -> tuple[AblatedPattern, ...]:
        """The patterns with support."""
        return tuple(one for one in self.patterns if one.tokens >= self.support)

    @property
    def agreement(self) -> float:
        """The smallest share of tokens as predicted, of the patterns that are judged; NaN of none."""
        return min((one.agreement for one in self.judged), default=float("nan"))

    @property
    def confirmed(self) -> bool:
        """Whether the output is mostly as predicted after every ablation that is judged, and one of these was to switch
        it: the gate is then a function of its inputs, and no feature beside them that says the same."""
        switched = any((one.pattern in self.gate.patterns) != one.predicted for one in self.judged)
        return switched and self.agreement > 0.5


@dataclass(frozen=True)
class CheckedGates:
    """The gates of two dictionaries, the later one downstream, with what ablating their inputs did."""

    upstream: str
    downstream: str
    checks: tuple[GateCheck, ...]


def check_gates(
    stream: ModelLatents,
    relation: Relation,
    gates: Sequence[Gate],
    *,
    active: ActiveAbove | None = None,
    settings: CausalSettings | None = None,
    support: int = 10,
) -> list[GateCheck]:
    """Ablate the inputs of gates, one by one and in all combinations, and hold the output against the truth table.

    At a token whose inputs have the pattern p, taking out the inputs s (a part of p) should leave the output as the
    gate is at p without s: an AND goes off with any input; an OR only with the last; an XOR and an AND NOT may go *on*.
    Each combination is taken out wherever one of its latents is active, with the dictionary's error kept, as in
    :func:`gossamer.relations.causal.ablation_check`. A gate that another upstream latent computed already, and that is
    only copied here, does not follow.

    Memory: dense latents (rows, pos, n) of one batch.

    Args:
        active: as the relation was counted.
        settings: rows and batch size.
        support: tokens from which on a pattern is judged.

    Raises:
        UsageError: sources of two models, a downstream site that does not come after (splits, which are gates of the
            reversed pair, cannot be ablated), an upstream dictionary that cannot be spliced, or support below 1.
    """
    settings, active = settings or CausalSettings(), active or ActiveAbove()
    if support < 1:
        raise UsageError(f"gates: support of at least 1 expected, found {support}")
    ends = ablation_ends(stream, relation.pair)
    if not gates:
        return []
    latents, reads = np.unique([one for gate in gates for one in gate.inputs]), np.unique([one.output for one in gates])
    limits = [
        active.of(sums.maximum[own]) for sums, own in ((relation.upstream, latents), (relation.downstream, reads))
    ]
    tokens, counted = stream.tokens[: settings.rows], stream.counted[: settings.rows]
    parts = _parts(gates)
    advance = begin("ablations of gates", len(parts) * len(tokens))

    def batch(rows: slice) -> list[Ints]:
        found = [np.zeros((2**size, 2**size, 2), np.int64) for size in (len(gate.inputs) for gate in gates)]
        part = AblatedBatch(ends, tokens[rows], counted[rows], latents, reads)
        lit = (part.strength > torch.from_numpy(limits[0])).numpy()
        codes = [_codes(lit[:, np.searchsorted(latents, gate.inputs)]) for gate in gates]
        for chosen, members in parts.items():
            inside, values = part.without(chosen)
            on = (values > torch.from_numpy(limits[1])).numpy()
            advance(rows.stop - rows.start, "")
            for place, ablated in members:
                code, output = codes[place][inside.numpy()], on[:, np.searchsorted(reads, gates[place].output)]
                whole = code & ablated == ablated
                np.add.at(found[place], (code[whole], ablated, output[whole].astype(int)), 1)
        return found

    counts = [sum(one) for one in zip(*in_batches(len(tokens), settings.batch_size, batch), strict=True)]
    return [_check(gate, np.asarray(one), support) for gate, one in zip(gates, counts, strict=True)]


def _parts(gates: Sequence[Gate]) -> dict[tuple[int, ...], list[tuple[int, int]]]:
    """Every combination of latents to take out, with the gates it is for and which of their inputs it is, as bits."""
    found: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for place, gate in enumerate(gates):
        for ablated in range(1, 2 ** len(gate.inputs)):
            chosen = tuple(one for bit, one in enumerate(gate.inputs) if ablated >> bit & 1)
            found.setdefault(chosen, []).append((place, ablated))
    return found


def _codes(lit: NDArray[np.bool_]) -> Ints:
    """The pattern of each row."""
    found: Ints = lit.astype(np.int64) @ (1 << np.arange(lit.shape[1]))
    return found


def _check(gate: Gate, counts: Ints, support: int) -> GateCheck:
    found = []
    for pattern in range(1, len(counts)):
        for ablated in range(1, pattern + 1):
            if pattern & ablated == ablated:
                off, on = counts[pattern, ablated].tolist()
                predicted = pattern ^ ablated in gate.patterns
                found.append(AblatedPattern(pattern, ablated, predicted, off + on, on))
    return GateCheck(gate, tuple(found), support)
