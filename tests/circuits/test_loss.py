"""The loss on a network of which the circuit is known."""

import pytest
import torch
from circuit_lab import table
from planted import Planted, planted

from gossamer.circuits.loss import PROMPT_WEIGHT, prompt_loss
from gossamer.circuits.prompt_metrics import kl_divergence
from gossamer.model.language_model import LanguageModel


@pytest.fixture(scope="module")
def known(model: LanguageModel) -> Planted:
    return planted(model)


def test_the_loss_by_hand(known: Planted) -> None:
    logits, rows = torch.zeros(3, 30), torch.tensor([4, 0, 7])
    logits[:, 7] = torch.tensor([0.1, 0.2, 1.5])
    wanted = known.full.prompt_metrics.metric
    errors = [(logits[k, 7] - logits[k, 8] - wanted[row]).item() for k, row in enumerate(rows.tolist())]
    assert min(errors) < 0 < max(errors)
    short = sum(-error for error in errors if error < 0)
    expected = (PROMPT_WEIGHT * short + abs(sum(errors))) / 3 / wanted.mean().item()
    assert prompt_loss(table(logits), known.full, "metric", rows).mean().item() == pytest.approx(expected, rel=1e-5)
    lean = torch.tensor(1.0 if sum(errors) > 0 else -1.0)
    parts = [prompt_loss(table(logits[[k]]), known.full, "metric", rows[[k]], lean) for k in range(3)]
    assert torch.cat(parts).mean().item() == pytest.approx(expected, rel=1e-5)
    kl = prompt_loss(table(logits), known.full, "kl", rows)
    torch.testing.assert_close(kl, kl_divergence(known.full.log_probs(rows), logits))
    assert torch.equal(
        prompt_loss(table(logits), known.full, "kl", slice(2, 5)),
        kl_divergence(known.full.log_probs(slice(2, 5)), logits),
    )
