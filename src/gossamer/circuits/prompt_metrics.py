"""What a network does on every prompt, and what that comes to with intervals."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.outputs import Outputs, Rows, measured
from gossamer.circuits.splice import Splice
from gossamer.circuits.task_metrics import TaskMetrics
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.statistics import Interval
from gossamer.tasks.metric import answer_divergence, kl_divergence, preferred, reads_answers_only
from gossamer.tasks.task import PromptPairs

Network = Callable[[slice], Outputs]


@dataclass(frozen=True)
class PromptMetrics:
    """One network on every prompt of a split.

    Attributes:
        metric: what the task measures (see :mod:`gossamer.tasks.metric`).
        kl: KL(full model || this network) over the vocabulary at the answer position, in nats.
        answer_kl: the same between the prompt's own answers alone, right and wrong, made to sum to one.
        correct: whether the metric is above 0; where it is a distance, whether a right answer beats every wrong one.
        top1: whether a right answer beats the whole vocabulary.
    """

    metric: Float[Tensor, "prompt"]
    kl: Float[Tensor, "prompt"]
    answer_kl: Float[Tensor, "prompt"]
    correct: Bool[Tensor, "prompt"]
    top1: Bool[Tensor, "prompt"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(len(self.metric), 'prompt')}"
        yield f"metric {self.metric.double().mean().item():.3g}"
        yield f"accuracy {self.correct.double().mean().item():.3g}"
        yield f"KL {self.kl.double().mean().item():.3g}"

    def select(self, rows: Int[Tensor, "rows"]) -> "PromptMetrics":
        """The same network on some of the prompts only."""
        return PromptMetrics(**{name.name: getattr(self, name.name)[rows] for name in fields(self)})


@dataclass(frozen=True)
class FullModel:
    """The model itself on a split: what every circuit is held against. Memory: prompts x d_model.

    Attributes:
        examples: the prompts, with their metric.
        outputs: of the model on all of them.
        prompt_metrics: the model's own.
        zero: the metric where faithfulness is 0: 0 for a difference, the empty circuit's for a distance.
    """

    examples: PromptPairs
    outputs: Outputs
    prompt_metrics: PromptMetrics
    zero: Float[Tensor, "prompt"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.examples)
        yield repr(self.prompt_metrics)

    @classmethod
    def measure(
        cls, network: Network, examples: PromptPairs, batch_size: int = 64, empty: Network | None = None
    ) -> "FullModel":
        """Run the unmodified model on every prompt.

        Args:
            network: the model.
            examples: the prompts.
            batch_size: prompts a pass.
            empty: the network of the empty circuit; run (and needed) for a metric that is a distance only.

        Raises:
            UsageError: a distance without the empty circuit.
            NotFiniteError: the model's logits are not finite.
        """

        def run(rows: slice) -> tuple[Outputs, PromptMetrics]:
            outputs = network(rows)
            return outputs, _outcome(outputs, examples, rows, None, "the model's logits")

        with torch.no_grad():
            parts = in_batches(len(examples), batch_size, run)
        outputs = Outputs(torch.cat([one.stream for one, _ in parts]), parts[0][0].unembed)
        prompt_metrics = _joined([found for _, found in parts])
        full = cls(examples, outputs, prompt_metrics, torch.zeros_like(prompt_metrics.metric))
        if not examples.metric.distance:
            return full
        if empty is None:
            raise UsageError(f"{examples.metric.label}: faithfulness counts from the empty circuit; give its network")
        return replace(full, zero=full.prompt_metrics_of(empty, batch_size, "the empty circuit's logits").metric)

    def select(self, rows: Int[Tensor, "rows"]) -> "FullModel":
        """The same measurements of some of the prompts only."""
        return FullModel(
            self.examples.select(rows), self.outputs[rows], self.prompt_metrics.select(rows), self.zero[rows]
        )

    def log_probs(self, rows: Rows) -> Float[Tensor, "rows vocab"]:
        """Log-probabilities of the model for the chosen prompts (no gradients)."""
        with torch.no_grad():
            return self.outputs[rows].logits().float().log_softmax(dim=-1)

    def prompt_metrics_of(
        self, network: Network, batch_size: int = 64, name: str = "the circuit's logits"
    ) -> PromptMetrics:
        """Run `network` on every prompt and compare it with the full model."""

        def run(rows: slice) -> PromptMetrics:
            return _outcome(network(rows), self.examples, rows, self.outputs[rows], name)

        with torch.no_grad():
            return _joined(in_batches(len(self.examples), batch_size, run))

    def metric(self, outputs: Outputs, rows: Rows) -> Float[Tensor, "rows"]:
        """The task's metric of the chosen prompts, whose `outputs` these are; differentiable in them."""
        return measured(outputs, self.examples, rows, self.log_probs(rows) if self.examples.metric.distance else None)

    def excess(self, outputs: Outputs, rows: Rows) -> Float[Tensor, "rows"]:
        """What each prompt's metric adds to faithfulness beyond the full model's 1; differentiable in `outputs`."""
        own = self.prompt_metrics.metric
        return (self.metric(outputs, rows) - own[rows]) / (own - self.zero).mean()

    def kept(self, network: Network, batch_size: int = 64) -> float:
        """Faithfulness of `network`, from its metric alone: nothing else is measured."""
        return self.share(self.metric_of(network, batch_size))

    def metric_of(self, network: Network, batch_size: int = 64) -> Float[Tensor, "prompt"]:
        """The task's metric of `network` on every prompt: nothing else is measured."""

        def run(rows: slice) -> Tensor:
            return require_finite(self.metric(network(rows), rows), "the circuit's metric")

        with torch.no_grad():
            return torch.cat(in_batches(len(self.examples), batch_size, run))

    def interval(self, metric: Float[Tensor, "prompt"], weights: Float[Tensor, "draw prompt"]) -> Interval:
        """Faithfulness as :meth:`share`, with its bootstrap interval."""
        own, base, zero = (values.cpu().double() for values in (metric, self.prompt_metrics.metric, self.zero))
        return _ratio(own - zero, base - zero, weights)

    def faithfulness(self, prompt_metrics: PromptMetrics) -> float:
        """Faithfulness of a network that was measured."""
        return self.share(prompt_metrics.metric)

    def share(self, metric: Float[Tensor, "prompt"]) -> float:
        """Share of the way from `zero` to the full model, of the means over prompts."""
        # On the CPU, because not every device has float64.
        own, base, zero = (values.cpu().double() for values in (metric, self.prompt_metrics.metric, self.zero))
        return ((own - zero).mean() / (base - zero).mean()).item()


def ability(network: Network, examples: PromptPairs, batch_size: int) -> tuple[float, float | None]:
    """Accuracy of the model itself and the mean of its metric; None for a distance, which to itself it has none of."""
    distance = examples.metric.distance

    def run(rows: slice) -> Tensor:
        outputs = network(rows)
        if not distance:
            return require_finite(measured(outputs, examples, rows), "the model's logits")
        right, wrong = (places.to(outputs.stream.device) for places in examples.answer_places(rows))
        logits = require_finite(outputs.answer_logits(examples, rows), "the model's logits")
        return preferred(logits, right, wrong)

    with torch.no_grad():
        found = torch.cat(in_batches(len(examples), batch_size, run)).double()
    return (found > 0).double().mean().item(), None if distance else found.mean().item()


def spliced_metric(splice: Splice, outputs: Outputs, rows: Rows) -> Float[Tensor, "rows"]:
    """The task's metric of a splice's outputs; differentiable in them. For a distance the model itself is run first."""
    if not splice.examples.metric.distance:
        return measured(outputs, splice.examples, rows)
    with torch.no_grad():
        reference = splice.full(rows).logits().float().log_softmax(dim=-1)
    return measured(outputs, splice.examples, rows, reference)


def _outcome(
    outputs: Outputs, examples: PromptPairs, rows: slice, reference: Outputs | None, name: str
) -> PromptMetrics:
    """The metrics of each prompt of one batch; without a reference the outputs are the full model's own."""
    right, wrong = (places.to(outputs.stream.device) for places in examples.answer_places(rows))
    logits = outputs.answer_logits(examples, rows)
    whole = [_whole(outputs, examples, rows, reference, name, part) for part in outputs.blocks()]
    metric, kl, top1 = (torch.cat(found) for found in zip(*whole, strict=True))
    if reads_answers_only(examples.metric):
        metric = examples.metric(logits, right, wrong, None)
    own = None if reference is None else reference.answer_logits(examples, rows)
    return PromptMetrics(
        metric,
        kl,
        torch.zeros_like(kl) if own is None else answer_divergence(own, logits, right, wrong),
        preferred(logits, right, wrong) if examples.metric.distance else metric > 0,
        top1,
    )


def _whole(
    outputs: Outputs, examples: PromptPairs, rows: slice, reference: Outputs | None, name: str, part: slice
) -> tuple[Float[Tensor, "part"], Float[Tensor, "part"], Bool[Tensor, "part"]]:
    """What is read off the logits of the whole vocabulary, of a part of a batch: metric, KL and `top1`.

    The metric is 0 where it needs none of them, and where it is a distance of the full model from itself.
    """
    here = slice(rows.start + part.start, rows.start + part.stop)
    where = name if here.start == 0 else f"{name}, prompts from {here.start} on"
    logits = require_finite(outputs[part].logits(), where)
    answers = examples.answers(here).to(logits.device)
    own = None if reference is None else reference[part].logits().float().log_softmax(dim=-1)
    nothing = torch.zeros(len(logits), device=logits.device)
    unread = reads_answers_only(examples.metric) or (examples.metric.distance and own is None)
    return (
        nothing if unread else examples.measure(logits, here, own),
        nothing if own is None else kl_divergence(own, logits),
        (logits.argmax(dim=-1)[:, None] == answers).any(dim=1),
    )


def _joined(parts: list[PromptMetrics]) -> PromptMetrics:
    return PromptMetrics(
        **{name.name: torch.cat([getattr(part, name.name) for part in parts]) for name in fields(PromptMetrics)}
    )


def task_metrics(
    name: str,
    prompt_metrics: PromptMetrics,
    full: FullModel,
    dictionaries: PromptMetrics,
    weights: Float[Tensor, "draw prompt"],
) -> TaskMetrics:
    """Means over prompts with 95 % bootstrap intervals; ratios resample numerator and denominator together.

    Args:
        name: what the network is.
        prompt_metrics: the network; `full` and `dictionaries`: the references of its two faithfulness ratios.
        weights: of :func:`gossamer.circuits.bootstrap.bootstrap_weights`; the same for every network, so that
            intervals can be compared.
    """
    # On the CPU, because not every device has float64.
    own, base, spliced, zero = (
        values.cpu().double()
        for values in (prompt_metrics.metric, full.prompt_metrics.metric, dictionaries.metric, full.zero)
    )
    sign = -1 if full.examples.metric.distance else 1
    return TaskMetrics(
        name=name,
        metric=_ratio(own, torch.ones_like(own), weights),
        faithfulness=full.interval(prompt_metrics.metric, weights),
        faithfulness_to_dictionaries=_ratio(own - zero, spliced - zero, weights),
        accuracy=prompt_metrics.correct.double().mean().item(),
        top1=prompt_metrics.top1.double().mean().item(),
        kl=prompt_metrics.kl.double().mean().item(),
        answer_kl=prompt_metrics.answer_kl.double().mean().item(),
        prompt_error=_ratio((own - base).abs(), sign * (base - zero), weights),
    )


def _ratio(above: Tensor, below: Tensor, weights: Tensor) -> Interval:
    value = (above.mean() / below.mean()).item()
    drawn = (weights @ above) / (weights @ below)
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(value, low, high)
