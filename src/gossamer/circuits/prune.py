"""Exact last steps: take out what a target allows, then every node that can be dropped for free."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.outcome import FullModel
from gossamer.circuits.search import Loss, excess, prompt_loss
from gossamer.circuits.splice import Splice
from gossamer.progress import track


@dataclass(frozen=True)
class Polish:
    """Measures hard circuits on the training prompts and improves them one exact step at a time.

    Attributes:
        splice: the network over the training prompts, masks over the candidates.
        full: the full model on the same prompts.
        loss: the search's loss.
        prompts: how many of the training prompts are used (the first ones; they are in random order).
    """

    splice: Splice
    full: FullModel
    loss: Loss = "logit_diff"
    prompts: int = 256

    def _batched(self, work: Callable[[slice], Tensor]) -> list[Tensor]:
        return in_batches(min(self.prompts, len(self.splice.examples)), self.splice.batch_size, work)

    def loss_of(self, circuit: Int[Tensor, "chosen"]) -> float:
        """Mean loss of a hard circuit (positions in the candidates)."""
        network = self.splice.over(self.splice.nodes.select(circuit))
        mask = torch.ones(len(circuit), device=self.splice.model.device)
        with torch.no_grad():
            logits = torch.cat(self._batched(partial(network, mask)))
        return prompt_loss(logits, self.full, self.loss, slice(0, len(logits))).double().mean().item()

    def gradient(self, circuit: Int[Tensor, "chosen"]) -> Float[Tensor, "node"]:
        """Derivative of the mean loss by every candidate's mask at the hard circuit."""
        mask = torch.zeros(len(self.splice.nodes), device=self.splice.model.device).index_fill(0, circuit, 1.0)
        with torch.no_grad():
            logits = torch.cat(self._batched(partial(self.splice, mask)))
        lean = excess(logits, self.full, slice(0, len(logits))).mean().sign()

        def part(rows: slice) -> Tensor:
            leaf = mask.clone().requires_grad_()
            loss = prompt_loss(self.splice(leaf, rows), self.full, self.loss, rows, lean).sum()
            return torch.autograd.grad(loss, leaf)[0]

        return torch.stack(self._batched(part)).sum(dim=0) / len(logits)

    def shortened(
        self, circuit: Int[Tensor, "chosen"], enough: Callable[[Int[Tensor, "shorter"]], bool]
    ) -> Int[Tensor, "left"]:
        """The circuit without as many of its cheapest nodes as leave it `enough`.

        Nodes are ordered by the first-order cost of their removal; how many can go is found by bisection.
        """
        order = circuit[torch.argsort(self.gradient(circuit)[circuit], stable=True)]
        fits, fails = len(order), 0
        while fits - fails > 1:
            middle = (fits + fails) // 2
            fits, fails = (middle, fails) if enough(order[:middle]) else (fits, middle)
        return order[:fits]

    def pruned(
        self, circuit: Int[Tensor, "chosen"], enough: Callable[[Int[Tensor, "shorter"]], bool] = lambda shorter: True
    ) -> Int[Tensor, "left"]:
        """The circuit without every node that can be dropped for free: none is left whose removal keeps the loss.

        Exact: each round tries every node alone, then takes the free ones out together, the cheapest first, as long as
        the loss does not rise and what is left is `enough`; it ends with a round in which no node goes.
        """
        limit, before = self.loss_of(circuit), len(circuit) + 1
        while 1 < len(circuit) < before:
            before = len(circuit)
            losses = torch.tensor([self.loss_of(circuit[circuit != node]) for node in track_nodes(circuit)])
            free = circuit[torch.argsort(losses, stable=True)[: int((losses <= limit).sum())].to(circuit.device)]
            for node in free.tolist():
                shorter = circuit[circuit != node]
                if len(shorter) and self.loss_of(shorter) <= limit and enough(shorter):
                    circuit = shorter
        return circuit


def track_nodes(circuit: Int[Tensor, "chosen"]) -> Iterator[int]:
    """The circuit's nodes, with progress."""
    return track(circuit.tolist(), "pruning", len(circuit))
