"""dictionary_learning: `config.json` and `ae.pt` (or a checkpoint `checkpoints/ae_STEP.pt` of the same run).

The class of the dictionary is `trainer.dict_class` of `config.json`; each has its own names and conventions (CLASSES).
Activations that were divided by `norm_factor` in training left no trace in finished files, whose biases and thresholds
were multiplied by it. A run that crashed leaves a resume file under the same name `ae.pt`, in which they were not:
reading does it. Source: github.com/saprmarks/dictionary_learning, `dictionary.py` and `trainers/`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gossamer.dictionary.config import Contents, DictionaryConfig
from gossamer.dictionary.formats import weights
from gossamer.dictionary.formats.facts import Origin, Request, agreed, provenance
from gossamer.dictionary.formats.fields import positive, read_object, typed
from gossamer.dictionary.formats.torch_archive import floating, read_torch, whole
from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import Site

WEIGHTS = ("ae.pt", "ae_*.pt")
CONFIGS = ("config.json", "../config.json")
_LINEAR = {"W_enc": "encoder.weight.T", "W_dec": "decoder.weight.T"}
_BIASED = {**_LINEAR, "b_enc": "encoder.bias"}
_PLAIN = {name: name for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")}
_SCALED = ("b_enc", "b_dec", "b_gate", "b_mag", "threshold")


@dataclass(frozen=True)
class DictClass:
    """What one of the library's classes computes.

    Attributes:
        architecture: gossamer's name of its activation function.
        names: the file's name of each of gossamer's tensors.
        subtracts: whether the decoder's bias is subtracted from the input.
        counted: whether it has a buffer `k`.
        other: buffers that its equations do not use.
        unit_rows: the library's own loader rescales latents so that decoder rows have norm 1.
    """

    architecture: str
    names: dict[str, str]
    subtracts: bool = True
    counted: bool = False
    other: tuple[str, ...] = ()
    unit_rows: bool = False


CLASSES = {
    "AutoEncoder": DictClass("relu", {**_BIASED, "b_dec": "bias"}, unit_rows=True),
    "AutoEncoderNew": DictClass("relu", {**_BIASED, "b_dec": "decoder.bias"}, subtracts=False),
    "GatedAutoEncoder": DictClass(
        "gated", {**_LINEAR, "b_dec": "decoder_bias", "b_gate": "gate_bias", "b_mag": "mag_bias", "r_mag": "r_mag"}
    ),
    "JumpReluAutoEncoder": DictClass("jumprelu", _PLAIN, subtracts=False),
    # Its threshold serves an encoder that is not the default one.
    "AutoEncoderTopK": DictClass("topk", {**_BIASED, "b_dec": "b_dec"}, counted=True, other=("threshold",)),
    "BatchTopKSAE": DictClass("batchtopk", {**_BIASED, "b_dec": "b_dec", "threshold": "threshold"}, counted=True),
    "MatryoshkaBatchTopKSAE": DictClass("batchtopk", _PLAIN, counted=True, other=("group_sizes",)),
}


def read(path: Path, origin: Origin, request: Request) -> Contents:
    """Read a dictionary from its weights file.

    Latents are those of the library's loader: an `AutoEncoder` is rescaled to decoder rows of norm 1.

    Raises:
        UsageError: an unknown class, a dictionary from a submodule's input to its output, or the files contradict
            `request`.
        GossamerError: damaged files, tensors that do not fit, a BatchTopK threshold that was never updated, a file of
            an unfinished run that does not say how its activations were scaled.
    """
    cfg_path = next((found for name in CONFIGS if (found := path.parent / name).is_file()), path.parent / CONFIGS[0])
    cfg = read_object(cfg_path)
    trainer, buffer = typed(cfg, "trainer", dict, cfg_path), typed(cfg, "buffer", dict, cfg_path, {})
    made = _dict_class(trainer, cfg_path)
    content, factor, unfinished = _unwrapped(read_torch(path, shapes_only=request.shapes_only), path)
    stored = floating(content, path, leave=("k", *made.other))
    d_in, n_latents = weights.matrix_shape(stored, made.names["W_enc"].removesuffix(".T"), path)
    if made.names["W_enc"].endswith(".T"):
        d_in, n_latents = n_latents, d_in
    config = DictionaryConfig(
        architecture=made.architecture,
        d_in=d_in,
        n_latents=n_latents,
        site=agreed("site", _site(trainer, buffer, cfg_path), request.site, path),
        model_name=agreed("model name", typed(trainer, "lm_name", str, cfg_path, None), request.model_name, path),
        k=_k(content, trainer, path, cfg_path) if made.counted else None,
        subtract_b_dec=made.subtracts,
    )
    tensors = weights.renamed(stored, made.names, config.shapes, path)
    if made.architecture == "batchtopk":
        _require_updated(tensors["threshold"], path)
    tensors = {name: tensor * factor if name in _SCALED else tensor for name, tensor in tensors.items()}
    tensors = _with_unit_rows(tensors) if made.unit_rows else tensors
    training = {**trainer, "buffer": buffer, **unfinished}
    return Contents(config, tensors, provenance(origin, "dictionary_learning", path, request, training, {}))


def _dict_class(trainer: dict[str, Any], path: Path) -> DictClass:
    name = trainer.get("dict_class")
    if not isinstance(name, str) or name not in CLASSES:
        raise UsageError(f"{path}: unknown dict_class {name!r}; known: {', '.join(CLASSES)}")
    return CLASSES[name]


def _unwrapped(content: dict[str, Any], path: Path) -> tuple[dict[str, Any], float, dict[str, Any]]:
    """The state of the dictionary, the factor its biases still need, and what to remember of an unfinished run."""
    if "ae" not in content:
        return content, 1.0, {}
    if "norm_factor" not in content:
        raise GossamerError(
            f"{path}: left by an unfinished run; expected norm_factor, by which its biases have to be multiplied, "
            "found none; let the run finish, or take one of its checkpoints/ae_STEP.pt"
        )
    state = typed(content, "ae", dict, path)
    # None: the run did not scale its activations.
    factor = 1.0 if content["norm_factor"] is None else positive(content, "norm_factor", path)
    return state, factor, {"unfinished_at_step": whole(content, "step", path), "norm_factor": factor}


def _k(content: dict[str, Any], trainer: dict[str, Any], path: Path, cfg_path: Path) -> int:
    found = {whole(content, "k", path), typed(trainer, "k", int, cfg_path, None)} - {None}
    if len(found) != 1:
        values = " and ".join(map(str, sorted(filter(None, found)))) or "none"
        raise GossamerError(f"{path}: expected one k, in it or in {cfg_path}, found {values}; fetch both files again")
    return int(*found)


def _site(trainer: dict[str, Any], buffer: dict[str, Any], path: Path) -> Site | None:
    """The site that the submodule's name says, as the library's own scripts name them; None if it says none."""
    io = buffer.get("io", "out")
    if io == "in_and_out":
        raise UsageError(f"{path}: maps a submodule's input to its output; which sites these are is not in the file")
    name = typed(trainer, "submodule_name", str, path, None)
    found = re.fullmatch(r"(resid_post|attn_out|mlp_out)_layer_?(\d+)", name or "")
    return Site(found[1], int(found[2])) if found is not None and io == "out" else None


def _require_updated(threshold: Tensor, path: Path) -> None:
    if not threshold.is_meta and not threshold.item() >= 0:
        raise GossamerError(
            f"{path}: threshold: expected a number from 0, found {threshold.item():g}: BatchTopK's threshold was never "
            "updated in training; train further or measure it"
        )


def _with_unit_rows(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    norms = tensors["W_dec"].norm(dim=-1)
    if not norms.is_meta and torch.allclose(norms, torch.ones_like(norms)):
        return tensors
    return {
        **tensors,
        "W_enc": tensors["W_enc"] * norms,
        "b_enc": tensors["b_enc"] * norms,
        "W_dec": tensors["W_dec"] / norms.clamp(min=torch.finfo(norms.dtype).tiny)[:, None],
    }
