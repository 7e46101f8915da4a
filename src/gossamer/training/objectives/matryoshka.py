r"""Matryoshka BatchTopK: every prefix of the dictionary must reconstruct by itself (Bussmann et al., arXiv 2503.17547).

    a    = as in BatchTopK, chosen among all latents
    loss = mean over prefixes m of ||y - a[:m] @ W_dec[:m] - b_dec||^2 / d  +  AuxK on the error of the whole

The first latents learn what is common, and later ones cannot take it from them, which works against absorption. The
paper and SAELens sum over prefixes; the mean keeps the weight of AuxK and the clipped norm what they are in BatchTopK.
"""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from gossamer.display import short_repr
from gossamer.training.checks import require
from gossamer.training.chosen import choose_batchtopk
from gossamer.training.objectives.batchtopk import BatchTopK
from gossamer.training.objectives.objective import Moment, Outcome, Parameters


@dataclass(frozen=True)
class Matryoshka(BatchTopK):
    """BatchTopK with nested reconstructions.

    Attributes:
        prefixes: what share of the latents each prefix has, ascending to 1.
    """

    name: str = field(default="matryoshka", init=False)
    prefixes: tuple[float, ...] = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)

    __repr__ = short_repr

    def __post_init__(self) -> None:
        super().__post_init__()
        ascending = list(self.prefixes) == sorted(set(self.prefixes)) and bool(self.prefixes)
        require(ascending and self.prefixes[0] > 0 and self.prefixes[-1] == 1, "prefixes ascending to 1", self.prefixes)

    def check(self, n_latents: int, decoder_norm: str) -> None:
        """Every prefix must have latents of its own."""
        super().check(n_latents, decoder_norm)
        bounds = self.bounds(n_latents)
        require(bounds == sorted({*bounds} - {0}), f"prefixes that differ among {n_latents} latents", self.prefixes)

    def bounds(self, n_latents: int) -> list[int]:
        """How many latents each prefix has."""
        return [round(share * n_latents) for share in self.prefixes]

    def outcome(
        self, p: Parameters, x: Float[Tensor, "tokens d"], y: Float[Tensor, "tokens d"], moment: Moment
    ) -> Outcome:
        """See :class:`gossamer.training.objectives.objective.Objective`."""
        chosen = choose_batchtopk(p, x, self.k, moment.floor, moment.processes)
        parts = chosen.reconstruct_parts(p, x, self.bounds(p["W_enc"].shape[1]))
        errors = (y - p["b_dec"])[:, None] - parts.cumsum(dim=1)
        revival = self.aux.loss(p, x, errors[:, -1], moment.dead(chosen.fired))
        return Outcome(errors.square().mean(), errors[:, -1], chosen.fired, revival, chosen.smallest)
