"""Exact last steps: take out what a target allows, drop every node that is free, put better ones in their place."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.leave_out import each_left_out
from gossamer.circuits.levelling import LEAST_LEVELLED, levelled
from gossamer.circuits.loss import Loss, metric_loss, prompt_loss
from gossamer.circuits.measured_circuit import CLEARLY, EQUAL, MeasuredCircuit, lower
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.prompt_metrics import FullModel, Network
from gossamer.circuits.slope import Slope
from gossamer.circuits.splice import Splice
from gossamer.circuits.unseen import Unseen
from gossamer.display import short_repr
from gossamer.progress import begin

Enough = Callable[[Int[Tensor, "shorter"]], bool]
# Rounds of exchanging nodes; the first brings most.
_EXCHANGES = 4
# At most so many prompts are one of the groups whose spread says how sure a derivative is, in so many groups at least.
_GROUP, _GROUPS = 8, 4
# In larger circuits nodes are not left out one at a time: to try a thousand takes minutes where a pass takes a second.
_ALONE = 300
# Rounds of filling up and pruning again; each lowers the loss, the later ones by little.
_SWAPS = 3


@dataclass(frozen=True)
class CircuitRefiner:
    """Measures hard circuits on the training prompts and improves them one exact step at a time.

    Steps come from the prompts that circuits are fitted to. Whether one is taken is decided on `validation` too, which
    has other names or templates: on the fitted prompts a circuit does more than it will do anywhere else.

    Attributes:
        splice: the network over the prompts to fit, masks over the candidates.
        full: the full model on the same prompts.
        loss: the search's loss.
        prompts: how many of the prompts are used (the first ones; a task's prompts are in random order).
        left_out: on how many of these nodes are left out one at a time. Whether nodes go is decided on all of them;
            with fewer, a node that was not free once is not tried again.
        validation: the same over the prompts that choices are made on; None chooses on the fitted ones.
        rankings: gives orders of the candidates, called when a circuit is improved: where as many of an order's first
            nodes are clearly better, they are improved in the circuit's place. A mask that is all but unlearned, as at
            the largest of very many candidates, is no better than the order that it began with.
        unseen: gives what circuits do on `validation` that were searched without it, called when a circuit is improved
            or may leave its path; None: nothing is known, and the prompts that there are decide.
    """

    splice: Splice
    full: FullModel
    loss: Loss = "metric"
    prompts: int = 256
    left_out: int = 256
    validation: "CircuitRefiner | None" = None
    rankings: Callable[[], Sequence[Int[Tensor, "node"]]] = tuple
    unseen: Callable[[], Unseen | None] = lambda: None
    # A path is improved and then judged: what is known of a circuit by then is not measured again.
    _known: dict[tuple[int, ...], MeasuredCircuit] = field(default_factory=dict, init=False, compare=False)
    _slopes: dict[MeasuredCircuit, Slope] = field(default_factory=dict, init=False, compare=False)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.splice)
        yield f"loss={self.loss!r}"

    @property
    def _count(self) -> int:
        return min(self.prompts, len(self.splice.examples))

    def loss_of(self, circuit: Int[Tensor, "chosen"]) -> float:
        """Mean loss of a hard circuit (positions in the candidates) on the fitted prompts."""
        return self.found(circuit)[0]

    def check_of(self, circuit: Int[Tensor, "chosen"]) -> float:
        """Mean loss of a hard circuit on the prompts that choices are made on."""
        return (self.validation or self).loss_of(circuit)

    def _measured(self, circuit: Int[Tensor, "chosen"]) -> MeasuredCircuit:
        validation = None if self.validation is None else self.validation.found
        return self._known.setdefault(tuple(circuit.tolist()), MeasuredCircuit(circuit, self.found, validation))

    def found(self, circuit: Int[Tensor, "chosen"]) -> tuple[float, Float[Tensor, "rows"]]:
        """Mean loss of a hard circuit on the fitted prompts, and its excess over the full model on each of them."""
        return self._found(self._network(circuit))

    def _network(self, circuit: Int[Tensor, "chosen"]) -> Network:
        network = self.splice.with_nodes(self.splice.nodes.select(circuit))
        return partial(network.outputs, torch.ones(len(circuit), device=self.splice.model.device))

    def losses_without(
        self, circuit: Int[Tensor, "chosen"], only: Bool[Tensor, "chosen"] | None = None
    ) -> Float[Tensor, "chosen"]:
        """Mean loss of the circuit without each of its nodes alone (or of some `only`), on the fitted prompts."""
        splice = self.splice.select(torch.arange(self._count, device=circuit.device))
        measure = lambda network: self._found(network)[0]  # noqa: E731
        return each_left_out(splice, self.splice.nodes.select(circuit), measure, "pruning", only)

    def _found(self, network: Network) -> tuple[float, Float[Tensor, "rows"]]:
        """Mean loss of a network over the fitted prompts, and its excess over the full model on each of them."""

        def part(rows: slice) -> tuple[Tensor, Tensor]:
            outputs = network(rows)
            excess = self.full.excess(outputs, rows)
            return excess, excess if self.loss == "metric" else prompt_loss(outputs, self.full, self.loss, rows)

        with torch.no_grad():
            found = in_batches(self._count, self.splice.batch_size, part)
        excess, loss = (torch.cat(values) for values in zip(*found, strict=True))
        loss = metric_loss(excess) if self.loss == "metric" else loss
        return loss.double().mean().item(), excess

    def gradient(self, circuit: Int[Tensor, "chosen"]) -> Float[Tensor, "node"]:
        """Derivative of the mean loss by every candidate's mask at the hard circuit, on the fitted prompts."""
        return self.slope(circuit).mean

    def slope(self, circuit: Int[Tensor, "chosen"]) -> Slope:
        """:meth:`gradient`, and how sure it is over groups of the prompts."""
        return self._slope(self._measured(circuit))

    def _slope(self, found: MeasuredCircuit) -> Slope:
        if found not in self._slopes:
            self._slopes[found] = self._measured_slope(found)
        return self._slopes[found]

    def _measured_slope(self, found: MeasuredCircuit) -> Slope:
        lean, count = found.excess.mean().sign(), self._count
        mask = torch.zeros(len(self.splice.nodes), device=self.splice.model.device).index_fill(0, found.circuit, 1.0)

        def part(rows: slice) -> tuple[Tensor, int]:
            leaf = mask.clone().requires_grad_()
            loss = prompt_loss(self.splice.outputs(leaf, rows), self.full, self.loss, rows, lean)
            return torch.autograd.grad(loss.sum(), leaf)[0], len(loss)

        group = max(1, min(self.splice.batch_size, _GROUP, count // _GROUPS))
        sums, sizes = zip(*in_batches(count, group, part), strict=True)
        return Slope.of_groups(torch.stack(sums), sizes)

    def improved_at(self, path: CircuitPath, size: int) -> CircuitPath:
        """The path with its circuit of at most `size` as :meth:`improved` has it; of the others only what that takes.

        Smaller circuits are improved where this one overshoots: one of them may take its place.
        """
        place = path.sizes.index(len(path.of_size(size)))
        now, rest = self._exchanged(self._measured(path.circuits[place])), path.circuits[place + 1 :]
        if now.overshoots:
            smaller = self._without_overshoot([self._exchanged(self._measured(circuit)) for circuit in rest])
            now, rest = self._unless_it_overshoots(now, smaller), tuple(one.circuit for one in reversed(smaller))
        return replace(path, circuits=(*path.circuits[:place], now.circuit, *rest))

    def improved(self, path: CircuitPath) -> CircuitPath:
        """The path with better nodes where it misses, and with fuller smaller circuits where larger ones overshoot.

        Circuits are read off a soft mask; hard, some fall short of the full model and some do more than it. From the
        largest down, nodes of those that miss are exchanged, and means are levelled. Then, from the smallest up, one
        that clearly does more than the full model gives way to the best smaller one filled up, where that is clearly
        better.
        """
        began = time.perf_counter()
        advance = begin("improving", len(path.circuits))
        found = []
        for circuit in path.circuits:
            found.append(self._exchanged(self._measured(circuit)))
            advance(1, f"{len(circuit)} nodes")
        circuits = tuple(one.circuit for one in reversed(self._without_overshoot(found)))
        return replace(path, circuits=circuits, seconds=path.seconds + time.perf_counter() - began)

    def _without_overshoot(self, found: list[MeasuredCircuit]) -> list[MeasuredCircuit]:
        """Circuits of falling size, the smallest first now, each as :meth:`_unless_it_overshoots` has it."""
        kept: list[MeasuredCircuit] = []
        for now in reversed(found):
            kept.append(self._unless_it_overshoots(now, kept))
        return kept

    def _unless_it_overshoots(self, now: MeasuredCircuit, smaller: list[MeasuredCircuit]) -> MeasuredCircuit:
        """The circuit, or the best of the smaller ones (by rising size) filled up to its size, if clearly better.

        Not by a little: words that no search saw lose some of what it fitted, and there a circuit that overshoots by a
        few hundredths is the nearer one.
        """
        best = min(smaller, key=lambda one: one.mean, default=None)
        if best is not None and now.overshoots and now.mean >= best.mean:
            fuller = self._filled(best, len(now.circuit) - len(best.circuit))
            # Sizes go on falling: a filled-up circuit must be larger than the next smaller one.
            if fuller.clearly_better(now) and len(fuller.circuit) > len(smaller[-1].circuit):
                return fuller
        return now

    def undominated(self, path: CircuitPath) -> CircuitPath:
        """The path without circuits that a smaller one clearly betters, as far as is known on other words too.

        What counts is the mean loss over all prompts, fitted and others, which says too much of a circuit: it stays
        where the search without `validation` did better on these with as many nodes than with so few. Beyond some size
        more nodes may only hurt; the smaller circuit is then the one of at most so many nodes.
        """
        kept: list[Tensor] = []
        best: MeasuredCircuit | None = None
        for now in map(self._measured, reversed(path.circuits)):
            if best is None or now.mean <= best.mean + CLEARLY or self._better_unseen(now, best):
                kept.append(now.circuit)
            if best is None or now.mean < best.mean:
                best = now
        return replace(path, circuits=tuple(reversed(kept)))

    def _better_unseen(self, larger: MeasuredCircuit, smaller: MeasuredCircuit) -> bool:
        """Whether so many nodes are known to do better than so few on words that they were not fitted to."""
        # Of smaller circuits more or less is known, by what else was asked.
        asked = self.loss == "metric" and len(smaller.circuit) >= LEAST_LEVELLED
        known = self.unseen() if asked else None
        if known is None:
            return False
        losses = [metric_loss(known.at(len(one.circuit))).mean().item() for one in (larger, smaller)]
        return losses[0] < losses[1]

    def overshoots(self, circuit: Int[Tensor, "chosen"]) -> bool:
        """Whether a circuit clearly does more than the full model, over all prompts."""
        return self._measured(circuit).overshoots

    def swap(self, circuit: Int[Tensor, "chosen"]) -> Int[Tensor, "chosen"]:
        """As many nodes, some of them others, if its mean misses the full model's and the loss is lower with them.

        Which nodes go and which come in their place is a matter of first order; whether they do, of the loss itself.
        """
        return self._exchanged(self._measured(circuit)).circuit

    def _exchanged(self, start: MeasuredCircuit) -> MeasuredCircuit:
        found = self._unless_ranked(start)
        for _ in range(_EXCHANGES):
            full = len(found.circuit) == len(self.splice.nodes)
            if full or found.meets or self._short_elsewhere(found, start):
                break
            slope = self._slope(found)
            leaving, coming = slope.leaving(found.circuit), slope.coming(found.circuit)
            parts = _parts(min(len(leaving) // 4, slope.sure(coming)))
            trials = (torch.cat([leaving[n:], coming[:n]]) for n in parts)
            better = next((trial for trial in map(self._measured, trials) if trial.better(found)), None)
            if better is None:
                break
            found = better
        return self._levelled(found, start)

    def _levelled(self, found: MeasuredCircuit, searched: MeasuredCircuit) -> MeasuredCircuit:
        """:func:`levelled`, where it is known what circuits of the searched one's size lose on other words."""
        lost = self._lost(searched)
        return found if lost is None else levelled(found, lost, self._slope, self._measured)

    def _lost(self, searched: MeasuredCircuit) -> Float[Tensor, "rows"] | None:
        """What circuits of its size lose on words that they were not fitted to; None: that is not known."""
        known = self.unseen() if self.loss == "metric" and len(searched.circuit) >= LEAST_LEVELLED else None
        return None if known is None else known.at(len(searched.circuit)) - searched.missed

    def _short_elsewhere(self, found: MeasuredCircuit, searched: MeasuredCircuit) -> bool:
        """Whether it does more than the full model here and, as far as is known, less on other words."""
        lost = self._lost(searched) if found.mean_excess > 0 else None
        return lost is not None and found.mean_excess + lost.mean().item() < 0

    def _unless_ranked(self, found: MeasuredCircuit) -> MeasuredCircuit:
        """The circuit, or the first nodes of one of the rankings where these are clearly better."""
        if found.meets or len(found.circuit) == len(self.splice.nodes):
            return found
        firsts = [self._measured(order[: len(found.circuit)]) for order in self.rankings()]
        return min(
            (first for first in firsts if first.clearly_better(found)), key=lambda first: first.mean, default=found
        )

    def shortened(self, circuit: Int[Tensor, "chosen"], enough: Enough) -> Int[Tensor, "left"]:
        """The circuit without as many of its cheapest nodes as leave it `enough`.

        Nodes are ordered by the first-order cost of their removal; how many can go is found by bisection.
        """
        order = self._by_use(self._measured(circuit))
        return order[: _fewest(0, len(order), lambda left: enough(order[:left]))]

    def _by_use(self, found: MeasuredCircuit) -> Int[Tensor, "chosen"]:
        """Its nodes, those that cost most to leave out, to first order, first."""
        return found.circuit[torch.argsort(self._slope(found).mean[found.circuit], stable=True)]

    def pruned(self, circuit: Int[Tensor, "chosen"], enough: Enough = lambda shorter: True) -> Int[Tensor, "left"]:
        """The circuit without every node that can be dropped for free: none is left whose removal keeps the losses.

        Exact: each round tries every node alone, then takes as many of the free ones out together, the cheapest first,
        as keep the loss where it was at the start, on the fitted prompts and on those that choices are made on, and
        leave `enough`, and then each of the others that does; it ends with a round in which no node goes. Of more than
        300 nodes the cheapest to first order go together, as many as can, and those that are left are not tried alone
        before they are so few.
        """
        return self._pruned(self._measured(circuit), enough).circuit

    def _pruned(
        self,
        start: MeasuredCircuit,
        enough: Enough = lambda shorter: True,
        tried: Bool[Tensor, "chosen"] | None = None,
    ) -> MeasuredCircuit:
        """:meth:`pruned`; with few prompts to leave nodes out on, only the nodes that are to be `tried`."""
        now = start

        def fits(shorter: Int[Tensor, "shorter"]) -> bool:
            # Of several trials the last one that fits is the one that is kept.
            nonlocal now
            if not len(shorter):
                return False
            trial = self._measured(shorter)
            if lower(start.check, trial.check) or lower(start.loss, trial.loss) or not enough(shorter):
                return False
            now = trial
            return True

        if len(now.circuit) > _ALONE:
            order = self._by_use(now)
            _fewest(0, len(order), lambda left: fits(order[:left]))
            if len(now.circuit) > _ALONE:
                return now
            tried = None
        few = replace(self, prompts=self.left_out, validation=None) if self.left_out < self._count else self
        most = start.loss if few is self else few.loss_of(start.circuit)
        tried = None if few is self else tried
        while len(now.circuit) > 1:
            circuit = now.circuit
            losses = few.losses_without(circuit, tried)
            order = torch.argsort(losses, stable=True)[: int((losses <= most + EQUAL * abs(most)).sum())]
            free = order.to(circuit.device)
            _take_out(circuit, free, fits)
            if now.circuit is circuit:
                break
            tried = None if few is self else torch.isin(now.circuit, circuit[free])
        return now

    def refined(self, circuit: Int[Tensor, "chosen"], size: int) -> Int[Tensor, "left"]:
        """At most `size` nodes: pruned, then filled up with what lowers the loss, and pruned again, while that helps.

        So useless nodes are swapped for useful ones. The candidates to fill up with are those of the steepest first
        order gain; they stay only if the loss itself, on the same prompts, is lower with them.
        """
        now = self._pruned(self._measured(circuit))
        for _ in range(_SWAPS):
            fuller = self._filled(now, size - len(now.circuit))
            if fuller is now:
                break
            now = self._pruned(fuller, tried=~torch.isin(fuller.circuit, now.circuit))
        return now.circuit

    def _filled(self, start: MeasuredCircuit, room: int) -> MeasuredCircuit:
        """The circuit with as many more nodes as there is room for, or half as many and so on, if that is better."""
        gain = (-self._slope(start).mean).index_fill(0, start.circuit, 0.0)
        best = torch.argsort(gain, descending=True, stable=True)[: min(room, int((gain > 0).sum()))]
        while len(best):
            fuller = self._measured(torch.cat([start.circuit, best]))
            if fuller.better(start):
                return fuller
            best = best[: len(best) // 2]
        return start


def _take_out(
    circuit: Int[Tensor, "chosen"], free: Int[Tensor, "free"], fits: Callable[[Int[Tensor, "left"]], bool]
) -> None:
    """Ask whether the circuit `fits` without as many of the `free` nodes (positions in it) as can go.

    The first ones together, as many as fit, by bisection; each of the others after that by itself.
    """

    def rest(gone: Tensor) -> Tensor:
        left = torch.ones(len(circuit), dtype=torch.bool, device=circuit.device).index_fill(0, gone, False)
        return circuit[left]

    together = len(free) - _fewest(-1, len(free), lambda left: fits(rest(free[: len(free) - left])))
    gone = free[:together]
    for node in free[together:]:
        more = torch.cat([gone, node.reshape(1)])
        if fits(rest(more)):
            gone = more


def _parts(most: int) -> list[int]:
    """How many nodes to try, falling: `most`, half of it and so on to a sixty-fourth, and at least one."""
    return sorted({max(most >> halvings, 1) for halvings in range(7)}, reverse=True)


def _fewest(above: int, enough: int, fits: Callable[[int], bool]) -> int:
    """The smallest number over `above` that fits, by bisection; `enough` is known to."""
    while enough - above > 1:
        middle = (enough + above) // 2
        above, enough = (above, middle) if fits(middle) else (middle, enough)
    return enough
