"""Where a circuit, or its dictionaries, fall short of the model: single prompts, unseen templates, and errors made good
in one place."""

from collections.abc import Iterator
from dataclasses import dataclass

from gossamer.circuits.task_metrics import TaskMetrics
from gossamer.display import cut, listed, plural, short_repr
from gossamer.model.site import Site
from gossamer.statistics import Interval


@dataclass(frozen=True)
class WorstPrompt:
    """One prompt on which the circuit is far from the model.

    Attributes:
        text: the prompt.
        answer, incorrect: its answers.
        kl: KL(model || circuit) at the answer position, in nats.
        full, circuit: the task's metric of the model and of the circuit.
    """

    text: str
    answer: str
    incorrect: str
    kl: float
    full: float
    circuit: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield cut(repr(self.text), 100)
        yield f"KL {self.kl:.3g}"


@dataclass(frozen=True)
class PromptTail:
    """How far the circuit is from the model on the prompts where it is furthest: means hide them.

    Source: adversarial circuit evaluation, Uit de Bos & Garriga-Alonso 2024.

    Attributes:
        mean, p95, p99: of KL(model || circuit) over the held-out prompts, in nats; a percentile is the smallest value
            that at least so many of the prompts do not exceed.
        worst: the prompts with the largest, the worst first.
    """

    mean: float
    p95: float
    p99: float
    worst: tuple[WorstPrompt, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"KL {self.mean:.3g} on average, {self.p95:.3g} at 95 %, {self.p99:.3g} at 99 %"
        yield f"{plural(len(self.worst), 'prompt')}"


@dataclass(frozen=True)
class RestoredError:
    """The model with all dictionaries, nothing ablated, with exact errors in one place.

    Attributes:
        site: where; None: at all sites.
        role: at whose tokens; None: at all tokens.
        faithfulness: with its 95 % interval.
        kl: KL(model || that network) at the answer position, in nats.
    """

    site: Site | None
    role: str | None
    faithfulness: Interval
    kl: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.site or 'all sites'} at {self.role or 'all tokens'}"
        yield f"faithfulness {self.faithfulness}"


@dataclass(frozen=True)
class ExplainedInputs:
    """How much of what reaches the metric, and its nodes, the circuit's graphs on single prompts explain.

    Attributes:
        replacement: circuit-tracer's replacement score, mean over prompts: the tokens' share of what reaches the metric
            along paths of the circuit's nodes; the rest begins at something that is not in the circuit.
        completeness: its completeness score: of what enters the nodes and the metric, weighted by influence, the share
            that comes from nodes and tokens.
        prompts: how many held-out prompts these are means over.
    """

    replacement: Interval
    completeness: Interval
    prompts: int

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"replacement {self.replacement}, completeness {self.completeness}"
        yield plural(self.prompts, "prompt")


@dataclass(frozen=True)
class UnseenTemplates:
    """What circuits do on held-out prompts of templates that nothing was fitted to or chosen on.

    Attributes:
        templates: their names.
        prompts: how many.
        lacking: nodes of the circuit at roles that these templates do not have: they can do nothing here.
        budget: full model, each dictionary alone, all dictionaries, the circuit, nothing kept.
        others: other methods' circuits of at most its size, by the name of the method.
    """

    templates: tuple[str, ...]
    prompts: int
    lacking: int
    budget: tuple[TaskMetrics, ...]
    others: tuple[TaskMetrics, ...]

    __repr__ = short_repr

    @property
    def best_other(self) -> TaskMetrics | None:
        """The other method whose circuit is closest to the model on these very prompts; None if there is none."""
        return min(self.others, key=lambda one: abs(1 - one.faithfulness.value), default=None)

    def _facts(self) -> Iterator[str]:
        yield plural(self.prompts, "prompt")
        yield f"of {listed(self.templates)}"
        yield f"faithfulness {self.budget[-2].faithfulness.value:.3g}"
