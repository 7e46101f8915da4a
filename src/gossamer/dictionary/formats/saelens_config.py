"""`cfg.json` of SAELens, any version, as the facts of a dictionary."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gossamer.dictionary.config import DictionaryConfig, ReportedMetrics
from gossamer.dictionary.formats import saelens_transcoder
from gossamer.dictionary.formats.facts import Request, agreed
from gossamer.dictionary.formats.fields import number, require_one_of, require_spelling, typed
from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import Site

ARCHITECTURES: dict[str, str] = {
    "standard": "relu",
    "jumprelu": "jumprelu",
    "topk": "topk",
    "batchtopk": "batchtopk",
    "matryoshka_batchtopk": "batchtopk",
    "gated": "gated",
    **saelens_transcoder.ARCHITECTURES,
}
_RENAMED = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
_NOT_METADATA = {
    "architecture", "d_in", "d_sae", "dtype", "device", "apply_b_dec_to_input", "normalize_activations",
    "reshape_activations", "d_out", "k", "rescale_acts_by_decoder_norm", "activation_fn", "activation_fn_kwargs",
    "finetuning_scaling_factor",
}  # fmt: skip
# What gossamer meant by these hooks before it told apart a norm from its gain, and a projection from its rotation.
_MEANT = {"ln2.hook_normalized": "mlp_in", "attn.hook_q": "q", "attn.hook_k": "k", "hook_embed": "embed"}
# Keys whose absence means something, so that a misspelt one is a silent default; and legitimate ones near them.
_SPELLED = {*_NOT_METADATA, *_RENAMED, *_RENAMED.values(), "metadata", "hook_head_index_out", "training_architecture"}
# Facts that only training in gossamer leaves in a file.
_TRAINED = ("plan", "config")
_CONSUMED = {"model_name", "hook_name", "hook_name_out", "hook_head_index", "l0", "gossamer"}


@dataclass(frozen=True)
class SaeLensFacts:
    """What a `cfg.json` says.

    Attributes:
        config: the conventions; the architecture is that of the tensors in the file.
        rescaled: activations are multiplied by decoder norms before the activation function and divided after it.
        averaged: activations were multiplied by one factor in training that is not in the weights yet.
        finetuned: a `scaling_factor` tensor multiplies the latents before decoding.
        trained_as_batchtopk: a jumprelu file whose threshold is BatchTopK's single one; `k` is that of the training.
        training: everything else it says, for the provenance.
        earlier: provenance from before gossamer wrote the file.
        reported: what it says of its quality.
    """

    config: DictionaryConfig
    rescaled: bool
    averaged: bool
    finetuned: bool
    trained_as_batchtopk: bool
    training: dict[str, Any]
    earlier: dict[str, Any]
    reported: ReportedMetrics


def parse(cfg: Any, path: Path, request: Request) -> SaeLensFacts:
    """Read the content of a `cfg.json`.

    Raises:
        UsageError: an architecture or a convention that is not known, a fact that contradicts `request`.
        GossamerError: a key is missing or of the wrong type.
    """
    if not isinstance(cfg, dict):
        raise GossamerError(f"{path}: expected a JSON object, found {type(cfg).__name__}; write it again")
    require_spelling(cfg, _SPELLED, path)
    nested = typed(cfg, "metadata", dict, path, {})
    cfg = cfg if _is_nested(cfg, nested) else _upgraded({**cfg, **nested}, path)
    metadata = cfg.get("metadata") or {}
    ours = typed(metadata, "gossamer", dict, path, {})
    details = typed(metadata, "training_architecture_details", dict, path, {})
    earlier = typed(ours, "provenance", dict, path, {})
    typed(earlier, "training", dict, path, {})
    architecture = _architecture(cfg, path)
    trained_as_batchtopk = ARCHITECTURES.get(str(metadata.get("training_architecture"))) == "batchtopk"
    k = cfg.get("k", details.get("k"))
    if architecture == "topk" and k is None:
        raise GossamerError(f"{path}: expected a whole number at 'k' of a topk dictionary, found nothing")
    config = DictionaryConfig(
        architecture=architecture,
        d_in=typed(cfg, "d_in", int, path),
        n_latents=typed(cfg, "d_sae", int, path),
        site=agreed("site", _site(metadata, path, request), request.site, path),
        model_name=agreed("model name", typed(metadata, "model_name", str, path, None), request.model_name, path),
        k=number(k, "k", path),
        subtract_b_dec=typed(cfg, "apply_b_dec_to_input", bool, path, True),
        flatten_heads=cfg.get("reshape_activations") == "hook_z",
        site_out=saelens_transcoder.site_out(cfg, metadata, path),
        skip=cfg.get("architecture") in saelens_transcoder.SKIPPING,
    )
    kind = cfg.get("normalize_activations") or "none"
    claimed = typed(ours, "claims", dict, path, {})
    return SaeLensFacts(
        config=replace(config, normalisation=_normalisation(str(kind), metadata, config.site, path)),
        rescaled=typed(cfg, "rescale_acts_by_decoder_norm", bool, path, architecture == "batchtopk"),
        averaged=kind == "expected_average_only_in",
        finetuned=typed(cfg, "finetuning_scaling_factor", bool, path, False),
        trained_as_batchtopk=trained_as_batchtopk and architecture == "jumprelu",
        training={key: value for key, value in metadata.items() if key not in _CONSUMED and value is not None},
        earlier=earlier,
        reported=ReportedMetrics(
            number(claimed.get("l0", metadata.get("l0")), "l0", path, float),
            number(claimed.get("explained_variance"), "explained_variance", path, float),
        ),
    )


def _is_nested(cfg: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """Whether this is the layout of version 6, which keeps what is not about the equations under `metadata`."""
    version = cfg.get("sae_lens_version") or metadata.get("sae_lens_version")
    major = str(version).split(".")[0]
    return major.isdigit() and int(major) >= 6


def _upgraded(cfg: dict[str, Any], path: Path) -> dict[str, Any]:
    """A flat configuration from before version 6 with the names and defaults of version 6."""
    flat = {_RENAMED.get(key, key): value for key, value in cfg.items() if key != "metadata"}
    flat.setdefault("architecture", "standard")
    flat["activation_fn"] = "relu" if flat.get("activation_fn") is None else flat["activation_fn"]
    activation = require_one_of(flat, "activation_fn", ("relu", "topk"), path)
    k = typed(flat, "activation_fn_kwargs", dict, path, {}).get("k")
    if activation == "topk":
        flat["architecture"], flat["k"] = "topk", k
    elif k is not None:
        raise UsageError(
            f"{path}: activation_fn_kwargs have k = {k!r} of topk, activation_fn is relu; correct one of them"
        )
    if flat.get("normalize_activations") is True:
        flat["normalize_activations"] = "expected_average_only_in"
    # SAELens called the head-flattening hook by this name before it had a setting for it.
    flat.setdefault("reshape_activations", "hook_z" if "hook_z" in str(flat.get("hook_name")) else "none")
    flat.setdefault("prepend_bos", True)
    flat["metadata"] = {key: value for key, value in flat.items() if key not in _NOT_METADATA}
    return flat


def _architecture(cfg: dict[str, Any], path: Path) -> str:
    name = cfg.get("architecture", "standard")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise UsageError(f"{path}: unknown architecture {name!r}; known: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def _site(metadata: dict[str, Any], path: Path, request: Request) -> Site | None:
    name = metadata.get("hook_name")
    if metadata.get("hook_head_index") is not None:
        raise UsageError(
            f"{path}: reads head {metadata['hook_head_index']} of {name} alone; "
            "only dictionaries of a whole site are known"
        )
    if name is None:
        return None
    if (written := _written_by_gossamer(str(name), metadata)) is not None:
        return written
    try:
        return Site.parse(str(name))
    except UsageError as error:
        if request.site is not None:
            return None
        raise UsageError(
            f"{path}: hook_name {name!r} is no known site; say which one it is with site= (--fact site=resid_post.3)"
        ) from error


def _written_by_gossamer(name: str, metadata: dict[str, Any]) -> Site | None:
    """The site of a file of ours, if it says so or is of the time when some hooks' names meant another site to us."""
    ours = metadata.get("gossamer")
    if not isinstance(ours, dict):
        return None
    if isinstance(ours.get("site"), str):
        return Site.parse(ours["site"])
    earlier = ours.get("provenance")
    trained_here = not isinstance(earlier, dict) or "format" not in earlier or not metadata.keys().isdisjoint(_TRAINED)
    hook = re.fullmatch(r"(?:blocks\.(\d+)\.)?(.+)", name)
    if not trained_here or hook is None or hook[2] not in _MEANT:
        return None
    return Site(_MEANT[hook[2]], None if hook[1] is None else int(hook[1]))


def _normalisation(kind: str, metadata: dict[str, Any], site: Site | None, path: Path) -> str:
    kwargs = typed(metadata, "model_from_pretrained_kwargs", dict, path, {})
    centred = kwargs.get("center_writing_weights") is True
    if kind in ("none", "expected_average_only_in"):
        # Centring a model's writing weights removes the mean of whatever is read from or added to the residual stream.
        written = site is not None and site.facts.in_stream
        return "centre" if centred and written else "none"
    if kind not in ("layer_norm", "constant_norm_rescale"):
        known = "none, expected_average_only_in, layer_norm, constant_norm_rescale"
        raise UsageError(
            f"{path}: unknown normalize_activations {kind!r}; known: {known} (save a whitened one for inference first)"
        )
    if centred and kind == "constant_norm_rescale":
        raise UsageError(f"{path}: constant_norm_rescale on a model with centred writing weights is not supported")
    return kind
