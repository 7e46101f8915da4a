"""Dictionaries of attention outputs (Kissane, Krzyzanowski et al. 2024, arXiv 2406.17759): `NAME.pt`, `NAME_cfg.json`.

    a     = ReLU((x - b_dec) @ W_enc + b_enc)
    x_hat = a @ W_dec + b_dec

x are the outputs of all heads side by side, before the output projection. SAELens's copies of them are read as saelens.
"""

from pathlib import Path

from gossamer.dictionary.config import Contents, DictionaryConfig
from gossamer.dictionary.formats import weights
from gossamer.dictionary.formats.facts import Origin, Request, agreed, provenance
from gossamer.dictionary.formats.fields import read_object, typed
from gossamer.dictionary.formats.torch_archive import floating, read_torch
from gossamer.model.site import Site

WEIGHTS = ("*.pt",)
CONFIGS = ("{stem}_cfg.json",)
_NAMES = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}


def read(path: Path, origin: Origin, request: Request) -> Contents:
    """Read a dictionary from its weights file.

    Raises:
        UsageError: `act_name` is no site, or the files contradict `request`.
        GossamerError: damaged files, or tensors that do not fit the configuration.
    """
    cfg_path = path.parent / CONFIGS[0].format(stem=path.stem)
    cfg = read_object(cfg_path)
    site = agreed("site", Site.parse(typed(cfg, "act_name", str, cfg_path)), request.site, path)
    config = DictionaryConfig(
        architecture="relu",
        d_in=typed(cfg, "act_size", int, cfg_path),
        n_latents=typed(cfg, "dict_size", int, cfg_path),
        site=site,
        model_name=agreed("model name", typed(cfg, "model_name", str, cfg_path, None), request.model_name, path),
        subtract_b_dec=True,
        flatten_heads=site is not None and site.kind == "z",
    )
    stored = floating(read_torch(path, shapes_only=request.shapes_only), path)
    return Contents(
        config,
        weights.renamed(stored, _NAMES, config.shapes, path),
        provenance(origin, "hook_z", path, request, cfg, {}),
    )
