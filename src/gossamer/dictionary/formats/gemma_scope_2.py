"""Gemma Scope 2 (Gemma 3): `params.safetensors` with lower-case names and, if present, `config.json`.

JumpReLU without input bias or normalisation. Where `config.json` is missing, model and site are words of the address,
`google/gemma-scope-2-{270m,1b,4b,12b,27b}-{pt,it}/{resid_post,attn_out,mlp_out,transcoder}[_all]/layer_L_width_W_l0_S`.
Its `attn_out` is the input of the output projection, which is the site `z`.

A transcoder reads the MLP's normalised input and writes what the MLP adds to the stream. An affine one (`_affine` at
the end of its address) adds x @ affine_skip_connection, which is stored (d_in, d_out).
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gossamer.dictionary.config import Contents
from gossamer.dictionary.formats import weights
from gossamer.dictionary.formats.facts import Origin, Request, provenance
from gossamer.dictionary.formats.fields import read_object, require_spelling, typed
from gossamer.dictionary.formats.gemma_scope import config_of, expressible
from gossamer.errors import UsageError
from gossamer.files import write_json
from gossamer.model.site import Site

WEIGHTS = "params.safetensors"
CONFIG = "config.json"
_NAMES = {"w_enc": "W_enc", "w_dec": "W_dec", "b_enc": "b_enc", "b_dec": "b_dec", "threshold": "threshold"}
_SKIP = {"affine_skip_connection": "W_skip"}
_MODULES = {
    "resid_post": "model.layers.{}.output",
    "z": "model.layers.{}.self_attn.o_proj.input",
    "mlp_out": "model.layers.{}.post_feedforward_layernorm.output",
}
_TRANSCODER_INPUT = {"mlp_in": "model.layers.{}.pre_feedforward_layernorm.output"}
# What a folder's dictionaries read and, if they are transcoders, write.
_FOLDERS = {
    "resid_post": (_MODULES["resid_post"], None),
    "attn_out": (_MODULES["z"], None),
    "mlp_out": (_MODULES["mlp_out"], None),
    "transcoder": (_TRANSCODER_INPUT["mlp_in"], _MODULES["mlp_out"]),
}


def read(path: Path, origin: Origin, request: Request) -> Contents:
    """Read a dictionary from its weights file.

    Facts that neither `config.json` nor its address hold come from `request` or stay None.

    Raises:
        UsageError: a crosscoder, an unknown architecture or hook point, or the files contradict `request`.
        GossamerError: damaged files, or tensors that do not fit each other.
    """
    folder = path.parent
    address = f"{origin.source} {folder.resolve()}"
    cfg = read_object(folder / CONFIG) if weights.is_there(folder / CONFIG) else _inferred(address, path)
    facts = _facts_in(cfg, folder / CONFIG)
    stored = weights.read_safetensors(path, shapes_only=request.shapes_only)
    names = {**_NAMES, **_SKIP} if facts.skip else _NAMES
    tensors = {names.get(name, name): tensor for name, tensor in stored.items()}
    plain = config_of(tensors, facts.site, facts.model_name, request, path)
    config = replace(plain, site_out=facts.site_out, skip=facts.skip)
    return Contents(
        config,
        weights.checked(tensors, config.shapes, path),
        provenance(origin, "gemma_scope_2", path, request, {}, {}),
    )


def _inferred(address: str, path: Path) -> dict[str, Any]:
    """The configuration that the address of a folder without one implies, as far as it does."""
    if re.search(r"/crosscoder(_all)?/layer_", address):
        raise UsageError(f"{path}: a crosscoder; only dictionaries and transcoders are known")
    cfg: dict[str, Any] = {"architecture": "jump_relu"}
    repository = re.search(r"gemma-scope-2-(\w+)-(pt|it)\b", address)
    if repository is not None:
        cfg["model_name"] = f"google/gemma-3-{repository[1]}-{repository[2]}"
    place = re.search(rf"/({'|'.join(_FOLDERS)})(?:_all)?/layer_(\d+)_\w*?(_affine)?(?!\w)", address)
    if place is not None:
        reads, writes = _FOLDERS[place[1]]
        cfg["hf_hook_point_in"] = reads.format(place[2])
        cfg["hf_hook_point_out"] = None if writes is None else writes.format(place[2])
        cfg["affine_connection"] = place[3] is not None
    return cfg


@dataclass(frozen=True)
class _Facts:
    site: Site | None
    site_out: Site | None
    skip: bool
    model_name: str | None


def _facts_in(cfg: dict[str, Any], path: Path) -> _Facts:
    require_spelling(cfg, ("hf_hook_point_in", "hf_hook_point_out", "affine_connection", "model_name"), path)
    if cfg.get("architecture") != "jump_relu":
        raise UsageError(f"{path}: unknown architecture {cfg.get('architecture')!r}; known: jump_relu")
    reads, writes = cfg.get("hf_hook_point_in"), cfg.get("hf_hook_point_out")
    transcodes, skip = writes not in (None, reads), typed(cfg, "affine_connection", bool, path, False)
    if skip and not transcodes:
        raise UsageError(
            f"{path}: affine_connection: expected only of a transcoder, found hf_hook_point_out {writes!r}; "
            "say there where it writes"
        )
    known = {**_MODULES, **_TRANSCODER_INPUT} if transcodes else _MODULES
    return _Facts(
        None if reads is None else _site("hf_hook_point_in", reads, known, path),
        _site("hf_hook_point_out", writes, _MODULES, path) if transcodes else None,
        skip,
        _model_name(cfg.get("model_name")),
    )


def _site(key: str, point: object, known: dict[str, str], path: Path) -> Site:
    layer = re.search(r"\blayers\.(\d+)\.", str(point))
    for kind, module in known.items():
        if layer is not None and str(point).endswith(module.format(layer[1]).removeprefix("model.")):
            return Site(kind, int(layer[1]))
    points = ", ".join(module.format("L") for module in known.values())
    raise UsageError(f"{path}: unknown {key} {point!r}; known: {points}")


def _model_name(name: object) -> str | None:
    if not isinstance(name, str):
        return None
    full = (name if "/" in name else f"google/{name}").replace("gemma-v3", "gemma-3")
    # The smallest model's repository does not say -pt.
    return full.replace("-pt", "") if "270m" in full else full


def write(folder: Path, contents: Contents) -> None:
    """Write `params.safetensors` and `config.json`.

    Raises:
        UsageError: not jumprelu without normalisation, or a site that the format has no name for.
    """
    tensors, site = expressible(contents, "gemma_scope_2"), contents.config.site
    if site is None or site.kind not in _MODULES:
        raise UsageError(f"gemma_scope_2 has names for {', '.join(_MODULES)} only, this dictionary is at {site}")
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_safetensors(folder / WEIGHTS, {lower: tensors[name] for lower, name in _NAMES.items()})
    cfg = {
        "architecture": "jump_relu",
        "model_name": contents.config.model_name,
        "hf_hook_point_in": _MODULES[site.kind].format(site.layer),
        "affine_connection": False,
    }
    write_json(folder / CONFIG, cfg)
