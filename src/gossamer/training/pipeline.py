"""From a model and text to sets of dictionaries, in stages that are never done twice."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from gossamer.activations.corpus import Corpus, split_texts
from gossamer.dictionary.attach import Measurement, measure
from gossamer.dictionary.config import Contents, ReportedMetrics
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.set import INDEX, DictionarySet
from gossamer.dictionary.training_prompts import FINETUNED
from gossamer.dictionary.training_tokens import mask_facts
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site, SiteLike
from gossamer.progress import announce
from gossamer.replacement.evaluate.quality import CE_RECOVERED, Quality, quality
from gossamer.training import loggers
from gossamer.training.config import DictionarySpec, TrainingConfig, require_vectors
from gossamer.training.controls import RANDOM_MODEL, with_random_weights
from gossamer.training.cost import told
from gossamer.training.end_to_end_trainer import ARCHITECTURES
from gossamer.training.finetune import finetune
from gossamer.training.finetuning_effect import finetuning_effect
from gossamer.training.fit import fit
from gossamer.training.parallel import Processes
from gossamer.training.request import at_work, request_of
from gossamer.training.sampling import sample_text
from gossamer.training.saving import export, require_formats
from gossamer.training.sweep_specs import SweepSpec
from gossamer.training.task_prompts import TaskPrompts

FINAL = "dictionaries"


def train_dictionaries(
    model: LanguageModel,
    texts: Sequence[str],
    sites: Sequence[SiteLike],
    config: TrainingConfig,
    folder: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    formats: Sequence[str] = (),
    also: Sequence[str] = (),
    prompts: TaskPrompts | None = None,
) -> DictionarySet:
    """Sample text, train a dictionary a site, fine-tune them together, measure them, save them.

    A stage that `folder` holds complete is read instead of done; one that was interrupted goes on where it stopped. The
    result is the same as that of one uninterrupted run, and lies in `folder`/dictionaries, in SAELens' format.

    Args:
        texts: ordinary text of the kind the model is good at; see :func:`gossamer.activations.text.read_texts`.
        sites: where to put dictionaries.
        folder: default :func:`gossamer.training.request.default_folder`.
        cache: a folder for the activations, see :func:`gossamer.training.fit.fit`; None: none are kept.
        formats: "sparsify", "gemma_scope": layouts to write as well, each to a folder of its name in `folder`.
        also: "wandb", "tensorboard": where to send metrics beside metrics.jsonl.
        prompts: of tasks, to fine-tune on beside the text.

    Raises:
        UsageError: the request is impossible (no sites, too little text), or the folder belongs to another request (one
            that made something there) or to another process that is at work in it.
        NotFiniteError: activations or a loss are not finite (the site is named).
        GossamerError: a file in the folder is damaged.
    """
    only = [SweepSpec("", config.trainer, config.seed)]
    found = train_sets(
        model, texts, sites, config, only, folder, cache=cache, formats=formats, also=also, prompts=prompts
    )
    return found[""]


def train_sets(
    model: LanguageModel,
    texts: Sequence[str],
    sites: Sequence[SiteLike],
    config: TrainingConfig,
    plans: Sequence[SweepSpec],
    folder: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    formats: Sequence[str] = (),
    also: Sequence[str] = (),
    prompts: TaskPrompts | None = None,
) -> dict[str, DictionarySet]:
    """Train a set for each of several plans, all from the same passes of the model; otherwise as
    :func:`train_dictionaries`. Sets lie in `folder`/dictionaries/<name of the plan>. Of several processes that
    `torchrun` started, all fit together, and the first one writes.

    Args:
        plans: see :func:`gossamer.training.sweep_specs.sweep_specs`; their trainers and seeds take the place of
            `config`'s.
    """
    places = sorted(set(map(Site.of, sites)))
    for site in places:
        require_vectors(site)
        model.width(site)
    _require_possible(places, config, plans, formats)
    if prompts is not None and not config.finetune.tokens:
        raise UsageError("prompts of tasks are for the fine-tuning: expected tokens of finetune, found 0")
    loggers.require_known(also)
    request = request_of(model, texts, places, config, plans, cache)
    request |= {} if prompts is None else {"prompts": prompts.facts}
    with at_work(model, request, folder, cache) as target:
        return _trained(model, texts, places, config, plans, target, cache, formats, also, prompts)


def _trained(
    model: LanguageModel,
    texts: Sequence[str],
    sites: Sequence[Site],
    config: TrainingConfig,
    plans: Sequence[SweepSpec],
    target: Path,
    cache: str | Path | None,
    formats: Sequence[str],
    also: Sequence[str],
    prompts: TaskPrompts | None,
) -> dict[str, DictionarySet]:
    processes = Processes.current()
    if not all((target / FINAL / plan.name / INDEX).is_file() for plan in plans):
        corpus = corpus_for(model, texts, config, target)
        # All learn from the same text: what a recipe samples, the model itself says.
        learned = with_random_weights(model, config.seed) if config.trainer.control == RANDOM_MODEL else model
        _train(learned, corpus, sites, config, plans, target, cache, also, prompts)
    found = {plan.name: DictionarySet.load(target / FINAL / plan.name) for plan in plans}
    if processes.writes:
        for name, one in found.items():
            for format in formats:
                if format != "saelens":
                    export(one, format, target / format / name)
    processes.wait()
    return found


def _require_possible(
    sites: Sequence[Site], config: TrainingConfig, plans: Sequence[SweepSpec], formats: Sequence[str]
) -> None:
    names = [plan.name for plan in plans]
    if not sites or not plans:
        raise UsageError(f"expected at least one site and one plan, found {len(sites)} and {len(plans)}")
    if len(set(names)) < len(names):
        raise UsageError(f"expected plans of different names, found {', '.join(names)}")
    if len(controls := {config.trainer.control, *(plan.trainer.control for plan in plans)}) > 1:
        raise UsageError(f"expected one control for all plans, found {', '.join(sorted(controls))}; train them apart")
    architectures = {plan.trainer.architecture for plan in plans}
    require_formats(tuple(formats), architectures)
    if not config.finetune.tokens:
        return
    if unfit := sorted(architectures - set(ARCHITECTURES)):
        raise UsageError(
            f"objective {unfit[0]} cannot be fine-tuned on the model's logits; set the tokens of finetune to 0"
        )


def corpus_for(model: LanguageModel, texts: Sequence[str], config: TrainingConfig, folder: Path) -> Corpus:
    """The text given and the samples asked for, which are kept in `folder`; the first of several processes
    draws and writes them, the others read them."""
    processes = Processes.current()
    corpus = _corpus(model, texts, config, folder) if processes.writes else None
    processes.wait()
    return corpus or _corpus(model, texts, config, folder)


def _corpus(model: LanguageModel, texts: Sequence[str], config: TrainingConfig, folder: Path) -> Corpus:
    training, held_out = split_texts(texts, config.corpus, config.seed)
    training += sample_text(model, training, config.corpus, folder / "samples", config.seed)
    return Corpus.build(model, training, held_out, config.corpus, config.seed)


def _train(
    model: LanguageModel,
    corpus: Corpus,
    sites: Sequence[Site],
    config: TrainingConfig,
    plans: Sequence[SweepSpec],
    folder: Path,
    cache: str | Path | None,
    also: Sequence[str],
    prompts: TaskPrompts | None,
) -> None:
    processes = Processes.current()
    fitted = _fitted(model, corpus, sites, config, plans, folder, cache, also)
    for plan in plans:
        found, before = fitted[plan.name], None
        if config.finetune.tokens:
            own, before = folder / "finetune" / plan.name, found
            found = finetune(model, found, corpus, config.finetune, own, config.seed, prompts)
        of_plan = replace(config, trainer=plan.trainer, seed=plan.seed)
        facts = {"config": of_plan.facts, "torch": torch.__version__}
        measured = with_claims(model, found, corpus, dict.fromkeys(found, facts), before, prompts)
        if processes.writes:
            measured.save(folder / FINAL / plan.name)
        # Read back by all, so that a first run returns exactly what a later one does.
        processes.wait()


def _fitted(
    model: LanguageModel,
    corpus: Corpus,
    sites: Sequence[Site],
    config: TrainingConfig,
    plans: Sequence[SweepSpec],
    folder: Path,
    cache: str | Path | None,
    also: Sequence[str],
) -> dict[str, DictionarySet]:
    folders = {plan.name: folder / "fitted" / plan.name for plan in plans}
    processes = Processes.current()
    if not all((place / INDEX).is_file() for place in folders.values()):
        each = [
            DictionarySpec(plan_name(plan, site), site, None, plan.trainer, plan.seed)
            for plan in plans
            for site in sites
        ]
        announce(lambda: told(model, corpus, each, config.fit, config.finetune))
        found = fit(model, corpus, each, config.fit, folder / "fit", config.seed, cache=cache, also=also)
        if processes.writes:
            for plan in plans:
                own = DictionarySet(found[plan_name(plan, site)] for site in sites)
                own.save(folders[plan.name])
        processes.wait()
    return {name: DictionarySet.load(place) for name, place in folders.items()}


def plan_name(plan: SweepSpec, site: Site) -> str:
    """What the dictionary of a set at `site` is called in checkpoints and metrics."""
    return f"{plan.name}/{site}" if plan.name else str(site)


def with_claims(
    model: LanguageModel,
    dictionaries: DictionarySet,
    corpus: Corpus,
    facts: Mapping[Site, Mapping[str, Any]],
    before: DictionarySet | None = None,
    prompts: TaskPrompts | None = None,
) -> DictionarySet:
    """The same dictionaries, saying how each was trained (`facts`) and what they do on held-out text.

    Those that were fine-tuned say what that changed from the dictionaries `before`, on its `prompts` too.
    """
    alone = measure(model, dictionaries, corpus.measured, mask=corpus.mask)
    together = quality(model, dictionaries, corpus.measured, mask=corpus.mask)
    measured = {
        "corpus_sha256": corpus.fingerprint,
        **mask_facts(corpus.mask),
        "held_out": _claims_together(together, dictionaries),
    }
    if before is not None:
        effect = finetuning_effect(model, before, dictionaries, together, corpus, prompts)
        measured["finetuning"] = {name: value for name, value in asdict(effect).items() if value is not None}
    return DictionarySet(
        with_reported_metrics(one, alone[site], {**facts[site], **measured}) for site, one in dictionaries.items()
    )


def _claims_together(found: Quality, dictionaries: DictionarySet) -> dict[str, Any]:
    return {
        **asdict(found),
        "ce_recovered": found.ce_recovered,
        "ce_recovered_formula": CE_RECOVERED,
        "spliced_sites": [str(site) for site in dictionaries],
    }


def with_reported_metrics(dictionary: Dictionary, found: Measurement, facts: dict[str, Any]) -> Dictionary:
    """The same dictionary, saying how it was trained (`facts`) and fine-tuned, and what was measured of it."""
    tuned = {name: value for name, value in dictionary.provenance.items() if name == FINETUNED}
    contents = Contents(
        dictionary.config,
        dict(dictionary.state_dict()),
        {"training": {**facts, **tuned, "explained_variance_formula": found.formula}},
        replace(ReportedMetrics(), l0=found.l0, explained_variance=found.explained_variance),
    )
    return Dictionary.from_contents(contents)
