"""What steering costs on a text: every number against passes of one cell at a time, and the formula (T9)."""

import math

import pytest
import torch
from test_intervention import SITE, random_dictionary

from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.steering import NEW_TOKENS, Positions, Steering, add, clamp, measure_site, steered
from gossamer.steering.cell import Cell, with_prefix
from gossamer.steering.predictions import Observer, prediction_changes

TEXTS = [" Mary went to the store", " John and Mary", " Then John gave a drink to Mary and John", " Tom was sad"]


def cells():
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(32, generator=generator)
    return [
        Cell("unsteered"),
        Cell("add", (add(SITE, vector, 1.0),)),
        Cell("clamp", (clamp(random_dictionary(SITE), 3, 4.0).where(Positions(1)),)),
        Cell("later", (add("mlp_out.2", vector, 2.0),)),
        Cell("prompt", prefix=" Then Mary was sad"),
        Cell("new", (add(SITE, vector, 1.0).where(NEW_TOKENS),)),
    ]


def alone(model, cell, text):
    """Log-probabilities at every place of the texts, from a whole pass."""
    rows = with_prefix(model, text, cell.prefix)
    chosen = [one.where(Positions()) if one.positions == NEW_TOKENS else one for one in cell.interventions]
    with steered(model, chosen):
        logits = model.logits(rows)
    return logits[:, rows.ids.shape[1] - text.ids.shape[1] :].log_softmax(dim=-1).double()


@pytest.mark.parametrize("at_once", [4, 256])
def test_every_cell_is_as_it_is_alone(at_once, tiny_gpt2):
    text = tiny_gpt2.tokenize(TEXTS)
    found = prediction_changes(tiny_gpt2, cells(), text, rows_at_once=at_once)
    before = alone(tiny_gpt2, Cell("unsteered"), text)
    there = text.mask[:, 1:] & text.mask[:, :-1]
    following = text.ids[:, 1:, None]
    for number, cell in enumerate(cells()):
        after = alone(tiny_gpt2, cell, text)
        rise = (before - after)[:, :-1].gather(2, following)[..., 0]
        kl = (before.exp() * (before - after)).sum(dim=-1)[:, :-1]
        changed = before.argmax(dim=-1)[:, :-1] != after.argmax(dim=-1)[:, :-1]
        for name, values in (("cross_entropy", rise), ("kl", kl), ("changed", changed.double())):
            expected = (values * there).sum(dim=1)
            torch.testing.assert_close(getattr(found, name)[number], expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(found.tokens, there.sum(dim=1))
    assert float(found.mean("kl")[1:].min()) > 1e-3
    assert float(found.kl[0].abs().max()) < 1e-5


def test_t9_the_direction_of_kl():
    clean, steered_ = (torch.tensor(one).log_softmax(dim=0) for one in ((2.0, 1, 0), (2.0, 2, 0)))
    assert float((clean.exp() * (clean - steered_)).sum()) == pytest.approx(0.106289, abs=1e-6)
    assert float((steered_.exp() * (steered_ - clean)).sum()) == pytest.approx(0.117293, abs=1e-6)


def test_strength_is_measured_where_it_acts(tiny_gpt2):
    text, dictionary = tiny_gpt2.tokenize(TEXTS), random_dictionary(SITE)
    chosen = cells()
    found = prediction_changes(tiny_gpt2, chosen, text)
    x = tiny_gpt2.capture(text, [SITE])[SITE]
    vector = chosen[1].interventions[0].vector
    mean = x[text.mask].norm(dim=1).mean()
    assert float(found.relative_norm[1]) == pytest.approx(float(vector.norm() / mean), rel=1e-5)
    assert found.relative_norm[0] == 0
    acts = text.mask & ~text.first
    after = Steering([chosen[2].interventions]).capture(tiny_gpt2, text, [SITE])[SITE]
    expected = dictionary.encode_dense(after[acts])[:, 3].mean()
    assert float(found.activation[2]) == pytest.approx(float(expected), rel=1e-5)
    assert math.isnan(float(found.activation[1]))


def test_features_that_were_not_meant(tiny_gpt2):
    text, later = tiny_gpt2.tokenize(TEXTS), Site("resid_post", 2)
    dictionary = random_dictionary(later, seed=5)
    scale = measure_site(tiny_gpt2, later, text, dictionary)
    chosen = [*cells()[:3], Cell("own", (add(SITE, dictionary.W_dec[7].clone(), 3.0),))]
    found = prediction_changes(tiny_gpt2, chosen, text, observer=Observer.of(dictionary, scale))
    counted = text.mask & ~text.first
    plain = dictionary.encode_dense(tiny_gpt2.capture(text, [later])[later][counted]).mean(dim=0)
    rows = torch.nn.functional.normalize(dictionary.W_dec, dim=1)
    for number in (1, 2, 3):
        one = chosen[number].interventions[0]
        after = Steering([[one]]).capture(tiny_gpt2, text, [later])[later]
        change = (dictionary.encode_dense(after[counted]).mean(dim=0) - plain).abs()
        own = rows @ (one.vector / one.vector.norm()) > 0.5
        assert bool(own[7]) == (number == 3)
        assert float(found.off_target[number]) == pytest.approx(float(change[~own].mean()), rel=1e-4)
        expected = (change > 0.05 * scale.maxima) & ~own & (scale.maxima > 0)
        assert int(found.moved[number]) == int(expected.sum()) > 0
    assert float(found.off_target[0]) == pytest.approx(0, abs=1e-6)
    with pytest.raises(UsageError, match="not before"):
        prediction_changes(tiny_gpt2, [cells()[3]], text, observer=Observer(random_dictionary(SITE), torch.ones(24)))


def test_a_prefix_stands_behind_bos(tiny_gpt2):
    bos = tiny_gpt2.tokenize(TEXTS[:2], bos=True)
    found = with_prefix(tiny_gpt2, bos, " Tom was")
    words = tiny_gpt2.tokenize([" Tom was"]).ids[0].tolist()
    assert found.ids[0].tolist() == [0, *words, *bos.ids[0, 1:].tolist()]
    assert torch.equal(found.lengths, bos.lengths + 2)
    with pytest.raises(UsageError, match="at most 64 tokens"):
        with_prefix(tiny_gpt2, bos, " Tom was" * 40)
