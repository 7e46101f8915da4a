"""Transcoders of SAELens: what their `cfg.json` says beyond that of a dictionary, and which of them can be expressed.

    a = ReLU(x @ W_enc + b_enc)     jumprelu_transcoder: 0 unless x @ W_enc + b_enc > threshold
    y = a @ W_dec + b_dec           y is what stands at `hook_name_out`, `d_out` wide
      + x @ W_skip.T                skip_transcoder and jumprelu_skip_transcoder only; W_skip is stored (d_out, d_in)

b_dec is never subtracted from the input, and no normalisation of the input is undone on the output. Source:
github.com/decoderesearch/SAELens, `saes/transcoder.py`.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from gossamer.dictionary.config import DictionaryConfig
from gossamer.dictionary.formats.fields import typed
from gossamer.errors import UsageError
from gossamer.model.site import Site

SKIPPING = {"skip_transcoder": "relu", "jumprelu_skip_transcoder": "jumprelu"}
ARCHITECTURES = {"transcoder": "relu", "jumprelu_transcoder": "jumprelu", **SKIPPING}
# Without and with a skip connection.
_WRITTEN = {
    "relu": ("transcoder", "skip_transcoder"),
    "jumprelu": ("jumprelu_transcoder", "jumprelu_skip_transcoder"),
    "batchtopk": ("jumprelu_transcoder", "jumprelu_skip_transcoder"),
}


def site_out(cfg: dict[str, Any], metadata: dict[str, Any], path: Path) -> Site | None:
    """Where a transcoder writes; None if `cfg` is of a dictionary that reconstructs what it reads.

    Raises:
        UsageError: it does not say where, it has another width there, its output bias is subtracted from its input, or
            its input is normalised.
        GossamerError: a key is missing or of the wrong type.
    """
    if cfg.get("architecture") not in ARCHITECTURES:
        return None
    _require_expressible(cfg, metadata, path)
    name = metadata.get("hook_name_out")
    if metadata.get("hook_head_index_out") is not None:
        raise UsageError(f"{path}: writes one head of {name} alone; only transcoders to a whole site are known")
    try:
        return Site.parse(str(name))
    except UsageError as error:
        raise UsageError(
            f"{path}: hook_name_out {name!r} is no known site, so nothing says where this transcoder writes; "
            "correct it in metadata"
        ) from error


def _require_expressible(cfg: dict[str, Any], metadata: dict[str, Any], path: Path) -> None:
    widths = tuple(typed(cfg, key, int, path) for key in ("d_in", "d_out"))
    if widths[0] != widths[1]:
        raise UsageError(f"{path}: a transcoder from width {widths[0]} to {widths[1]}; only equal widths are supported")
    if typed(cfg, "apply_b_dec_to_input", bool, path, True):
        raise UsageError(f"{path}: apply_b_dec_to_input: expected false, since b_dec is of a transcoder's output")
    kind = cfg.get("normalize_activations") or "none"
    if kind != "none":
        raise UsageError(f"{path}: normalize_activations {kind!r} of a transcoder is not supported; only none is")
    kwargs = typed(metadata, "model_from_pretrained_kwargs", dict, path, {})
    if kwargs.get("center_writing_weights") is True:
        raise UsageError(f"{path}: a transcoder of a model with centred writing weights is not supported")


def architecture(config: DictionaryConfig) -> str:
    """SAELens' name of a transcoder's architecture.

    Raises:
        UsageError: SAELens has no such transcoder.
    """
    if config.architecture not in _WRITTEN:
        instead = "save it as sparsify" if config.architecture == "topk" else "no other format holds it either"
        raise UsageError(
            f"saelens holds {', '.join(_WRITTEN)} transcoders only, this one is {config.architecture}; {instead}"
        )
    return _WRITTEN[config.architecture][config.skip]


def turned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with any W_skip as the other side holds it: (d_out, d_in) in a file, (d_in, d_out) in gossamer."""
    return {name: tensor.T if name == "W_skip" else tensor for name, tensor in tensors.items()}
