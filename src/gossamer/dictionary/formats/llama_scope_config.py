"""`hyperparams.json` or `config.json` of Llama Scope and Llamascopium, as the facts of a dictionary."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.dictionary.config import DictionaryConfig
from gossamer.dictionary.formats.facts import Request, agreed
from gossamer.dictionary.formats.fields import positive, read_object, require_one_of, require_spelling, typed
from gossamer.dictionary.formats.weights import is_there
from gossamer.errors import UsageError
from gossamer.model.site import Site

CONFIGS = ("hyperparams.json", "config.json", "../hyperparams.json", "../config.json")
MODEL_CONFIGS = ("lm_config.json", "../lm_config.json")
_OPTIONAL = (
    "sparsity_include_decoder_norm",
    "apply_decoder_bias_to_pre_encoder",
    "use_decoder_bias",
    "use_glu_encoder",
    "dataset_average_activation_norm",
    "d_sae",
)
_ACTIVATIONS = ("relu", "jumprelu", "topk")
_SCALES = ("dataset-wise", "token-wise", "inference")


@dataclass(frozen=True)
class LlamaScopeFacts:
    """What a configuration says.

    Attributes:
        config: the conventions once the scale of the input is folded into the weights.
        scaled: input and output were scaled by their mean norms in training.
        gated: decoder norms multiply what the activation function sees, and divide what it puts out.
        subtracts: the decoder's bias is subtracted from the scaled input.
        biased: there is a decoder bias.
        hooks: the makers' names of input and output.
        cfg: everything it says.
        path: the configuration, for messages.
    """

    config: DictionaryConfig
    scaled: bool
    gated: bool
    subtracts: bool
    biased: bool
    hooks: tuple[str, str]
    cfg: dict[str, Any]
    path: Path


def parse(weights: Path, request: Request) -> LlamaScopeFacts:
    """Read the configuration that belongs to a weights file.

    Raises:
        UsageError: a convention that is not known, a hook point that is no site, or `request` is contradicted.
        GossamerError: a key is missing or of the wrong type.
    """
    path = next((found for name in CONFIGS if (found := weights.parent / name).is_file()), weights.parent / CONFIGS[1])
    cfg = read_object(path)
    require_spelling(cfg, _OPTIONAL, path)
    scale = require_one_of(cfg, "norm_activation", _SCALES, path)
    activation = require_one_of(cfg, "act_fn", _ACTIVATIONS, path)
    _refuse(cfg, scale, activation, path)
    hooks = (typed(cfg, "hook_point_in", str, path), typed(cfg, "hook_point_out", str, path))
    d_in = typed(cfg, "d_model", int, path)
    config = DictionaryConfig(
        architecture=activation,
        d_in=d_in,
        n_latents=typed(cfg, "d_sae", int, path, 0) or round(d_in * positive(cfg, "expansion_factor", path)),
        site=agreed("site", _site(hooks[0], path), request.site, path),
        model_name=agreed("model name", _model_name(weights.parent), request.model_name, path),
        k=typed(cfg, "top_k", int, path) if activation == "topk" else None,
        normalisation="constant_norm_rescale" if scale == "token-wise" else "none",
        site_out=None if hooks[0] == hooks[1] else _site(hooks[1], path),
    )
    return LlamaScopeFacts(
        config,
        scaled=scale == "dataset-wise",
        gated=typed(cfg, "sparsity_include_decoder_norm", bool, path, True),
        subtracts=typed(cfg, "apply_decoder_bias_to_pre_encoder", bool, path, False),
        biased=typed(cfg, "use_decoder_bias", bool, path, True),
        hooks=hooks,
        cfg=cfg,
        path=path,
    )


def _refuse(cfg: dict[str, Any], scale: str, activation: str, path: Path) -> None:
    if cfg.get("use_glu_encoder"):
        raise UsageError(f"{path}: use_glu_encoder is not supported")
    # The makers' fold divides the encoder's bias by the scale, and with it every pre-activation, but not the threshold.
    if scale == "inference" and activation == "jumprelu":
        raise UsageError(
            f"{path}: norm_activation is inference: the input's scale was folded by code that leaves thresholds in "
            "other units; give the files as they were trained (dataset-wise)"
        )


def _site(hook: str, path: Path) -> Site:
    try:
        return Site.parse(hook)
    except UsageError as error:
        raise UsageError(f"{path}: hook point {hook!r} is no known site") from error


def _model_name(folder: Path) -> str | None:
    path = next((found for name in MODEL_CONFIGS if is_there(found := folder / name)), None)
    return None if path is None else typed(read_object(path), "model_name", str, path, None)
