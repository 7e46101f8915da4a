"""The study of a model's dictionaries: from a text to a record, part by part, each on disk as soon as it is done."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site, SiteMapping, by_site
from gossamer.progress import begin
from gossamer.relations.study_data import RelationStudyOptions, StudyData
from gossamer.relations.study_parts import PARTS
from gossamer.relations.study_results import FORMAT, RESULTS, RelationStudy
from gossamer.results import Recorder, versions


def relation_study(
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    texts: Sequence[str],
    held_out: Sequence[str],
    *,
    options: RelationStudyOptions | None = None,
    only: Sequence[str] = tuple(PARTS),
    folder: str | Path | None = None,
) -> RelationStudy:
    """Study which features of a model's dictionaries belong together.

    With a `folder`, study.json there is written after each part, beside a file for every pair's relation and error
    share; a study that was stopped goes on behind the last part. The parts: "relations" (one counting pass of all
    pairs), "lifecycle" (with what the next dictionaries' errors hold, a pass), "gates" (a pass over some rows for every
    neighbouring pair and direction), "communities", "causal" (ablations on the held-out text), and "confirmed" (of
    the inputs of gates).

    Memory: that of :func:`gossamer.relations.relate` for all pairs at once.

    Args:
        model: the language model.
        dictionaries: two or more, one a site, that read and write the residual stream without normalising.
        texts: on which all is counted and chosen.
        held_out: other text, on which gates are counted again and latents ablated.
        options: see there.
        only: of `PARTS`; "relations" is always done first, and "gates" before "confirmed".
        folder: for the record and its files.

    Raises:
        UsageError: fewer than two dictionaries, no text, the same text twice, a part that does not exist, or a folder
            that holds another study.
        GossamerError: a file in the folder is damaged.
    """
    chosen, found = options or RelationStudyOptions(), by_site(dictionaries)
    if len(found) < 2:
        raise UsageError(f"relations: dictionaries at two sites or more expected, found {len(found)}")
    if unknown := [name for name in only if name not in PARTS]:
        raise UsageError(f"relations: parts {', '.join(PARTS)} expected, found {unknown[0]!r}")
    if not texts or not held_out or set(texts) & set(held_out):
        raise UsageError("relations: a text and another one that shares no document with it expected; give two")
    settings = _settings(model, found, texts, held_out, chosen)
    place = None if folder is None else Path(folder)
    path = None if place is None else place / RESULTS
    recorder = Recorder(path, FORMAT, settings, {"versions": versions()})
    data = StudyData(model, found, (texts, held_out), chosen, place, {part.name: part for part in recorder.rows})
    asked = {"relations", *only, *(("gates",) if "confirmed" in only else ())}
    wanted = [name for name in PARTS if name in asked]
    advance = begin("relation study", len(wanted))
    for name in wanted:
        if name not in data.found:
            data.found[name] = PARTS[name](data)
            recorder.add(data.found[name])
        advance(1, name)
    return RelationStudy(recorder.settings, {part.name: part for part in recorder.rows}, recorder.provenance)


def _settings(
    model: LanguageModel,
    dictionaries: Mapping[Site, Dictionary],
    texts: Sequence[str],
    held_out: Sequence[str],
    options: RelationStudyOptions,
) -> dict[str, Any]:
    return {
        "model": model.title,
        "weights_sha256": weights_sha256(model.hf),
        "dtype": str(model.dtype).removeprefix("torch."),
        "dictionaries": {str(site): weights_sha256(one) for site, one in sorted(dictionaries.items())},
        "texts": _digest(texts),
        "held_out": _digest(held_out),
        **asdict(options),
    }


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
