"""The study of ways of coding: its points against single evaluations, its comparison by hand, stopping and going on."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from gossamer.dictionary import encoding_methods
from gossamer.dictionary.config import Contents, DictionaryConfig
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import GossamerError, UsageError
from gossamer.replacement import coding_study as study
from gossamer.replacement.coding_study import CodingPoint, CodingStudy, load_study, study_coding, verdicts
from gossamer.replacement.evaluate import evaluate_methods
from gossamer.results import Record
from gossamer.results.document import digest

TEXTS = [" Mary went to the store", " John and Mary went", " Then John gave a drink to Mary and John"]
KS = (1, 4)
EVERY = study.METHODS


def random_dictionary(site, seed):
    generator = torch.Generator().manual_seed(seed)
    config = DictionaryConfig("relu", 32, 64, site=site)
    tensors = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in config.shapes.items()}
    return Dictionary.from_contents(Contents(config, tensors))


@pytest.fixture
def named(tiny_gpt2):
    site = tiny_gpt2.sites("resid_post")[1]
    return {name: random_dictionary(site, seed) for seed, name in enumerate(("one", "other"))}


@pytest.fixture
def tokens(tiny_gpt2):
    return tiny_gpt2.tokenize(TEXTS)


def point(dictionary, method, k, l0, recovered):
    return CodingPoint(dictionary, method, k, l0, recovered, 0.1, 2.0, 0.9, 0.9, 1.0, 0.0)


def by_hand():
    points = [
        point("high", "encoder", None, 8.0, 0.7),
        point("low", "encoder", None, 3.0, 0.6),
        *(point("high", "gradient", k, float(k), value) for k, value in ((1, 0.2), (2, 0.6), (4, 0.8), (8, 0.9))),
        *(point("low", "gradient", k, float(k), value) for k, value in ((4, 0.65), (2, 0.45))),
    ]
    return CodingStudy({"site": "resid_post.1", "ks": [1, 2, 4, 8]}, tuple(points))


def test_every_coder_is_measured_as_it_is_alone(tiny_gpt2, named, tokens):
    found = study_coding(tiny_gpt2, named, tokens[:2], KS, sample=tokens[2:], methods=EVERY)
    per_dictionary = [(method, k) for method in EVERY for k in ((None,) if method in study.ENCODERS else KS)]
    assert [(one.dictionary, one.method, one.k) for one in found.points] == [
        (name, *coded) for name in named for coded in per_dictionary
    ]
    dictionary = named["other"]
    alone = {
        "encoder": encoding_methods.encoded(dictionary),
        "top_k": encoding_methods.top_k(dictionary, 4),
        "refit": encoding_methods.refit(dictionary, 4),
        "gradient": encoding_methods.pursued(dictionary, 4),
        "orthogonal": encoding_methods.pursued(dictionary, 4, "orthogonal"),
    }
    for method, one in evaluate_methods(tiny_gpt2, alone, tokens[:2]).items():
        (same,) = [p for p in found.points if (p.dictionary, p.method) == ("other", method) and p.k in (None, 4)]
        assert (same.l0, same.loss_recovered, same.kl_spliced) == pytest.approx(
            (one.l0, one.loss_recovered, one.kl_spliced), rel=1e-5
        )


def test_factors_and_shifts_are_fitted_on_the_sample(tiny_gpt2, named, tokens):
    methods = ["rescaled", "shifted"]
    fitted, here = (
        study_coding(tiny_gpt2, named, tokens[:2], KS, sample=sample, methods=methods).points[:2]
        for sample in (tokens[2:], tokens[:2])
    )
    assert all(mine.explained_variance > other.explained_variance for mine, other in zip(here, fitted, strict=True))


def test_values_between_points_are_linear_in_l0():
    found = by_hand()
    assert found.dictionaries == ("low", "high")
    assert found.at("high", "gradient", 3.0) == pytest.approx(0.7)
    assert found.at("low", "gradient", 2.0) == 0.45
    assert found.at("low", "gradient", 8.0) is None
    assert found.at("low", "top_k", 2.0) is None


def test_decoders_are_compared_at_the_l0_that_each_was_trained_at():
    first, second = verdicts(by_hand())
    assert (first.own, first.l0, first.best) == ("low", 3.0, "high")
    assert first.recovered == {"low": pytest.approx(0.55), "high": pytest.approx(0.7)}
    assert (second.own, second.best, second.recovered) == ("high", "high", {"low": None, "high": 0.9})
    # A decoder whose own curve does not reach its own L0 cannot be judged there.
    shorter = replace(by_hand(), points=by_hand().points[:-2])
    assert [verdict.own for verdict in verdicts(shorter)] == ["high"]


def test_a_stopped_study_goes_on_to_the_same_result(tiny_gpt2, named, tokens, tmp_path, monkeypatch):
    whole = study_coding(tiny_gpt2, named, tokens, KS, methods=["encoder", "top_k"], folder=tmp_path / "whole")
    assert load_study(tmp_path / "whole") == whole
    calls = []

    def counted(*arguments, **options):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return evaluate_methods(*arguments, **options)

    monkeypatch.setattr(study, "evaluate_methods", counted)
    with pytest.raises(KeyboardInterrupt):
        study_coding(tiny_gpt2, named, tokens, KS, methods=["encoder", "top_k"], folder=tmp_path / "top_k")
    assert load_study(tmp_path / "top_k").points == whole.points[:4]
    monkeypatch.setattr(study, "evaluate_methods", lambda *a, **o: calls.append(1) or evaluate_methods(*a, **o))
    assert study_coding(tiny_gpt2, named, tokens, KS, methods=["encoder", "top_k"], folder=tmp_path / "top_k") == whole
    assert len(calls) == 4


def test_a_folder_of_another_study_is_refused(tiny_gpt2, named, tokens, tmp_path):
    study_coding(tiny_gpt2, named, tokens, KS, methods=["encoder"], folder=tmp_path)
    with pytest.raises(UsageError, match=r"another study \(other rows, tokens, text\)"):
        study_coding(tiny_gpt2, named, tokens[:2], KS, methods=["encoder"], folder=tmp_path)
    other = named | {"one": random_dictionary(named["one"].site, 9)}
    with pytest.raises(UsageError, match=r"other dictionaries\)"):
        study_coding(tiny_gpt2, other, tokens, KS, methods=["encoder"], folder=tmp_path)
    with torch.no_grad():
        tiny_gpt2.hf.transformer.h[0].mlp.c_fc.weight[20:] *= 1.5
    with pytest.raises(UsageError, match=r"other weights_sha256\)"):
        study_coding(tiny_gpt2, named, tokens, KS, methods=["encoder"], folder=tmp_path)


def test_a_study_that_does_not_know_its_weights_is_read_and_not_gone_on_with(tiny_gpt2, named, tokens, tmp_path):
    found = study_coding(tiny_gpt2, named, tokens, KS, methods=["encoder"])
    settings = {name: value for name, value in found.settings.items() if name != "weights_sha256"}
    study.FORMAT.save(tmp_path / "results.json", Record(settings, found.points))
    assert load_study(tmp_path).points == found.points
    with pytest.raises(UsageError, match=r"holds another study \(other weights_sha256\)"):
        study_coding(tiny_gpt2, named, tokens, KS, methods=["encoder"], folder=tmp_path)


@pytest.mark.parametrize("damage", ['{"format": "x"}', "[]", '{"format": "gossamer.coding.1", "settings": {}}'])
def test_damaged_results_are_named(damage, tmp_path):
    (tmp_path / "results.json").write_text(damage)
    with pytest.raises(GossamerError, match=r"results\.json: expected a study of coding"):
        load_study(tmp_path)


def test_results_are_plain_json(tiny_gpt2, named, tokens, tmp_path):
    found = study_coding(tiny_gpt2, named, tokens, KS, methods=["top_k"], folder=tmp_path)
    written = json.loads((tmp_path / "results.json").read_text())
    assert [one["loss_recovered"] for one in written["rows"]] == [one.loss_recovered for one in found.points]
    assert written["settings"]["site"] == "resid_post.1"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dictionaries": {}}, "at least one dictionary expected, found none"),
        ({"ks": ()}, r"k from 1 to the 64 latents expected, found \[\]"),
        ({"ks": (0,)}, r"k from 1 to the 64 latents expected, found \[0\]"),
        ({"ks": (65,)}, r"k from 1 to the 64 latents expected, found \[65\]"),
        ({"ks": (2, 2)}, "each method and k once expected"),
        ({"methods": ("greedy",)}, "expected, found 'greedy'"),
        ({"methods": ("rescaled",)}, "rescaled is fitted .* give a sample"),
        ({"methods": ("shifted",)}, "shifted is fitted .* give a sample"),
    ],
)
def test_impossible_requests_are_refused(tiny_gpt2, named, tokens, changes, says):
    arguments = {"dictionaries": named, "ks": KS, "methods": ("top_k",)} | changes
    with pytest.raises(UsageError, match=says):
        study_coding(tiny_gpt2, arguments["dictionaries"], tokens, arguments["ks"], methods=arguments["methods"])


def test_dictionaries_of_two_sites_are_refused(tiny_gpt2, tokens):
    two = {str(site): random_dictionary(site, 0) for site in tiny_gpt2.sites("resid_post")[:2]}
    with pytest.raises(UsageError, match=r"one site expected, found resid_post\.0, resid_post\.1"):
        study_coding(tiny_gpt2, two, tokens, KS)


def _as_earlier(found, version):
    """The file of a study as versions 1 and 2 wrote it."""
    names = {"top_k": "cut", "refit": "reweighted"}
    rows = [{**asdict(point), "coder": names[point.method]} for point in found.points]
    for row in rows:
        del row["method"]
    settings = {**found.settings, "coders": [names[one] for one in found.settings["methods"]]}
    del settings["methods"]
    if version == 1:
        return {"format": "gossamer.coding.1", "settings": settings, "points": rows}
    body = {"settings": settings, "rows": rows}
    return {"format": "gossamer.coding.2", "sha256": digest(body), **body}


@pytest.mark.parametrize("version", [1, 2])
def test_a_study_of_an_earlier_version_loads_and_is_not_done_again(
    tiny_gpt2, named, tokens, tmp_path, monkeypatch, version
):
    found = study_coding(tiny_gpt2, named, tokens, KS, methods=["top_k", "refit"])
    (tmp_path / "results.json").write_text(json.dumps(_as_earlier(found, version)))
    assert load_study(tmp_path) == found
    monkeypatch.setattr(study, "evaluate_methods", None)
    assert study_coding(tiny_gpt2, named, tokens, KS, methods=["top_k", "refit"], folder=tmp_path) == found
