"""Tokens that pass through: attention sinks, and what dictionaries did not learn; dictionaries that keep nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from circuit_lab import able_task, mirror_dictionary
from tiny_splice import tiny_model

from gossamer.activations.token_mask import TokenMask
from gossamer.circuits.find import find_circuit
from gossamer.circuits.findings import collect_findings
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import Study, StudySettings
from gossamer.dictionary import Dictionary
from gossamer.dictionary.attach import DictionaryWarning
from gossamer.dictionary.config import ReportedMetrics
from gossamer.dictionary.training_tokens import mask_facts
from gossamer.errors import GossamerError, UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.task import Task

SEARCH = SearchSettings(sizes=(40, 20), steps=15, batch_size=6, learning_rate=0.3)
SETTINGS = StudySettings(batch_size=32, seed=3)


@pytest.fixture(scope="module")
def sinking() -> LanguageModel:
    model = tiny_model()
    with torch.no_grad():
        loud = torch.randn(16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        model.hf.transformer.wpe.weight[0] = 2000 * loud  # type: ignore[index, union-attr]
    return model


@pytest.fixture(scope="module")
def words_first(sinking: LanguageModel) -> Task:
    """A task whose prompts all begin with the same word, with a role and an ablation group as any other."""
    made = able_task(sinking)

    def with_role(side):
        roles, ablation_groups = side.roles.clone(), side.ablation_groups.clone()
        roles[:, 0], ablation_groups[:, 0] = 0, side.ablation_groups[:, 1]
        return replace(side, roles=roles, ablation_groups=ablation_groups)

    def changed(examples):
        return replace(examples, clean=with_role(examples.clean), counterfactual=with_role(examples.counterfactual))

    return replace(made, train=changed(made.train), test=changed(made.test))


def deaf_to_loud(site: Site) -> Dictionary:
    """Without error for ordinary vectors; what a loud one becomes is nonsense."""
    made = mirror_dictionary(site)
    broken = Dictionary(replace(made.config, architecture="jumprelu"), dtype=torch.float64)
    for name, parameter in broken.named_parameters():
        parameter.data = torch.full_like(parameter, 1e-9) if name == "threshold" else made.get_parameter(name).data
    encode = broken.encode_dense
    broken.encode_dense = lambda x, columns=None: encode(x.clamp(-100, 100), columns)  # type: ignore[method-assign]
    return broken.requires_grad_(False)


def test_the_sink_passes_through(sinking: LanguageModel, words_first: Task) -> None:
    study = Study(
        sinking, {Site.parse("resid_post.1"): deaf_to_loud(Site.parse("resid_post.1"))}, words_first, SETTINGS
    )
    assert study.evaluator.faithfulness(study.evaluator.dictionaries) == pytest.approx(1, abs=1e-6)
    for side in (study.task.train.clean, study.task.test.counterfactual):
        assert bool((side.roles[:, 0] == -1).all())
        assert bool((side.ablation_groups[:, 0] == -1).all())
    assert torch.equal(study.task.train.clean.roles[:, 1:], words_first.train.clean.roles[:, 1:])


def test_prompts_that_differ_in_the_sink_are_refused(sinking: LanguageModel, words_first: Task) -> None:
    other = words_first.test.counterfactual
    ids = other.tokens.ids.clone()
    ids[2, 0] = 9
    moved = replace(other, tokens=replace(other.tokens, ids=ids))
    task = replace(words_first, test=replace(words_first.test, counterfactual=moved))
    expected = r"attention sink.* in 1 of 8 prompts of by hand .*'w0' and 'w9'.* begin all prompts with the same word"
    with pytest.raises(UsageError, match=expected):
        Study(sinking, {}, task, SETTINGS)
    plain = Study(tiny_model(), {}, task, SETTINGS)
    assert plain.task is task


def test_what_a_dictionary_did_not_learn_passes_through(model: LanguageModel, words_first: Task) -> None:
    site = Site.parse("resid_post.1")
    made = mirror_dictionary(site)
    assert Study(model, {site: made}, words_first, SETTINGS).task is words_first
    made.provenance = {"training": mask_facts(TokenMask(positions=(1, None)))}
    found = Study(model, {site: made}, words_first, SETTINGS).task
    for side, before in (
        (found.train.clean, words_first.train.clean),
        (found.test.counterfactual, words_first.test.counterfactual),
    ):
        first = before.tokens.first
        assert torch.equal(side.roles, before.roles.masked_fill(first, -1))
        assert torch.equal(side.ablation_groups, before.ablation_groups.masked_fill(first, -1))
    made.provenance = {"training": mask_facts(TokenMask(positions=(None, -1)))}
    with pytest.raises(UsageError, match=r"on which the dictionaries did not learn.* in .* prompts of by hand"):
        Study(model, {site: made}, words_first, SETTINGS)


def test_dictionaries_that_keep_nothing_are_refused_before_the_search(
    model: LanguageModel, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site.parse("resid_post.2")
    opposite = mirror_dictionary(site)
    opposite.W_dec.data.neg_()
    study = Study(model, {site: opposite}, task, StudySettings(batch_size=32, errors="drop"))
    assert study.evaluator.faithfulness(study.evaluator.dictionaries) < -0.5
    monkeypatch.setattr("gossamer.circuits.study.METHODS", {"mask": lambda *_: pytest.fail("a search began")})
    expected = r"together keep -\d+% of by hand .* resid_post\.2 L0 16 and explained variance -6\.\d+; train"
    with pytest.raises(GossamerError, match=expected):
        find_circuit(model, {site: opposite}, task, settings=study.settings, search=SEARCH)


def test_what_was_warned_of_is_in_the_report(model: LanguageModel, task: Task, tmp_path: Path) -> None:
    site = Site.parse("resid_post.2")
    boastful = mirror_dictionary(site)
    boastful.reported = ReportedMetrics(l0=1.0)
    with pytest.warns(DictionaryWarning, match="its file claims 1"):
        found = find_circuit(model, {site: boastful}, task, size=8, settings=SETTINGS, search=SEARCH)
    warned = collect_findings(found, methods=(), reruns=0, subsets=1).warnings
    assert any(text.startswith("Dictionary at resid_post.2: L0 is") and text.endswith(".") for text in warned)
