"""Fine-tuning a spliced set: it brings the spliced model nearer, resumes exactly, and touches nothing else."""

from dataclasses import replace

import pytest
import torch
from training_fixtures import CONFIG, plans, texts
from word_model import tiny_gpt2_model

from gossamer.activations.corpus import Corpus, split_texts
from gossamer.dictionary import Dictionary, DictionaryConfig, DictionarySet
from gossamer.dictionary.attach import measure
from gossamer.dictionary.config import Contents
from gossamer.errors import GossamerError, UsageError
from gossamer.model import LanguageModel, Site
from gossamer.replacement.evaluate.quality import quality
from gossamer.training import metrics
from gossamer.training.end_to_end_trainer import EndToEndTrainer
from gossamer.training.finetune import finetune
from gossamer.training.fit import fit
from gossamer.training.objectives import AuxK, BatchTopK, TopK
from gossamer.training.optimiser import Optimiser

SITES = [Site("resid_post", 0), Site("resid_post", 1)]


@pytest.fixture
def corpus(tiny_gpt2):
    return Corpus.build(tiny_gpt2, *split_texts(texts(), CONFIG.corpus, seed=0), CONFIG.corpus, seed=0)


@pytest.fixture(params=["batchtopk", "jumprelu", "topk"])
def fitted(request, tiny_gpt2, corpus, tmp_path):
    objective = (TopK if request.param == "topk" else BatchTopK)(k=6, aux=AuxK(k=8))
    made = plans(SITES, objective=objective, sensitivity=0.5 if request.param == "jumprelu" else 0.0)
    found = DictionarySet(fit(tiny_gpt2, corpus, made, CONFIG.fit, tmp_path / "fit", seed=0).values())
    assert {one.architecture for one in found.values()} == {request.param}
    return found


def _weights(dictionaries):
    return {f"{site}.{name}": value for site, one in dictionaries.items() for name, value in one.state_dict().items()}


def test_the_spliced_model_comes_nearer_to_the_model(tiny_gpt2, corpus, fitted, tmp_path):
    config = replace(CONFIG.finetune, tokens=4 * 16 * 60)
    before = {name: value.clone() for name, value in _weights(fitted).items()}
    tuned = finetune(tiny_gpt2, fitted, corpus, config, tmp_path / "finetune", seed=0)
    assert quality(tiny_gpt2, tuned, corpus.held_out).kl < quality(tiny_gpt2, fitted, corpus.held_out).kl
    assert all(torch.equal(before[name], value) for name, value in _weights(fitted).items())
    assert all(one.reported.l0 is None for one in tuned.values())
    last = metrics.read(tmp_path / "finetune")[-1]
    assert set(last) == {"step", "loss", "kl", "logit_error", "resid_post.0", "resid_post.1", "tokens_per_second"}
    for site, one in tuned.items():
        torch.testing.assert_close(one.W_dec.norm(dim=1), fitted[site].W_dec.norm(dim=1))
        assert last[str(site)]["l0"] == pytest.approx(6, rel=0.35)


def test_a_threshold_that_lets_too_few_latents_through_is_not_adopted(tiny_gpt2, corpus, fitted, tmp_path):
    """As many are active afterwards as were asked for in the fit, not as many as a poor threshold left."""
    if fitted[SITES[0]].architecture == "topk":
        pytest.skip("topk has no threshold")
    with torch.no_grad():
        for one in fitted.values():
            one.threshold.mul_(2)

    def l0(dictionaries):
        return [found.l0 for found in measure(tiny_gpt2, dictionaries, corpus.held_out, mask=corpus.mask).values()]

    assert max(l0(fitted)) < 4
    tuned = finetune(tiny_gpt2, fitted, corpus, CONFIG.finetune, tmp_path, seed=0)
    assert l0(tuned) == pytest.approx([6, 6], rel=0.25)


def test_a_killed_run_resumes_to_exactly_the_uninterrupted_one(tiny_gpt2, corpus, fitted, tmp_path, monkeypatch):
    def run(name):
        return _weights(finetune(tiny_gpt2, fitted, corpus, CONFIG.finetune, tmp_path / name, seed=0))

    whole, steps, original = run("whole"), [], Optimiser.step

    def dying(self, *arguments):
        steps.append(1)
        if len(steps) > 2 * 7:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Optimiser, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            run("killed")
    resumed = run("killed")
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_nothing_changes_when_nothing_is_learned(tiny_gpt2, corpus, fitted, tmp_path):
    """A tuner takes a dictionary into its own units and gives the same one back."""
    x = tiny_gpt2.capture(corpus.training[:8], SITES)[SITES[1]].reshape(-1, tiny_gpt2.d_model)
    source = fitted[SITES[1]]
    given = EndToEndTrainer(source, 3.0, 1.0).dictionary({})
    torch.testing.assert_close(given(x), source(x), rtol=1e-4, atol=1e-4)
    assert given.architecture == source.architecture


def test_the_model_gets_no_gradients_and_keeps_its_weights(tiny_gpt2, corpus, fitted, tmp_path):
    tiny_gpt2.hf.requires_grad_(True)
    before = {name: value.clone() for name, value in tiny_gpt2.hf.state_dict().items()}
    finetune(tiny_gpt2, fitted, corpus, CONFIG.finetune, tmp_path, seed=0)
    assert all(parameter.grad is None for parameter in tiny_gpt2.hf.parameters())
    assert all(torch.equal(before[name], value) for name, value in tiny_gpt2.hf.state_dict().items())


def test_half_precision_is_trained_in_float32(tokenizer, corpus, fitted, tmp_path):
    """A bfloat16 model and dictionaries, against the same rounded numbers in float32."""
    found = {}
    for dtype in (torch.bfloat16, torch.float32):
        rounded = tiny_gpt2_model(tokenizer).to(torch.bfloat16).to(dtype)
        model = LanguageModel.load(rounded, tokenizer=tokenizer)
        given = DictionarySet(
            Dictionary.from_contents(
                Contents(one.config, {name: v.bfloat16().to(dtype) for name, v in one.state_dict().items()})
            )
            for one in fitted.values()
        )
        config = replace(CONFIG.finetune, thresholds="spliced")
        tuned = finetune(model, given, corpus, config, tmp_path / str(dtype), seed=0)
        assert {one.W_dec.dtype for one in tuned.values()} == {torch.float32}
        found[dtype] = metrics.read(tmp_path / str(dtype))
    (half, whole) = found.values()
    for line, exact in zip(half, whole, strict=True):
        assert line["logit_error"] == pytest.approx(exact["logit_error"], rel=0.05)
        assert line["kl"] == pytest.approx(exact["kl"], rel=0.1)
        for site in map(str, SITES):
            assert line[site]["explained_variance"] == pytest.approx(exact[site]["explained_variance"], abs=0.03)
            assert line[site]["l0"] == pytest.approx(exact[site]["l0"], rel=0.05)


def test_dictionaries_it_cannot_train_are_refused(tiny_gpt2, corpus, tmp_path):
    relu = Dictionary(DictionaryConfig("relu", 32, 16, site=SITES[0]))
    torch.nn.init.zeros_(relu.W_enc)
    with pytest.raises(UsageError, match="topk, batchtopk, jumprelu"):
        finetune(tiny_gpt2, DictionarySet([relu]), corpus, CONFIG.finetune, tmp_path, seed=0)


def identity(site, d):
    """relu(x) - relu(-x) is x."""
    made = Dictionary(DictionaryConfig("relu", d_in=d, n_latents=2 * d, site=site))
    both = torch.cat([torch.eye(d), -torch.eye(d)])
    with torch.no_grad():
        for name, value in (("W_enc", both.T), ("W_dec", both), ("b_enc", 0), ("b_dec", 0)):
            getattr(made, name).copy_(torch.as_tensor(value))
    return made


def test_perfect_dictionaries_lose_nothing_and_means_lose_all(tiny_gpt2, corpus):
    found = quality(tiny_gpt2, {site: identity(site, tiny_gpt2.d_model) for site in SITES}, corpus.held_out)
    assert found.kl == pytest.approx(0, abs=1e-6)
    assert found.ce_recovered == pytest.approx(1, abs=1e-6)
    ids, mask = corpus.held_out.ids, corpus.held_out.mask
    odds = tiny_gpt2.logits(corpus.held_out)[:, :-1].log_softmax(dim=-1)
    losses = -odds.gather(-1, ids[:, 1:, None])[..., 0][mask[:, 1:]]
    assert found.ce_model == pytest.approx(losses.mean().item(), rel=1e-5)
    assert found.tokens == len(losses)


def test_a_nan_in_a_spliced_stream_names_the_site(tiny_gpt2, corpus, fitted, tmp_path):
    with torch.no_grad():
        fitted[SITES[0]].b_dec[0] = float("nan")
    with pytest.raises(GossamerError, match=r"spliced stream at resid_post\.1"):
        finetune(tiny_gpt2, fitted, corpus, CONFIG.finetune, tmp_path, seed=0)


@pytest.fixture
def batchtopk(tiny_gpt2, corpus, tmp_path):
    made = plans(SITES, objective=BatchTopK(k=6, aux=AuxK(k=8)), sensitivity=0.0)
    return DictionarySet(fit(tiny_gpt2, corpus, made, CONFIG.fit, tmp_path / "fit", seed=0).values())


def test_thresholds_are_set_on_what_reaches_a_site_behind_the_others(tiny_gpt2, corpus, batchtopk, tmp_path):
    """On the rows that calibrate, run through `edit`: k latents a token there, against a model's own pass for "own"."""
    config = replace(CONFIG.finetune, thresholds="spliced")
    tuned = finetune(tiny_gpt2, batchtopk, corpus, config, tmp_path / "spliced", seed=0)
    own = finetune(tiny_gpt2, batchtopk, corpus, CONFIG.finetune, tmp_path / "own", seed=0)
    first, second = SITES
    steps = config.tokens // (config.rows * corpus.training.ids.shape[1])
    tokens = corpus.rows(steps * config.rows, 128, seed=0)
    kept = corpus.mask.counted(tiny_gpt2, tokens)

    def l0(dictionaries, reconstructs):
        def reconstructed(x):
            return torch.where(kept[..., None], dictionaries[first](x), x)

        with tiny_gpt2.edit({first: reconstructed} if reconstructs else {}):
            read = tiny_gpt2.capture(tokens, [second])[second][kept]
        return float((dictionaries[second].encode_dense(read) > 0).sum(dim=1).float().mean())

    assert l0(tuned, True) == pytest.approx(6, abs=0.01)
    assert l0(own, False) == pytest.approx(6, abs=0.01)
    assert abs(l0(own, True) - 6) > 0.02
    assert torch.equal(tuned[first].threshold, own[first].threshold)
    assert torch.equal(tuned[second].W_dec, own[second].W_dec)


def test_k_changes_site_by_site_and_stays_changed(tiny_gpt2, corpus, fitted, tmp_path):
    config = replace(CONFIG.finetune, k=(12, 3))
    tuned = finetune(tiny_gpt2, fitted, corpus, config, tmp_path / "tuned", seed=0)
    finished = DictionarySet(
        Dictionary.from_contents(Contents(one.config, dict(one.state_dict()), {"training": one.provenance}))
        for one in tuned.values()
    )
    again = finetune(tiny_gpt2, finished, corpus, CONFIG.finetune, tmp_path / "again", seed=0)
    for dictionaries in (tuned, again):
        found = measure(tiny_gpt2, dictionaries, corpus.held_out, mask=corpus.mask)
        assert [one.l0 for one in found.values()] == pytest.approx([12, 3], rel=0.25)
    assert [one.provenance["finetuned"][0]["k"] for one in tuned.values()] == [12, 3]
    if fitted[SITES[0]].architecture == "jumprelu":
        assert [one.k for one in tuned.values()] == [None, None]
    else:
        assert [one.k for one in tuned.values()] == [12, 3]


@pytest.mark.parametrize(
    ("k", "said"),
    [((1, 2, 3), r"one for each of 2 sites, found \(1, 2, 3\)"), ((65,), "at most 64 expected, found 65")],
)
def test_a_k_that_no_site_can_have_is_refused(tiny_gpt2, corpus, batchtopk, tmp_path, k, said):
    with pytest.raises(UsageError, match=said):
        finetune(tiny_gpt2, batchtopk, corpus, replace(CONFIG.finetune, k=k), tmp_path / "out", seed=0)
