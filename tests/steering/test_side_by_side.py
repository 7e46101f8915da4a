"""Both texts against what the model writes alone, and the price against logits worked out by hand."""

import pytest
import torch
from test_intervention import SITE, random_dictionary

from gossamer.errors import NotFiniteError, UsageError
from gossamer.features.feature import Feature
from gossamer.steering import NEW_TOKENS, SamplingPlan, add, clamp, project_out, steered
from gossamer.steering.side_by_side import NEUTRAL, side_by_side, steering_price

PROMPT = " Mary went to"
TEXT = [" Mary went to the store", " John and Mary", " Then John gave a drink to Mary"]


def pushes(where=None):
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    made = [add(SITE, vector, 3.0), clamp(random_dictionary(SITE), 3, 6.0)]
    return made if where is None else [one.where(where) for one in made]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("where", [None, NEW_TOKENS])
def test_both_texts_are_what_the_model_writes_alone(tiny_gpt2, temperature, where):
    plan = SamplingPlan(1, 8, temperature, seed=5)
    made = pushes(where)
    found = list(side_by_side(tiny_gpt2, made, PROMPT, plan))
    length = tiny_gpt2.tokenize([PROMPT]).lengths
    plain = tiny_gpt2.generate([PROMPT], max_new_tokens=8, temperature=temperature, seed=5)
    with steered(tiny_gpt2, made, prompt_lengths=length):
        pushed = tiny_gpt2.generate([PROMPT], max_new_tokens=8, temperature=temperature, seed=5)
        logits = tiny_gpt2.logits(pushed.whole)
    for side, alone in (("default", plain), ("steered", pushed)):
        tokens = [one.token for place in found if (one := getattr(place, side)) is not None]
        assert tokens == alone.new.ids[alone.new.mask].tolist()
    odds = logits[0].log_softmax(dim=-1)[len(logits[0]) - len(found) - 1 : -1]
    for place, row in zip(found, odds, strict=True):
        assert place.steered.probability == pytest.approx(float(row[place.steered.token].exp()), rel=1e-3)
        assert place.steered.word == tiny_gpt2.word(place.steered.token)


def test_nothing_done_is_the_same_text_twice(tiny_gpt2):
    for place in side_by_side(tiny_gpt2, [], PROMPT, SamplingPlan(1, 6, 1.0)):
        assert place.default == place.steered


def test_the_price_is_that_of_the_logits(tiny_gpt2):
    text, made = tiny_gpt2.tokenize(TEXT), pushes()
    price = steering_price(tiny_gpt2, made, text)
    clean = tiny_gpt2.logits(text).double().log_softmax(dim=-1)[:, :-1]
    with steered(tiny_gpt2, made):
        pushed = tiny_gpt2.logits(text).double().log_softmax(dim=-1)[:, :-1]
    counted, target = text.mask[:, 1:], text.ids[:, 1:, None]
    rise = (clean - pushed).gather(2, target)[..., 0][counted].mean()
    kl = (clean.exp() * (clean - pushed)).sum(dim=-1)[counted].mean()
    assert price.tokens == int(counted.sum())
    assert price.cross_entropy == pytest.approx(float(rise), abs=1e-4)
    assert price.kl == pytest.approx(float(kl), abs=1e-4)
    changed = (clean.argmax(dim=-1) != pushed.argmax(dim=-1))[counted].double().mean()
    assert price.changed == pytest.approx(float(changed))
    first, second = price.pushes
    assert (first.feature, first.before, second.feature) == (None, None, Feature(SITE, 3))
    x = tiny_gpt2.capture(text, [SITE])[SITE][text.mask]
    assert first.relative_norm == pytest.approx(3 * float(made[0].vector.norm() / x.norm(dim=-1).mean()), rel=1e-4)
    assert second.after != second.before


def test_what_acts_behind_prompts_is_priced_behind_the_first_token(tiny_gpt2):
    text = tiny_gpt2.tokenize(TEXT)
    behind = steering_price(tiny_gpt2, pushes(NEW_TOKENS), text)
    assert behind.kl > 0
    assert behind.kl != steering_price(tiny_gpt2, pushes(), text).kl


def test_a_stream_that_is_left_leaves_no_edit_behind(tiny_gpt2):
    tokens = tiny_gpt2.tokenize([PROMPT])
    before = tiny_gpt2.logits(tokens)
    stream = side_by_side(tiny_gpt2, pushes(), PROMPT, SamplingPlan(1, 8))
    next(stream)
    stream.close()
    assert torch.equal(tiny_gpt2.logits(tokens), before)


def test_what_cannot_be_written_is_refused(tiny_gpt2):
    with pytest.raises(UsageError, match="at least one token"):
        next(side_by_side(tiny_gpt2, pushes(), ""))
    with pytest.raises(UsageError, match="at most"):
        next(side_by_side(tiny_gpt2, pushes(), PROMPT, SamplingPlan(1, 10_000)))
    vector = torch.full((32,), 1e38)
    with pytest.raises(NotFiniteError, match="smaller strength"):
        next(side_by_side(tiny_gpt2, [add(SITE, vector, 1e3)], PROMPT))
    assert len(NEUTRAL) == len(set(NEUTRAL))
    price = steering_price(tiny_gpt2, [project_out(SITE, torch.ones(32))], tiny_gpt2.tokenize(TEXT))
    assert price.pushes[0].kind == "project_out"
