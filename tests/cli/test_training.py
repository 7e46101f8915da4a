"""`gossamer train` and `gossamer compare-recipes`: what they take, write and refuse."""

import json
import re

import pytest
from word_model import NAMES

from gossamer.dictionary import DictionarySet
from gossamer.dictionary.training_prompts import text_digest
from gossamer.training import CorpusConfig, DictionaryTrainerConfig, FinetuneConfig, FitConfig, Recipe, TrainingConfig
from gossamer.training.objectives import BatchTopK


def test_ablate_writes_results_table_and_pictures(gossamer, tiny, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(
        "\n\n".join(f"{a} and Amy went to the store and Amy gave {a} a book" for a in ("Mary", "John", "Tom") * 60)
    )
    asked = ["compare-recipes", tiny, "--text", text, "--out", tmp_path / "out", "--tokens", "1024"]
    refused = gossamer(*asked, "--coefficients", "0.3;1")
    assert refused.code == 2
    # Saving the model above wrote its own progress first.
    assert refused.err.endswith(
        "\nerror: --coefficients: expected numbers separated by commas, as 0.3,1,3, found '0.3;1'\n"
    )
    done = gossamer(*asked, "--latents", "16", "--coefficients", "0.3", "--seeds", "1", "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["site"] == "resid_post.1"
    assert {one["variant"] for one in facts["trained"]} >= {"baseline", "all together", "resampling", "ghost"}
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"results.json", "table.md", "improvements.png", "dead-latents.png", "fit-0"}


def _stories(folder):
    text = folder / "text.txt"
    text.write_text(
        "\n\n".join(f"{a} and {b} went to the store" for a in ("Mary", "John", "Tom") for b in ("Amy", "Ben")) * 9
    )
    return text


def test_train_makes_dictionaries_that_check_accepts(monkeypatch, gossamer, tiny, tmp_path):
    text = _stories(tmp_path)
    config = TrainingConfig(
        CorpusConfig(context=8, held_out=0.2),
        DictionaryTrainerConfig(n_latents=32, objective=BatchTopK(k=4)),
        FitConfig(tokens=640, batch=64, buffer=128, sensitivity_rows=8),
        FinetuneConfig(tokens=0),
    )
    monkeypatch.setattr("gossamer.training.recipe_for", lambda model: Recipe((0, 1), config))
    trained = gossamer("train", tiny, "--text", text, "--layers", "1", "--out", tmp_path / "out", "--json")
    assert trained.code == 0, trained.err
    facts = json.loads(trained.out)
    assert list(facts["sites"]) == ["resid_post.1"]
    checked = gossamer("check", tiny, "-d", facts["folder"], "--text", text, "--json")
    # Whole texts are longer than the rows of eight tokens that ten steps learned from: L0 is of the same size.
    assert json.loads(checked.out)["resid_post.1"]["l0"] == pytest.approx(facts["sites"]["resid_post.1"]["l0"], rel=0.8)
    again = gossamer("train", tiny, "--text", text, "--layers", "1", "--out", tmp_path / "out")
    assert "resid_post.1" in again.out
    assert gossamer("train", tiny, "--text", text, "--out", tmp_path / "out").code == 2


@pytest.mark.parametrize(("given", "expected"), [((), 250_000), (("--finetune-tokens", "0"), 0)])
def test_fine_tuning_is_as_long_as_asked_or_in_proportion(monkeypatch, gossamer, tiny, tmp_path, given, expected):
    text = tmp_path / "text.txt"
    text.write_text("Mary and John went to the store")
    config = TrainingConfig(fit=FitConfig(tokens=1024), finetune=FinetuneConfig(tokens=500_000))
    seen = []
    monkeypatch.setattr("gossamer.training.recipe_for", lambda model: Recipe((0, 1), config))
    monkeypatch.setattr("gossamer.training.train_sets", lambda *asked, **more: seen.append(asked[3]) or {})
    gossamer("train", tiny, "--text", text, "--tokens", "512", *given)
    assert (seen[0].fit.tokens, seen[0].finetune.tokens) == (512, expected)


def test_train_takes_several_settings_at_once_and_a_cache(monkeypatch, gossamer, tiny, tmp_path):
    text = _stories(tmp_path)
    config = TrainingConfig(
        CorpusConfig(context=8, held_out=0.2), fit=FitConfig(tokens=640, batch=64, buffer=128, sensitivity_rows=8)
    )
    monkeypatch.setattr("gossamer.training.recipe_for", lambda model: Recipe((0, 1), config))
    settings = ["--objective", "topk,gated", "--n-latents", "32", "--k", "2,4", "--seeds", "5", "--tokens", "320"]
    settings += ["--batch", "32", "--accumulate", "2", "--learning-rate", "0.01", "--encoder-scale", "0.5"]
    settings += ["--cache", tmp_path / "cache"]
    command = ["train", tiny, "--text", text, "--out", tmp_path / "out", "--sites", "mlp_out.1"]
    trained = gossamer(*command, *settings, "--json")
    assert trained.code == 0, trained.err
    sets = json.loads(trained.out)["sets"]
    assert [one["name"] for one in sets] == ["topk-32-k2-seed5", "topk-32-k4-seed5", "gated-32-penalty1-seed5"]
    assert all(list(one["sites"]) == ["mlp_out.1"] for one in sets)
    assert sets[0]["sites"]["mlp_out.1"]["l0"] <= 2
    optimised = json.loads((tmp_path / "out" / "settings.json").read_text())["settings"]["plans"][0]["trainer"]
    assert (optimised["encoder_scale"], optimised["optimiser"]["learning_rate"]) == (0.5, 0.01)
    assert (tmp_path / "cache" / "manifest.json").is_file()
    for incorrect, said in (
        (["--layers", "1"], "--layers and --sites"),
        (["--n-latents", "many"], "--n-latents: expected numbers"),
        (["--objective", "l2"], "objective: expected one of batchtopk"),
        (["--format", "sparsify"], "sparsify holds topk only"),
    ):
        refused = gossamer(*command, *incorrect)
        assert refused.code == 2
        assert said in refused.err


def test_train_makes_transcoders(monkeypatch, gossamer, tiny, tmp_path):
    text = _stories(tmp_path)
    config = TrainingConfig(
        CorpusConfig(context=8, held_out=0.2),
        DictionaryTrainerConfig(n_latents=32, objective=BatchTopK(k=4)),
        FitConfig(tokens=640, batch=64, buffer=128, sensitivity_rows=8),
    )
    monkeypatch.setattr("gossamer.training.recipe_for", lambda model: Recipe((0, 1), config))
    command = ["train", tiny, "--text", text, "--out", tmp_path / "out"]
    asked = [*command, "--sites", "mlp_in.1,mlp_in.0", "--sites-out", "mlp_out.1,mlp_out.0"]
    trained = gossamer(*asked, "--json")
    assert trained.code == 0, trained.err
    facts = json.loads(trained.out)
    assert list(facts["sites"]) == ["mlp_in.0", "mlp_in.1"]
    written = json.loads((tmp_path / "out" / "transcoders" / "mlp_in.1" / "cfg.json").read_text())
    assert (written["architecture"], facts["folder"]) == ("jumprelu_transcoder", str(tmp_path / "out" / "transcoders"))
    assert "mlp_in.1 > mlp_out.1" in gossamer(*asked).out
    for incorrect, said in (
        (["--sites", "mlp_in.1", "--sites-out", "mlp_out.1,mlp_out.0"], "--sites-out: one for each of --sites"),
        (["--sites-out", "mlp_out.1"], "one for each of --sites expected, found 1 for 0"),
        (["--sites", "mlp_in.1,mlp_in.1", "--sites-out", "mlp_out.1,mlp_out.0"], "--sites: each once expected"),
        (["--sites", "mlp_in.1", "--sites-out", "mlp_in.1"], "another site_out than the site mlp_in.1"),
        (["--sites", "mlp_in.1", "--sites-out", "mlp_out"], "'mlp_out' is no site"),
        ([*asked[len(command) :], "--finetune-tokens", "64"], "--finetune-tokens: transcoders are not fine-tuned"),
        (
            [*asked[len(command) :], "--format", "sparsify"],
            "--format: transcoders are saved as saelens, topk ones as sparsify",
        ),
        ([*asked[len(command) :], "--objective", "gated"], "no format holds gated transcoders"),
    ):
        refused = gossamer(*command, *incorrect)
        assert refused.code == 2
        assert said in refused.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("incorrect", "said"),
    [
        (("--tokens", "0"), "tokens of at least one batch"),
        (("--tokens", "-3"), "tokens of at least one batch"),
        (("--batch", "0"), "batch of at least 1, found 0"),
        (("--accumulate", "0"), "accumulate from 1"),
        (("--learning-rate", "0"), "a positive learning_rate, found 0.0"),
        (("--encoder-scale", "0"), "a positive encoder_scale, found 0.0"),
        (("--learning-rate", "inf"), "learning_rate to be a finite number"),
        (("--finetune-tokens", "-1"), "tokens of the fine-tuning of at least 0"),
        (("--objective", ""), "objective: expected one of batchtopk"),
        (("--n-latents", ""), "--n-latents: expected numbers"),
        (("--k", ""), "--k: expected numbers"),
        (("--k", "0"), "k of at least 1, found 0"),
        (("--k", "99999"), "k from 1 to n_latents"),
        (("--objective", "l1", "--penalty", ""), "--penalty: expected numbers"),
        (("--objective", "l1", "--penalty", "inf"), "coefficient to be a finite number"),
        (("--objective", "jumprelu_quadratic", "--l0", "-1"), "a positive target"),
        (("--l0", "8"), "l0: none of the objectives asked for has one"),
        (("--seeds", "0,0"), "each setting once"),
        (("--sites", ""), "'' is no site"),
        (("--metrics", "paper"), "metrics: expected tensorboard or wandb, found 'paper'"),
        (("--cache", "FILE"), "cannot be written"),
        (("--out", "FILE"), "cannot be written"),
    ],
)
def test_train_refuses_what_cannot_be_meant_and_leaves_nothing(gossamer, tiny, tmp_path, monkeypatch, incorrect, said):
    text = tmp_path / "text.txt"
    text.write_text("Mary and John went to the store")
    given = [text if word == "FILE" else word for word in incorrect]
    refused = gossamer("train", tiny, "--text", text, "--out", tmp_path / "out", *given)
    assert refused.code == 2
    assert said in refused.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_train_reaches_for_the_l0_that_is_asked_for(monkeypatch, gossamer, tiny, tmp_path):
    text, seen = tmp_path / "text.txt", []
    text.write_text("Mary and John went to the store")
    monkeypatch.setattr("gossamer.training.train_sets", lambda *asked, **more: seen.append(asked[4]) or {})
    gossamer("train", tiny, "--text", text, "--objective", "jumprelu_quadratic", "--l0", "8,16.5")
    assert [plan.trainer.objective.target for plan in seen[0]] == [8, 16.5]


def test_ablate_refuses_a_folder_that_is_a_file_before_any_work(monkeypatch, gossamer, tiny, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Mary and John went to the store")
    monkeypatch.setattr("gossamer.cli.inputs.language_model", None)
    refused = gossamer("compare-recipes", tiny, "--text", text, "--out", text)
    assert refused.code == 2
    assert "text.txt: cannot be written" in refused.err


def test_train_takes_rows_tokens_and_a_buffer_and_evaluate_follows(monkeypatch, gossamer, tiny, tmp_path):
    """What is left out in training is recorded, and left out again when the dictionaries are measured."""
    text = _stories(tmp_path)
    config = TrainingConfig(
        CorpusConfig(context=16, held_out=0.2),
        DictionaryTrainerConfig(n_latents=32, objective=BatchTopK(k=4)),
        FitConfig(tokens=640, batch=64, buffer=1024, sensitivity_rows=8),
        FinetuneConfig(tokens=0),
    )
    monkeypatch.setattr("gossamer.training.recipe_for", lambda model: Recipe((0, 1), config))
    asked = ("train", tiny, "--text", text, "--layers", "1", "--out", tmp_path / "out")
    chosen = ("--context", "8", "--bos", "--buffer", "128", "--sensitivity", "0.5", "--sensitivity-rows", "4")
    done = gossamer(*asked, *chosen, "--positions", "3:", "--leave-out-special", "--leave-out-louder", "50", "--json")
    assert done.code == 0, done.err
    # Standard error is no terminal here: the cost, then what is being done.
    assert "\ntraining 1 dictionary on 640 tokens of tiny: about " in f"\n{done.err}"
    training = json.loads((tmp_path / "out/dictionaries/resid_post.1/cfg.json").read_text())["metadata"]
    assert training["token_mask"] == {
        "special": False, "positions": [3, None], "loud": {"site": "resid_post.1", "ratio": 50.0},
    }  # fmt: skip
    used = training["config"]
    assert (used["corpus"]["context"], used["corpus"]["bos"]) == (8, 1.0)
    assert (used["fit"]["buffer"], used["fit"]["sensitivity_rows"]) == (128, 4)
    assert used["trainer"]["sensitivity"] == 0.5
    measure = ("evaluate", tiny, "-d", json.loads(done.out)["folder"], "--text", text, "--rows", "4", "--context", "8")
    own, given, other = (
        re.search(r"(\d+) tokens", gossamer(*measure, *more).out)[1]
        for more in (("--bos",), ("--bos", "--positions", "3:"), ("--bos", "--positions", "5:"))
    )
    # Of seven words and BOS five are from position 3 on.
    assert (own, given, other) == ("20", "20", "12")
    refused = gossamer(*measure, "--positions", "x")
    assert refused.err.endswith("error: --positions: START:STOP expected, as 1: or :-5, found 'x'\n")


def test_train_fine_tunes_finished_dictionaries_on_a_task(monkeypatch, gossamer, tiny, tmp_path):
    text, prompts = _stories(tmp_path), tmp_path / "prompts.jsonl"
    rows = [
        {"clean": f"One day {a} met {b} . Then {b} gave a ball to", "counterfactual": f"One day {a} met {b} . Then {a} "
         "gave a ball to", "answer": f" {a}", "wrong": f" {b}", "case": "ABBA_gave"}
        for a in NAMES for b in NAMES if a != b
    ]  # fmt: skip
    prompts.write_text("\n".join(map(json.dumps, rows)))
    config = TrainingConfig(
        CorpusConfig(context=8, held_out=0.2),
        DictionaryTrainerConfig(n_latents=32, objective=BatchTopK(k=4)),
        FitConfig(tokens=640, batch=64, buffer=128, sensitivity_rows=8),
        FinetuneConfig(tokens=256, rows=4),
    )
    monkeypatch.setattr("gossamer.training.recipe_for", lambda model: Recipe((0, 1), config))
    asked = ("train", tiny, "--text", text, "--json")
    sites = ("--sites", "resid_post.0,attn_out.1")
    made = gossamer(*asked, *sites, "--end-to-end", "--out", tmp_path / "made")
    assert made.code == 0, made.err
    source = json.loads(made.out)["folder"]
    said = DictionarySet.load(source)["attn_out.1"].provenance["training"]["finetuned"]
    # 5 % of 640 tokens: one step, which balances the loss.
    assert [one["config"]["tokens"] for one in said] == [32]
    assert said[0]["config"]["thresholds"] == "spliced"
    assert set(said[0]["loss_weights"]) == {"logit_error", "reconstruction"}
    more = ("--task", prompts, "--prompt-share", "0.5", "--finetune-tokens", "512", "--out", tmp_path / "tuned")
    more += ("--similar-words", "3", "--split-by", "word", "--finetune-k", "6,3", "--thresholds", "spliced")
    more += ("--finetune-learning-rate", "0.0002")
    tuned = gossamer(*asked, "--from", source, *more)
    assert tuned.code == 0, tuned.err
    said = DictionarySet.load(json.loads(tuned.out)["folder"])["attn_out.1"].provenance["training"]["finetuned"]
    assert said[1]["prompts"]["tasks"] == ["prompts"]
    assert said[1]["config"]["prompt_share"] == 0.5
    assert said[1]["config"]["tokens"] == 512
    assert (said[1]["config"]["k"], said[1]["k"], said[1]["config"]["thresholds"]) == ([6, 3], 3, "spliced")
    assert len(said[1]["prompts"]["similar_words"]) == 3
    # Divided by word: of some names both texts of every pair are learned from, of the others none.
    digests = set(said[1]["prompts"]["texts_sha256"])
    learned = [[text_digest(row["clean"]) in digests for row in rows if name in row["clean"]] for name in NAMES]
    count = sum(map(any, learned))
    assert 0 < count < len(NAMES)
    assert len(digests) == 2 * count * (count - 1)


@pytest.mark.parametrize(
    ("incorrect", "said"),
    [
        (("--from", "FOLDER", "--k", "4"), "--k: nothing is fitted with --from; leave it out"),
        (("--from", "FOLDER", "--tokens", "4"), "--tokens: nothing is fitted with --from; leave it out"),
        (("--from", "FOLDER", "--control", "random-model"), "--control: nothing is fitted with --from"),
        (("--sites", "mlp_in.1", "--sites-out", "mlp_out.1", "--task", "ioi"), "--sites-out: transcoders are not"),
        (("--from", "nowhere"), "nowhere: no such file or folder"),
        (("--task", "ioj"), "task: expected one of ioi"),
        (("--prompts", "12"), "--prompts: for prompts of --task"),
        (
            ("--task", "ioi", "--finetune-tokens", "0"),
            "--task: it is for the fine-tuning; leave out --finetune-tokens 0",
        ),
        (("--similar-words", "12"), "--similar-words: for prompts of --task"),
        (("--task", "ioi", "--similar-words", "1"), "--similar-words: at least 2 expected, found 1"),
        (("--finetune-k", "8", "--finetune-tokens", "0"), "--finetune-k: it is for the fine-tuning; leave out"),
        (("--finetune-learning-rate", "1e-4", "--finetune-tokens", "0"), "--finetune-learning-rate: it is for the"),
        (("--finetune-learning-rate", "0"), "expected a positive learning_rate of the fine-tuning, found 0.0"),
        (("--finetune-k", "x"), "--finetune-k: expected numbers as 2,4,6, found 'x'"),
        (("--task", "ioi", "--prompt-share", "1"), "--prompt-share: a share between 0 and 1 expected, found 1.0"),
    ],
)
def test_train_refuses_a_fine_tuning_that_cannot_be_meant(gossamer, tiny, tmp_path, incorrect, said):
    text = _stories(tmp_path)
    given = [tiny if word == "FOLDER" else word for word in incorrect]
    refused = gossamer("train", tiny, "--text", text, "--out", tmp_path / "out", *given)
    assert refused.code == 2
    assert said in refused.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
