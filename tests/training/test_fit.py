"""Training on reconstruction: it learns, resumes exactly, revives dead latents, refuses nonsense."""

from dataclasses import replace

import pytest
import torch
from training_fixtures import CONFIG, plans, texts, with_fit

from gossamer.activations.corpus import Corpus, split_texts
from gossamer.errors import GossamerError, NotFiniteError, UsageError
from gossamer.model import Site
from gossamer.training import checkpoint, chosen, metrics
from gossamer.training.buffer import OnTheFly
from gossamer.training.dictionary_trainer import DictionaryTrainer
from gossamer.training.fit import fit
from gossamer.training.objectives import BatchTopK, TopK

SITES = [Site("resid_post", 0), Site("resid_post", 1)]


@pytest.fixture
def corpus(tiny_gpt2):
    return Corpus.build(tiny_gpt2, *split_texts(texts(), CONFIG.corpus, seed=0), CONFIG.corpus, seed=0)


@pytest.fixture
def train(tiny_gpt2, corpus, tmp_path):
    def run(name="run", config=CONFIG.fit, **changes):
        found = fit(tiny_gpt2, corpus, plans(SITES, **changes), config, tmp_path / name, seed=0)
        return {site: found[str(site)] for site in SITES}

    return run


def _equal(one, other):
    return all(torch.equal(one.state_dict()[name], value) for name, value in other.state_dict().items())


class _KilledError(Exception):
    pass


def _kill_at(monkeypatch, step):
    """Make the first site's trainer die at its step number `step`, as a killed process would."""
    original, calls = DictionaryTrainer.update, []

    def dying(self, *arguments):
        if self.plan.site == SITES[0]:
            calls.append(1)
            if len(calls) > step:
                raise _KilledError
        return original(self, *arguments)

    monkeypatch.setattr(DictionaryTrainer, "update", dying)


@pytest.mark.parametrize(
    ("objective", "sensitivity", "architecture"),
    [(BatchTopK(k=6), 0.0, "batchtopk"), (BatchTopK(k=6), 0.9, "jumprelu"), (TopK(k=6), 0.0, "topk")],
)
def test_it_learns_to_reconstruct_with_k_active_latents(train, objective, sensitivity, architecture, tmp_path):
    trained = train(config=with_fit(tokens=64 * 80), objective=objective, sensitivity=sensitivity)
    lines = metrics.read(tmp_path / "run")
    first, last = (next(line for line in order if line["site"] == "resid_post.1") for order in (lines, lines[::-1]))
    assert last["explained_variance"] > max(0.5, first["explained_variance"])
    assert last["l0"] == pytest.approx(6, abs=0.5)
    assert set(last) >= {
        "step",
        "site",
        "loss",
        "auxiliary_loss",
        "explained_variance",
        "l0",
        "dead",
        "tokens_per_second",
    }
    dictionary = trained[SITES[1]]
    assert dictionary.architecture == architecture
    torch.testing.assert_close(dictionary.W_dec.norm(dim=1), torch.ones(64))


def test_the_dictionary_works_on_raw_activations(tiny_gpt2, corpus, train):
    trained = train(config=with_fit(tokens=64 * 80))
    tokens = corpus.training[:20]
    x = tiny_gpt2.capture(tokens, SITES)[SITES[1]][tokens.mask & (tokens.ids != 0)]
    error = (x - trained[SITES[1]](x)).square().sum() / (x - x.mean(0)).square().sum()
    assert error < 0.5
    assert 2 < trained[SITES[1]].encode(x).l0.float().mean() < 18


@pytest.mark.parametrize("killed_at", [3, 7, 18, 39])
def test_a_killed_run_resumes_to_exactly_the_uninterrupted_one(train, tmp_path, monkeypatch, killed_at):
    whole = train("whole")
    with monkeypatch.context() as patch:
        _kill_at(patch, killed_at)
        with pytest.raises(_KilledError):
            train("killed")
    assert not list((tmp_path / "killed").glob(".*"))
    resumed = train("killed")
    assert all(_equal(resumed[site], whole[site]) for site in SITES)

    def numbers(name):
        return [{**line, "tokens_per_second": 0} for line in metrics.read(tmp_path / name)]

    assert numbers("killed") == numbers("whole")


def test_a_finished_run_is_not_repeated(train, monkeypatch):
    whole = train()
    _kill_at(monkeypatch, 0)
    assert _equal(train()[SITES[0]], whole[SITES[0]])


def test_other_settings_in_the_same_folder_are_refused(train):
    train()
    with pytest.raises(UsageError, match=r"plans\.0\.trainer\.objective\.k: 6 there, 5 asked"):
        train(objective=BatchTopK(k=5))


def test_a_damaged_checkpoint_is_named(train, tmp_path):
    train()
    path = tmp_path / "run" / checkpoint.FILE
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(GossamerError, match=r"checkpoint\.safetensors.*damage"):
        train()


def test_half_a_line_of_metrics_is_dropped(train, tmp_path):
    train()
    before = metrics.read(tmp_path / "run")
    with (tmp_path / "run" / metrics.FILE).open("a") as file:
        file.write('{"step": 40, "lo')
    train()
    assert metrics.read(tmp_path / "run") == before


def test_a_nan_in_the_activations_stops_at_once_and_names_the_site(tiny_gpt2, train, tmp_path):
    with torch.no_grad():
        tiny_gpt2.hf.transformer.h[1].mlp.c_proj.bias[3] = float("nan")
    with pytest.raises(NotFiniteError, match=r"activations at resid_post\.1"):
        train()
    assert not (tmp_path / "run" / checkpoint.FILE).exists()


def test_a_nan_in_the_loss_stops_at_once_and_names_the_site(train, monkeypatch):
    monkeypatch.setattr(chosen, "reconstruct", lambda x, *rest: x * float("nan"))
    with pytest.raises(NotFiniteError, match=r"training loss at resid_post\.0"):
        train()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"tokens": 3}, "at least one batch"),
        ({"buffer": 3}, "buffer of at least one batch"),
    ],
)
def test_impossible_settings_are_refused(settings, expected):
    with pytest.raises(UsageError, match=expected):
        with_fit(**settings)


def test_a_batch_larger_than_a_buffer_can_be_is_refused(train):
    with pytest.raises(UsageError, match="less than a batch"):
        train(config=with_fit(batch=256))


def test_no_site_is_refused(tiny_gpt2, corpus, tmp_path):
    with pytest.raises(UsageError, match="no site"):
        fit(tiny_gpt2, corpus, [], CONFIG.fit, tmp_path, seed=0)


def test_a_short_run_captures_no_more_than_it_learns_from_and_calibrates_on(tiny_gpt2, corpus):
    config = with_fit(tokens=64 * 40, buffer=131_072)
    short = OnTheFly(tiny_gpt2, corpus, SITES, config, seed=0).turn(0).tokens
    assert 64 * 40 + 2048 <= short < 1.1 * (64 * 40 + 2048 + 64)
    again = OnTheFly(tiny_gpt2, corpus, SITES, replace(config, reuse=2), seed=0).turn(0).tokens
    assert 64 * 20 + 2048 <= again < 1.1 * (64 * 20 + 2048 + 64)
