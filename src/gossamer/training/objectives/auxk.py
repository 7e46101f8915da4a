r"""AuxK: dead latents learn by reconstructing what the living ones leave over (Gao et al. 2024, arXiv 2406.04093).

    aux = weight * ||e - pre_dead @ W_dec[dead]||^2 / d

with e the error of the reconstruction, without gradient, and `pre_dead` the k largest pre-activations of the token
among the dead latents. The code bases differ in everything around this; these are the conventions here:

- `pre_dead` enters without ReLU, so that the gradient reaches the encoder row of a latent which is negative everywhere:
  that is the latent which needs it.
- No bias is added: e has lost b_dec already, and adding it again makes the dead learn the bias.
- The divisor is d, which is the variance of the target in the units of training, and not the variance of e. With that,
  the term would weigh the same however small the error is, and at the end pull harder on shared statistics (Adam, the
  clipped norm) than the error itself; it also needs a guard where the error is 0. So the term fades with the error.
- A latent is dead by tokens since it last fired, this batch included: nothing that is active takes part.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.display import short_repr
from gossamer.training.checks import require, require_kinds
from gossamer.training.objectives.objective import Parameters


@dataclass(frozen=True)
class AuxK:
    """Settings of AuxK.

    Attributes:
        k: dead latents per token that reconstruct the error of the living ones.
        weight: weight of the term; 0 switches it off.
    """

    k: int = 32
    weight: float = 1 / 32

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_kinds(self)
        require(self.k >= 1, "k of AuxK of at least 1", self.k)
        require(self.weight >= 0, "a weight of AuxK of at least 0", self.weight)

    def loss(
        self,
        p: Parameters,
        x: Float[Tensor, "tokens d"],
        error: Float[Tensor, "tokens d"],
        dead: Bool[Tensor, "n"],
    ) -> Float[Tensor, ""]:
        """The weighted term; 0 when nothing is dead. Touches the dead latents alone where counting them is free."""
        if self.weight == 0:
            return error.new_zeros(())
        if error.device.type == "cpu":
            return self.weight * self._compact(p, x, error.detach(), dead.nonzero()[:, 0])
        pre = torch.addmm(p["b_enc"], x, p["W_enc"])
        return self.weight * self.masked(p["W_dec"], pre, error.detach(), dead)

    def _compact(self, p: Parameters, x: Tensor, error: Tensor, dead: Tensor) -> Tensor:
        if len(dead) == 0:
            return error.new_zeros(())
        pre = torch.addmm(p["b_enc"][dead], x, p["W_enc"][:, dead])
        values, indices = pre.topk(min(self.k, len(dead)), dim=1)
        activations = torch.zeros_like(pre).scatter(1, indices, values)
        return (error - activations @ p["W_dec"][dead]).square().mean()

    def masked(
        self,
        W_dec: Float[Tensor, "n d"],
        pre: Float[Tensor, "tokens n"],
        error: Float[Tensor, "tokens d"],
        dead: Bool[Tensor, "n"],
    ) -> Float[Tensor, ""]:
        """The term without its weight, the same to rounding, in shapes that do not depend on what is dead.

        A device need not tell the host how many there are.
        """
        values, indices = pre.masked_fill(~dead, -torch.inf).topk(min(self.k, len(dead)), dim=1)
        values = values.masked_fill(values == -torch.inf, 0.0)
        rows = torch.nn.functional.embedding_bag(indices, W_dec, per_sample_weights=values, mode="sum")
        return (error - rows).square().mean() * dead.any()
