"""What a masked network is asked to do: the loss of the mask search and of the pruning that follows it."""

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from gossamer.circuits.outputs import Outputs
from gossamer.circuits.prompt_metrics import FullModel
from gossamer.tasks.metric import kl_divergence

Loss = Literal["metric", "kl"]
# What one prompt's error weighs beside the mean's. A circuit too small for the task helps few prompts beyond their own
# target: at 1 the gradient of those prompts vanishes and IOI loses .02 to .05 of its mean at 130 to 250 nodes; at 0
# prompts that overshoot hide prompts that fail.
PROMPT_WEIGHT = 0.5


def prompt_loss(
    outputs: Outputs,
    full: FullModel,
    loss: Loss,
    rows: Int[Tensor, "rows"] | slice,
    lean: Float[Tensor, ""] | None = None,
) -> Float[Tensor, "rows"]:
    """Share of each prompt in the loss against the full model, which is their mean.

    What the losses are: :class:`gossamer.circuits.search.SearchSettings`.

    Args:
        outputs: of the prompts.
        full: the full model on all prompts.
        loss: which loss.
        rows: which prompts these are.
        lean: sign of the mean excess of the whole batch that `rows` are a part of; None: they are the whole batch.
    """
    if loss == "kl":
        return kl_divergence(full.log_probs(rows), outputs.logits())
    return metric_loss(full.excess(outputs, rows), lean)


def metric_loss(excess: Float[Tensor, "rows"], lean: Float[Tensor, ""] | None = None) -> Float[Tensor, "rows"]:
    """The loss "metric" of prompts whose metric is so far beyond the full model's."""
    return PROMPT_WEIGHT * excess.abs() + (excess.mean().sign() if lean is None else lean) * excess
