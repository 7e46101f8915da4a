r"""Gated: whether a latent is active, and how much, come from two paths (Rajamanoharan et al., arXiv 2404.16014).

    pre  = x @ W_enc               gate = pre + b_gate
    f    = 1[gate > 0] * ReLU(exp(r_mag) * pre + b_mag)
    loss = (||y - f @ W_dec - b_dec||^2
            + coefficient * sum_j ReLU(gate)_j ||W_dec_j||
            + ||y - ReLU(gate) @ sg(W_dec) - sg(b_dec)||^2) / d

The last term, through a frozen copy of the decoder (sg), is what the gate learns from: the step lets no gradient pass.
The paper keeps the rows of W_dec at norm 1, where the weighting of the penalty changes nothing; with free norms it
keeps the penalty from being escaped.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.display import short_repr
from gossamer.training.checks import require, require_kinds
from gossamer.training.objectives.l1 import fired, warmed
from gossamer.training.objectives.objective import Moment, Objective, Outcome, Parameters


@dataclass(frozen=True)
class Gated(Objective):
    """Gate and magnitude, with an L1 penalty on the gate alone.

    Attributes:
        coefficient: weight of the penalty.
        warm_up: share of the steps in which it rises linearly from 0.
    """

    name: str = field(default="gated", init=False)
    coefficient: float = 1.0
    warm_up: float = 0.05

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_kinds(self)
        require(self.coefficient >= 0, "a coefficient of gated of at least 0", self.coefficient)
        require(0 <= self.warm_up <= 1, "warm_up of gated between 0 and 1", self.warm_up)

    @property
    def architecture(self) -> str:
        """gated."""
        return "gated"

    @property
    def vectors(self) -> dict[str, float]:
        """Biases of the two paths, and the log of the ratio of their weights."""
        return {"b_gate": 0.0, "b_mag": 0.0, "r_mag": 0.0}

    def outcome(
        self, p: Parameters, x: Float[Tensor, "tokens d"], y: Float[Tensor, "tokens d"], moment: Moment
    ) -> Outcome:
        """See :class:`Objective`."""
        pre = x @ p["W_enc"]
        gate = pre + p["b_gate"]
        latents = torch.relu(pre * p["r_mag"].exp() + p["b_mag"]) * (gate > 0)
        error = y - torch.addmm(p["b_dec"], latents, p["W_dec"])
        opened = torch.relu(gate)
        by_gate = y - torch.addmm(p["b_dec"].detach(), opened, p["W_dec"].detach())
        coefficient = warmed(self.coefficient, self.warm_up, moment)
        penalty = coefficient * (opened * p["W_dec"].norm(dim=1)).sum(dim=1)
        loss = (error.square().sum(dim=1) + penalty + by_gate.square().sum(dim=1)).mean() / y.shape[1]
        return Outcome(loss, error, fired(latents))
