r"""TopK: each token keeps its k largest pre-activations (Gao et al. 2024, arXiv 2406.04093).

    pre  = x @ W_enc + b_enc
    a    = pre where it is among the k largest of its token and positive, else 0
    loss = ||y - a @ W_dec - b_dec||^2 / d  +  AuxK

The gradient goes through what was kept, with the choice held fixed.
"""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from gossamer.display import short_repr
from gossamer.training.checks import require, require_kinds
from gossamer.training.chosen import Chosen, choose_topk
from gossamer.training.objectives.auxk import AuxK
from gossamer.training.objectives.objective import Moment, Objective, Outcome, Parameters


@dataclass(frozen=True)
class TopK(Objective):
    """Exactly k latents a token, fewer where fewer are positive.

    Attributes:
        k: active latents per token.
        aux: what dead latents learn from.
    """

    name: str = field(default="topk", init=False)
    k: int = 32
    aux: AuxK = field(default_factory=AuxK)

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_kinds(self)
        require(self.k >= 1, "k of at least 1", self.k)

    @property
    def architecture(self) -> str:
        """topk."""
        return "topk"

    def check(self, n_latents: int, decoder_norm: str) -> None:
        """k must not exceed the number of latents."""
        require(self.k <= n_latents, f"k from 1 to n_latents={n_latents}", self.k)

    def outcome(
        self, p: Parameters, x: Float[Tensor, "tokens d"], y: Float[Tensor, "tokens d"], moment: Moment
    ) -> Outcome:
        """See :class:`Objective`."""
        return self._through(p, x, y, moment, choose_topk(p, x, self.k))

    def _through(self, p: Parameters, x: Tensor, y: Tensor, moment: Moment, chosen: Chosen) -> Outcome:
        written = chosen.reconstruct(p, x) + p["b_dec"]
        error = y - written.detach()
        revival = self.aux.loss(p, x, error, moment.dead(chosen.fired))
        return Outcome(mse_loss(written, y), error, chosen.fired, revival, chosen.smallest)
