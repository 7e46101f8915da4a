"""The prompts on which a circuit is furthest from the model."""

import math

import torch

from gossamer.circuits.prompt_metrics import FullModel, PromptMetrics
from gossamer.circuits.shortfalls import PromptTail, WorstPrompt

SHOWN = 5


def prompt_tail(full: FullModel, circuit: PromptMetrics, shown: int = SHOWN) -> PromptTail:
    """Percentiles of KL(model || circuit) over the prompts, and the `shown` prompts with the largest.

    Args:
        full: the model itself on the prompts.
        circuit: the circuit on the same prompts.
        shown: how many prompts to show.
    """
    kl = circuit.kl.double().cpu()
    order = torch.argsort(kl, descending=True, stable=True)
    prompts, own = full.examples.prompts, full.prompt_metrics.metric
    worst = tuple(
        WorstPrompt(
            prompts[row].clean_text,
            prompts[row].answer,
            prompts[row].incorrect,
            kl[row].item(),
            own[row].item(),
            circuit.metric[row].item(),
        )
        for row in order[:shown].tolist()
    )
    rising = torch.sort(kl).values
    p95, p99 = (rising[math.ceil(share * len(rising)) - 1].item() for share in (0.95, 0.99))
    return PromptTail(kl.mean().item(), p95, p99, worst)
