"""The IOI study of a model: from nothing to a record, part by part, each on disk as soon as it is done."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gossamer.attention.ioi import measures
from gossamer.attention.ioi.noising import CONNECTIVES
from gossamer.attention.ioi.prompts import TEMPLATES
from gossamer.attention.ioi.results import FORMAT, LATENTS, RESULTS, IOIStudy, StudyPart
from gossamer.attention.ioi.setup import Setup, able_templates
from gossamer.attention.ioi.survey import survey_heads
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import SiteMapping, by_site
from gossamer.progress import begin, silenced
from gossamer.results import Recorder, versions
from gossamer.tasks.prompt_tokenizer import PromptTokenizer

WITHOUT, WITH = ("ability", "patching", "paths", "noising"), ("trust", "latents", "sources", "scores", "survey")
PARTS = (*WITHOUT, *WITH)
_NEEDS = {
    "paths": ("patching",),
    "noising": ("patching",),
    "latents": ("patching",),
    "sources": ("latents",),
    "scores": ("patching", "paths"),
}


@dataclass(frozen=True)
class StudyOptions:
    """How the study is made.

    Attributes:
        prompts: how many, of all templates; half of the templates are for choosing, half are reported.
        templates: names of those that may be used (:data:`gossamer.attention.ioi.prompts.TEMPLATES`).
        connectives: what " and" is replaced by.
        layers: single heads are patched in so many layers, those that matter most.
        text_rows, context: of the text for L0, loss recovered and the head survey: rows, and tokens of a row.
        bos: whether prompts begin with BOS; None: as the tokenizer does.
        seed: of prompts and intervals.
    """

    prompts: int = 128
    templates: tuple[str, ...] = tuple(TEMPLATES)
    connectives: tuple[str, ...] = CONNECTIVES
    layers: int = 8
    text_rows: int = 64
    context: int = 64
    bos: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("prompts", 8), ("layers", 1), ("text_rows", 1), ("context", 8)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}: at least {least} expected, found {getattr(self, name)}")


def ioi_study(
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary] | None = None,
    texts: Sequence[str] = (),
    *,
    options: StudyOptions | None = None,
    only: Sequence[str] = PARTS,
    folder: str | Path | None = None,
) -> IOIStudy:
    """Study how a model does indirect object identification.

    With a `folder`, ioi.json (what needs no dictionary) and ioi_latents.json there are written after each part; a study
    that was stopped goes on behind the last, and dictionaries may be given later. Without dictionaries, or without a
    text, the parts that need them are left out.

    Cost: about prompts x heads of the opened layers x 3 runs of the layers behind, and a run for every latent active at
    the second mention in every prompt.

    Args:
        model: the language model.
        dictionaries: on z.
        texts: ordinary text.
        options: see there.
        only: of `PARTS`; what a part needs of others is done first.
        folder: for the record.

    Raises:
        UsageError: a dictionary that is not on z, a part that does not exist, or a folder that holds another study.
        GossamerError: the model cannot do the task; the message has what was found and what is needed.
    """
    chosen, found = options or StudyOptions(), dict(by_site(dictionaries or {}))
    if other := [site for site in found if site.kind != "z"]:
        raise UsageError(
            f"ioi: dictionaries on z expected, found one at {other[0]}; train some with --sites z.0,z.1,..."
        )
    if unknown := [name for name in only if name not in PARTS]:
        raise UsageError(f"ioi: parts {', '.join(PARTS)} expected, found {unknown[0]!r}")
    if model.tokenizer is None:
        raise UsageError("ioi: a model with a tokenizer expected, found none; load it with tokenizer=")
    speller = PromptTokenizer(model.tokenizer, chosen.bos)
    settings = _settings(model, texts, chosen, speller)
    more = {"dictionaries": {str(site): _digest(one) for site, one in sorted(found.items())}}
    recorders = {False: _recorder(folder, RESULTS, settings)}
    if found:
        recorders[True] = _recorder(folder, LATENTS, {**settings, **more})
    wanted = [name for name in PARTS if name in _with_needs(only) and _possible(name, bool(found), bool(texts))]
    advance = begin("ioi", len(wanted))
    setup: Setup | None = None
    for name in wanted:
        done = IOIStudy.of(*(one.record for one in recorders.values()))
        if name not in done.parts:
            with silenced():
                if name == "ability":
                    part = StudyPart("ability", ability=able_templates(model, speller, chosen.templates, chosen.seed))
                else:
                    setup = setup or Setup.of(model, found, done.found.ability, speller, chosen.prompts, chosen.seed)
                    part = _measured(name, setup, done.found, texts, chosen)
            recorders[name in WITH].add(part)
        advance(1, name)
    return IOIStudy.of(*(one.record for one in recorders.values()))


def _recorder(folder: str | Path | None, name: str, settings: Mapping[str, Any]) -> Recorder[StudyPart]:
    return Recorder(None if folder is None else Path(folder) / name, FORMAT, settings, {"versions": versions()})


def _measured(name: str, setup: Setup, done: StudyPart, texts: Sequence[str], options: StudyOptions) -> StudyPart:
    """One part, from the setup and what is known."""
    tokens = None
    if texts and name in ("trust", "survey"):
        tokens = setup.model.tokenize(texts[: options.text_rows], bos=options.bos).cut(options.context)
    if name == "survey":
        assert tokens is not None
        return StudyPart("survey", survey=survey_heads(setup.model, setup.dictionaries, tokens.to(setup.model.device)))
    by_name: dict[str, Callable[[], StudyPart]] = {
        "patching": lambda: measures.patching(setup, options.layers),
        "paths": lambda: measures.paths(setup, done),
        "noising": lambda: measures.noise(setup, done, options.connectives, texts),
        "trust": lambda: measures.trust(setup, tokens),
        "latents": lambda: measures.latents(setup, done),
        "sources": lambda: measures.sources(setup, done),
        "scores": lambda: measures.scores(setup, done),
    }
    return by_name[name]()


def _with_needs(only: Sequence[str]) -> set[str]:
    """The parts, with those that they choose by."""
    found = {"ability", *only}
    for name in reversed(PARTS):
        found |= set(_NEEDS.get(name, ())) if name in found else set()
    return found


def _possible(name: str, dictionaries: bool, texts: bool) -> bool:
    return (dictionaries or name in WITHOUT) and (texts or name != "survey")


def _settings(
    model: LanguageModel, texts: Sequence[str], options: StudyOptions, speller: PromptTokenizer
) -> dict[str, Any]:
    return {
        "model": model.title,
        "weights_sha256": weights_sha256(model.hf),
        "dtype": str(model.dtype).removeprefix("torch."),
        "texts": hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16] if texts else "",
        **asdict(options),
        "bos": speller.bos,
    }


def _digest(dictionary: Dictionary) -> str:
    found = hashlib.sha256()
    for weight in (dictionary.W_enc, dictionary.W_dec):
        found.update(weight.detach().float().contiguous().cpu().numpy().tobytes())
    return found.hexdigest()[:16]
