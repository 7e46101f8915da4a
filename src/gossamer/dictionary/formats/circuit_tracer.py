"""Transcoder sets of circuit-tracer, such as mwhanna's: `layer_L.safetensors`, with `config.yaml` for the whole set.

    a = activation(x @ W_enc.T + b_enc)       W_enc is stored (n, d)
    y = a @ W_dec + b_dec                     y is what stands at the set's output
      + x @ W_skip.T                          where the file holds W_skip, stored (d_out, d_in)

The activation is ReLU, a JumpReLU if the file holds its thresholds, or TopK if `config.yaml` says so. A set without
`config.yaml` maps the MLP's input to its output. Source: github.com/safety-research/circuit-tracer,
`transcoder/single_layer_transcoder.py`.
"""

import re
from pathlib import Path
from typing import Any

from gossamer.dictionary.config import Contents, DictionaryConfig
from gossamer.dictionary.formats import weights
from gossamer.dictionary.formats.facts import Origin, Request, agreed, provenance
from gossamer.dictionary.formats.fields import require_one_of, require_spelling, typed
from gossamer.errors import UsageError
from gossamer.model.families import rescales
from gossamer.model.site import Site
from gossamer.yaml_files import read_yaml

WEIGHTS = ("layer_[0-9].safetensors", "layer_[0-9][0-9].safetensors", "layer_[0-9][0-9][0-9].safetensors")
CONFIG = "config.yaml"
CONFIGS = (CONFIG,)
_NAMES = {"W_enc": "W_enc.T", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
_THRESHOLD = "activation_function.threshold"
_SKIP = "W_skip"
_INPUTS = {"mlp.hook_in": "mlp_in", "ln2.hook_normalized": "mlp_normalized", "hook_resid_mid": "resid_mid"}
_OUTPUTS = {"hook_mlp_out": "mlp_out", "mlp.hook_out": "mlp_out"}


def read(path: Path, origin: Origin, request: Request) -> Contents:
    """Read the transcoder of one layer from its weights file.

    Raises:
        UsageError: hooks that are no sites, or the files contradict `request`.
        GossamerError: damaged files, or tensors that do not fit each other.
    """
    cfg_path = path.parent / CONFIG
    cfg = read_yaml(cfg_path) if weights.is_there(cfg_path) else {}
    require_spelling(cfg, ("activation", "feature_input_hook", "feature_output_hook", "k", "model_name"), cfg_path)
    model_name = agreed("model name", typed(cfg, "model_name", str, cfg_path, None), request.model_name, path)
    site, site_out = _sites(cfg, model_name, path)
    stored = weights.read_safetensors(path, shapes_only=request.shapes_only)
    n_latents, d_in = weights.matrix_shape(stored, "W_enc", path)
    architecture = _architecture(cfg, _THRESHOLD in stored, cfg_path)
    config = DictionaryConfig(
        architecture=architecture,
        d_in=d_in,
        n_latents=n_latents,
        site=agreed("site", site, request.site, path),
        model_name=model_name,
        k=typed(cfg, "k", int, cfg_path) if architecture == "topk" else None,
        site_out=site_out,
        skip=_SKIP in stored,
    )
    names = {**_NAMES, "threshold": _THRESHOLD} if architecture == "jumprelu" else _NAMES
    names = {**names, "W_skip": f"{_SKIP}.T"} if config.skip else names
    return Contents(
        config,
        weights.renamed(stored, names, config.shapes, path),
        provenance(origin, "circuit_tracer", path, request, {"transcoder_set": cfg}, {}),
    )


def _architecture(cfg: dict[str, Any], has_threshold: bool, path: Path) -> str:
    if has_threshold:
        return "jumprelu"
    return str(require_one_of({"activation": "relu", **cfg}, "activation", ("relu", "topk"), path))


def _sites(cfg: dict[str, Any], model_name: str | None, path: Path) -> tuple[Site, Site]:
    found = re.search(r"layer_(\d+)$", path.stem)
    if found is None:
        raise UsageError(f"{path}: expected a file layer_L.safetensors, whose name says the layer")
    facts = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out", **cfg}
    reads = require_one_of(facts, "feature_input_hook", tuple(_INPUTS), path)
    writes = require_one_of(facts, "feature_output_hook", tuple(_OUTPUTS), path)
    # Some models normalise what their MLP puts out before it is added to the stream; elsewhere the two are one.
    if writes == "mlp.hook_out" and rescales(model_name):
        raise UsageError(f"{path}: writes the MLP's output before its norm, which is no site of {model_name}")
    return Site(_INPUTS[reads], int(found[1])), Site(_OUTPUTS[writes], int(found[1]))
