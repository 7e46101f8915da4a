"""What a masked network is asked to do: the loss of the mask search and of the pruning that follows it."""

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from gossamer.circuits.outputs import Outputs
from gossamer.circuits.prompt_metrics import FullModel
from gossamer.tasks.metric import kl_divergence

Loss = Literal["metric", "kl"]
# What one prompt's shortfall weighs beside the mean's error: at 0 prompts that overshoot hide prompts that fail. What a
# prompt does beyond the model is punished in the mean alone. Punished in each prompt it costs up to .12 of faithfulness
# on names that were not fitted (pronouns in a 3M model, 40 and 350 nodes; the other way round it costs up to .06, for
# agreement within a relative clause); not punished at all, circuits of that task run away to 1.6.
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
    return PROMPT_WEIGHT * (-excess).clamp(min=0) + (excess.mean().sign() if lean is None else lean) * excess
