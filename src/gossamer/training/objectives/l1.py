r"""L1: sparsity from a penalty on the activations (Bricken et al. 2023, "Towards Monosemanticity").

    f    = ReLU(x @ W_enc + b_enc)
    loss = (||y - f @ W_dec - b_dec||^2 + coefficient * sum_j f_j) / d

Rows of W_dec must not grow, or the penalty could be escaped by small f and long rows.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.display import short_repr
from gossamer.training.checks import require, require_kinds
from gossamer.training.objectives.objective import Objective, ObjectiveOutput, Parameters, StepContext


@dataclass(frozen=True)
class L1(Objective):
    """A plain L1 penalty, for decoders of bounded norm.

    Attributes:
        coefficient: weight of the penalty.
        warm_up: share of the steps in which it rises linearly from 0.
    """

    name: str = field(default="l1", init=False)
    coefficient: float = 1.0
    warm_up: float = 0.05

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_kinds(self)
        require(self.coefficient >= 0, f"a coefficient of {self.name} of at least 0", self.coefficient)
        require(0 <= self.warm_up <= 1, f"warm_up of {self.name} between 0 and 1", self.warm_up)

    @property
    def architecture(self) -> str:
        """relu."""
        return "relu"

    def check(self, n_latents: int, decoder_norm: str) -> None:
        """The decoder must be bounded."""
        bounded = decoder_norm != "free"
        require(
            bounded, "decoder_norm 'unit' or 'at_most_one' with l1 (norm_weighted_l1 takes free norms)", decoder_norm
        )

    def outcome(
        self, p: Parameters, x: Float[Tensor, "tokens d"], y: Float[Tensor, "tokens d"], context: StepContext
    ) -> ObjectiveOutput:
        """See :class:`Objective`."""
        latents = torch.relu(torch.addmm(p["b_enc"], x, p["W_enc"]))
        error = y - torch.addmm(p["b_dec"], latents, p["W_dec"])
        penalty = warmup(self.coefficient, self.warm_up, context) * self._size(p, latents).sum(dim=1)
        loss = (error.square().sum(dim=1) + penalty).mean() / y.shape[1]
        return ObjectiveOutput(loss, error, fired(latents))

    def _size(self, p: Parameters, latents: Float[Tensor, "tokens n"]) -> Float[Tensor, "tokens n"]:
        """What is penalised."""
        return latents


def warmup(coefficient: float, warm_up: float, context: StepContext) -> float:
    """A coefficient that rises linearly from 0 over the first share `warm_up` of the steps."""
    return coefficient * min(1.0, context.share / warm_up) if warm_up > 0 else coefficient


def fired(latents: Float[Tensor, "tokens n"]) -> Tensor:
    """Tokens on which each latent is active, (n,)."""
    return (latents.detach() > 0).sum(dim=0)
