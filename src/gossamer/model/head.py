"""From the stream after the final norm to logits: all of them, or those of a few tokens in float32."""

import torch
from accelerate.utils import align_module_device
from jaxtyping import Float, Int
from torch import Tensor, nn

from gossamer.errors import UsageError
from gossamer.model.anatomy import Anatomy


class Head:
    """The unembedding of a model, with what its family does to logits: a multiplier, a divisor, a cap."""

    def __init__(self, anatomy: Anatomy) -> None:
        self.anatomy = anatomy

    def __call__(self, hidden: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Logits of all tokens, in the model's own type."""
        return self._finished(self.anatomy.head(hidden))

    def of(self, hidden: Float[Tensor, "batch *pos d_model"], ids: Int[Tensor, "..."]) -> Float[Tensor, "batch *pos n"]:
        """Logits of the tokens `ids` alone (batch n, or n for all rows), in float32 at least.

        The products with the rows of these tokens are taken in float32: bfloat16 keeps logits to steps of .125 only.

        Raises:
            UsageError: `ids` has another shape, or the head is no plain matrix.
        """
        if ids.dim() not in (1, 2) or (ids.dim() == 2 and len(ids) != len(hidden)):
            raise UsageError(f"ids: expected shape (n,) or ({len(hidden)}, n), found {tuple(ids.shape)}")
        ids = ids.to(hidden.device).expand(len(hidden), ids.shape[-1])
        weight, bias = self.rows(ids)
        wide = torch.promote_types(hidden.dtype, torch.float32)
        logits = torch.einsum("b...d,bnd->b...n", hidden.to(wide), weight.to(hidden.device, wide))
        if bias is not None:
            logits = logits + bias.to(logits).view(len(ids), *[1] * (logits.dim() - 2), -1)
        return self._finished(logits)

    def rows(self, ids: Int[Tensor, "*ids"]) -> tuple[Float[Tensor, "*ids d_model"], Float[Tensor, "*ids"] | None]:
        """Rows of the unembedding matrix, and of its bias if it has one.

        Raises:
            UsageError: the head is no plain matrix, as with an adapter on it.
        """
        head = self.anatomy.head
        if not isinstance(head, nn.Linear):
            raise UsageError(
                f"the head is a {type(head).__name__}: expected a plain matrix, whose rows can be read; "
                f"merge adapters into the model first (merge_and_unload)"
            )
        # Weights that accelerate keeps elsewhere are brought in for the moment of reading.
        with align_module_device(head):
            ids = ids.to(head.weight.device)
            return head.weight[ids], None if head.bias is None else head.bias[ids]

    def _finished(self, logits: Tensor) -> Tensor:
        if self.anatomy.logit_multiplier != 1:
            logits = logits * self.anatomy.logit_multiplier
        cap = self.anatomy.softcap
        return logits if cap is None else torch.tanh(logits / cap) * cap
