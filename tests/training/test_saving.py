"""What was trained is loaded unchanged by the libraries whose formats it is saved in, and does there the same."""

from dataclasses import replace

import pytest
import torch
from sae_lens import SAE
from training_fixtures import CONFIG, texts, with_fit

from gossamer.dictionary import Dictionary, DictionarySet
from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.training import metrics, train_dictionaries, train_sets
from gossamer.training.config import DictionarySpec
from gossamer.training.fit import fit_tensors
from gossamer.training.objectives import TopK
from gossamer.training.sweep_specs import OBJECTIVES, SweepSpec, sweep_specs

SITE = Site("resid_post", 1)
SITES = [Site("resid_post", 0), SITE]
QUICK = replace(CONFIG, fit=with_fit(tokens=64 * 20), finetune=replace(CONFIG.finetune, tokens=0))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_saelens_loads_every_architecture_and_agrees(name, tmp_path):
    x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0)) * 2 + 1
    (asked,) = sweep_specs(replace(CONFIG.trainer, sensitivity=0.0), objective=[name])
    plan = DictionarySpec("one", SITE, None, asked.trainer)
    found = fit_tensors({SITE: x}, [plan], with_fit(), str(tmp_path / "fit"), model_name="gpt2")["one"]
    theirs = SAE.load_from_disk(found.save(tmp_path / "saved"))
    latents = theirs.encode(x)
    torch.testing.assert_close(latents, found.encode_dense(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(theirs.decode(latents), found(x), rtol=1e-4, atol=1e-4)
    assert (latents != 0).any()


def test_what_is_saved_names_the_model_without_this_machines_path(tmp_path):
    (tmp_path / "gemma" / "hf").mkdir(parents=True)
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    plan = DictionarySpec("one", SITE, None, replace(CONFIG.trainer, sensitivity=0.0))
    name = str(tmp_path / "gemma" / "hf")
    found = fit_tensors({SITE: x}, [plan], with_fit(), str(tmp_path / "fit"), model_name=name)["one"]
    assert found.model_name == "gemma/hf"
    saved = DictionarySet([found]).save(tmp_path / "set")
    for path in (saved / "dictionaries.json", saved / str(SITE) / "cfg.json"):
        assert str(tmp_path) not in path.read_text()


def test_sets_of_several_plans_come_from_one_fit(tiny_gpt2, tmp_path):
    asked = [
        SweepSpec("narrow", replace(CONFIG.trainer, n_latents=32), 0),
        SweepSpec("topk", replace(CONFIG.trainer, objective=TopK(k=4), sensitivity=0.0), 1),
    ]
    run = lambda: train_sets(tiny_gpt2, texts(), SITES, QUICK, asked, tmp_path, formats=["saelens"])  # noqa: E731
    found = run()
    assert {name: list(one) for name, one in found.items()} == {"narrow": SITES, "topk": SITES}
    assert found["narrow"][SITE].n_latents == 32
    assert found["topk"][SITE].architecture == "topk"
    assert found["topk"][SITE].provenance["training"]["config"]["seed"] == 1
    assert DictionarySet.load(tmp_path / "dictionaries" / "topk")[SITE].reported.l0 == found["topk"][SITE].reported.l0
    assert {line["name"] for line in metrics.read(tmp_path / "fit")} == {f"{v.name}/{s}" for v in asked for s in SITES}
    again = run()
    assert torch.equal(again["narrow"][SITE].W_dec, found["narrow"][SITE].W_dec)
    with pytest.raises(UsageError, match="another training run"):
        train_sets(tiny_gpt2, texts(), SITES, QUICK, asked[:1], tmp_path)


def test_a_set_is_saved_in_other_formats_as_well(tiny_gpt2, tmp_path):
    topk = replace(QUICK, trainer=replace(CONFIG.trainer, objective=TopK(k=4), sensitivity=0.0))
    found = train_dictionaries(tiny_gpt2, texts(), SITES, topk, tmp_path / "topk", formats=["sparsify"])
    x = torch.randn(20, 32, generator=torch.Generator().manual_seed(0))
    theirs = Dictionary.load(tmp_path / "topk" / "sparsify" / str(SITE))
    torch.testing.assert_close(theirs(x), found[SITE](x), rtol=1e-4, atol=1e-5)
    for sensitivity in (0.0, 0.9):
        even = replace(QUICK, trainer=replace(CONFIG.trainer, sensitivity=sensitivity))
        folder = tmp_path / f"sensitivity{sensitivity}"
        found = train_dictionaries(tiny_gpt2, texts(), SITES, even, folder, formats=["gemma_scope"])
        (place,) = (folder / "gemma_scope" / "resid_post" / "layer_1" / "width_64").iterdir()
        assert place.name == f"average_l0_{round(found[SITE].reported.l0)}"
        torch.testing.assert_close(Dictionary.load(place)(x), found[SITE](x), rtol=1e-4, atol=1e-5)


def test_sparsify_itself_reads_what_is_saved_for_it(tiny_gpt2, tmp_path):
    sparsify = pytest.importorskip("sparsify")
    topk = replace(QUICK, trainer=replace(CONFIG.trainer, objective=TopK(k=4), sensitivity=0.0))
    found = train_dictionaries(tiny_gpt2, texts(), SITES, topk, tmp_path, formats=["sparsify"])
    theirs = sparsify.SparseCoder.load_from_disk(tmp_path / "sparsify" / str(SITE))
    x = torch.randn(20, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(theirs(x).sae_out, found[SITE](x), rtol=1e-4, atol=1e-5)


def test_a_cache_serves_the_pipeline(tiny_gpt2, tmp_path):
    exact = replace(QUICK, fit=replace(QUICK.fit, cache_dtype="float32"))
    plain = train_dictionaries(tiny_gpt2, texts(), SITES, exact, tmp_path / "plain")
    cached = train_dictionaries(tiny_gpt2, texts(), SITES, exact, tmp_path / "cached", cache=tmp_path / "activations")
    assert torch.equal(plain[SITE].W_dec, cached[SITE].W_dec)
    with pytest.raises(UsageError, match=r"other cache"):
        train_dictionaries(tiny_gpt2, texts(), SITES, exact, tmp_path / "plain", cache=tmp_path / "activations")


@pytest.mark.parametrize(
    ("formats", "changes", "expected"),
    [
        (["numpy"], {}, "expected saelens, sparsify, gemma_scope, found 'numpy'"),
        (["sparsify"], {}, "sparsify holds topk only, not jumprelu"),
        (
            ["gemma_scope"],
            {"objective": TopK(k=4), "sensitivity": 0.0},
            "gemma_scope holds batchtopk and jumprelu",
        ),
    ],
)
def test_a_format_that_could_not_hold_it_is_refused_before_any_work(tiny_gpt2, tmp_path, formats, changes, expected):
    config = replace(QUICK, trainer=replace(CONFIG.trainer, **changes))
    with pytest.raises(UsageError, match=expected):
        train_dictionaries(tiny_gpt2, texts(), SITES, config, tmp_path, formats=formats)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_fine_tuned_is_said_before_any_work(tiny_gpt2, tmp_path):
    (gated,) = sweep_specs(CONFIG.trainer, objective=["gated"])
    with pytest.raises(UsageError, match="objective gated cannot be fine-tuned"):
        train_sets(tiny_gpt2, texts(), SITES, CONFIG, [gated], tmp_path)
    assert not list(tmp_path.iterdir())
