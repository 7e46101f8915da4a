"""OpenAI's autoencoders of GPT-2 small: one `LAYER.pt` each, in `LOCATION/autoencoders`.

The activation function is named in the file. With TopK, each token is layer-normalised first, with the unbiased
standard deviation and the constant outside the root, and the reconstruction is scaled back; with ReLU it is not:

    a     = the k largest of (x - pre_bias) @ encoder.weight.T + latent_bias, then ReLU      x normalised
    x_hat = a @ decoder.weight.T + pre_bias                                                   then scaled back

Source: Gao et al. 2024, arXiv 2406.04093; github.com/openai/sparse_autoencoder, `model.py`.
"""

import re
from pathlib import Path
from typing import Any

from gossamer.dictionary.config import Contents, DictionaryConfig
from gossamer.dictionary.formats import weights
from gossamer.dictionary.formats.facts import Origin, Request, agreed, provenance
from gossamer.dictionary.formats.fields import require_one_of, typed
from gossamer.dictionary.formats.torch_archive import floating, read_torch, whole
from gossamer.errors import GossamerError
from gossamer.model.site import Site

WEIGHTS = ("*.pt",)
_NAMES = {"W_enc": "encoder.weight.T", "b_enc": "latent_bias", "W_dec": "decoder.weight.T", "b_dec": "pre_bias"}
_STATISTICS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")
_SETTINGS = ("activation", "activation_state_dict")
_LOCATIONS = {
    "resid_post_attn": "resid_mid",
    "resid_post_mlp": "resid_post",
    "resid_delta_attn": "attn_out",
    "resid_delta_mlp": "mlp_out",
}


def read(path: Path, origin: Origin, request: Request) -> Contents:
    """Read a dictionary; site and model are words of its address, if that is kept, or come from `request`.

    Raises:
        UsageError: an unknown activation function, or the address contradicts `request`.
        GossamerError: a damaged file, one of another format, or tensors that do not fit each other.
    """
    content = read_torch(path, shapes_only=request.shapes_only)
    if "pre_bias" not in content or "latent_bias" not in content:
        raise GossamerError(
            f"{path}: expected pre_bias and latent_bias of OpenAI's autoencoders, found "
            f"{', '.join(sorted(content)[:8])}; other formats are recognised by the configuration beside it: fetch that"
        )
    stored = floating(content, path, leave=(*_STATISTICS, *_SETTINGS))
    n_latents, d_in = weights.matrix_shape(stored, "encoder.weight", path)
    site, model_name = _facts_in(f"{origin.source} {path.resolve()}")
    k = _k(content, path)
    config = DictionaryConfig(
        architecture="relu" if k is None else "topk",
        d_in=d_in,
        n_latents=n_latents,
        site=agreed("site", site, request.site, path),
        model_name=agreed("model name", model_name, request.model_name, path),
        k=k,
        normalisation="none" if k is None else "layer_norm",
        subtract_b_dec=True,
    )
    return Contents(
        config,
        weights.renamed(stored, _NAMES, config.shapes, path),
        provenance(origin, "openai", path, request, {}, {}),
    )


def _k(content: dict[str, Any], path: Path) -> int | None:
    """How many latents are kept; None if all positive ones are."""
    if require_one_of({"activation": "ReLU", **content}, "activation", ("ReLU", "TopK"), path) == "ReLU":
        return None
    state = typed(content, "activation_state_dict", dict, path)
    require_one_of(state, "postact_fn", ("ReLU",), path)
    k = whole(state, "k", path)
    if k is None:
        raise GossamerError(f"{path}: expected k of TopK in activation_state_dict, found none; fetch the file again")
    return k


def _facts_in(address: str) -> tuple[Site | None, str | None]:
    found = re.search(rf"({'|'.join(_LOCATIONS)}|mlp_post_act)(?:_v\d\w*)?/autoencoders/(\d+)\.pt", address)
    model_name = "gpt2" if re.search(r"\bgpt2-small/", address) else None
    if found is None or found[1] not in _LOCATIONS:
        return None, model_name
    return Site(_LOCATIONS[found[1]], int(found[2])), model_name
