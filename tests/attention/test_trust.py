"""The trust report: a dictionary that loses nothing keeps all, and the floor is the model with the site at zero."""

import pytest
import torch

from gossamer import DictionarySet, LanguageModel, bundled
from gossamer.activations import counted_tokens
from gossamer.attention import trust_report
from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.tasks import get


@pytest.fixture(scope="module")
def model():
    return LanguageModel.load("bundled:spool")


def lossless(model, site):
    """A latent for each direction and each sign of it."""
    d = model.width(site)
    made = Dictionary(DictionaryConfig("relu", d, 2 * d, site=Site.parse(site)))
    with torch.no_grad():
        made.W_enc.copy_(torch.cat([torch.eye(d), -torch.eye(d)], dim=1))
        made.W_dec.copy_(made.W_enc.T)
        made.b_enc.zero_()
        made.b_dec.zero_()
    return made.requires_grad_(False)


def test_what_is_kept_alone_and_at_zero(model):
    task = get("sva-rc").generate(model.tokenizer, n=40, seed=0, bos=True)
    found = trust_report(model, {"z.2": lossless(model, "z.2")}, task, prompts=8)["z.2"]
    assert found.kept == pytest.approx(1, abs=1e-5)
    assert found.kl == pytest.approx(0, abs=1e-5)
    examples = task.test.select(torch.arange(8))
    tokens, at = examples.clean.tokens, examples.clean.answer_position
    counted = counted_tokens(model, tokens).unsqueeze(-1)
    with torch.no_grad():
        plain = model.logits(tokens, at=at)
        with model.edit({"z.2": lambda z: torch.where(counted, 0.0, z)}):
            zero = model.logits(tokens, at=at)
    expected = examples.measure(zero).mean() / examples.measure(plain).mean()
    assert found.kept_without == pytest.approx(float(expected), abs=1e-5)
    kl = (plain.softmax(-1) * (plain.log_softmax(-1) - zero.log_softmax(-1))).sum(-1).mean()
    assert found.kl_without == pytest.approx(float(kl), abs=1e-5)
    assert found.text is None


def test_a_report_of_several_with_text(model):
    dictionaries = DictionarySet.load(bundled.path("spool") / "dictionaries")
    tokens = model.tokenize(["The boys near the dog are happy. They like the park."] * 2)
    report = trust_report(model, dictionaries, "sva-rc", tokens, prompts=8)
    assert list(report) == list(dictionaries)
    assert all(one.kept > one.kept_without and one.kl < one.kl_without for one in report.values())
    assert all(one.text.loss_recovered > 0.5 for one in report.values())
    assert "resid_post.2" in report._repr_html_()


def test_a_distance_has_no_share(model):
    task = get("sva-rc").generate(model.tokenizer, n=40, seed=0, bos=True).measured_by("kl")
    with pytest.raises(UsageError, match="a metric of which a share can be kept"):
        trust_report(model, {"z.2": lossless(model, "z.2")}, task)
