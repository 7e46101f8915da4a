"""What a search follows: the gradient of the model's own metric, or of what a circuit's detectors say.

To first order, an edit that leaves the number of tokens as it is changes a value by (E' - E) . gradient, with E the
embeddings before and E' after it; what edits do that put text in is seen from one pass with such an edit. Where the
edit changes the answers, the logits of the new ones on the old prompt are added (else the larger part is missed).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.circuits.adversarial.prompts import BACKWARD, FORWARD, CountedModel
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.outputs import Outputs, last_stream, measured
from gossamer.dictionary.dictionary import Dictionary
from gossamer.model.inputs import gathered
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.replacement.replacement_model import frozen_weights
from gossamer.tasks.prompt_pairs import PromptPairs

EMBEDDINGS = Site.of("resid_pre.0")


class GuideReading(NamedTuple):
    """What a guide knows of some prompts.

    Attributes:
        pairs: the prompts.
        embeddings: what the first layer reads.
        gradient: of the guide's value there.
        value: the guide's value of each prompt.
        outputs: what the model says at the end of each.
        weights: of the circuit's nodes on each prompt; None of a guide without a circuit.
    """

    pairs: PromptPairs
    embeddings: Float[Tensor, "prompt pos d"]
    gradient: Float[Tensor, "prompt pos d"]
    value: Float[Tensor, "prompt"]
    outputs: Outputs
    weights: Float[Tensor, "prompt node"] | None = None


@runtime_checkable
class Guide(Protocol):
    """What a search follows. `cost`: of a reading of one prompt, in forward passes."""

    @property
    def cost(self) -> int: ...

    def read(self, runner: CountedModel, pairs: PromptPairs) -> GuideReading:
        """The value on some prompts with its gradient."""

    def value(self, runner: CountedModel, pairs: PromptPairs, reading: GuideReading) -> Float[Tensor, "prompt"]:
        """The value on edited prompts, by the weights of a reading of as many; costs a forward pass each."""


@dataclass(frozen=True)
class ModelGuide:
    """Follows the bare model's own metric."""

    cost: int = FORWARD + BACKWARD

    def read(self, runner: CountedModel, pairs: PromptPairs) -> GuideReading:
        """See :class:`Guide`."""
        runner.spent += self.cost * len(pairs)
        run = _forward(runner.model, pairs, ())
        value = measured(run.outputs, pairs, slice(None))
        gradient = torch.autograd.grad(value.sum(), run.leaf)[0]
        return GuideReading(pairs, run.leaf.detach(), gradient, value.detach(), _constant(run.outputs))

    def value(self, runner: CountedModel, pairs: PromptPairs, reading: GuideReading) -> Float[Tensor, "prompt"]:
        """See :class:`Guide`."""
        return runner.margins(pairs).to(reading.value.device)


@dataclass(frozen=True)
class CircuitGuide:
    """Follows the circuit: the sum of its nodes' activations, each times what it does to the metric on the prompt.

    A node's weight is the gradient of the bare model's metric along its decoder row, averaged over its role's tokens;
    with `by_size` it is 1 whatever the node does. Weights are constant for the gradient, which so takes only the ways
    to the metric that pass through the circuit.

    Attributes:
        nodes: of the circuit.
        dictionaries: at their sites.
        by_size: whether activations alone count.
        cost: a forward pass, a backward pass from the metric to the nodes, and one from the nodes to the embeddings.
    """

    nodes: Nodes
    dictionaries: Mapping[Site, Dictionary]
    by_size: bool = False
    cost: int = FORWARD + 2 * BACKWARD

    def read(self, runner: CountedModel, pairs: PromptPairs) -> GuideReading:
        """See :class:`Guide`."""
        runner.spent += self.cost * len(pairs)
        run, weights, activations = self.attributed(runner.model, pairs)
        value = (weights * activations).sum(dim=1)
        gradient = torch.autograd.grad(value.sum(), run.leaf)[0]
        return GuideReading(pairs, run.leaf.detach(), gradient, value.detach(), _constant(run.outputs), weights)

    def attributed(
        self, model: LanguageModel, pairs: PromptPairs
    ) -> tuple["Forward", Float[Tensor, "prompt node"], Float[Tensor, "prompt node"]]:
        """A pass with gradients, the weight of every node on every prompt, and the nodes' activations."""
        run = _forward(model, pairs, self.nodes.sites)
        value = measured(run.outputs, pairs, slice(None))
        sites = list(run.sites.values())
        gradients = torch.autograd.grad(value.sum(), sites, retain_graph=True, allow_unused=True)
        along = dict(zip(run.sites, gradients, strict=True))
        activations = self.activations(run.sites, pairs)
        if self.by_size:
            return run, torch.ones_like(activations), activations
        weights, roles = torch.zeros_like(activations), pairs.clean.roles.to(model.device)
        for index, site in enumerate(self.nodes.sites):
            here, gradient = self.nodes.at(index), along[site]
            if gradient is not None and len(here.where):
                rows = self.dictionaries[site].W_dec[here.columns].to(gradient.dtype)
                summed, count = _by_role(gradient @ rows.T, roles, here.role, here.column)
                weights[:, here.where] = (summed / count.clamp(min=1)).float()
        return run, weights, activations

    def activations(
        self, streams: Mapping[Site, Float[Tensor, "prompt pos d"]], pairs: PromptPairs
    ) -> Float[Tensor, "prompt node"]:
        """Each node's activation, summed over the tokens of its role."""
        parts, roles = [], pairs.clean.roles.to(next(iter(streams.values())).device)
        order = []
        for index, site in enumerate(self.nodes.sites):
            here = self.nodes.at(index)
            latents = self.dictionaries[site].encode_dense(streams[site], here.columns)
            parts.append(_by_role(latents, roles, here.role, here.column)[0])
            order.append(here.where)
        return torch.cat(parts, dim=1).float()[:, torch.argsort(torch.cat(order))]

    def value(self, runner: CountedModel, pairs: PromptPairs, reading: GuideReading) -> Float[Tensor, "prompt"]:
        """See :class:`Guide`."""
        assert reading.weights is not None
        runner.spent += FORWARD * len(pairs)
        with torch.no_grad():
            streams = runner.model.capture(pairs.clean.tokens.to(runner.model.device), self.nodes.sites)
            return (reading.weights * self.activations(streams, pairs)).sum(dim=1)


class Forward(NamedTuple):
    """A pass of the bare model that keeps its gradients, from its embeddings `leaf` on."""

    leaf: Float[Tensor, "prompt pos d"]
    sites: Mapping[Site, Float[Tensor, "prompt pos d"]]
    outputs: Outputs


def _forward(model: LanguageModel, pairs: PromptPairs, sites: Sequence[Site]) -> Forward:
    tokens, last = pairs.clean.tokens.to(model.device), last_stream(model)
    leaf = embeddings(model, pairs).requires_grad_()
    with frozen_weights(model.hf), torch.enable_grad():
        wanted = list(dict.fromkeys([*(site for site in sites if site != EMBEDDINGS), last]))
        found = model.capture(tokens, wanted, start=(EMBEDDINGS, leaf))
        streams = {site: leaf if site == EMBEDDINGS else found[site] for site in sites}
        end = gathered(found[last], pairs.clean.answer_position)
    return Forward(leaf, streams, Outputs(end, model.unembed))


def embeddings(model: LanguageModel, pairs: PromptPairs) -> Float[Tensor, "prompt pos d"]:
    """What the first layer reads of some prompts: a look-up, no pass."""
    with torch.no_grad():
        return model.capture(pairs.clean.tokens.to(model.device), [EMBEDDINGS])[EMBEDDINGS].clone()


def _constant(outputs: Outputs) -> Outputs:
    return Outputs(outputs.stream.detach(), outputs.unembed)


def _by_role(
    values: Float[Tensor, "prompt pos column"],
    roles: Int[Tensor, "prompt pos"],
    role: Int[Tensor, "node"],
    column: Int[Tensor, "node"],
) -> tuple[Float[Tensor, "prompt node"], Float[Tensor, "prompt node"]]:
    """Every node's column summed over the tokens of its role, and how many these are."""
    here = (roles[:, :, None] == role).to(values.dtype)
    return (values[:, :, column] * here).sum(dim=1), here.sum(dim=1)


def first_order(
    model: LanguageModel, reading: GuideReading, edited: PromptPairs, of: Int[Tensor, "edited"]
) -> Float[Tensor, "edited"]:
    """The predicted change of the guide's value from prompt `of` of a reading to each edited prompt of equal length."""
    with torch.no_grad():
        moved = embeddings(model, edited) - reading.embeddings[of]
        inside = reading.pairs.clean.tokens.mask[of].to(moved.device)[:, :, None]
        return (moved * reading.gradient[of] * inside).sum(dim=(1, 2)).float() + answer_change(reading, edited, of)


def answer_change(reading: GuideReading, edited: PromptPairs, of: Int[Tensor, "edited"]) -> Float[Tensor, "edited"]:
    """By how much the metric changes if on the old prompt the new answers are asked for."""
    with torch.no_grad():
        outputs = reading.outputs[of]
        return measured(outputs, edited, slice(None)) - measured(outputs, reading.pairs, of)
