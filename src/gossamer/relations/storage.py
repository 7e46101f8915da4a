"""Relations on disk: one safetensors file a pair, that loads as what it was written from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gossamer.errors import GossamerError, UsageError
from gossamer.files import parse_json
from gossamer.relations.counting import SitePair
from gossamer.relations.measures import DECODER_COSINE, EXPLANATION_COSINE, MEASURES
from gossamer.relations.relation import BestPartner, Keep, RelatedPairs, Relation
from gossamer.relations.sums import LatentSums
from gossamer.results import Format, Older
from gossamer.tensor_files import write_tensors


@dataclass(frozen=True)
class RelationFacts:
    """What a file says of its tensors.

    Attributes:
        pair: names of the dictionaries.
        keep: which pairs were kept.
        tokens: counted, and those of the null.
        tensors: SHA-256 of all of them; None in files of version 1.
        provenance: see :class:`Relation`.
    """

    pair: SitePair
    keep: Keep
    tokens: tuple[int, int | None]
    tensors: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


FORMAT: Format[RelationFacts] = Format(
    "gossamer.relation",
    2,
    RelationFacts,
    "a relation",
    older={"gossamer.relation.1": Older(lambda body: body, checksum=False)},
)
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
    # Copies: of a dictionary with itself both sides are the same arrays, which safetensors does not write twice.
    tensors = {name: torch.from_numpy(np.array(one)) for name, one in arrays.items()}
    tokens = (relation.tokens, None if relation.null is None else relation.null.tokens)
    facts = RelationFacts(relation.pair, relation.keep, tokens, _sha256(tensors), relation.provenance)
    # One entry: of several, safetensors writes now one first and now another.
    write_tensors(Path(path), tensors, {"relation": json.dumps(FORMAT.encode(facts))})
    return Path(path)


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    """Of all tensors with their names, shapes and types."""
    found = hashlib.sha256()
    for name, one in sorted(tensors.items()):
        found.update(f"{name} {tuple(one.shape)} {one.dtype};".encode())
        raw: Any = one.numpy()
        found.update(raw)
    return found.hexdigest()


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
    said, tensors = read_tensors(path, "relation")
    body = parse_json(said.get("relation", "{}"), str(path))
    # Version 1 has its format beside the facts.
    facts = FORMAT.decode({"format": said.get("format"), **body} if isinstance(body, dict) else body, path)
    if facts.tensors is not None and facts.tensors != _sha256(tensors):
        raise GossamerError(
            f"{path}: a relation whose checksum matches its tensors expected, found others; it was changed or damaged: "
            "relate again"
        )
    try:
        null = None if facts.tokens[1] is None else _read(facts, tensors, "null", facts.tokens[1], None)
        return _read(facts, tensors, "real", facts.tokens[0], null)
    except (KeyError, TypeError, ValueError) as error:
        raise GossamerError(f"{path}: expected a relation, found damage ({error}); relate again") from error


def read_tensors(path: str | Path, what: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """What a safetensors file says of itself, and its tensors. Errors: those of :func:`load_relation`."""
    if not Path(path).is_file():
        raise UsageError(f"{path}: no such file; give the path of a saved {what}")
    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
            return said, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    except (SafetensorError, OSError) as error:
        raise GossamerError(f"{path}: expected a saved {what}, found damage ({error}); relate again") from error


def _read(
    facts: RelationFacts, tensors: Mapping[str, Tensor], part: str, tokens: int, null: Relation | None
) -> Relation:
    own = {name.removeprefix(f"{part}/"): one.numpy() for name, one in tensors.items() if name.startswith(f"{part}/")}
    sides = [LatentSums(*(own[f"{side}/{one.name}"] for one in fields(LatentSums))) for side in _SIDES]
    best = [
        {
            name: BestPartner(own[f"{side}/{name}/value"], own[f"{side}/{name}/partner"])
            for name in (*MEASURES, DECODER_COSINE, EXPLANATION_COSINE)
            if f"{side}/{name}/value" in own
        }
        for side in ("forward", "backward")
    ]
    i, j, c, products = (own[f"kept/{name}"] for name in _PAIRS)
    kept = RelatedPairs(i, j, c, products, own.get("kept/decoder_cosine"))
    histograms = {name: own[f"histogram/{name}"] for name in MEASURES if f"histogram/{name}" in own}
    counts = (facts.pair, tokens, sides[0], sides[1], facts.keep, kept)
    return Relation(*counts, best[0], best[1], histograms, null, {} if part == "null" else facts.provenance)
