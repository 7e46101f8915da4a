r"""Ghost gradients: dead latents learn to point where the error points (Anthropic, Circuits Updates January 2024).

For every token with error e (no gradient through it), over the dead latents alone:

    h    = exp(pre)                        or softplus(pre); positive, so that a latent below 0 still learns
    g    = h @ W_dec                       no bias
    g   *= sg(||e|| / (2 ||g||))           norm_match: half as long as the error
    loss = ||g - e||^2
    loss *= sg(||e||^2 / loss)             loss_match: the value, and so the size of the gradient, follow the error
    loss *= |dead| / n                     dead_fraction_scale

sg stops the gradient; every factor is one number a token. A factor common to the h of a token cancels in either match,
so that all dead latents may lie far from 0 together; without a match h is what it is: far below 0 nothing is learned,
and far above 0 exp overflows, which the trainer refuses as a loss that is not finite. The last factor and
`all_at_start` come from the later discussion by DeepMind's team: without the factor the few latents that stay dead get
all the push.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.display import short_repr
from gossamer.training.checks import require, require_kinds
from gossamer.training.dead_latents.strategy import DeadLatentStrategy
from gossamer.training.objectives.objective import Parameters

ACTIVATIONS = ("exp", "softplus")


@dataclass(frozen=True)
class Ghost(DeadLatentStrategy):
    """Settings of ghost gradients.

    Attributes:
        norm_match: scale what the dead latents write to half the error's norm.
        loss_match: scale the term to the error's square.
        dead_fraction_scale: multiply the term by the share of latents that are dead.
        all_at_start: count all latents as dead until `dead_after` tokens are seen, since none can be known dead sooner.
        activation: "exp" or "softplus".
    """

    name: str = field(default="ghost", init=False)
    norm_match: bool = True
    loss_match: bool = True
    dead_fraction_scale: bool = False
    all_at_start: bool = False
    activation: str = "exp"

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_kinds(self)
        require(self.activation in ACTIVATIONS, f"activation of ghost among {ACTIVATIONS}", repr(self.activation))

    def loss(
        self,
        p: Parameters,
        bias: str,
        x: Float[Tensor, "tokens d"],
        error: Float[Tensor, "tokens d"],
        dead: Bool[Tensor, "n"],
    ) -> Float[Tensor, ""]:
        """The term, divided by d as the objectives are; 0 when nothing is dead.

        Args:
            p: the dictionary's parameters.
            bias: name of the bias that belongs to W_enc.
        """
        share = dead.float().mean() if self.dead_fraction_scale else 1.0
        if x.device.type != "cpu":
            pre = torch.addmm(p[bias], x, p["W_enc"])
            return share * self.of(pre, p["W_dec"], error, dead) * dead.any()
        columns = dead.nonzero()[:, 0]
        if len(columns) == 0:
            return error.new_zeros(())
        pre = torch.addmm(p[bias][columns], x, p["W_enc"][:, columns])
        return share * self.of(pre, p["W_dec"][columns], error, dead[columns])

    def of(
        self,
        pre: Float[Tensor, "tokens m"],
        rows: Float[Tensor, "m d"],
        error: Float[Tensor, "tokens d"],
        dead: Bool[Tensor, "m"],
    ) -> Float[Tensor, ""]:
        """The term before it is scaled by the share of the dead."""
        error = error.detach()
        tiny = torch.finfo(error.dtype).eps
        ghost, unit = self.written(pre, rows, error, dead)
        missed = (ghost - error * unit).square().sum(dim=1)
        if self.loss_match:
            missed = missed * (error.square().sum(dim=1) / (missed + tiny)).detach()
        return missed.mean() / error.shape[1]

    def written(
        self,
        pre: Float[Tensor, "tokens m"],
        rows: Float[Tensor, "m d"],
        error: Float[Tensor, "tokens d"],
        dead: Bool[Tensor, "m"],
    ) -> tuple[Float[Tensor, "tokens d"], Float[Tensor, "tokens #one"]]:
        """What the dead latents write times a factor of each token, and that factor; 1 where the norm is matched."""
        logarithm = self._log_positive(pre.masked_fill(~dead, -torch.inf))
        largest = logarithm.detach().amax(dim=1, keepdim=True)
        if self.norm_match:
            ghost = (logarithm - largest.clamp(min=torch.finfo(pre.dtype).min)).exp() @ rows
            norms = ghost.norm(dim=1, keepdim=True)
            ghost = ghost * (error.norm(dim=1, keepdim=True) / (2 * norms + torch.finfo(error.dtype).eps)).detach()
            return ghost, torch.ones_like(largest)
        # Only what would overflow is made smaller: the distance from the error must keep what it means.
        shift = largest.clamp(min=0) if self.loss_match else torch.zeros_like(largest)
        return (logarithm - shift).exp() @ rows, (-shift).exp()

    def _log_positive(self, pre: Tensor) -> Tensor:
        """log h: h itself vanishes in float32 where its logarithm still has a slope."""
        if self.activation == "exp":
            return pre
        # Below, softplus is exp up to rounding.
        least = math.log(torch.finfo(pre.dtype).eps)
        return torch.where(pre < least, pre, torch.nn.functional.softplus(pre.clamp(min=least)).log())
