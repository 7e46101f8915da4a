"""Llama Scope and Llamascopium (OpenMOSS): `hyperparams.json` or `config.json`, and safetensors of three layouts.

Of the input scaled to mean norm sqrt(d), s = sqrt(d) / mean norm at the input and t the same at the output:

    h     = s x @ W_E + b_E                    minus b_D first, if `apply_decoder_bias_to_pre_encoder`
    a     = h where score > threshold, else 0  score = h * ||W_D|| if `sparsity_include_decoder_norm`, else h
    x_hat = (a @ W_D + b_D) / t

or ReLU or TopK of the score in place of the threshold. Reading folds s and t into the weights, which leaves h, and so
the thresholds, as they are. The oldest files hold one threshold that may be in other units: see
:mod:`gossamer.dictionary.formats.llama_scope_threshold`. Source: He et al. 2024, arXiv 2410.20526;
github.com/OpenMOSS/Language-Model-SAEs, `sae.py`.
"""

import math
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from gossamer.dictionary.config import Contents, ReportedMetrics
from gossamer.dictionary.formats import llama_scope_config, weights
from gossamer.dictionary.formats.facts import Origin, Request, provenance
from gossamer.dictionary.formats.fields import positive, typed
from gossamer.dictionary.formats.llama_scope_config import LlamaScopeFacts
from gossamer.dictionary.formats.llama_scope_threshold import Threshold, mean_l0, readings_of, settle
from gossamer.errors import GossamerError, UsageError

WEIGHTS = ("sae_weights.safetensors", "checkpoints/pruned.safetensors", "checkpoints/final.safetensors")
CONFIGS = llama_scope_config.CONFIGS
MODEL_CONFIGS = llama_scope_config.MODEL_CONFIGS
_LINEAR = {
    "W_enc": "encoder.weight.T",
    "b_enc": "encoder.bias",
    "W_dec": "decoder.weight.T",
    "b_dec": "decoder.bias",
}
_CURRENT = {"W_enc": "W_E", "b_enc": "b_E", "W_dec": "W_D", "b_dec": "b_D"}
_LOG_THRESHOLDS = ("log_jumprelu_threshold", "activation_function.log_jumprelu_threshold")
_NORM = "dataset_average_activation_norm"
# A latent with a smaller decoder row than this is as good as none.
_TINY = 1e-12
_COUNTERS = ("tokens_since_last_activation", "is_dead", "current_k")


def read(path: Path, origin: Origin, request: Request) -> Contents:
    """Read a dictionary from its weights file. Weights into which a scale or a bias is folded become float32.

    Latents are those of the makers' library, except without thresholds where decoder norms count: there they are
    multiplied by these norms, and the decoder's rows have norm 1.

    Raises:
        UsageError: a convention that is not known, or `activations` are needed and missing or of no use.
        GossamerError: damaged files, tensors that do not fit, a missing norm, a threshold that no reading explains.
    """
    facts = llama_scope_config.parse(path, request)
    stored = weights.read_safetensors(path, shapes_only=request.shapes_only, leave=_COUNTERS)
    norms = {name.removeprefix(f"{_NORM}."): stored.pop(name) for name in list(stored) if name.startswith(f"{_NORM}.")}
    tensors = _tensors(stored, facts, path)
    gates = tensors["W_dec"].float().norm(dim=-1).clamp(min=_TINY) if facts.gated else None
    scales = (1.0, 1.0) if request.shapes_only or not facts.scaled else _scales(facts, norms, path)
    tensors = _folded(tensors, facts, *scales)
    training, reported = {"config": facts.cfg}, ReportedMetrics()
    if facts.config.architecture == "jumprelu" and "threshold" not in tensors:
        threshold = _threshold(tensors, gates, facts, scales, request)
        tensors["threshold"] = torch.full_like(tensors["b_enc"], threshold.value)
        training["threshold"] = asdict(threshold)
        reported = ReportedMetrics(l0=threshold.published)
    tensors = tensors if gates is None else _gated(tensors, gates)
    return Contents(facts.config, tensors, provenance(origin, "llama_scope", path, request, training, {}), reported)


def _tensors(stored: dict[str, Tensor], facts: LlamaScopeFacts, path: Path) -> dict[str, Tensor]:
    """The file's tensors under gossamer's names; no threshold if the file holds none for each latent."""
    names = dict(_CURRENT if "W_E" in stored else _LINEAR)
    if not facts.biased:
        del names["b_dec"]
    if facts.config.architecture == "jumprelu":
        names.update(("threshold", name) for name in _LOG_THRESHOLDS if name in stored)
    tensors = weights.renamed(stored, names, {name: facts.config.shapes[name] for name in names}, path)
    if "threshold" in tensors:
        tensors["threshold"] = tensors["threshold"].exp()
    if not facts.biased:
        tensors["b_dec"] = torch.zeros_like(tensors["W_dec"][0])
    return tensors


def _scales(facts: LlamaScopeFacts, norms: dict[str, Tensor], path: Path) -> tuple[float, float]:
    """By what input and output were multiplied in training."""
    stated = typed(facts.cfg, _NORM, dict, facts.path, None)
    keys = ("in", "out") if stated is not None else facts.hooks
    if stated is None and (missing := [hook for hook in facts.hooks if hook not in norms]):
        raise GossamerError(f"{path}: expected a number {_NORM}.{missing[0]}, found none; fetch the file again")
    if stated is None:
        stated = {hook: norms[hook].item() if norms[hook].numel() == 1 else None for hook in facts.hooks}
    root = math.sqrt(facts.config.d_in)
    return root / positive(stated, keys[0], facts.path), root / positive(stated, keys[1], facts.path)


def _folded(tensors: dict[str, Tensor], facts: LlamaScopeFacts, scale_in: float, scale_out: float) -> dict[str, Tensor]:
    """Weights that read and write the model's own scale; what the activation function sees is unchanged."""
    if scale_in == scale_out == 1 and not facts.subtracts:
        return dict(tensors)
    wide = {name: tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for name, tensor in tensors.items()}
    if facts.subtracts:
        shift = wide["b_dec"].double() @ wide["W_enc"].double()
        wide["b_enc"] = (wide["b_enc"].double() - shift).to(wide["b_enc"].dtype)
    wide["W_enc"] = wide["W_enc"] * scale_in
    wide["W_dec"] = wide["W_dec"] / scale_out
    wide["b_dec"] = wide["b_dec"] / scale_out
    return wide


def _threshold(
    tensors: dict[str, Tensor],
    gates: Tensor | None,
    facts: LlamaScopeFacts,
    scales: tuple[float, float],
    request: Request,
) -> Threshold:
    """The one threshold of an old file, in the units that activations show it to be in."""
    stored = positive(facts.cfg, "jump_relu_threshold", facts.path)
    published = positive(facts.cfg, "top_k", facts.path)
    if request.shapes_only:
        return Threshold(stored, "not measured, only shapes were read", published, published)
    if request.activations is None:
        raise UsageError(
            f"{facts.path}: the units of its one threshold are not known; in Python, give activations=, what is at "
            f"{facts.config.site} on some hundred tokens of text without BOS: L0 decides"
        )
    readings = readings_of(stored, *scales)
    return settle(readings, mean_l0(request.activations, tensors, gates, readings, facts.path), published, facts.path)


def _gated(tensors: dict[str, Tensor], gates: Tensor) -> dict[str, Tensor]:
    """Weights of a dictionary whose activation function sees h * gates, for one that sees h."""
    if "threshold" in tensors:
        return {**tensors, "threshold": (tensors["threshold"] / gates).to(tensors["threshold"].dtype)}
    folded = {
        "W_enc": tensors["W_enc"] * gates,
        "b_enc": tensors["b_enc"] * gates,
        "W_dec": tensors["W_dec"] / gates[:, None],
    }
    return {**tensors, **{name: tensor.to(tensors[name].dtype) for name, tensor in folded.items()}}
