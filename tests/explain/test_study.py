"""The whole study on a store whose latents are known: explained, scored, stopped, gone on with."""

import json
import re

import pytest
from explain_fixtures import WINDOWS, Script, feature, planted_store

from gossamer.errors import GossamerError, UsageError
from gossamer.explain import (
    ChatJudge,
    ChatReply,
    ExplainedFeatures,
    ExplainSettings,
    ExplanationStudy,
    Prices,
    choose_features,
)
from gossamer.explain.cost import estimate, require_affordable
from gossamer.store import FeatureStore

SETTINGS = ExplainSettings(windows=WINDOWS)
LATENTS = (0, 2, 3, 4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "store"
    _, dictionary = planted_store(folder)
    with FeatureStore(folder) as store:
        yield store, {dictionary.site: dictionary}


def study(made, settings=SETTINGS, latents=LATENTS, **given):
    return ExplanationStudy(made[0], [feature(one) for one in latents], settings, dictionaries=made[1], **given)


def by_feature(found, control=""):
    return {row.explanation.feature.latent: row for row in found.scores if row.control == control}


def test_planted_tokens_are_said_and_score_one(made):
    found = study(made).run()
    rows = {row.explanation.feature.latent: row for row in found.explanations}
    assert rows[0].explanation.text.startswith('activates on " dog" = ')
    assert rows[3].explanation.text.startswith('activates on " school" = ')
    assert (rows[2].explanation.text, rows[2].explanation.failure) == ("", "never active in the corpus")
    scores = by_feature(found)
    assert sorted(scores) == [0, 3, 4]
    for latent in (0, 3, 4):
        for one in scores[latent].scores:
            # There may be no silent windows of a kind.
            assert one.value is None or one.value > 0.99
        assert scores[latent].score("detection").value == 1.0
    wrong = by_feature(found, "shuffled")
    assert all(wrong[latent].score("detection").value < 0.8 for latent in (0, 3, 4))


def test_a_study_that_was_stopped_ends_as_one_that_was_not(made, tmp_path, monkeypatch):
    whole = study(made).run(tmp_path / "whole")
    count = 0
    original = ExplanationStudy._scored

    def dies(self, *given):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return original(self, *given)

    monkeypatch.setattr(ExplanationStudy, "_scored", dies)
    with pytest.raises(KeyboardInterrupt):
        study(made).run(tmp_path / "cut")
    monkeypatch.undo()
    assert study(made).run(tmp_path / "cut") == whole
    for name in ("explanations.json", "scores.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert ExplainedFeatures.load(tmp_path / "whole") == whole
    # Another study does not go into its folder.
    with pytest.raises(UsageError, match="holds another study"):
        study(made, latents=(0, 3)).run(tmp_path / "whole")


def reads(request):
    """A model that explains by the tokens between << and >>, and sees an explanation's word in a text."""
    if request.user.startswith("Text 1:") and "[EXPLANATION]" in request.system:
        return "[EXPLANATION]: the word " + re.search(r"<< ?(\w+)>>", request.user)[1]
    word = re.search(r'the word "?(\w+)', request.system)
    lines = re.findall(r"^Text \d+:(.*)$", request.user, re.MULTILINE)
    return json.dumps([int(word is not None and word[1].lower() in line.lower().split()) for line in lines])


def test_a_language_model_explains_and_judges(made):
    script = Script(reads)
    settings = ExplainSettings(("rule", "delphi"), ("detection",), WINDOWS)
    found = study(made, settings, chat=script, judge=ChatJudge(script, logprobs=False)).run()
    rows = [row for row in found.scores if row.explanation.method == "delphi" and not row.control]
    assert {row.explanation.feature.latent: row.explanation.text for row in rows}[0] == "the word dog"
    assert [row.score("detection").value for row in rows if row.explanation.feature.latent in (0, 3)] == [1.0, 1.0]
    assert found.gold["script"].value == 1.0
    # A rule is followed by the program and asked about as well.
    judges = {row.judge for row in found.scores if row.explanation.method == "rule"}
    assert judges == {"rule", "script"}


def test_explanations_that_failed_are_counted_and_not_scored(made):
    def fails(request):
        return "no idea" if "[EXPLANATION]" in request.system else reads(request)

    def is_cut(request):
        said = reads(request)
        return ChatReply(said, finish="length") if said.startswith("[EXPLANATION]") else said

    settings = ExplainSettings(("delphi",), ("detection",), WINDOWS)
    for answer in (fails, is_cut):
        script = Script(answer)
        found = study(made, settings, latents=(0, 3), chat=script, judge=ChatJudge(script, logprobs=False)).run()
        assert [row.explanation.failure[:8] for row in found.explanations] == ["unparsed", "unparsed"]
        assert found.scores == ()


def test_all_are_explained_and_some_are_scored(made):
    script = Script(reads)
    settings = ExplainSettings(("rule", "delphi"), ("detection",), WINDOWS)
    some = study(made, settings, chat=script, judge=ChatJudge(script, logprobs=False), scored=2)
    expected = estimate(some, Prices())
    found = some.run()
    assert {row.explanation.feature.latent for row in found.explanations} == set(LATENTS)
    assert [one for one in some.features if one in some.to_score] == some.to_score
    scored = {row.explanation.feature for row in found.scores}
    assert scored == set(some.to_score) - {feature(2)}
    assert expected.questions == pytest.approx(len(script.requests), rel=0.4)
    assert expected.questions < estimate(study(made, settings, chat=script, judge=some.judge), Prices()).questions
    assert study(made, scored=9).to_score == study(made).features


def test_people_s_sentences_are_scored_beside(made):
    found = study(made, told={feature(0): "activates on dog"}).run()
    (row,) = [one for one in found.scores if one.explanation.method == "person"]
    assert row.score("detection").value == 1.0


def test_the_cost_is_known_before_anything_is_asked(made):
    script = Script(reads)
    settings = ExplainSettings(("delphi",), ("detection",), WINDOWS)
    asked = study(made, settings, latents=(0, 3, 4), chat=script, judge=ChatJudge(script, logprobs=False))
    found = estimate(asked, Prices(1.0, 1.0))
    assert script.requests == []
    asked.run()
    letters = sum(one.letters for one in script.requests)
    assert found.questions == len(script.requests)
    assert found.prompt_tokens == pytest.approx(letters / 4, rel=0.15)
    assert found.dollars == pytest.approx((found.prompt_tokens + found.output_tokens) / 1e6)
    require_affordable(found, found.dollars)
    with pytest.raises(UsageError, match="--max-cost"):
        require_affordable(found, found.dollars / 2)


def test_what_cannot_be_meant_is_refused(made):
    with pytest.raises(UsageError, match="a latent of"):
        study(made, latents=(99,))
    with pytest.raises(UsageError, match="at least one feature"):
        study(made, latents=())
    with pytest.raises(UsageError, match="a language model expected"):
        study(made, ExplainSettings(("delphi",), windows=WINDOWS))
    with pytest.raises(UsageError, match="as judge expected"):
        study(made, ExplainSettings(scorers=("saebench",), windows=WINDOWS))
    with pytest.raises(UsageError, match="explainers: some of rule, bills"):
        ExplainSettings(("guess",))
    other = {site: one.__class__(one.config) for site, one in made[1].items()}
    with pytest.raises(UsageError, match="another model or dictionary"):
        ExplanationStudy(made[0], [feature(0)], SETTINGS, dictionaries=other)


def test_features_are_drawn_and_not_picked(made):
    chosen = choose_features(made[0], 3, least=20, seed=1)
    assert len(chosen) == 3
    assert feature(2) not in chosen
    assert choose_features(made[0], 3, least=20, seed=1) == chosen
    with pytest.raises(GossamerError, match="active on 100000 tokens"):
        choose_features(made[0], 3, least=100_000)
