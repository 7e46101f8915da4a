"""One feature pushed beside its controls: what is added is as long, and what is read back is the feature's."""

import pytest
import torch
from test_intervention import SITE, random_dictionary

from gossamer.dictionary.config import DictionaryConfig
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import NotFiniteError, UsageError
from gossamer.model.site import Site
from gossamer.steering import SamplingPlan, clamp, measure_site, read_back, steer_along, steered
from gossamer.steering.concept import behind_first

TEXTS = [f" {one} went to the {other}" for one in ("Mary", "John", "Tom") for other in ("store", "dog", "ball", "milk")]
PLAN = SamplingPlan(samples=2, max_new_tokens=3)


def test_a_feature_beside_a_random_feature_and_a_random_direction_of_its_length(tiny_gpt2):
    text, dictionary = tiny_gpt2.tokenize(TEXTS), random_dictionary(SITE)
    found = steer_along(tiny_gpt2, dictionary, 3, [0.5, 2.0], [" Mary", " Tom"], text, plan=PLAN)
    names = ["clamp", "random_feature", "random_direction"]
    assert [row.method for row in found.rows] == ["unsteered", *names, *names]
    assert found.scores[0].feature.latent == 3
    assert found.scores[1].feature.latent == found.rows[2].back.feature.latent != 3
    scale = measure_site(tiny_gpt2, SITE, text, dictionary)
    for place, value in ((1, 0.5), (4, 2.0)):
        push = clamp(dictionary, 3, scale.of_norm(value, dictionary.W_dec[3])).where(behind_first(tiny_gpt2))
        assert found.rows[place].back == read_back(tiny_gpt2, push, text)[0]
        assert found.rows[place + 2].relative_norm == pytest.approx(found.rows[place].relative_norm, rel=1e-4)
        with steered(tiny_gpt2, push):
            after = tiny_gpt2.logits(text).log_softmax(dim=-1)
        before = tiny_gpt2.logits(text).log_softmax(dim=-1)
        kl = (before.exp() * (before - after)).sum(dim=-1)[:, :-1][text.mask[:, 1:]].mean()
        assert found.rows[place].kl == pytest.approx(float(kl), rel=1e-3)
    assert found.rows[0].kl == pytest.approx(0, abs=1e-6)
    assert all(len(row.completions) == 2 for row in found.rows)


def test_features_that_cannot_be_pushed_are_refused(tiny_gpt2):
    text, dictionary = tiny_gpt2.tokenize(TEXTS), random_dictionary(SITE)
    with torch.no_grad():
        dictionary.b_enc[5] = -1e4
    transcoder = Dictionary(
        DictionaryConfig("relu", 32, 8, site=Site("mlp_in", 1), site_out=Site("mlp_out", 1), model_name="m")
    )
    for chosen, latent, more, said in (
        (dictionary, 5, {}, "dead or rare"),
        (dictionary, 5, {"unit": "raw"}, "dead or rare"),
        (dictionary, 99, {}, "a latent from 0 to"),
        (transcoder, 1, {}, "found a transcoder"),
        (dictionary, 3, {"kind": "push"}, "one of feature_add, clamp"),
    ):
        with pytest.raises(UsageError, match=said):
            steer_along(tiny_gpt2, chosen, latent, [0.5], [" Mary"], text, plan=PLAN, **more)
    with pytest.raises(UsageError, match="at most 64"):
        steer_along(tiny_gpt2, dictionary, 3, [0.5], [" Mary" * 70], text, plan=PLAN)
    with pytest.raises(NotFiniteError, match="smaller coefficients"):
        steer_along(tiny_gpt2, dictionary, 3, [3e38], [" Mary"], text, unit="raw", plan=PLAN)
