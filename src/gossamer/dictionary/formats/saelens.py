"""SAELens folders: `cfg.json` and `sae_weights.safetensors`; reads every version and checkpoints, writes version 6.

Reading folds what SAELens applies at run time: decoder-norm gating, the finetuning scale, the training scale of the
activations.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gossamer.dictionary.config import Contents, DictionaryConfig
from gossamer.dictionary.formats import saelens_config, saelens_transcoder, weights
from gossamer.dictionary.formats.facts import Origin, Request, provenance
from gossamer.dictionary.formats.fields import positive, read_object
from gossamer.dictionary.formats.saelens_config import SaeLensFacts
from gossamer.errors import GossamerError, UsageError
from gossamer.files import read_json, write_json

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
SCALER = "activation_scaler.json"
_RENAMED = {"topk_threshold": "threshold", "finetuning_scaling_factor": "scaling_factor"}
_WRITTEN = {"relu": "standard", "batchtopk": "jumprelu"}
_LAYOUT_VERSION = "6.0.0"


def read(path: Path, origin: Origin, request: Request) -> Contents:
    """Read a dictionary from its weights file and what lies beside it.

    Raises:
        UsageError: an unknown architecture or convention, or `norm_scaling_factor` is needed and missing.
        GossamerError: damaged files, tensors that do not fit, a BatchTopK threshold that was never updated.
    """
    folder = path.parent
    facts = saelens_config.parse(read_json(folder / CONFIG), folder / CONFIG, request)
    factor = _training_scale(facts, folder, request)
    stored = _renamed(weights.read_safetensors(path, shapes_only=request.shapes_only))
    optional = {"scaling_factor": (facts.config.n_latents,)} if "scaling_factor" in stored else {}
    tensors = saelens_transcoder.turned(weights.checked(stored, {**facts.config.shapes, **optional}, path))
    config, tensors = _as_trained(facts, _folded(tensors, facts, factor, path))
    if config.architecture == "batchtopk":
        _require_updated(tensors["threshold"], path)
    history = provenance(origin, "saelens", path, request, facts.training, facts.earlier)
    return Contents(config, tensors, history, facts.reported)


def _training_scale(facts: SaeLensFacts, folder: Path, request: Request) -> float:
    asked = request.norm_scaling_factor
    if not facts.averaged:
        if asked is not None:
            raise UsageError(f"{folder / CONFIG}: its activations need no norm_scaling_factor; leave it out")
        return 1.0
    if asked is None and weights.is_there(folder / SCALER):
        asked = positive(read_object(folder / SCALER), "scaling_factor", folder / SCALER)
    if asked is None:
        raise UsageError(
            f"{folder / CONFIG}: normalize_activations is expected_average_only_in, whose factor is not in the file; "
            "give norm_scaling_factor= (--fact norm_scaling_factor=X), sqrt(d_in) / mean norm of its activations"
        )
    if not asked > 0:
        raise UsageError(f"{folder}: expected a positive norm_scaling_factor, found {asked}")
    return float(asked)


def _renamed(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    tensors = {_RENAMED.get(name, name): tensor for name, tensor in stored.items()}
    if "log_threshold" in tensors:
        tensors["threshold"] = tensors.pop("log_threshold").exp()
    return tensors


def _folded(tensors: dict[str, Tensor], facts: SaeLensFacts, factor: float, path: Path) -> dict[str, Tensor]:
    """Weights that leave nothing to do at run time; computed in float32 at least, returned in their own dtype."""
    if factor == 1.0 and not facts.rescaled and "scaling_factor" not in tensors:
        return tensors
    dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
    wide = {name: tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for name, tensor in tensors.items()}
    if factor != 1.0:
        _fold_training_scale(wide, factor, facts.rescaled)
    if facts.rescaled:
        norms = wide["W_dec"].norm(dim=-1)
        wide["W_enc"] = wide["W_enc"] * norms
        wide["b_enc"] = wide["b_enc"] * norms
        wide["W_dec"] = wide["W_dec"] / norms.clamp(min=torch.finfo(norms.dtype).tiny)[:, None]
    _fold_finetuning(wide, facts, path)
    return {name: tensor.to(dtypes[name]) for name, tensor in wide.items()}


def _fold_training_scale(tensors: dict[str, Tensor], factor: float, rescaled: bool) -> None:
    tensors["W_enc"] = tensors["W_enc"] * factor
    tensors["W_dec"] = tensors["W_dec"] / factor
    tensors["b_dec"] = tensors["b_dec"] / factor
    # Latents gated by decoder norms have the units of the decoder, and so has the threshold they are compared with.
    if rescaled and "threshold" in tensors:
        tensors["threshold"] = tensors["threshold"] / factor


def _fold_finetuning(tensors: dict[str, Tensor], facts: SaeLensFacts, path: Path) -> None:
    scale = tensors.pop("scaling_factor", None)
    # SAELens wrote a factor of ones for a while without meaning it.
    if scale is None or (not scale.is_meta and torch.allclose(scale, torch.ones_like(scale))):
        return
    if not facts.finetuned:
        raise GossamerError(
            f"{path}: scaling_factor: expected ones because finetuning_scaling_factor is not set in {CONFIG}, "
            "found other values; set it to true if latents are to be scaled before decoding"
        )
    tensors["W_dec"] = tensors["W_dec"] * scale[:, None]


def _as_trained(facts: SaeLensFacts, tensors: dict[str, Tensor]) -> tuple[DictionaryConfig, dict[str, Tensor]]:
    """BatchTopK again where SAELens had turned its threshold into one equal threshold per latent."""
    config = facts.config
    if not facts.trained_as_batchtopk:
        return replace(config, k=config.k if config.architecture in ("topk", "batchtopk") else None), tensors
    threshold = tensors["threshold"]
    if not threshold.is_meta and not torch.equal(threshold, threshold[:1].expand_as(threshold)):
        return replace(config, k=None), tensors
    return replace(config, architecture="batchtopk"), {**tensors, "threshold": threshold[0]}


def _require_updated(threshold: Tensor, path: Path) -> None:
    if not threshold.is_meta and not threshold.item() > 0:
        raise GossamerError(
            f"{path}: threshold: expected a positive number, found {threshold.item():g}: BatchTopK's threshold was "
            "never updated in training; train further or measure it"
        )


def write(folder: Path, contents: Contents) -> None:
    """Write the version 6 layout, which SAELens loads as it is; what it has no words for is in `metadata.gossamer`.

    Raises:
        UsageError: a transcoder that is topk or gated.
    """
    cfg = configuration(contents)
    tensors = saelens_transcoder.turned(contents.tensors)
    if contents.config.architecture == "batchtopk":
        tensors["threshold"] = tensors["threshold"].expand(contents.config.n_latents)
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_safetensors(folder / WEIGHTS, tensors)
    write_json(folder / CONFIG, cfg)


def configuration(contents: Contents) -> dict[str, Any]:
    """What `cfg.json` of a dictionary holds.

    Raises:
        UsageError: a transcoder that is topk or gated.
    """
    config = contents.config
    topk = {"k": config.k, "rescale_acts_by_decoder_norm": False} if config.architecture == "topk" else {}
    transcoder = {} if config.site_out is None else {"d_out": config.d_in}
    return {
        "architecture": _architecture(config),
        "d_in": config.d_in,
        "d_sae": config.n_latents,
        "dtype": str(contents.tensors["W_enc"].dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": config.subtract_b_dec,
        "normalize_activations": "none" if config.normalisation == "centre" else config.normalisation,
        "reshape_activations": "hook_z" if config.flatten_heads else "none",
        **topk,
        **transcoder,
        "metadata": _metadata(contents),
    }


def _architecture(config: DictionaryConfig) -> str:
    if config.site_out is not None:
        return saelens_transcoder.architecture(config)
    return _WRITTEN.get(config.architecture, config.architecture)


def _metadata(contents: Contents) -> dict[str, Any]:
    config = contents.config
    metadata: dict[str, Any] = {
        **contents.provenance.get("training", {}),
        "sae_lens_version": _LAYOUT_VERSION,
        "model_name": config.model_name,
        "hook_name": None if config.site is None else config.site.transformer_lens,
        "hook_head_index": None,
        "l0": contents.reported.l0,
        "gossamer": {
            "site": None if config.site is None else str(config.site),
            "claims": asdict(contents.reported),
            "provenance": contents.provenance,
        },
    }
    if config.site_out is not None:
        metadata |= {"hook_name_out": config.site_out.transformer_lens, "hook_head_index_out": None}
    if config.architecture == "batchtopk":
        metadata["training_architecture"] = "batchtopk"
        metadata["training_architecture_details"] = {"k": config.k}
    if config.normalisation == "centre":
        kwargs = metadata.get("model_from_pretrained_kwargs") or {}
        metadata["model_from_pretrained_kwargs"] = {**kwargs, "center_writing_weights": True}
    return metadata
