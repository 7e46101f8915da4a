"""What a network does on every prompt, and what that comes to with intervals."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.results import Interval, TaskMetrics
from gossamer.circuits.splice import Splice
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.tasks.metric import answer_divergence, kl_divergence, preferred
from gossamer.tasks.task import PromptPairs

Network = Callable[[slice], Float[Tensor, "rows vocab"]]
Rows = Int[Tensor, "rows"] | slice


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
    """The model itself on a split: what every circuit is held against. Memory: prompts x vocabulary floats.

    Attributes:
        examples: the prompts, with their metric.
        log_probs: of the model at the answer position.
        prompt_metrics: the model's own.
        zero: the metric where faithfulness is 0: 0 for a difference, the empty circuit's for a distance.
    """

    examples: PromptPairs
    log_probs: Float[Tensor, "prompt vocab"]
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
        log_probs: list[Tensor] = []

        def run(rows: slice) -> PromptMetrics:
            logits = _finite(network(rows), "the model's logits", rows)
            if not log_probs:
                log_probs.append(logits.new_empty(len(examples), logits.shape[1], dtype=torch.float32))
            log_probs[0][rows] = logits.float().log_softmax(dim=-1)
            return _outcome(logits, examples, rows, None)

        with torch.no_grad():
            prompt_metrics = _joined(in_batches(len(examples), batch_size, run))
        full = cls(examples, log_probs[0], prompt_metrics, torch.zeros_like(prompt_metrics.metric))
        if not examples.metric.distance:
            return full
        if empty is None:
            raise UsageError(f"{examples.metric.label}: faithfulness counts from the empty circuit; give its network")
        return replace(full, zero=full.prompt_metrics_of(empty, batch_size, "the empty circuit's logits").metric)

    def select(self, rows: Int[Tensor, "rows"]) -> "FullModel":
        """The same measurements of some of the prompts only."""
        return FullModel(
            self.examples.select(rows), self.log_probs[rows], self.prompt_metrics.select(rows), self.zero[rows]
        )

    def prompt_metrics_of(
        self, network: Network, batch_size: int = 64, name: str = "the circuit's logits"
    ) -> PromptMetrics:
        """Run `network` on every prompt and compare it with the full model."""

        def run(rows: slice) -> PromptMetrics:
            logits = _finite(network(rows), name, rows)
            return _outcome(logits, self.examples, rows, self.log_probs[rows])

        with torch.no_grad():
            return _joined(in_batches(len(self.examples), batch_size, run))

    def metric(self, logits: Float[Tensor, "rows vocab"], rows: Rows) -> Float[Tensor, "rows"]:
        """The task's metric of the chosen prompts' logits; differentiable in them."""
        # Only a distance reads the log-probabilities: choosing rows copies them.
        reference = self.log_probs[rows] if self.examples.metric.distance else None
        return self.examples.measure(logits, rows, reference)

    def excess(self, logits: Float[Tensor, "rows vocab"], rows: Rows) -> Float[Tensor, "rows"]:
        """What each prompt's metric adds to faithfulness beyond the full model's 1; differentiable in `logits`."""
        own = self.prompt_metrics.metric
        return (self.metric(logits, rows) - own[rows]) / (own - self.zero).mean()

    def faithfulness(self, prompt_metrics: PromptMetrics) -> float:
        """Share of the way from `zero` to the full model, of the means over prompts."""
        # On the CPU, because not every device has float64.
        own, base, zero = (
            values.cpu().double() for values in (prompt_metrics.metric, self.prompt_metrics.metric, self.zero)
        )
        return ((own - zero).mean() / (base - zero).mean()).item()


def ability(network: Network, examples: PromptPairs, batch_size: int) -> tuple[float, float | None]:
    """Accuracy of the model itself and the mean of its metric; None for a distance, which to itself it has none of."""

    def run(rows: slice) -> PromptMetrics:
        return _outcome(_finite(network(rows), "the model's logits", rows), examples, rows, None)

    with torch.no_grad():
        found = _joined(in_batches(len(examples), batch_size, run))
    mean = None if examples.metric.distance else found.metric.double().mean().item()
    return found.correct.double().mean().item(), mean


def spliced_metric(splice: Splice, logits: Float[Tensor, "rows vocab"], rows: Rows) -> Float[Tensor, "rows"]:
    """The task's metric of a splice's logits; differentiable in them. For a distance the model itself is run first."""
    if not splice.examples.metric.distance:
        return splice.examples.measure(logits, rows)
    with torch.no_grad():
        reference = splice.full(rows).float().log_softmax(dim=-1)
    return splice.examples.measure(logits, rows, reference)


def _finite(logits: Tensor, name: str, rows: slice) -> Tensor:
    return require_finite(logits, name if rows.start == 0 else f"{name}, prompts from {rows.start} on")


def _outcome(logits: Tensor, examples: PromptPairs, rows: slice, reference: Tensor | None) -> PromptMetrics:
    """The metrics of each prompt of one batch; without a reference the logits are the full model's own."""
    answers, incorrect = (ids.to(logits.device) for ids in (examples.answers(rows), examples.incorrect_answers(rows)))
    nothing = torch.zeros(len(logits), device=logits.device)
    distance = examples.metric.distance
    metric = nothing if distance and reference is None else examples.measure(logits, rows, reference)
    return PromptMetrics(
        metric,
        nothing if reference is None else kl_divergence(reference, logits),
        nothing if reference is None else answer_divergence(reference, logits, answers, incorrect),
        preferred(logits, answers, incorrect) if distance else metric > 0,
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
        faithfulness=_ratio(own - zero, base - zero, weights),
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
