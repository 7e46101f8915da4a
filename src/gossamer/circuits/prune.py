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
from gossamer.circuits.loss import Loss, excess, prompt_loss
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
# Rounds of filling up and pruning again; each lowers the loss, the later ones by little.
_SWAPS = 3


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
    loss: Loss = "logit_diff"
    prompts: int = 256

    @property
    def _count(self) -> int:
        return min(self.prompts, len(self.splice.examples))

    def _batched(self, work: Callable[[slice], Tensor]) -> list[Tensor]:
        return in_batches(self._count, self.splice.batch_size, work)

    def loss_of(self, circuit: Int[Tensor, "chosen"]) -> float:
        """Mean loss of a hard circuit (positions in the candidates)."""
        return self._measured(circuit)[0]

    def _measured(self, circuit: Int[Tensor, "chosen"]) -> tuple[float, Float[Tensor, "rows"]]:
        """Mean loss of a hard circuit and its excess on each prompt."""
        network = self.splice.over(self.splice.nodes.select(circuit))
        logits = self._logits(partial(network, torch.ones(len(circuit), device=self.splice.model.device)))
        return self._loss_in(logits), excess(logits, self.full, slice(0, len(logits)))

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
        return self._slope(circuit, self._measured(circuit)[1])

    def _slope(self, circuit: Int[Tensor, "chosen"], missed: Float[Tensor, "rows"]) -> Float[Tensor, "node"]:
        mask = torch.zeros(len(self.splice.nodes), device=self.splice.model.device).index_fill(0, circuit, 1.0)
        lean = missed.mean().sign()

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
        began, best = time.perf_counter(), math.inf
        kept: list[Tensor] = []
        leading = path.circuits[0]
        for found in reversed(path.circuits):
            circuit = self.exchanged(found)
            loss, missed = self._measured(circuit)
            if loss >= best and _overshoots(missed):
                circuit = self._filled(leading, len(found) - len(leading))
                if len(circuit) == len(leading):
                    continue
                loss = self.loss_of(circuit)
            if loss < best:
                leading, best = circuit, loss
            kept.insert(0, circuit)
        return replace(path, circuits=tuple(kept), seconds=path.seconds + time.perf_counter() - began)

    def exchanged(self, circuit: Int[Tensor, "chosen"]) -> Int[Tensor, "chosen"]:
        """As many nodes, some of them others, if its mean misses the full model's and the loss is lower with them.

        Which nodes go and which come in their place is a matter of first order; whether they do, of the loss itself.
        """
        loss, missed = self._measured(circuit)
        for _ in range(_EXCHANGES):
            if missed.mean().abs() <= _MET:
                break
            slope = self._slope(circuit, missed)
            leaving = circuit[torch.argsort(slope[circuit], descending=True, stable=True)]
            coming = torch.argsort(slope.index_fill(0, circuit, torch.inf), stable=True)[: len(slope) - len(circuit)]
            trials = (torch.cat([leaving[n:], coming[:n]]) for n in _parts(min(len(circuit) // 4, len(coming))))
            measured = ((trial, *self._measured(trial)) for trial in trials)
            better = next((found for found in measured if found[1] < loss - _EQUAL * abs(loss)), None)
            if better is None:
                break
            circuit, loss, missed = better
        return circuit

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


def _overshoots(missed: Float[Tensor, "rows"]) -> bool:
    """Whether the mean is above the full model's, by more than prompts alone explain (two standard errors)."""
    return bool(missed.mean() > max(_MET, 2 * missed.std().item() / math.sqrt(len(missed))))


def _parts(most: int) -> list[int]:
    """How many nodes to try, falling: `most`, a quarter of it and a sixteenth, and at least one."""
    return sorted({max(most // share, 1) for share in (1, 4, 16)}, reverse=True)


def _fewest(above: int, enough: int, fits: Callable[[int], bool]) -> int:
    """The smallest number over `above` that fits, by bisection; `enough` is known to."""
    while enough - above > 1:
        middle = (enough + above) // 2
        above, enough = (above, middle) if fits(middle) else (middle, enough)
    return enough
