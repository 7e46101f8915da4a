"""Parts on disk: the same numbers as at once, nothing twice, and refusals where they are of something else."""

import pytest
import torch
from test_intervention import SITE, random_dictionary

from gossamer.errors import GossamerError, UsageError
from gossamer.steering import effect_parts, learn_effects, measure_site
from gossamer.steering.completions import SamplingPlan
from gossamer.steering.effect_parts import PART, measured_in_parts

DIRECTIONS = torch.nn.functional.normalize(torch.randn(2 * PART + 5, 6, generator=torch.Generator().manual_seed(0)))
MAP = torch.randn(6, 9, generator=torch.Generator().manual_seed(1))


class Counting:
    """A map that counts what it is asked, and stops like a killed process after `most` parts."""

    def __init__(self, most=99):
        self.asked, self.most = [], most

    def __call__(self, part):
        if len(self.asked) == self.most:
            raise KeyboardInterrupt
        self.asked.append(len(part))
        return part @ MAP


def test_a_stopped_measurement_goes_on_and_measures_nothing_twice(tmp_path):
    whole = measured_in_parts(DIRECTIONS, Counting())
    torch.testing.assert_close(whole, DIRECTIONS @ MAP)
    with pytest.raises(KeyboardInterrupt):
        measured_in_parts(DIRECTIONS, Counting(most=2), tmp_path, {"budget": 0.3})
    rest = Counting()
    assert torch.equal(measured_in_parts(DIRECTIONS, rest, tmp_path, {"budget": 0.3}), whole)
    assert rest.asked == [5]
    nothing = Counting(most=0)
    assert torch.equal(measured_in_parts(DIRECTIONS, nothing, tmp_path, {"budget": 0.3}), whole)


def test_effects_of_others_and_damaged_ones_are_refused(tmp_path):
    measured_in_parts(DIRECTIONS, Counting(), tmp_path, {"budget": 0.3})
    with pytest.raises(UsageError, match=r"same budget expected, found 0.3, not 0.5; give another folder"):
        measured_in_parts(DIRECTIONS, Counting(), tmp_path, {"budget": 0.5})
    with pytest.raises(UsageError, match="same directions expected"):
        measured_in_parts(-DIRECTIONS, Counting(), tmp_path, {"budget": 0.3})
    path = tmp_path / "effects-00001.safetensors"
    good = path.read_bytes()
    for bad in (good[:-4] + b"\0\0\0\1", good[:20], b""):
        path.write_bytes(bad)
        with pytest.raises(GossamerError, match=r"effects-00001\.safetensors: damaged"):
            measured_in_parts(DIRECTIONS, Counting(), tmp_path, {"budget": 0.3})


def test_what_is_learnt_from_a_folder_is_what_was_measured(tiny_gpt2, tmp_path, monkeypatch):
    dictionary = random_dictionary(SITE)
    tokens = tiny_gpt2.tokenize(["Mary went to the store", "Tom gave a drink to Sue"])
    scale = measure_site(tiny_gpt2, SITE, tokens, dictionary)
    plan = SamplingPlan(samples=1, max_new_tokens=2)

    def learn(budget=0.3):
        texts = ["Mary went"]
        return learn_effects(
            tiny_gpt2, dictionary, scale, tokens, texts, 36, budget=budget, plan=plan, folder=tmp_path / "effects"
        )

    first = learn()
    monkeypatch.setattr(effect_parts, "write_tensors", lambda *_: pytest.fail("measured again"))
    again = learn()
    assert torch.equal(first.map, again.map)
    assert torch.equal(first.bias, again.bias)
    with pytest.raises(UsageError, match="same budget"):
        learn(0.4)
