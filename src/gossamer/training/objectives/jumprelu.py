r"""JumpReLU: a threshold for each latent, learned through a straight-through estimate, under three published penalties.

    pre  = x @ W_enc + b_enc          f = pre where pre > threshold, else 0
    loss = (||y - f @ W_dec - b_dec||^2 + coefficient * penalty) / d

- :class:`StepL0` (Rajamanoharan et al. 2024, arXiv 2407.14435; Gemma Scope): the number of active latents, L0.
- :class:`TanhPenalty` (Anthropic, Circuits Updates January 2025): sum_j tanh(scale * f_j ||W_dec_j||), with the
  estimate's gradient passing to the encoder too, and a pre-activation loss, a weight times
  sum_j ReLU(threshold_j - pre_j) ||W_dec_j||, which pulls latents that never fire back to their thresholds.
- :class:`QuadraticL0` (Gemma Scope 2; dictionary_learning): squared distance of L0 from a target.
  dictionary_learning scales activations to E||x||^2 = 1 beside a coefficient of 1; here that is d times as much, as the
  error is, so that a coefficient of 1 means what it means there; a larger one holds L0 closer to its target.

The papers learn log(threshold); here it is the threshold itself, kept at 0 or above, since a step of Adam moves a
logarithm by a factor and hardly moves a small threshold at all (SAELens found so and changed over too). `bandwidth` and
thresholds are in the units of training, in which E||x||^2 is about d; papers that scale to E||x||^2 = 1 give them
smaller by sqrt(d).
"""

from abc import abstractmethod
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.display import short_repr
from gossamer.training.checks import require, require_kinds
from gossamer.training.objectives.l1 import fired, warmed
from gossamer.training.objectives.objective import Moment, Objective, Outcome, Parameters
from gossamer.training.objectives.straight_through import jumprelu, step


@dataclass(frozen=True)
class JumpReLU(Objective):
    """What the three have in common.

    Attributes:
        coefficient: weight of the penalty.
        warm_up: share of the steps in which it rises linearly from 0.
        initial_threshold: of every latent.
        bandwidth: width of the rectangle in which a pre-activation moves its threshold.
        through_encoder: whether it moves the encoder too.
    """

    coefficient: float = 1.0
    warm_up: float = 0.05
    initial_threshold: float = 0.05
    bandwidth: float = 0.05
    through_encoder: bool = False

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_kinds(self)
        require(self.coefficient >= 0, f"a coefficient of {self.name} of at least 0", self.coefficient)
        require(0 <= self.warm_up <= 1, f"warm_up of {self.name} between 0 and 1", self.warm_up)
        require(self.initial_threshold >= 0, "initial_threshold of at least 0", self.initial_threshold)
        require(self.bandwidth > 0, "a positive bandwidth", self.bandwidth)

    @property
    def architecture(self) -> str:
        """jumprelu."""
        return "jumprelu"

    @property
    def vectors(self) -> dict[str, float]:
        """Biases and thresholds."""
        return {"b_enc": 0.0, "threshold": self.initial_threshold}

    def outcome(
        self, p: Parameters, x: Float[Tensor, "tokens d"], y: Float[Tensor, "tokens d"], moment: Moment
    ) -> Outcome:
        """See :class:`Objective`."""
        pre = torch.addmm(p["b_enc"], x, p["W_enc"])
        latents = jumprelu(pre, p["threshold"], self.bandwidth, through_encoder=self.through_encoder)
        error = y - torch.addmm(p["b_dec"], latents, p["W_dec"])
        coefficient = warmed(self.coefficient, self.warm_up, moment)
        penalty = coefficient * self.penalty(p, pre, latents)
        loss = (error.square().sum(dim=1) + penalty).mean() / y.shape[1]
        count = fired(latents)
        return Outcome(loss, error, count, self.revival(p, pre, moment.dead(count)))

    @abstractmethod
    def penalty(
        self, p: Parameters, pre: Float[Tensor, "tokens n"], latents: Float[Tensor, "tokens n"]
    ) -> Float[Tensor, "*tokens"]:
        """The penalty, for each token or for the batch, without its coefficient."""

    def revival(self, p: Parameters, pre: Float[Tensor, "tokens n"], dead: Tensor) -> Float[Tensor, ""] | None:
        """What is added for dead latents."""
        return None

    def settle(self, p: Parameters) -> None:
        """Thresholds below 0 would let negative activations through."""
        p["threshold"].clamp_(min=0)

    def _l0(self, p: Parameters, pre: Tensor) -> Float[Tensor, "tokens"]:
        return step(pre, p["threshold"], self.bandwidth, through_encoder=self.through_encoder).sum(dim=1)


@dataclass(frozen=True)
class StepL0(JumpReLU):
    """Penalises L0 itself."""

    name: str = field(default="jumprelu_step", init=False)

    __repr__ = short_repr

    def penalty(
        self, p: Parameters, pre: Float[Tensor, "tokens n"], latents: Float[Tensor, "tokens n"]
    ) -> Float[Tensor, "*tokens"]:
        """L0 of each token."""
        return self._l0(p, pre)


@dataclass(frozen=True)
class TanhPenalty(JumpReLU):
    """Penalises L0 smoothed by a tanh.

    Attributes:
        scale: steepness of the tanh.
        pre_activation: weight of the pre-activation loss.
        dead_only: whether that loss is of dead latents alone, as in SAELens, or of all, as published.
    """

    name: str = field(default="jumprelu_tanh", init=False)
    coefficient: float = 10.0
    warm_up: float = 1.0
    initial_threshold: float = 0.1
    bandwidth: float = 2.0
    through_encoder: bool = True
    scale: float = 4.0
    pre_activation: float = 3e-6
    dead_only: bool = False

    __repr__ = short_repr

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.scale > 0, "a positive scale of the tanh", self.scale)
        require(self.pre_activation >= 0, "a weight pre_activation of at least 0", self.pre_activation)

    def penalty(
        self, p: Parameters, pre: Float[Tensor, "tokens n"], latents: Float[Tensor, "tokens n"]
    ) -> Float[Tensor, "*tokens"]:
        """Sum of the tanh of what each latent writes."""
        return torch.tanh(self.scale * latents * p["W_dec"].norm(dim=1)).sum(dim=1)

    def revival(self, p: Parameters, pre: Float[Tensor, "tokens n"], dead: Tensor) -> Float[Tensor, ""] | None:
        """The pre-activation loss."""
        if self.pre_activation == 0:
            return None
        below = torch.relu(p["threshold"] - pre) * p["W_dec"].norm(dim=1)
        below = below * dead if self.dead_only else below
        return self.pre_activation * below.sum(dim=1).mean() / len(p["b_dec"])


@dataclass(frozen=True)
class QuadraticL0(JumpReLU):
    """Penalises distance from a target L0.

    Attributes:
        target: L0 to reach.
        per_token: True: mean over tokens of 2 / target * (L0 - target)^2, which also asks every token to be like the
            others (Gemma Scope 2, as in SAELens); False: d * (mean L0 / target - 1)^2 (dictionary_learning).
    """

    name: str = field(default="jumprelu_quadratic", init=False)
    target: float = 32.0
    per_token: bool = False

    __repr__ = short_repr

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.target > 0, "a positive target", self.target)

    def check(self, n_latents: int, decoder_norm: str) -> None:
        """The target must be possible."""
        require(self.target <= n_latents, f"a target L0 up to n_latents={n_latents}", self.target)

    def penalty(
        self, p: Parameters, pre: Float[Tensor, "tokens n"], latents: Float[Tensor, "tokens n"]
    ) -> Float[Tensor, "*tokens"]:
        """Squared distance from the target."""
        l0 = self._l0(p, pre)
        if self.per_token:
            return 2 / self.target * (l0 - self.target).square()
        return len(p["b_dec"]) * (l0.mean() / self.target - 1).square()
