"""What a network does on every prompt, and what that comes to with intervals."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.results import Behaviour, Interval
from gossamer.finite import require_finite
from gossamer.tasks.task import Examples

Network = Callable[[slice], Float[Tensor, "rows vocab"]]
RESAMPLES = 1000


@dataclass(frozen=True)
class Outcome:
    """One network on every prompt of a split.

    Attributes:
        logit_diff: logit of the answer minus logit of the wrong answer.
        kl: KL(full model || this network) over the vocabulary at the answer position, in nats.
        correct: whether the answer beats the wrong answer.
        top1: whether the answer beats the whole vocabulary.
    """

    logit_diff: Float[Tensor, "prompt"]
    kl: Float[Tensor, "prompt"]
    correct: Bool[Tensor, "prompt"]
    top1: Bool[Tensor, "prompt"]

    def on(self, rows: Int[Tensor, "rows"]) -> "Outcome":
        """The same network on some of the prompts only."""
        return Outcome(self.logit_diff[rows], self.kl[rows], self.correct[rows], self.top1[rows])


@dataclass(frozen=True)
class FullModel:
    """The model itself on a split: what every circuit is held against. Memory: prompts x vocabulary floats."""

    examples: Examples
    log_probs: Float[Tensor, "prompt vocab"]
    outcome: Outcome

    @classmethod
    def measure(cls, network: Network, examples: Examples, batch_size: int = 64) -> "FullModel":
        """Run the unmodified model on every prompt."""
        with torch.no_grad():
            logits = torch.cat(in_batches(len(examples), batch_size, network))
        require_finite(logits, "the model's logits")
        return cls(examples, logits.float().log_softmax(dim=-1), _outcome(logits, examples, None))

    def on(self, rows: Int[Tensor, "rows"]) -> "FullModel":
        """The same measurements of some of the prompts only."""
        return FullModel(self.examples.select(rows), self.log_probs[rows], self.outcome.on(rows))

    def outcome_of(self, network: Network, batch_size: int = 64, name: str = "the circuit's logits") -> Outcome:
        """Run `network` on every prompt and compare it with the full model."""
        with torch.no_grad():
            logits = torch.cat(in_batches(len(self.examples), batch_size, network))
        require_finite(logits, name)
        return _outcome(logits, self.examples, self.log_probs)


def logit_difference(
    logits: Float[Tensor, "rows vocab"], answer: Int[Tensor, "rows"], wrong: Int[Tensor, "rows"]
) -> Float[Tensor, "rows"]:
    """Logit of the answer minus logit of the wrong answer."""
    pair = logits.gather(1, torch.stack([answer, wrong], dim=1)).float()
    return pair[:, 0] - pair[:, 1]


def divergence(reference: Float[Tensor, "rows vocab"], logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows"]:
    """KL(reference || network) in nats; `reference` holds log-probabilities."""
    return (reference.exp() * (reference - logits.float().log_softmax(dim=-1))).sum(dim=-1)


def _outcome(logits: Tensor, examples: Examples, reference: Tensor | None) -> Outcome:
    answer, wrong = examples.answer.to(logits.device), examples.wrong.to(logits.device)
    difference = logit_difference(logits, answer, wrong)
    kl = torch.zeros_like(difference) if reference is None else divergence(reference, logits)
    return Outcome(difference, kl, difference > 0, logits.argmax(dim=-1) == answer)


def behaviour(name: str, outcome: Outcome, full: Outcome, dictionaries: Outcome, seed: int = 0) -> Behaviour:
    """Means over prompts with 95 % bootstrap intervals; ratios resample numerator and denominator together.

    Args:
        name: what the network is.
        outcome: the network; `full` and `dictionaries`: the references of its two faithfulness ratios.
        seed: of the resampling; the same prompts are drawn for every network, so that intervals can be compared.
    """
    draws = resamples(len(outcome.logit_diff), seed).to(outcome.logit_diff.device)
    own, base, spliced = outcome.logit_diff, full.logit_diff, dictionaries.logit_diff
    return Behaviour(
        name=name,
        logit_diff=_ratio(own, torch.ones_like(own), draws),
        faithfulness=_ratio(own, base, draws),
        faithfulness_to_dictionaries=_ratio(own, spliced, draws),
        accuracy=outcome.correct.double().mean().item(),
        top1=outcome.top1.double().mean().item(),
        kl=outcome.kl.double().mean().item(),
        prompt_error=_ratio((own - base).abs(), base, draws),
    )


def resamples(n: int, seed: int) -> Int[Tensor, "draw prompt"]:
    """Bootstrap samples of `n` prompts with replacement."""
    return torch.randint(n, (RESAMPLES, n), generator=torch.Generator().manual_seed(seed))


def _ratio(above: Tensor, below: Tensor, draws: Tensor) -> Interval:
    above, below = above.double(), below.double()
    value = (above.mean() / below.mean()).item()
    drawn = above[draws].mean(dim=1) / below[draws].mean(dim=1)
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=torch.float64, device=drawn.device)).tolist()
    return Interval(value, low, high)
