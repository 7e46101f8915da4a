"""Evaluations in the JSON that SAEBench's core evaluation writes, for whoever reads that (its result viewer does).

Every number is what SAEBench's own code defines under that name, taken of all tokens that count together, in float64.
What is ablated is the whole site, at every token; `mse` is the mean squared norm of the errors; numbers that do not
exist are -1. Three things a reader should know: `explained_variance` is the ratio of sums (SAEBench's formula of the
same name squares a mean too much); `mse` is not divided by the number of tokens of a batch, as SAEBench's is and
SAELens' is not; cross-entropy and KL are of all predicted tokens, those after BOS too.

Source: github.com/adamkarvonen/SAEBench, `evals/core`.
"""

import math
import time
import uuid
from importlib.metadata import version
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.formats import saelens
from gossamer.errors import UsageError
from gossamer.replacement.evaluate.evaluation import Evaluation, SaeBenchMeasures

# Cosines that are in memory at a time.
_BLOCK_VALUES = 2**24
Numbers = dict[str, float | int]


def to_saebench(evaluation: Evaluation, dictionary: Dictionary, *, dataset: str = "") -> dict[str, Any]:
    """One dictionary's evaluation in SAEBench's core schema, with all that it requires.

    Cost: the cosine of every pair of latents, once of encoders and once of decoders. Memory: 2**24 cosines.

    Args:
        evaluation: of :func:`evaluate` with `saebench=True`.
        dictionary: that was evaluated.
        dataset: name of the text.

    Raises:
        UsageError: the evaluation lacks SAEBench's measures.
    """
    measured = evaluation.saebench
    if measured is None:
        raise UsageError("SAEBench's JSON needs measures that were not taken; evaluate with saebench=True")
    features = _features(evaluation, measured, dictionary)
    names = list(features)
    return {
        "eval_type_id": "core",
        "eval_config": _config(evaluation, measured, dictionary, dataset),
        "eval_id": str(uuid.uuid4()),
        "datetime_epoch_millis": int(time.time() * 1000),
        "eval_result_metrics": {
            category: {name: _number(value) for name, value in metrics.items()}
            for category, metrics in _metrics(evaluation, measured, features, dictionary.d_in).items()
        },
        "eval_result_details": [
            {"index": index, **dict(zip(names, map(_number, row), strict=True))}
            for index, row in enumerate(torch.stack(list(features.values()), dim=1).tolist())
        ],
        "eval_result_unstructured": {
            "measured_by": f"gossamer {version('gossamer')}",
            "include_bos": evaluation.includes_bos,
            "ce_loss_with_ablation_of_counted_tokens": _number(evaluation.ce_zero),
        },
        "sae_bench_commit_hash": f"none: gossamer {version('gossamer')}",
        "sae_lens_id": None,
        "sae_lens_release_id": None,
        "sae_lens_version": None,
        "sae_cfg_dict": saelens.configuration(dictionary.contents()),
    }


def _number(value: float | int) -> float | int:
    """SAEBench writes -1 for what is no number."""
    return value if math.isfinite(value) else -1.0


def _config(found: Evaluation, measured: SaeBenchMeasures, dictionary: Dictionary, dataset: str) -> dict[str, Any]:
    computed = ("kl", "ce_loss", "l2_norms", "sparsity_metrics", "variance_metrics")
    weights = ("featurewise_density_statistics", "featurewise_weight_based_metrics")
    return {
        "model_name": dictionary.model_name or "",
        "llm_dtype": measured.dtype,
        "batch_size_prompts": measured.rows,
        "n_eval_reconstruction_batches": 1,
        "n_eval_sparsity_variance_batches": 1,
        "dataset": dataset,
        "context_size": measured.context,
        **{f"compute_{name}": True for name in (*computed, *weights)},
        "exclude_special_tokens_from_reconstruction": not found.includes_bos,
        "verbose": False,
    }


def _metrics(
    found: Evaluation, measured: SaeBenchMeasures, features: dict[str, Tensor], d_in: int
) -> dict[str, Numbers]:
    """SAEBench's categories with SAEBench's names."""
    density = found.density
    recovered, lost = measured.ce_zero - found.ce_spliced, measured.ce_zero - found.ce_model
    return {
        "model_behavior_preservation": {
            "kl_div_score": _share(measured.kl_zero - found.kl_spliced, measured.kl_zero),
            "kl_div_with_ablation": measured.kl_zero,
            "kl_div_with_sae": found.kl_spliced,
        },
        "model_performance_preservation": {
            "ce_loss_score": _share(recovered, lost),
            "ce_loss_with_ablation": measured.ce_zero,
            "ce_loss_with_sae": found.ce_spliced,
            "ce_loss_without_sae": found.ce_model,
        },
        "reconstruction_quality": {
            "explained_variance": found.explained_variance,
            "explained_variance_legacy": found.explained_variance_legacy,
            "mse": found.mse * d_in,
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
            "normalized_freq_over_1_percent": _share_above(density, 0.01),
            "normalized_freq_over_10_percent": _share_above(density, 0.1),
            "average_max_encoder_cosine_sim": features["max_encoder_cosine_sim"].mean().item(),
            "average_max_decoder_cosine_sim": features["max_decoder_cosine_sim"].mean().item(),
            "frac_alive": 1 - found.dead,
        },
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _share_above(density: Float[Tensor, "n"], least: float) -> float:
    """Share that latents more frequent than `least` have of all activity; 0 if there is none."""
    total = density.sum().item()
    return density[density > least].sum().item() / total if total else 0.0


def _features(found: Evaluation, measured: SaeBenchMeasures, dictionary: Dictionary) -> dict[str, Float[Tensor, "n"]]:
    """What is said of each latent, float64."""
    encoder, decoder = (matrix.detach().cpu().double() for matrix in (dictionary.W_enc.T, dictionary.W_dec))
    bias = dictionary.b_mag if dictionary.architecture == "gated" else dictionary.b_enc
    bias = torch.zeros(len(encoder)) if bias is None else bias.detach().cpu()
    fired, rows = found.fired.cpu().double(), measured.fired_rows.cpu().double()
    return {
        "feature_density": found.density.cpu(),
        # Tokens in a row in which it is active at all.
        "consistent_activation_heuristic": fired / rows,
        "encoder_bias": torch.zeros(len(encoder), dtype=torch.float64)
        if bias is None
        else bias.detach().cpu().double(),
        "encoder_norm": encoder.norm(dim=1),
        "encoder_decoder_cosine_sim": torch.cosine_similarity(encoder, decoder, dim=1),
        "max_decoder_cosine_sim": _nearest(dictionary.W_dec),
        "max_encoder_cosine_sim": _nearest(dictionary.W_enc.T),
    }


@torch.no_grad()
def _nearest(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
    """The largest cosine of each vector with another one; NaN where there is no other."""
    unit = torch.nn.functional.normalize(vectors.float(), dim=1)
    if len(unit) < 2:
        return torch.full((len(unit),), math.nan, dtype=torch.float64)
    found = []
    for rows in torch.split(torch.arange(len(unit)), max(1, _BLOCK_VALUES // len(unit))):
        cosines = unit[rows] @ unit.T
        cosines[torch.arange(len(rows)), rows] = -math.inf
        found.append(cosines.amax(dim=1).double().cpu())
    return torch.cat(found)
