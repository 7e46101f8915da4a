"""Trained sets in the layouts of other libraries."""

from dataclasses import replace
from pathlib import Path

from gossamer.dictionary.config import Contents
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.set import DictionarySet
from gossamer.errors import UsageError

FORMATS = ("saelens", "sparsify", "gemma_scope")


def require_formats(formats: tuple[str, ...], architectures: set[str]) -> None:
    """Refuse, before any work, formats that could not hold what comes out of it.

    Raises:
        UsageError: an unknown format, or one that has no words for an architecture.
    """
    holds = {"saelens": architectures, "sparsify": {"topk"}, "gemma_scope": {"jumprelu", "batchtopk"}}
    for name in formats:
        if name not in FORMATS:
            raise UsageError(f"format: expected {', '.join(FORMATS)}, found {name!r}")
        if left := sorted(architectures - holds[name]):
            raise UsageError(f"format: {name} holds {' and '.join(sorted(holds[name]))} only, not {left[0]}")


def transcoder_format(architecture: str) -> str:
    """The format in which a transcoder is saved. Raises :class:`UsageError` if none holds such a one."""
    if architecture == "gated":
        raise UsageError("objective: no format holds gated transcoders; take another objective")
    return "sparsify" if architecture == "topk" else "saelens"


def export(dictionaries: DictionarySet, format: str, folder: Path) -> None:
    """Write every dictionary of a set to `folder` as another library reads it.

    sparsify: a folder a site. gemma_scope: <kind>/layer_L/width_W/average_l0_N, as the format's own addresses say what
    its files do not. BatchTopK, which at inference is a JumpReLU with one threshold, is written as that.

    Raises:
        UsageError: the format cannot hold one of them.
    """
    for site, dictionary in dictionaries.items():
        if format != "gemma_scope":
            dictionary.save(folder / str(site), format)
            continue
        l0 = round(dictionary.reported.l0 or 0)
        place = Path(site.kind) / f"layer_{site.layer}" / f"width_{dictionary.n_latents}" / f"average_l0_{l0}"
        _with_thresholds(dictionary).save(folder / place, format)


def _with_thresholds(dictionary: Dictionary) -> Dictionary:
    """The same function with a threshold for each latent."""
    if dictionary.architecture != "batchtopk":
        return dictionary
    tensors = dict(dictionary.state_dict())
    tensors["threshold"] = tensors["threshold"].expand(dictionary.n_latents)
    config = replace(dictionary.config, architecture="jumprelu", k=None)
    return Dictionary.from_contents(Contents(config, tensors, dictionary.provenance, dictionary.reported))
