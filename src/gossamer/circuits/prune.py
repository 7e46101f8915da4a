"""Exact last steps: take out what a target allows, drop every node that is free, put better ones in their place."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.attribution import GRADIENT_BATCH
from gossamer.circuits.leave_out import each_left_out
from gossamer.circuits.loss import Loss, prompt_loss
from gossamer.circuits.outcome import FullModel, Network
from gossamer.circuits.path import Path
from gossamer.circuits.splice import Splice

Enough = Callable[[Int[Tensor, "shorter"]], bool]
# Two losses that differ by less than this share are the same loss, rounded differently.
_EQUAL = 1e-6
# A circuit whose mean is so near the full model's, as a share of it, is left as it is: what remains is single prompts.
_MET = 0.02
# Rounds of exchanging nodes; the first brings most.
_EXCHANGES = 2
# Once so many circuits in a row were not improved by it, larger ones are not tried: each try costs a gradient.
_PATIENCE = 2
# Rounds of filling up and pruning again; each lowers the loss, the later ones by little.
_SWAPS = 3


@dataclass(frozen=True)
class _Measured:
    """A hard circuit with its mean loss and its excess over the full model on each prompt."""

    circuit: Int[Tensor, "chosen"]
    loss: float
    missed: Float[Tensor, "rows"]

    @property
    def meets(self) -> bool:
        """Whether its mean is the full model's, or nearly."""
        return bool(self.missed.mean().abs() <= _MET)

    @property
    def overshoots(self) -> bool:
        """Whether its mean is above the full model's, by more than prompts alone explain (two standard errors)."""
        error = self.missed.std().item() / math.sqrt(len(self.missed))
        return bool(self.missed.mean() > max(_MET, 2 * error))


@dataclass(frozen=True)
class Polish:
    """Measures hard circuits on the training prompts and improves them one exact step at a time.

    Attributes:
        splice: the network over the training prompts, masks over the candidates.
        full: the full model on the same prompts.
        loss: the search's loss.
        prompts: how many of the training prompts are used (the first ones; a task's prompts are in random order).
    """

    splice: Splice
    full: FullModel
    loss: Loss = "metric"
    prompts: int = 256

    @property
    def _count(self) -> int:
        return min(self.prompts, len(self.splice.examples))

    def _batched(self, work: Callable[[slice], Tensor]) -> list[Tensor]:
        return in_batches(self._count, self.splice.batch_size, work)

    def loss_of(self, circuit: Int[Tensor, "chosen"]) -> float:
        """Mean loss of a hard circuit (positions in the candidates)."""
        return self._measured(circuit).loss

    def _measured(self, circuit: Int[Tensor, "chosen"]) -> "_Measured":
        network = self.splice.over(self.splice.nodes.select(circuit))
        logits = self._logits(partial(network, torch.ones(len(circuit), device=self.splice.model.device)))
        return _Measured(circuit, self._loss_in(logits), self.full.excess(logits, slice(0, len(logits))))

    def losses_without(self, circuit: Int[Tensor, "chosen"]) -> Float[Tensor, "chosen"]:
        """Mean loss of the circuit without each of its nodes alone."""
        splice = self.splice.on(torch.arange(self._count, device=circuit.device))
        return each_left_out(splice, self.splice.nodes.select(circuit), self._loss, "pruning")

    def _loss(self, network: Network) -> float:
        return self._loss_in(self._logits(network))

    def _logits(self, network: Network) -> Float[Tensor, "rows vocab"]:
        with torch.no_grad():
            return torch.cat(self._batched(network))

    def _loss_in(self, logits: Float[Tensor, "rows vocab"]) -> float:
        return prompt_loss(logits, self.full, self.loss, slice(0, len(logits))).double().mean().item()

    def gradient(self, circuit: Int[Tensor, "chosen"]) -> Float[Tensor, "node"]:
        """Derivative of the mean loss by every candidate's mask at the hard circuit."""
        return self._slope(self._measured(circuit))

    def _slope(self, at: "_Measured") -> Float[Tensor, "node"]:
        mask = torch.zeros(len(self.splice.nodes), device=self.splice.model.device).index_fill(0, at.circuit, 1.0)
        lean = at.missed.mean().sign()

        def part(rows: slice) -> Tensor:
            leaf = mask.clone().requires_grad_()
            loss = prompt_loss(self.splice(leaf, rows), self.full, self.loss, rows, lean).sum()
            return torch.autograd.grad(loss, leaf)[0]

        parts = in_batches(self._count, min(self.splice.batch_size, GRADIENT_BATCH), part)
        return torch.stack(parts).sum(dim=0) / self._count

    def improved(self, path: Path) -> Path:
        """The path with better nodes where it misses, and without circuits that overshoot for no gain.

        Circuits are read off a soft mask; hard, some fall short of the full model and some do more than it. One that
        clearly does more, at a loss no smaller one has, gives way to the best smaller one filled up, or to nothing.
        """
        began, failures = time.perf_counter(), 0
        leading: _Measured | None = None
        kept: list[Tensor] = []
        for found in map(self._measured, reversed(path.circuits)):
            now = found if failures == _PATIENCE or found.meets else self._exchanged(found)
            failures = 0 if now is not found else min(failures + (not found.meets), _PATIENCE)
            if leading is not None and now.loss >= leading.loss and now.overshoots:
                fuller = self._filled(leading.circuit, len(found.circuit) - len(leading.circuit))
                if len(fuller) == len(leading.circuit):
                    continue
                now = self._measured(fuller)
            if leading is None or now.loss < leading.loss:
                leading = now
            kept.insert(0, now.circuit)
        return replace(path, circuits=tuple(kept), seconds=path.seconds + time.perf_counter() - began)

    def exchanged(self, circuit: Int[Tensor, "chosen"]) -> Int[Tensor, "chosen"]:
        """As many nodes, some of them others, if its mean misses the full model's and the loss is lower with them.

        Which nodes go and which come in their place is a matter of first order; whether they do, of the loss itself.
        """
        return self._exchanged(self._measured(circuit)).circuit

    def _exchanged(self, found: "_Measured") -> "_Measured":
        for _ in range(_EXCHANGES):
            if found.meets:
                break
            circuit, slope = found.circuit, self._slope(found)
            leaving = circuit[torch.argsort(slope[circuit], descending=True, stable=True)]
            coming = torch.argsort(slope.index_fill(0, circuit, torch.inf), stable=True)[: len(slope) - len(circuit)]
            trials = (torch.cat([leaving[n:], coming[:n]]) for n in _parts(min(len(circuit) // 4, len(coming))))
            limit = found.loss - _EQUAL * abs(found.loss)
            better = next((trial for trial in map(self._measured, trials) if trial.loss < limit), None)
            if better is None:
                break
            found = better
        return found

    def shortened(self, circuit: Int[Tensor, "chosen"], enough: Enough) -> Int[Tensor, "left"]:
        """The circuit without as many of its cheapest nodes as leave it `enough`.

        Nodes are ordered by the first-order cost of their removal; how many can go is found by bisection.
        """
        order = circuit[torch.argsort(self.gradient(circuit)[circuit], stable=True)]
        return order[: _fewest(0, len(order), lambda left: enough(order[:left]))]

    def pruned(self, circuit: Int[Tensor, "chosen"], enough: Enough = lambda shorter: True) -> Int[Tensor, "left"]:
        """The circuit without every node that can be dropped for free: none is left whose removal keeps the loss.

        Exact: each round tries every node alone, then takes as many of the free ones out together, the cheapest first,
        as keep the loss where it was at the start and leave `enough`; it ends with a round in which no node goes.
        """
        limit = self.loss_of(circuit)
        while len(circuit) > 1:
            losses = self.losses_without(circuit)
            free = torch.argsort(losses, stable=True)[: int((losses <= limit + _EQUAL * abs(limit)).sum())]
            shorter = self._without(circuit, free.to(circuit.device), limit, enough)
            if len(shorter) == len(circuit):
                break
            circuit = shorter
        return circuit

    def refined(self, circuit: Int[Tensor, "chosen"], size: int) -> Int[Tensor, "left"]:
        """At most `size` nodes: pruned, then filled up with what lowers the loss, and pruned again, while that helps.

        So useless nodes are swapped for useful ones. The candidates to fill up with are those of the steepest first
        order gain; they stay only if the loss itself, on the same prompts, is lower with them.
        """
        circuit = self.pruned(circuit)
        for _ in range(_SWAPS):
            fuller = self._filled(circuit, size - len(circuit))
            if len(fuller) == len(circuit):
                break
            circuit = self.pruned(fuller)
        return circuit

    def _filled(self, circuit: Int[Tensor, "chosen"], room: int) -> Int[Tensor, "more"]:
        """The circuit with as many more nodes as there is room for, or half as many and so on, if the loss is lower."""
        gain = (-self.gradient(circuit)).index_fill(0, circuit, 0.0)
        best = torch.argsort(gain, descending=True, stable=True)[: min(room, int((gain > 0).sum()))]
        limit = self.loss_of(circuit)
        while len(best):
            fuller = torch.cat([circuit, best])
            if self.loss_of(fuller) < limit - _EQUAL * abs(limit):
                return fuller
            best = best[: len(best) // 2]
        return circuit

    def _without(
        self, circuit: Int[Tensor, "chosen"], free: Int[Tensor, "free"], limit: float, enough: Enough
    ) -> Int[Tensor, "left"]:
        """The circuit without as many of the `free` nodes (positions in it) as can go: the first ones, or any one."""

        def rest(gone: Tensor) -> Tensor:
            left = torch.ones(len(circuit), dtype=torch.bool, device=circuit.device).index_fill(0, gone, False)
            return circuit[left]

        def fits(shorter: Tensor) -> bool:
            return len(shorter) > 0 and self.loss_of(shorter) <= limit + _EQUAL * abs(limit) and enough(shorter)

        most = len(free) - _fewest(-1, len(free), lambda left: fits(rest(free[: len(free) - left])))
        if most:
            return rest(free[:most])
        return next(
            (one for one in (rest(free[index : index + 1]) for index in range(1, len(free))) if fits(one)), circuit
        )


def _parts(most: int) -> list[int]:
    """How many nodes to try, falling: `most`, a quarter of it and a sixteenth, and at least one."""
    return sorted({max(most // share, 1) for share in (1, 4, 16)}, reverse=True)


def _fewest(above: int, enough: int, fits: Callable[[int], bool]) -> int:
    """The smallest number over `above` that fits, by bisection; `enough` is known to."""
    while enough - above > 1:
        middle = (enough + above) // 2
        above, enough = (above, middle) if fits(middle) else (middle, enough)
    return enough
