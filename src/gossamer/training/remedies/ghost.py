r"""Ghost gradients: dead latents learn to point where the error points (Anthropic, Circuits Updates January 2024).

For every token with error e (no gradient through it), over the dead latents alone:

    h    = exp(pre)                        or softplus(pre); positive, so that a latent far below 0 still learns
    g    = h @ W_dec                       no bias
    g   *= sg(||e|| / (2 ||g||))           norm_match: half as long as the error
    loss = ||g - e||^2
    loss *= sg(||e||^2 / loss)             loss_match: the value, and so the size of the gradient, follow the error
    loss *= |dead| / n                     dead_fraction_scale

sg stops the gradient; every factor is one number a token. The last factor and `all_at_start` come from the later
discussion by DeepMind's team: without the factor the few latents that stay dead get all the push.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.display import short_repr
from gossamer.training.checks import require, require_kinds
from gossamer.training.objectives.objective import Parameters
from gossamer.training.remedies.remedy import Remedy

ACTIVATIONS = ("exp", "softplus")


@dataclass(frozen=True)
class Ghost(Remedy):
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
        ghost = self.written(pre, rows, error, dead)
        missed = (ghost - error).square().sum(dim=1)
        if self.loss_match:
            missed = missed * (error.square().sum(dim=1) / (missed + tiny)).detach()
        return missed.mean() / error.shape[1]

    def written(
        self,
        pre: Float[Tensor, "tokens m"],
        rows: Float[Tensor, "m d"],
        error: Float[Tensor, "tokens d"],
        dead: Bool[Tensor, "m"],
    ) -> Float[Tensor, "tokens d"]:
        """What the dead latents write."""
        ghost = self._positive(pre.masked_fill(~dead, -torch.inf)) @ rows
        if not self.norm_match:
            return ghost
        norms = ghost.norm(dim=1, keepdim=True)
        return ghost * (error.norm(dim=1, keepdim=True) / (2 * norms + torch.finfo(error.dtype).eps)).detach()

    def _positive(self, pre: Tensor) -> Tensor:
        if self.activation == "softplus":
            return torch.nn.functional.softplus(pre)
        if self.norm_match:
            # A factor common to a token's latents cancels: this one keeps exp from overflowing.
            pre = pre - pre.detach().amax(dim=1, keepdim=True).clamp(min=torch.finfo(pre.dtype).min)
        return pre.exp()
