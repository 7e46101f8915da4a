"""Gemma Scope 1 (Gemma 2): `params.npz`, JumpReLU without input bias or normalisation.

The file holds numbers only: model, site and L0 are words of its address,
`google/gemma-scope-{2b,9b,27b}-{pt,it}-{res,mlp,att}/layer_L/width_W/average_l0_N` (Lieberum et al. 2024,
arXiv 2408.05147).
"""

import re
from pathlib import Path

import torch
from torch import Tensor

from gossamer.dictionary.config import Contents, DictionaryConfig, ReportedMetrics
from gossamer.dictionary.formats import weights
from gossamer.dictionary.formats.facts import Origin, Request, agreed, provenance
from gossamer.errors import UsageError
from gossamer.model.site import Site

WEIGHTS = "params.npz"
_REPOSITORY = re.compile(r"gemma-scope-(?P<size>2b|9b|27b)-(?P<tuning>pt|it)-(?P<kind>res|mlp|att|transcoders)\b")
_KINDS = {"res": "resid_post", "mlp": "mlp_out", "att": "z"}


def read(path: Path, origin: Origin, request: Request) -> Contents:
    """Read a dictionary from its weights file; facts that its address lacks come from `request` or stay None.

    Raises:
        UsageError: a transcoder or an embedding dictionary, or the address contradicts `request`.
        GossamerError: damaged files, or tensors that do not fit each other.
    """
    address = f"{origin.source} {path.parent.resolve()}"
    site, model_name = _facts_in(address, path)
    tensors = {_cased(name): tensor for name, tensor in weights.read_npz(path, shapes_only=request.shapes_only).items()}
    config = config_of(tensors, site, model_name, request, path)
    l0 = re.search(r"average_l0_(\d+)", address)
    return Contents(
        config,
        weights.checked(tensors, config.shapes, path),
        provenance(origin, "gemma_scope", path, request, {}, {}),
        ReportedMetrics(l0=float(l0[1]) if l0 else None),
    )


def _facts_in(address: str, path: Path) -> tuple[Site | None, str | None]:
    repository = _REPOSITORY.search(address)
    layer = re.search(r"\blayer_(\d+)", address)
    if repository is not None and repository["kind"] == "transcoders":
        raise UsageError(f"{path}: a transcoder; only dictionaries that reconstruct their input are known")
    if re.search(r"/embedding/width_", address):
        raise UsageError(f"{path}: an embedding dictionary, whose scale is not settled; use one of a layer instead")
    if repository is None:
        return None, None
    model_name = f"google/gemma-2-{repository['size']}" + ("-it" if repository["tuning"] == "it" else "")
    return (Site(_KINDS[repository["kind"]], int(layer[1])) if layer else None), model_name


def _cased(name: str) -> str:
    return f"W_{name[2:]}" if name.startswith("w_") else name


def config_of(
    tensors: dict[str, Tensor], site: Site | None, model_name: str | None, request: Request, path: Path
) -> DictionaryConfig:
    """The configuration of tensors that come without one: widths from W_enc, JumpReLU, no input bias or normalisation.

    Raises:
        UsageError: `request` contradicts the facts.
        GossamerError: there is no matrix W_enc.
    """
    d_in, n_latents = weights.matrix_shape(tensors, "W_enc", path)
    return DictionaryConfig(
        architecture="jumprelu",
        d_in=d_in,
        n_latents=n_latents,
        site=agreed("site", site, request.site, path),
        model_name=agreed("model name", model_name, request.model_name, path),
    )


def write(folder: Path, contents: Contents) -> None:
    """Write `params.npz` (float32). The folder's name should say layer and L0, as the format's own do."""
    tensors = expressible(contents, "gemma_scope")
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_npz(folder / WEIGHTS, tensors)


def expressible(contents: Contents, format: str) -> dict[str, Tensor]:
    """The tensors of a dictionary as Gemma Scope's equations need them; an input bias is folded into the encoder's.

    Raises:
        UsageError: these equations cannot express the dictionary.
    """
    config, tensors = contents.config, dict(contents.tensors)
    if config.site_out is not None:
        raise UsageError(
            f"gossamer writes no transcoders as {format}; save it as saelens, or as sparsify if it is topk"
        )
    if config.architecture != "jumprelu":
        raise UsageError(f"{format} holds jumprelu only, this dictionary is {config.architecture}; save it as saelens")
    if config.normalisation != "none":
        raise UsageError(
            f"{format} has no input normalisation, this dictionary needs {config.normalisation}; save it as saelens"
        )
    if config.subtract_b_dec:
        shift = tensors["b_dec"].double() @ tensors["W_enc"].double()
        tensors["b_enc"] = (tensors["b_enc"].double() - shift).to(
            torch.promote_types(tensors["b_enc"].dtype, torch.float32)
        )
    return tensors
