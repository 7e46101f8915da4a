"""Evaluations in the JSON that SAEBench's core evaluation writes, for whoever reads that (its result viewer does)."""

import time
import uuid
from typing import Any

import torch
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.replacement.evaluate.evaluation import Evaluation


def to_saebench(evaluation: Evaluation, dictionary: Dictionary) -> dict[str, Any]:
    """One dictionary's evaluation in SAEBench's core schema; `eval_config` says who measured and how.

    Differences from SAEBench's own numbers that a reader should know: sums run over all tokens together in float64, and
    `explained_variance` is the ratio of sums (the legacy formula stands in `eval_config`).
    """
    norms = dictionary.W_enc.norm(dim=0)
    return {
        "eval_type_id": "core",
        "eval_config": {
            "measured_by": "gossamer",
            "include_bos": evaluation.includes_bos,
            "explained_variance_legacy": evaluation.explained_variance_legacy,
        },
        "eval_id": str(uuid.uuid4()),
        "datetime_epoch_millis": int(time.time() * 1000),
        "eval_result_metrics": _metrics(evaluation),
        "eval_result_details": [
            {
                "index": index,
                "feature_density": density,
                "encoder_bias": bias,
                "encoder_norm": norm,
                "encoder_decoder_cosine_sim": cosine,
            }
            for index, (density, bias, norm, cosine) in enumerate(
                zip(
                    evaluation.density.tolist(),
                    _biases(dictionary).tolist(),
                    norms.tolist(),
                    _alignment(dictionary, norms).tolist(),
                    strict=True,
                )
            )
        ],
    }


def _metrics(found: Evaluation) -> dict[str, dict[str, float]]:
    """SAEBench's categories with SAEBench's names."""
    density = found.density
    return {
        "model_behavior_preservation": {
            "kl_div_score": found.kl_score,
            "kl_div_with_ablation": found.kl_zero,
            "kl_div_with_sae": found.kl_spliced,
        },
        "model_performance_preservation": {
            "ce_loss_score": found.loss_recovered,
            "ce_loss_with_ablation": found.ce_zero,
            "ce_loss_with_sae": found.ce_spliced,
            "ce_loss_without_sae": found.ce_model,
        },
        "reconstruction_quality": {
            "explained_variance": found.explained_variance,
            "mse": found.mse,
            "cossim": found.cosine,
        },
        "shrinkage": {
            "l2_norm_in": found.norm_in,
            "l2_norm_out": found.norm_out,
            "l2_ratio": found.norm_ratio,
            "relative_reconstruction_bias": found.reconstruction_bias,
        },
        "sparsity": {"l0": found.l0, "l1": found.l1},
        "token_stats": {
            "total_tokens_eval_reconstruction": found.predicted,
            "total_tokens_eval_sparsity_variance": found.tokens,
        },
        "misc_metrics": {
            "freq_over_1_percent": (density > 0.01).double().mean().item(),
            "freq_over_10_percent": found.dense,
            "frac_alive": 1 - found.dead,
        },
    }


def _biases(dictionary: Dictionary) -> Tensor:
    bias = dictionary.b_mag if dictionary.architecture == "gated" else dictionary.b_enc
    return torch.zeros(dictionary.n_latents) if bias is None else bias


def _alignment(dictionary: Dictionary, norms: Tensor) -> Tensor:
    """Cosine of each latent's encoder and decoder."""
    product = (dictionary.W_enc.T * dictionary.W_dec).sum(dim=1)
    return (product / (norms * dictionary.W_dec.norm(dim=1))).nan_to_num(0.0)
