r"""Norm-weighted L1 (Anthropic, Circuits Updates April 2024).

    f    = ReLU(x @ W_enc + b_enc)
    loss = (||y - f @ W_dec - b_dec||^2 + coefficient * sum_j f_j ||W_dec_j||) / d

What counts is how much a latent writes, so decoder norms may be free. The recipe around it: `scaling` "sqrt_d",
`decoder_norm` "free", a small `initial_norm`, the coefficient warmup up over the first 5 % of the steps, the learning
rate falling to 0 over the last 20 %, no remedy for dead latents.
"""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from gossamer.display import short_repr
from gossamer.training.objectives.l1 import L1
from gossamer.training.objectives.objective import Parameters


@dataclass(frozen=True)
class NormWeightedL1(L1):
    """An L1 penalty weighted with the norms of the decoder's rows, which may be free."""

    name: str = field(default="norm_weighted_l1", init=False)
    coefficient: float = 5.0

    __repr__ = short_repr

    def check(self, n_latents: int, decoder_norm: str) -> None:
        """Nothing to refuse."""

    def _size(self, p: Parameters, latents: Float[Tensor, "tokens n"]) -> Float[Tensor, "tokens n"]:
        return latents * p["W_dec"].norm(dim=1)
