"""One call from text to dictionaries: stages are cached, kills are harmless, claims are measured."""

import json
from dataclasses import replace

import pytest
import torch
from training_fixtures import CONFIG, texts

from gossamer.dictionary import DictionarySet
from gossamer.dictionary.attach import attach
from gossamer.errors import UsageError
from gossamer.model import LanguageModel, Site
from gossamer.results.lock import folder_lock
from gossamer.training import pipeline, recipe_for, train_dictionaries, train_sets
from gossamer.training.config import DictionarySpec
from gossamer.training.dictionary_trainer import DictionaryTrainer
from gossamer.training.recipes import RECIPES, general
from gossamer.training.request import default_folder
from gossamer.training.sweep_specs import SweepSpec

SITES = [Site("resid_post", 1), Site("resid_post", 0)]
SMALL = replace(CONFIG, corpus=replace(CONFIG.corpus, sample_tokens=256, sample_batch=8, sample_prefix=4))


@pytest.fixture
def train(tiny_gpt2, tmp_path):
    def run(name="run", config=SMALL, given=None):
        return train_dictionaries(tiny_gpt2, given or texts(), SITES, config, tmp_path / name)

    return run


def _equal(one, other):
    return all(
        torch.equal(value, other[site].state_dict()[name])
        for site, dictionary in one.items()
        for name, value in dictionary.state_dict().items()
    )


def test_it_returns_a_set_that_says_what_it_does(tiny_gpt2, train, tmp_path):
    found = train()
    assert list(found) == sorted(SITES)
    tokens = tiny_gpt2.tokenize(texts(20), bos=True)
    assert all(attachment.reported.l0 is not None for attachment in attach(tiny_gpt2, found, tokens))
    training = found[SITES[0]].provenance["training"]
    assert training["config"]["trainer"]["objective"]["k"] == 6
    held_out = training["held_out"]
    model, spliced, mean = (held_out[f"ce_{name}"] for name in ("model", "spliced", "mean"))
    assert held_out["kl"] > 0
    assert held_out["ce_recovered"] == pytest.approx((mean - spliced) / (mean - model))
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "settings.json", "samples", "fit", "fitted", "finetune", "dictionaries",
    }  # fmt: skip


def test_a_second_call_reads_what_the_first_wrote(train, monkeypatch):
    first = train()
    for stage in ("sample_text", "fit", "finetune", "measure"):
        monkeypatch.setattr(pipeline, stage, None)
    assert _equal(train(), first)


def test_a_run_killed_in_the_fit_goes_on_to_the_same_dictionaries(train, monkeypatch):
    whole, original, calls = train("whole"), DictionaryTrainer.update, []

    def dying(self, *arguments):
        calls.append(1)
        if len(calls) > 2 * 10:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(DictionaryTrainer, "update", dying)
        with pytest.raises(KeyboardInterrupt):
            train("killed")
    assert _equal(train("killed"), whole)


def test_another_request_in_the_same_folder_is_refused(train, tiny_gpt2):
    train()
    with pytest.raises(UsageError, match=r"belongs to another training run \(seed: 0 there, 1 asked\)"):
        train(config=replace(SMALL, seed=1))
    with pytest.raises(UsageError, match=r"texts_sha256: \w{12}… there, \w{12}… asked"):
        train(given=texts()[::-1])
    with torch.no_grad():
        tiny_gpt2.hf.transformer.h[0].mlp.c_fc.weight[0, 0] += 1
    with pytest.raises(UsageError, match=r"weights_sha256: "):
        train()


def test_a_change_far_inside_a_weight_is_noticed(train, tiny_gpt2):
    train()
    with torch.no_grad():
        tiny_gpt2.hf.transformer.h[2].mlp.c_fc.weight[20:].zero_()
    with pytest.raises(UsageError, match=r"belongs to another training run \(weights_sha256: \w{12}… there"):
        train()


def test_a_folder_of_an_earlier_version_is_refused_in_its_own_words(train, tmp_path):
    train()
    path = tmp_path / "run" / "settings.json"
    stored = json.loads(path.read_text())["settings"]
    stored["model_sha256"] = stored.pop("weights_sha256")
    path.write_text(json.dumps(stored))
    with pytest.raises(UsageError, match="begun by an earlier version, which did not look at all"):
        train()


def test_a_folder_of_the_version_before_is_read(train, tmp_path):
    """Its settings were a bare object, without the model's dtype, which the hash of its weights knows."""
    found = train()
    path = tmp_path / "run" / "settings.json"
    stored = json.loads(path.read_text())["settings"]
    assert stored.pop("dtype") == "float32"
    path.write_text(json.dumps(stored))
    assert _equal(train(), found)
    assert json.loads(path.read_text()) == stored


def test_the_default_folder_knows_the_dtype_by_the_weights_alone_where_they_are_known():
    asked = {"weights_sha256": "abc", "seed": 0}
    assert default_folder("m", {**asked, "dtype": "bfloat16"}) == default_folder("m", asked)
    unknown = [default_folder("m", {"weights_sha256": None, "dtype": dtype}) for dtype in ("bfloat16", "float32")]
    assert unknown[0] != unknown[1]


def test_the_default_folder_is_in_the_cache(tiny_gpt2, tmp_path, monkeypatch):
    monkeypatch.setenv("GOSSAMER_CACHE", str(tmp_path / "cache"))
    found = train_dictionaries(tiny_gpt2, texts(), SITES, replace(CONFIG, finetune=replace(CONFIG.finetune, tokens=0)))
    (folder,) = (tmp_path / "cache" / "dictionaries").iterdir()
    assert _equal(DictionarySet.load(folder / "dictionaries"), found)
    assert not (folder / "finetune").exists()


def test_the_wrong_site_is_refused_before_any_work(tiny_gpt2, tmp_path):
    with pytest.raises(UsageError):
        train_dictionaries(tiny_gpt2, texts(), [Site("resid_post", 7)], CONFIG, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("site", ["q.1", "v.0", "pattern.2"])
def test_a_site_without_one_vector_a_token_is_refused_before_any_work(tiny_gpt2, tmp_path, site):
    unfit = replace(CONFIG, finetune=replace(CONFIG.finetune, tokens=0))
    with pytest.raises(UsageError, match=f"one vector a token, such as resid_post.3, .* found {site}"):
        train_dictionaries(tiny_gpt2, texts(), [Site.parse(site)], unfit, tmp_path)
    with pytest.raises(UsageError, match="one vector a token"):
        DictionarySpec("a transcoder", Site("mlp_in", 0), Site.parse(site))
    assert not list(tmp_path.iterdir())


def test_a_model_gets_the_recipe_of_its_name_or_one_in_proportion(tiny_gpt2):
    recipe = recipe_for(tiny_gpt2)
    assert recipe == general(tiny_gpt2)
    assert recipe.config.trainer.n_latents == 16 * tiny_gpt2.d_model
    assert all(0 <= layer < tiny_gpt2.n_layers for layer in recipe.layers)
    for name in RECIPES:
        named = LanguageModel(tiny_gpt2.hf, tiny_gpt2.tokenizer, f"/somewhere/{name}", tiny_gpt2.family)
        assert recipe_for(named) is RECIPES[name]


def test_a_run_that_was_refused_keeps_no_mended_one_out(train, tmp_path):
    with pytest.raises(UsageError, match="give some text"):
        train(given=["Mary went"])
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {"settings.json", "samples"}
    train()


def test_two_runs_in_one_folder_are_refused(train, tmp_path):
    with folder_lock(tmp_path / "run"), pytest.raises(UsageError, match="run: another process is at work there"):
        train()


def test_settings_of_another_program_are_left_alone(train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_text("[1]")
    with pytest.raises(UsageError, match=r"expected the settings of a training run .*, found something else"):
        train()
    assert (tmp_path / "run" / "settings.json").read_text() == "[1]"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"plans": []}, "at least one site and one plan, found 2 and 0"),
        (
            {"plans": [SweepSpec("a", SMALL.trainer, 0), SweepSpec("a", SMALL.trainer, 1)]},
            "different names, found a, a",
        ),
        ({"also": ["paper"]}, "metrics: expected tensorboard or wandb, found 'paper'"),
    ],
)
def test_impossible_sets_are_refused_before_any_work(tiny_gpt2, tmp_path, changes, expected):
    asked = {"plans": [SweepSpec("", SMALL.trainer, 0)], **changes}
    with pytest.raises(UsageError, match=expected):
        train_sets(tiny_gpt2, texts(), SITES, SMALL, folder=tmp_path, **asked)
    assert not list(tmp_path.iterdir())


def test_sites_may_be_names(tiny_gpt2, train, tmp_path):
    found = train()
    # The same request, so that everything is read instead of trained.
    again = train_dictionaries(tiny_gpt2, texts(), [str(site) for site in SITES], SMALL, tmp_path / "run")
    assert list(again) == list(found)
    assert _equal(again, found)
