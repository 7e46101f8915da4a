"""The threshold with which a dictionary trained by a batch rule works alone: it lets k latents a token through.

A moving average of what batches kept is still on its way when a short training ends, and thresholds move until the
learning rate is 0; so the last word has a measurement on activations that were not learned from.
"""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.sparse.largest import MARGIN
from gossamer.training.parallel import Processes

# The mean L0 of the most has an error of a few per mille, of the fewest of a few per cent.
_FEWEST, _MOST = 2048, 16_384
_BLOCK_VALUES = 2**24


def calibration_tokens(learned: int) -> int:
    """Tokens to calibrate on after a training on so many: an eighth of them, between 2,048 and 16,384."""
    return min(_MOST, max(_FEWEST, learned // 8))


@torch.no_grad()
def calibrated(
    p: Mapping[str, Tensor],
    inputs: Iterable[Float[Tensor, "_ d"]],
    k: int,
    guess: float,
    processes: Processes | None = None,
) -> Float[Tensor, ""]:
    """The threshold above which lie the k * tokens largest pre-activations of all `inputs` together, in float64.

    It stands halfway to the next smaller one; 0 if fewer are positive. Memory: a block of 2**24 pre-activations, and
    those above `MARGIN * guess`.

    Args:
        p: W_enc (d, n) and b_enc (n).
        inputs: what the encoder reads; of several `processes` each has its own part of them.
        k: latents a token.
        guess: about where the threshold is; it only saves time and memory.
    """
    processes = processes or Processes()
    blocks = [block for x in inputs for block in torch.split(x, max(1, _BLOCK_VALUES // p["W_enc"].shape[1]))]
    tokens = torch.tensor(sum(map(len, blocks)), device=p["W_enc"].device)
    wanted = k * int(processes.sum(tokens))
    floor = max(0.0, MARGIN * guess)
    while True:
        pre = (torch.addmm(p["b_enc"], x, p["W_enc"]) for x in blocks)
        values = torch.cat([found[found > floor] for found in pre])
        kept, next_one = (processes.kth_largest(values, count).double() for count in (wanted, wanted + 1))
        if floor == 0 or next_one > 0:
            return (kept + next_one) / 2 if kept > 0 else kept
        floor = floor / 4 if floor > MARGIN * guess / 16 else 0.0
