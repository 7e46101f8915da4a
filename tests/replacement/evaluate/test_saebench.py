"""SAEBench's JSON: all that its schema requires, every number by its own definition, taken token by token."""

import json
import math

import pytest
import torch
from evaluation_oracles import TEXTS, by_token, losses, random_dictionary

from gossamer.activations import REAL_TOKENS
from gossamer.errors import UsageError
from gossamer.replacement.evaluate import evaluate, to_saebench

# The required properties of SAEBench's published schema of its core evaluation.
REQUIRED = {
    "": {
        "eval_config", "eval_id", "datetime_epoch_millis", "eval_result_metrics", "sae_bench_commit_hash",
        "sae_lens_id", "sae_lens_release_id", "sae_lens_version", "sae_cfg_dict",
    },
    "model_behavior_preservation": {"kl_div_score", "kl_div_with_ablation", "kl_div_with_sae"},
    "model_performance_preservation": {
        "ce_loss_score", "ce_loss_with_ablation", "ce_loss_with_sae", "ce_loss_without_sae",
    },
    "reconstruction_quality": {"explained_variance", "explained_variance_legacy", "mse", "cossim"},
    "shrinkage": {"l2_norm_in", "l2_norm_out", "l2_ratio", "relative_reconstruction_bias"},
    "sparsity": {"l0", "l1"},
    "token_stats": {"total_tokens_eval_reconstruction", "total_tokens_eval_sparsity_variance"},
    "misc_metrics": {
        "freq_over_1_percent", "freq_over_10_percent", "normalized_freq_over_1_percent",
        "normalized_freq_over_10_percent", "average_max_encoder_cosine_sim", "average_max_decoder_cosine_sim",
        "frac_alive",
    },
    "detail": {
        "index", "feature_density", "consistent_activation_heuristic", "encoder_bias", "encoder_norm",
        "encoder_decoder_cosine_sim", "max_decoder_cosine_sim", "max_encoder_cosine_sim",
    },
}  # fmt: skip
SETTINGS = {
    "model_name", "llm_dtype", "batch_size_prompts", "n_eval_reconstruction_batches",
    "n_eval_sparsity_variance_batches", "dataset", "context_size", "compute_kl", "compute_ce_loss", "compute_l2_norms",
    "compute_sparsity_metrics", "compute_variance_metrics", "compute_featurewise_density_statistics",
    "compute_featurewise_weight_based_metrics", "exclude_special_tokens_from_reconstruction", "verbose",
}  # fmt: skip


@pytest.fixture
def tokens(tiny_gpt2):
    return tiny_gpt2.tokenize(TEXTS, bos=True)


@pytest.fixture
def site(tiny_gpt2):
    return tiny_gpt2.sites("resid_post")[0]


@pytest.fixture
def dictionary(tiny_gpt2, site):
    made = random_dictionary(site, tiny_gpt2.d_model)
    made.b_enc[5] = -100.0  # never active
    return made


@pytest.fixture
def written(tiny_gpt2, dictionary, site, tokens) -> dict:
    found = evaluate(tiny_gpt2, {site: dictionary}, tokens, batch_size=3, saebench=True)[site]
    return json.loads(json.dumps(to_saebench(found, dictionary, dataset="stories"), allow_nan=False))


def test_it_has_all_that_the_schema_requires(written, dictionary):
    metrics, details = written["eval_result_metrics"], written["eval_result_details"]
    assert REQUIRED[""] <= set(written)
    assert {category: set(values) for category, values in metrics.items()} == {
        category: names for category, names in REQUIRED.items() if category not in ("", "detail")
    }
    assert [set(row) for row in details] == [REQUIRED["detail"]] * dictionary.n_latents
    assert [row["index"] for row in details] == list(range(dictionary.n_latents))
    assert all(isinstance(value, float | int) for values in metrics.values() for value in values.values())
    assert set(written["eval_config"]) <= SETTINGS
    assert (written["eval_config"]["dataset"], written["eval_config"]["llm_dtype"]) == ("stories", "float32")
    assert (written["sae_cfg_dict"]["d_sae"], written["eval_type_id"]) == (dictionary.n_latents, "core")


def test_the_site_is_ablated_at_every_token(tiny_gpt2, dictionary, site, tokens, written):
    """The reconstruction spares BOS, the ablation does not: SAEBench's scores are relative to that."""
    clean, odds = losses(tiny_gpt2, tokens, lambda one: {})
    zero, without = losses(tiny_gpt2, tokens, lambda one: {site: torch.zeros_like})
    kl = (odds.exp() * (odds - without)).sum(1).mean().item()
    behaviour = written["eval_result_metrics"]["model_behavior_preservation"]
    performance = written["eval_result_metrics"]["model_performance_preservation"]
    assert performance["ce_loss_with_ablation"] == pytest.approx(zero, rel=1e-5)
    assert behaviour["kl_div_with_ablation"] == pytest.approx(kl, rel=1e-4)
    spared = evaluate(tiny_gpt2, {site: dictionary}, tokens)[site]
    assert spared.ce_zero != pytest.approx(zero, rel=1e-3)
    score = (zero - spared.ce_spliced) / (zero - clean)
    assert performance["ce_loss_score"] == pytest.approx(score, rel=1e-3)
    assert behaviour["kl_div_score"] == pytest.approx((kl - spared.kl_spliced) / kl, rel=1e-3)


def test_numbers_by_token(tiny_gpt2, dictionary, tokens, written):
    x, out, latents, kept = by_token(tiny_gpt2, dictionary, tokens)
    quality = written["eval_result_metrics"]["reconstruction_quality"]
    # The squared norm of the error, not that of a coordinate.
    assert quality["mse"] == pytest.approx((x - out).square().sum(1).mean().item(), rel=1e-5)
    density = (latents > 0).double().mean(0)
    misc = written["eval_result_metrics"]["misc_metrics"]
    for percent, least in ((1, 0.01), (10, 0.1)):
        share = density[density > least].sum() / density.sum()
        assert misc[f"normalized_freq_over_{percent}_percent"] == pytest.approx(share.item())
    rows = kept.nonzero()[:, 0]
    for row in written["eval_result_details"]:
        active = latents[:, row["index"]] > 0
        expected = int(active.sum()) / len(set(rows[active].tolist())) if active.any() else -1.0
        assert row["consistent_activation_heuristic"] == pytest.approx(expected)
    assert written["eval_result_details"][5]["consistent_activation_heuristic"] == -1.0


def test_numbers_of_the_weights(dictionary, written):
    for name, vectors in (("encoder", dictionary.W_enc.T), ("decoder", dictionary.W_dec)):
        nearest = []
        for own in range(len(vectors)):
            others = [torch.cosine_similarity(vectors[own], one, dim=0) for k, one in enumerate(vectors) if k != own]
            nearest.append(max(others).item())
        found = [row[f"max_{name}_cosine_sim"] for row in written["eval_result_details"]]
        assert found == pytest.approx(nearest, abs=1e-6)
        average = written["eval_result_metrics"]["misc_metrics"][f"average_max_{name}_cosine_sim"]
        assert average == pytest.approx(sum(nearest) / len(nearest), abs=1e-6)
    row = written["eval_result_details"][7]
    cosine = torch.cosine_similarity(dictionary.W_enc[:, 7], dictionary.W_dec[7], dim=0).item()
    assert row["encoder_decoder_cosine_sim"] == pytest.approx(cosine, rel=1e-5)
    assert (row["encoder_bias"], row["encoder_norm"]) == pytest.approx(
        (dictionary.b_enc[7].item(), math.sqrt(dictionary.W_enc[:, 7].square().sum().item())), rel=1e-5
    )


def test_where_all_tokens_count_one_ablation_serves(tiny_gpt2, dictionary, site, tokens):
    found = evaluate(tiny_gpt2, {site: dictionary}, tokens, mask=REAL_TOKENS, saebench=True)[site]
    assert (found.saebench.ce_zero, found.saebench.kl_zero) == (found.ce_zero, found.kl_zero)


def test_an_evaluation_without_the_measures_is_refused(tiny_gpt2, dictionary, site, tokens):
    with pytest.raises(UsageError, match="evaluate with saebench=True"):
        to_saebench(evaluate(tiny_gpt2, {site: dictionary}, tokens)[site], dictionary)
