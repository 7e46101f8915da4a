"""The loop: many dictionaries at once, any source, parts of a batch, half precision, other places for metrics."""

import importlib.util
from dataclasses import replace

import pytest
import torch
from training_fixtures import CONFIG, plans, texts, with_fit

from gossamer.activations.corpus import Corpus, split_texts
from gossamer.errors import NotFiniteError, UsageError
from gossamer.model import Site
from gossamer.results.lock import folder_lock
from gossamer.sparse.backend import has_sparse_products
from gossamer.training import chosen, loggers, metrics
from gossamer.training.checks import TrainingWarning
from gossamer.training.config import DictionarySpec
from gossamer.training.dictionary_trainer import DictionaryTrainer
from gossamer.training.fit import fit, fit_tensors
from gossamer.training.objectives import L1, AuxK, BatchTopK, Matryoshka, TopK
from gossamer.training.tensors import require_tensor

SITE, OTHER = Site("resid_post", 0), Site("resid_post", 1)
EVEN = replace(CONFIG.trainer, sensitivity=0.0, objective=TopK(k=6, aux=AuxK(k=8)))
SEVERAL = [
    DictionarySpec("wide", SITE, None, replace(EVEN, n_latents=96)),
    DictionarySpec("other seed", SITE, None, EVEN, seed=3),
    DictionarySpec("penalty", OTHER, None, replace(EVEN, objective=L1())),
    DictionarySpec("transcoder", SITE, OTHER, EVEN),
]


@pytest.fixture
def x():
    return torch.randn(500, 8, generator=torch.Generator().manual_seed(0))


def _equal(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_dictionaries_trained_together_are_those_trained_alone(tiny_gpt2, tmp_path):
    corpus = Corpus.build(tiny_gpt2, *split_texts(texts(), CONFIG.corpus, seed=0), CONFIG.corpus, seed=0)
    together = fit(tiny_gpt2, corpus, SEVERAL, with_fit(), tmp_path / "all", seed=0)
    assert list(together) == [plan.name for plan in SEVERAL]
    for plan in SEVERAL:
        alone = fit(tiny_gpt2, corpus, [plan], with_fit(), tmp_path / plan.name, seed=0)
        assert _equal(alone[plan.name], together[plan.name])
    lines = [line for line in metrics.read(tmp_path / "all") if line["name"] == "transcoder"]
    assert lines[-1]["explained_variance"] > lines[0]["explained_variance"] + 0.2
    assert together["transcoder"].site_out == OTHER


def test_a_users_own_activations_need_no_model(x, tmp_path):
    asked = with_fit(tokens=64 * 200)
    found = fit_tensors({SITE: x.double()}, plans([SITE], sensitivity=0.0), asked, tmp_path)[str(SITE)]
    first, last = metrics.read(tmp_path)[0], metrics.read(tmp_path)[-1]
    assert last["loss"] < 0.8 * first["loss"]
    assert found.model_name is None
    error = (x - found(x)).square().sum() / (x - x.mean(0)).square().sum()
    assert error == pytest.approx(1 - last["explained_variance"], abs=0.03)
    assert error < 0.3


@pytest.mark.parametrize(
    ("activations", "expected"),
    [
        ({}, "found none"),
        ({SITE: torch.zeros(3, 2), OTHER: torch.zeros(4, 2)}, "the same tokens at every site"),
        ({OTHER: torch.randn(500, 8)}, r"no activations at resid_post\.0; found resid_post\.1"),
        ({SITE: torch.ones(500, 8)}, "all equal"),
        ({SITE: torch.randn(20, 8)}, "20 activations at a time are less than a batch of 64"),
    ],
)
def test_activations_that_cannot_be_learned_from_are_refused(activations, expected, tmp_path):
    with pytest.raises(UsageError, match=expected):
        fit_tensors(activations, plans([SITE], sensitivity=0.0), with_fit(), tmp_path)


def test_a_nan_in_the_users_activations_is_named(x, tmp_path):
    x[3, 4] = float("nan")
    with pytest.raises(NotFiniteError, match=r"activations at resid_post\.0: .*\(3, 4\)"):
        fit_tensors({SITE: x}, plans([SITE], sensitivity=0.0), with_fit(), tmp_path)


def test_two_of_one_name_and_a_sensitivity_without_a_model_are_refused(x, tmp_path):
    with pytest.raises(UsageError, match="two dictionaries named"):
        fit_tensors({SITE: x}, plans([SITE, SITE], sensitivity=0.0), with_fit(), tmp_path)
    with pytest.raises(UsageError, match="sensitivity needs the model"):
        fit_tensors({SITE: x}, plans([SITE], sensitivity=0.5), with_fit(), tmp_path)


@pytest.mark.parametrize("objective", [TopK(k=6, aux=AuxK(k=8)), L1()])
def test_parts_of_a_batch_make_the_same_step_as_the_whole(x, tmp_path, objective):
    asked = plans([SITE], sensitivity=0.0, objective=objective)
    whole, parts = (
        fit_tensors({SITE: x}, asked, with_fit(accumulate=count), tmp_path / str(count))[str(SITE)] for count in (1, 3)
    )
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_batchtopk_selects_within_a_part(x, tmp_path):
    """k holds on average over every part, so that parts of one token are TopK."""
    asked = {
        name: plans([SITE], sensitivity=0.0, objective=objective)
        for name, objective in (("batchtopk", BatchTopK(k=6)), ("topk", TopK(k=6)))
    }
    learned = {
        name: fit_tensors({SITE: x}, one, with_fit(accumulate=64, tokens=64 * 5), tmp_path / name)[str(SITE)]
        for name, one in asked.items()
    }
    torch.testing.assert_close(learned["batchtopk"].W_dec, learned["topk"].W_dec, rtol=1e-3, atol=1e-4)


def _halved(x, objective, folder):
    """The last loss with autocast and without."""
    asked = plans([SITE], sensitivity=0.0, objective=objective)
    found = fit_tensors({SITE: x}, asked, with_fit(autocast=True), folder / "half")[str(SITE)]
    assert found.W_enc.dtype == torch.float32
    fit_tensors({SITE: x}, asked, with_fit(), folder / "whole")
    return [metrics.read(folder / name)[-1]["loss"] for name in ("half", "whole")]


@pytest.mark.parametrize("objective", [TopK(k=6), BatchTopK(k=6), L1()])
def test_half_precision_learns_nearly_the_same_with_whole_parameters(x, tmp_path, objective, monkeypatch):
    monkeypatch.setattr(chosen, "has_sparse_products", lambda device: False)
    half, whole = _halved(x, objective, tmp_path)
    assert half == pytest.approx(whole, rel=0.05)
    assert half != whole


@pytest.mark.parametrize("objective", [TopK(k=6), BatchTopK(k=6), Matryoshka(k=6)])
def test_rules_that_look_for_the_largest_are_exact_in_half_precision(x, tmp_path, objective):
    if not has_sparse_products(x.device):
        pytest.skip("torch without MKL has no sparse products")
    half, whole = _halved(x, objective, tmp_path)
    assert half == whole


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"accumulate": 0}, "accumulate from 1"),
        ({"accumulate": 65}, "accumulate from 1"),
        ({"cache_dtype": "int8"}, "cache_dtype among"),
    ],
)
def test_impossible_settings_of_the_loop_are_refused(settings, expected):
    with pytest.raises(UsageError, match=expected):
        with_fit(**settings)


def test_weights_and_biases_gets_one_run(x, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.chdir(tmp_path)
    fit_tensors({SITE: x}, plans([SITE], sensitivity=0.0), with_fit(), tmp_path / "run", also=["wandb"])
    assert metrics.read(tmp_path / "run")


def test_metrics_elsewhere_are_refused_in_one_line_where_they_cannot_be(x, tmp_path):
    with pytest.raises(UsageError, match="expected tensorboard or wandb, found 'paper'"):
        fit_tensors({SITE: x}, plans([SITE], sensitivity=0.0), with_fit(), tmp_path, also=["paper"])
    for name in loggers.LOGGERS:
        if importlib.util.find_spec(name) is None:
            with pytest.raises(UsageError, match=f"metrics to {name}: the package is not installed"):
                fit_tensors({SITE: x}, plans([SITE], sensitivity=0.0), with_fit(), tmp_path, also=[name])


class _Kept:
    def __init__(self, folder):
        self.folder, self.records, self.closed = folder, [], False
        _Kept.last = self

    def write(self, records):
        self.records += records

    def close(self):
        self.closed = True


def test_other_sinks_get_what_metrics_jsonl_gets(x, tmp_path, monkeypatch):
    monkeypatch.setitem(loggers.LOGGERS, "kept", _Kept)
    fit_tensors({SITE: x}, plans([SITE], sensitivity=0.0), with_fit(), tmp_path, also=["kept"])
    assert _Kept.last.records == metrics.read(tmp_path)
    assert _Kept.last.closed
    names = {name for name, _, _ in loggers.scalars(_Kept.last.records)}
    assert {"resid_post.0/loss", "resid_post.0/explained_variance", "resid_post.0/l0", "resid_post.0/dead"} <= names
    assert "resid_post.0/step" not in names


@pytest.mark.parametrize(
    ("site", "values", "expected"),
    [
        ("resid_post.0", torch.zeros(3, 2), "expected sites as keys, found 'resid_post.0'"),
        (SITE, torch.zeros(3, 2).numpy(), r"activations at resid_post\.0: expected a tensor, found ndarray"),
        (SITE, torch.zeros(3, 2).long(), "expected floating-point numbers, found torch.int64"),
        (SITE, torch.zeros(3, 2, dtype=torch.complex64), "found torch.complex64"),
    ],
)
def test_what_is_no_site_and_no_activations_is_refused(site, values, expected):
    with pytest.raises(UsageError, match=expected):
        require_tensor(site, values)


def test_a_constant_dimension_is_learned_like_any_other(x, tmp_path):
    x[:, 2] = 3.0
    found = fit_tensors({SITE: x}, plans([SITE], sensitivity=0.0), with_fit(), tmp_path)[str(SITE)]
    assert (found(x) - x)[:, 2].square().mean() < (found(x) - x).square().mean()


def test_fewer_latents_than_dimensions_are_trained_with_a_warning(x, tmp_path):
    narrow = plans([SITE], sensitivity=0.0, n_latents=7)
    with pytest.warns(TrainingWarning, match=r"dictionary resid_post\.0: 7 latents for 8 dimensions \(undercomplete"):
        found = fit_tensors({SITE: x}, narrow, with_fit(), tmp_path)
    assert found[str(SITE)].n_latents == 7


def test_two_runs_in_one_folder_are_refused_and_the_first_is_unharmed(x, tmp_path):
    asked = plans([SITE], sensitivity=0.0)
    with folder_lock(tmp_path), pytest.raises(UsageError, match="another process is at work there"):
        fit_tensors({SITE: x}, asked, with_fit(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    fit_tensors({SITE: x}, asked, with_fit(), tmp_path)


def test_a_sink_that_does_not_start_is_one_line_before_any_work(x, tmp_path, monkeypatch):
    def failing(folder):
        raise RuntimeError("no key\nlog in first")

    monkeypatch.setitem(loggers.LOGGERS, "wandb", failing)
    monkeypatch.setattr(DictionaryTrainer, "begin", None)
    with pytest.raises(UsageError, match=r"metrics to wandb: could not start \(no key log in first\)"):
        fit_tensors({SITE: x}, plans([SITE], sensitivity=0.0), with_fit(), tmp_path, also=["wandb"])
