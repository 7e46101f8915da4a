"""sparsify (EleutherAI): `cfg.json` and `sae.safetensors` in a folder named after the module whose output is read.

    a     = the k largest of ReLU((x - b_dec) @ encoder.weight.T + encoder.bias)
    x_hat = a @ W_dec + b_dec
      + x @ W_skip.T              with `skip_connection`, which is read of transcoders only

b_dec is always subtracted, whatever `normalize_decoder` says, except by a transcoder, which reads its module's input
and writes its output. Rows of W_dec are latents; older files hold `decoder.weight`, which is its transpose. Runs with
several seeds keep each in a folder `seedN` of the module's. Source: github.com/EleutherAI/sparsify, `sparse_coder.py`.
"""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gossamer.dictionary.config import Contents, DictionaryConfig, ReportedMetrics
from gossamer.dictionary.formats import weights
from gossamer.dictionary.formats.facts import Origin, Request, agreed, provenance
from gossamer.dictionary.formats.fields import number, read_object, require_one_of, require_spelling, typed
from gossamer.errors import UsageError
from gossamer.files import write_json
from gossamer.model.families import rescales
from gossamer.model.site import Site

WEIGHTS = "sae.safetensors"
CONFIG = "cfg.json"
RUN_CONFIGS = ("../config.json", "../../config.json")
_OPTIONAL = ("activation", "signed", "transcode", "skip_connection", "num_latents", "expansion_factor")
_NAMES = {"W_enc": "encoder.weight.T", "b_enc": "encoder.bias", "W_dec": "W_dec", "b_dec": "b_dec"}
_SKIP = {"W_skip": "W_skip.T"}
_EMBEDDINGS = ("embed_tokens", "embed_in")
_TRANSCODED = {"mlp_out": "mlp_in", "resid_post": "resid_pre"}


def read(path: Path, origin: Origin, request: Request) -> Contents:
    """Read a dictionary from its weights file; the site is that of its folder's name, if that is a module's.

    Raises:
        UsageError: a convention that is not known (groupmax, signed latents, a skip connection of no transcoder), a
            module whose output is no site, or the files contradict `request`.
        GossamerError: damaged files, or tensors that do not fit each other.
    """
    cfg_path = path.parent / CONFIG
    cfg = read_object(cfg_path)
    ours = typed(cfg, "gossamer", dict, cfg_path, {})
    config = _config(cfg, ours, cfg_path, request)
    stored = weights.read_safetensors(path, shapes_only=request.shapes_only)
    names = {**_NAMES, "W_dec": "decoder.weight.T"} if "decoder.weight" in stored else _NAMES
    names = {**names, **_SKIP} if config.skip else names
    claimed = typed(ours, "claims", dict, cfg_path, {})
    training = {key: value for key, value in cfg.items() if key != "gossamer" and value is not None}
    return Contents(
        config,
        weights.renamed(stored, names, config.shapes, path),
        provenance(origin, "sparsify", path, request, training, typed(ours, "provenance", dict, cfg_path, {})),
        ReportedMetrics(
            **{name: number(claimed.get(name), name, cfg_path, float) for name in ("l0", "explained_variance")}
        ),
    )


def _config(cfg: dict[str, Any], ours: dict[str, Any], path: Path, request: Request) -> DictionaryConfig:
    require_spelling(cfg, _OPTIONAL, path)
    require_one_of({"activation": "topk", **cfg}, "activation", ("topk",), path)
    if cfg.get("signed"):
        raise UsageError(f"{path}: signed is not supported; only plain topk is")
    d_in = typed(cfg, "d_in", int, path)
    transcodes, skip = (typed(cfg, key, bool, path, False) for key in ("transcode", "skip_connection"))
    if skip and not transcodes:
        raise UsageError(
            f"{path}: skip_connection: expected only with transcode true, found transcode "
            f"{cfg.get('transcode')!r}; a dictionary that reconstructs its input and also copies it is not supported"
        )
    model_name = ours.get("model_name") or _model_of_the_run(path.parent)
    model_name = agreed("model name", model_name, request.model_name, path)
    site, site_out = _sites(path.parent, ours, transcodes, model_name)
    return DictionaryConfig(
        architecture="topk",
        d_in=d_in,
        n_latents=typed(cfg, "num_latents", int, path, 0) or d_in * typed(cfg, "expansion_factor", int, path),
        site=agreed("site", site, request.site, path),
        model_name=model_name,
        k=typed(cfg, "k", int, path),
        subtract_b_dec=not transcodes,
        site_out=site_out,
        skip=skip,
    )


def _model_of_the_run(folder: Path) -> str | None:
    for name in RUN_CONFIGS:
        if weights.is_there(folder / name):
            model = read_object(folder / name).get("model")
            return model if isinstance(model, str) else None
    return None


def _sites(
    folder: Path, ours: dict[str, Any], transcodes: bool, model_name: str | None
) -> tuple[Site | None, Site | None]:
    """Where it reads and, if it is a transcoder, where it writes."""
    if "site" in ours:
        return tuple(None if ours.get(key) is None else Site.parse(str(ours[key])) for key in ("site", "site_out"))  # type: ignore[return-value]
    module = folder.resolve().parent.name if re.fullmatch(r"seed\d+", folder.name) else folder.resolve().name
    site = _site_of(re.sub(r"^(layers|h)_(?=\d)", r"\1.", module))
    if site is not None and site.facts.added and rescales(model_name):
        raise UsageError(
            f"{folder}: reads the output of {module} before its norm, which is no site of {model_name}; "
            "only dictionaries of whole layers of this model are known"
        )
    if not transcodes:
        return site, None
    if site is None or site.kind not in _TRANSCODED:
        raise UsageError(
            f"{folder}: a transcoder whose folder is named after no layer or MLP; call it layers.3.mlp, say"
        )
    return Site(_TRANSCODED[site.kind], site.layer), site


def _site_of(module: str) -> Site | None:
    if module in _EMBEDDINGS:
        return Site("embed")
    try:
        return Site.parse(module)
    except UsageError:
        return None


def write(folder: Path, contents: Contents) -> None:
    """Write `cfg.json` and `sae.safetensors`, which sparsify loads as they are; a missing input bias is made up for.

    The format keeps the site in the folder's name (`layers.3` for resid_post.3). gossamer keeps it in `cfg.json` as
    well, so that any name will do for its own reader; sparsify passes over that entry.

    Raises:
        UsageError: not topk, or normalised input.
    """
    config = contents.config
    if config.architecture != "topk":
        raise UsageError(f"sparsify holds topk only, this dictionary is {config.architecture}; save it as saelens")
    if config.normalisation != "none":
        raise UsageError(
            f"sparsify has no input normalisation, this dictionary needs {config.normalisation}; save it as saelens"
        )
    tensors = dict(contents.tensors)
    if config.site_out is None and not config.subtract_b_dec:
        shift = tensors["b_dec"].double() @ tensors["W_enc"].double()
        tensors["b_enc"] = (tensors["b_enc"].double() + shift).to(tensors["b_enc"].dtype)
    names = {**_NAMES, **_SKIP} if config.skip else _NAMES
    stored = {
        name.removesuffix(".T"): tensors[ours].T if name.endswith(".T") else tensors[ours]
        for ours, name in names.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_safetensors(folder / WEIGHTS, stored)
    write_json(folder / CONFIG, _cfg(contents))


def _cfg(contents: Contents) -> dict[str, Any]:
    config = contents.config
    norms = contents.tensors["W_dec"].float().norm(dim=-1)
    return {
        "activation": "topk",
        "expansion_factor": max(1, config.n_latents // config.d_in),
        "normalize_decoder": torch.allclose(norms, torch.ones_like(norms), atol=1e-3),
        "num_latents": config.n_latents,
        "k": config.k,
        "multi_topk": False,
        "skip_connection": config.skip,
        "transcode": config.site_out is not None,
        "d_in": config.d_in,
        "gossamer": {
            "site": None if config.site is None else str(config.site),
            "site_out": None if config.site_out is None else str(config.site_out),
            "model_name": config.model_name,
            "claims": asdict(contents.reported),
            "provenance": contents.provenance,
        },
    }
