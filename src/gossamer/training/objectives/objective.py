"""What all objectives have in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.display import short_repr
from gossamer.training.parallel import Processes

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class Moment:
    """Where in its training a dictionary stands when it meets a batch.

    Attributes:
        share: steps done as a share of all, 0 to 1.
        stale: latents that are dead unless they fire in this batch.
        floor: what the smallest activation kept is surely above, by the last step's; 0 where nothing is known.
        processes: those that have the rest of the batch.
    """

    share: float
    stale: Bool[Tensor, "n"]
    floor: float = 0.0
    processes: Processes = field(default_factory=Processes)

    __repr__ = short_repr

    def dead(self, fired: Int[Tensor, "n"]) -> Bool[Tensor, "n"]:
        """The latents that are dead, given on how many tokens each fired here."""
        return self.stale & ~self.processes.any(fired > 0)


@dataclass(frozen=True)
class Outcome:
    """What a batch is to an objective. Scalars are tensors, on the device of the batch.

    Attributes:
        loss: the objective, without what it does for dead latents.
        revival: what it adds for them, weighted (AuxK); None if it knows no such thing.
        error: target minus reconstruction; to be looked at, not to learn from.
        fired: tokens of the batch on which each latent was active.
        smallest: smallest activation kept, for rules that become a threshold at inference.
    """

    loss: Float[Tensor, ""]
    error: Float[Tensor, "tokens d"]
    fired: Int[Tensor, "n"]
    revival: Float[Tensor, ""] | None = None
    smallest: Float[Tensor, ""] | None = None

    __repr__ = short_repr


@dataclass(frozen=True)
class Objective(ABC):
    """Settings of one objective, and its mathematics.

    Attributes:
        name: which one it is, for files.
    """

    name: str = field(default="", init=False)

    @property
    @abstractmethod
    def architecture(self) -> str:
        """The architecture of the dictionary that comes out (see :mod:`gossamer.dictionary.config`)."""

    @property
    def vectors(self) -> dict[str, float]:
        """Names and initial values of the parameters that have one number a latent. The first is the encoder's bias."""
        return {"b_enc": 0.0}

    def check(self, n_latents: int, decoder_norm: str) -> None:  # noqa: B027 - most have nothing to refuse
        """Raise :class:`UsageError` if it cannot train so many latents, or with such decoder rows."""

    @abstractmethod
    def outcome(
        self, p: Parameters, x: Float[Tensor, "tokens d"], y: Float[Tensor, "tokens d"], moment: Moment
    ) -> Outcome:
        """The loss of a batch: `x` goes into the encoder, `y` is to come out of the decoder.

        Args:
            p: W_enc (d, n), W_dec (n, d), b_dec (d), and `vectors` (n).
        """

    def settle(self, p: Parameters) -> None:  # noqa: B027 - most have nothing to do
        """Bring parameters back to where they have a meaning, in place, after a step of the optimiser."""

    def next_threshold(self, threshold: Float[Tensor, ""], smallest: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The threshold at inference after a step whose smallest activation kept is given; as it was, by default."""
        return threshold
