"""What recipes settle before anything is trained."""

import pytest
from training_fixtures import CONFIG

from gossamer.training.recipes import end_to_end


@pytest.mark.parametrize(("width", "share"), [(64, 1.0), (128, 1.0), (512, 0.25), (640, 0.2)])
def test_the_rate_of_a_fine_tuning_end_to_end_falls_as_the_model_is_wider(width, share):
    found = end_to_end(CONFIG, width)
    assert found.learning_rate == pytest.approx(share * CONFIG.finetune.learning_rate)
    assert (found.balanced, found.rows, found.thresholds) == (True, 4, "spliced")
    assert found.tokens == round(0.05 * CONFIG.fit.tokens)
