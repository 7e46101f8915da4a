"""Relations on disk: one safetensors file a pair, that loads as what it was written from, and a folder of pairs."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import Site
from gossamer.relations.counting import SitePair
from gossamer.relations.error_share import ErrorShare
from gossamer.relations.measures import DECODER_COSINE, MEASURES
from gossamer.relations.relation import BestPartner, Keep, RelatedPairs, Relation
from gossamer.relations.sums import LatentSums
from gossamer.tensor_files import write_tensors

_FORMAT = "gossamer.relation.1"
_ERROR_FORMAT = "gossamer.error_share.1"
TAIL, ERROR_TAIL = ".relation.safetensors", ".error.safetensors"
_SIDES = ("upstream", "downstream")
_PAIRS = ("i", "j", "c", "products")


def save_relation(relation: Relation, path: str | Path) -> Path:
    """Write a relation with its null, atomically. Returns the path.

    Raises:
        UsageError: no file can be made there.
        GossamerError: writing failed; whatever stood at `path` stands there still.
    """
    arrays = _arrays(relation, "real")
    if relation.null is not None:
        arrays |= _arrays(relation.null, "null")
    facts = {
        "pair": list(relation.pair),
        "keep": asdict(relation.keep),
        "tokens": [relation.tokens, None if relation.null is None else relation.null.tokens],
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(one)) for name, one in arrays.items()}
    write_tensors(Path(path), tensors, {"format": _FORMAT, "relation": json.dumps(facts)})
    return Path(path)


def _arrays(relation: Relation, part: str) -> dict[str, Any]:
    found: dict[str, Any] = {f"{part}/kept/{name}": getattr(relation.kept, name) for name in _PAIRS}
    if relation.kept.decoder_cosine is not None:
        found[f"{part}/kept/decoder_cosine"] = relation.kept.decoder_cosine
    for side in _SIDES:
        found |= {f"{part}/{side}/{one.name}": getattr(getattr(relation, side), one.name) for one in fields(LatentSums)}
    for side, best in (("forward", relation.forward), ("backward", relation.backward)):
        for measure, one in best.items():
            found |= {f"{part}/{side}/{measure}/value": one.value, f"{part}/{side}/{measure}/partner": one.partner}
    return found | {f"{part}/histogram/{measure}": one for measure, one in relation.histograms.items()}


def load_relation(path: str | Path) -> Relation:
    """Read what :func:`save_relation` wrote.

    Raises:
        UsageError: no such file, or another kind of file.
        GossamerError: it is damaged.
    """
    said, tensors = _opened(Path(path), _FORMAT, "relation")
    try:
        facts = json.loads(said["relation"])
        null = None if facts["tokens"][1] is None else _read(facts, tensors, "null", facts["tokens"][1], None)
        return _read(facts, tensors, "real", facts["tokens"][0], null)
    except (KeyError, TypeError, ValueError) as error:
        raise GossamerError(f"{path}: expected a relation, found damage ({error}); relate again") from error


def _opened(path: Path, form: str, what: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """What a file says of itself, and its tensors."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give the path of a saved {what}")
    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    except (SafetensorError, OSError) as error:
        raise GossamerError(f"{path}: expected a saved {what}, found damage ({error}); relate again") from error
    if said.get("format") != form:
        raise UsageError(f"{path}: expected a {what} (format {form!r}), found {said.get('format')!r}")
    return said, tensors


def save_error_share(share: ErrorShare, path: str | Path) -> Path:
    """Write what an error holds, atomically. Returns the path. Errors: those of :func:`save_relation`."""
    arrays = {one.name: getattr(share, one.name) for one in fields(ErrorShare)}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(one)) for name, one in arrays.items()}
    write_tensors(Path(path), tensors, {"format": _ERROR_FORMAT})
    return Path(path)


def load_error_share(path: str | Path) -> ErrorShare:
    """Read what :func:`save_error_share` wrote.

    Raises:
        UsageError: no such file, or another kind of file.
        GossamerError: it is damaged.
    """
    _, tensors = _opened(Path(path), _ERROR_FORMAT, "error share")
    try:
        return ErrorShare(*(tensors[one.name].numpy() for one in fields(ErrorShare)))
    except KeyError as error:
        raise GossamerError(f"{path}: expected an error share, found damage (no {error}); relate again") from error


def pair_path(folder: str | Path, pair: SitePair, tail: str = TAIL) -> Path:
    """Where a folder has a pair's relation, or what stands beside it."""
    return Path(folder) / f"{pair.upstream}-{pair.downstream}{tail}"


def load_folder(folder: str | Path) -> dict[SitePair, Relation]:
    """All relations that were saved in a folder, in the order of their sites.

    Raises:
        UsageError: there is none.
        GossamerError: one of them is damaged.
    """
    found = [load_relation(path) for path in Path(folder).glob(f"*{TAIL}")]
    if not found:
        raise UsageError(f"{folder}: relations expected, found none; make them with 'gossamer relate'")
    ranked = sorted(found, key=lambda one: [Site.parse(name.partition("@")[0]) for name in one.pair])
    return {one.pair: one for one in ranked}


def neighbours_of(pairs: Iterable[SitePair]) -> list[SitePair]:
    """Of pairs in the order of their sites, those from each dictionary to the next one that it was related to."""
    found: dict[str, SitePair] = {}
    for pair in pairs:
        if pair.upstream != pair.downstream:
            found.setdefault(pair.upstream, pair)
    return list(found.values())


def _read(facts: Any, tensors: Mapping[str, Tensor], part: str, tokens: int, null: Relation | None) -> Relation:
    own = {name.removeprefix(f"{part}/"): one.numpy() for name, one in tensors.items() if name.startswith(f"{part}/")}
    keep = Keep(**{**facts["keep"], "by": tuple(facts["keep"]["by"])})
    sides = [LatentSums(*(own[f"{side}/{one.name}"] for one in fields(LatentSums))) for side in _SIDES]
    best = [
        {
            name: BestPartner(own[f"{side}/{name}/value"], own[f"{side}/{name}/partner"])
            for name in (*MEASURES, DECODER_COSINE)
            if f"{side}/{name}/value" in own
        }
        for side in ("forward", "backward")
    ]
    i, j, c, products = (own[f"kept/{name}"] for name in _PAIRS)
    kept = RelatedPairs(i, j, c, products, own.get("kept/decoder_cosine"))
    histograms = {name: own[f"histogram/{name}"] for name in MEASURES if f"histogram/{name}" in own}
    upstream, downstream = facts["pair"]
    pair = SitePair(upstream, downstream)
    return Relation(pair, tokens, sides[0], sides[1], keep, kept, best[0], best[1], histograms, null)
