r"""BatchTopK: the batch keeps its k * tokens largest pre-activations (Bussmann et al. 2024, arXiv 2412.06410).

As TopK, but how many latents a token gets is left to the batch. At inference there is no batch: a latent is active
where its pre-activation exceeds the moving average of the smallest one that training kept, so that an encoder can be
restricted to some latents.
"""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from gossamer.display import short_repr
from gossamer.training.checks import require
from gossamer.training.chosen import choose_batchtopk
from gossamer.training.objectives.objective import Moment, Outcome, Parameters
from gossamer.training.objectives.topk import TopK


@dataclass(frozen=True)
class BatchTopK(TopK):
    """k latents a token on average over the batch.

    Attributes:
        threshold_decay: per step, of the moving average of the smallest activation kept, which becomes the threshold.
    """

    name: str = field(default="batchtopk", init=False)
    threshold_decay: float = 0.99

    __repr__ = short_repr

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.threshold_decay < 1, "threshold_decay from 0 to below 1", self.threshold_decay)

    @property
    def architecture(self) -> str:
        """batchtopk."""
        return "batchtopk"

    def outcome(
        self, p: Parameters, x: Float[Tensor, "tokens d"], y: Float[Tensor, "tokens d"], moment: Moment
    ) -> Outcome:
        """See :class:`gossamer.training.objectives.objective.Objective`."""
        return self._through(p, x, y, moment, choose_batchtopk(p, x, self.k, moment.floor, moment.processes))

    def next_threshold(self, threshold: Float[Tensor, ""], smallest: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The moving average; a negative threshold is none yet."""
        keep = (threshold >= 0).to(threshold) * self.threshold_decay
        return keep * threshold + (1 - keep) * smallest
