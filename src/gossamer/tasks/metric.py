"""What a task measures of a network: one number a prompt, from the logits at the answer position.

With L the logits, p their softmax, R a prompt's right answers and W its wrong ones (one of each in most tasks):

logit_diff    mean of L over R  -  mean of L over W       Wang et al. 2022; of several answers as auto-circuit takes it
prob_diff     sum of p over R   -  sum of p over W        greater-than: Hanna et al. 2023
logit_margin  max of L over R   -  max of L over W        docstring: Heimersheim and Janiak 2023
kl            KL(full model || network) over the vocabulary, in nats

**Faithfulness** is the share of the way from nothing to the full model. A difference begins at 0, where right and wrong
answers are even: faithfulness = m(C) / m(full), with nothing subtracted. A distance from the full model is 0 there and
has no such point of its own; it begins at the empty circuit, of which every latent is ablated: faithfulness =
1 - m(C) / m(empty), which is 1 for the full model and 0 for the empty circuit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.errors import UsageError

Ids = Int[Tensor, "rows _"]
"""Token ids of the answers of each prompt; rows of fewer answers are filled up with -1 on the right."""
Values = Float[Tensor, "rows"]


@runtime_checkable
class Metric(Protocol):
    """What a task measures. `METRICS` has those of the module; a task takes any other object of this form too.

    Attributes:
        name: what files, options and results call it.
        label: what sentences and axes call it.
        unit: of its values.
        distance: False for a difference: 0 where right and wrong answers are even, the larger the better. True for a
            distance from the full model: 0 is perfect, the larger the worse, and `reference` is needed.
    """

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def unit(self) -> str: ...

    @property
    def distance(self) -> bool: ...

    def __call__(
        self,
        logits: Float[Tensor, "rows vocab"],
        answers: Ids,
        incorrect: Ids,
        reference: Float[Tensor, "rows vocab"] | None = None,
    ) -> Values:
        """One value a prompt, in float32 whatever the logits are, differentiable in them.

        Args:
            logits: at the answer position.
            answers, incorrect: the right and the wrong answers.
            reference: log-probabilities of the full model there; a difference does not read them.
        """


@dataclass(frozen=True)
class _Formula:
    """A metric of this module."""

    name: str
    label: str
    unit: str
    distance: bool
    formula: Callable[[Tensor, Ids, Ids, Tensor | None], Values]

    def __call__(self, logits: Tensor, answers: Ids, incorrect: Ids, reference: Tensor | None = None) -> Values:
        return self.formula(logits, answers, incorrect, reference)

    def __repr__(self) -> str:
        return f"Metric({self.name})"


def _logit_difference(logits: Tensor, answers: Ids, incorrect: Ids, _: Tensor | None) -> Values:
    return _mean(logits, answers) - _mean(logits, incorrect)


def _probability_difference(logits: Tensor, answers: Ids, incorrect: Ids, _: Tensor | None) -> Values:
    total = logits.float().logsumexp(dim=1, keepdim=True)

    def mass(ids: Ids) -> Values:
        return torch.where(ids >= 0, (_picked(logits, ids) - total).exp(), 0.0).sum(dim=1)

    return mass(answers) - mass(incorrect)


def _margin(logits: Tensor, answers: Ids, incorrect: Ids, _: Tensor | None) -> Values:
    return _best(logits, answers) - _best(logits, incorrect)


def _kl(logits: Tensor, answers: Ids, incorrect: Ids, reference: Tensor | None) -> Values:
    if reference is None:
        raise UsageError("kl: log-probabilities of the full model expected, found none; pass them as reference")
    return kl_divergence(reference, logits)


def kl_divergence(reference: Float[Tensor, "rows vocab"], logits: Float[Tensor, "rows vocab"]) -> Values:
    """KL(reference || network) in nats; `reference` holds log-probabilities."""
    return (reference.exp() * (reference - logits.float().log_softmax(dim=-1))).sum(dim=-1)


def answer_divergence(
    reference: Float[Tensor, "rows vocab"], logits: Float[Tensor, "rows vocab"], answers: Ids, incorrect: Ids
) -> Values:
    """KL(reference || network) in nats between the prompt's answers alone, right and wrong, made to sum to one."""
    ids = torch.cat([answers, incorrect], dim=1)

    def shares(values: Tensor) -> Float[Tensor, "rows _"]:
        return torch.where(ids >= 0, _picked(values, ids), -torch.inf).log_softmax(dim=1)

    wanted, found = shares(reference), shares(logits)
    return torch.where(ids >= 0, wanted.exp() * (wanted - found), 0.0).sum(dim=1)


def preferred(logits: Float[Tensor, "rows vocab"], answers: Ids, incorrect: Ids) -> Bool[Tensor, "rows"]:
    """Whether the best of the right answers beats every wrong one."""
    return _best(logits, answers) > _best(logits, incorrect)


def _picked(values: Tensor, ids: Ids) -> Float[Tensor, "rows _"]:
    return values.gather(1, ids.clamp(min=0)).float()


def _mean(logits: Tensor, ids: Ids) -> Values:
    found = _picked(logits, ids)
    if ids.shape[1] == 1:
        return found[:, 0]
    there = ids >= 0
    return torch.where(there, found, 0.0).sum(dim=1) / there.sum(dim=1)


def _best(logits: Tensor, ids: Ids) -> Values:
    return torch.where(ids >= 0, _picked(logits, ids), -torch.inf).amax(dim=1)


LOGIT_DIFFERENCE = _Formula("logit_diff", "logit difference", "logits", False, _logit_difference)
PROBABILITY_DIFFERENCE = _Formula("prob_diff", "probability difference", "probability", False, _probability_difference)
LOGIT_MARGIN = _Formula("logit_margin", "logit margin", "logits", False, _margin)
KL = _Formula("kl", "KL to the model", "nats", True, _kl)

METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (LOGIT_DIFFERENCE, PROBABILITY_DIFFERENCE, LOGIT_MARGIN, KL)
}


def reads_answers_only(metric: Metric) -> bool:
    """Whether a metric is known to read the logits of the answers alone, so that no others need to exist."""
    return metric in (LOGIT_DIFFERENCE, LOGIT_MARGIN)


def kept(metric: Metric) -> str:
    """What faithfulness is a share of, in words: "keeps 90% of the ..."."""
    return f"output ({metric.label})" if metric.distance else metric.label


def metric_of(name: "str | Metric") -> Metric:
    """The metric of that name, or the one that was given.

    Raises:
        UsageError: a name that is none of `METRICS`.
    """
    if not isinstance(name, str):
        return name
    if name not in METRICS:
        raise UsageError(f"metric: expected one of {', '.join(METRICS)}, found {name!r}")
    return METRICS[name]
