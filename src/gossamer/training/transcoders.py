"""From a model and text to transcoders: what stands at one site, told from another."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from gossamer.dictionary.attach import measure
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.training_tokens import mask_facts
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site, SiteLike, SiteMapping, by_site
from gossamer.progress import announce
from gossamer.training import loggers
from gossamer.training.config import DictionarySpec, TrainingConfig
from gossamer.training.controls import RANDOM_MODEL
from gossamer.training.cost import told
from gossamer.training.fit import fit
from gossamer.training.parallel import Processes
from gossamer.training.pipeline import corpus_for, plan_name, with_reported_metrics
from gossamer.training.request import at_work, request_of
from gossamer.training.saving import transcoder_format
from gossamer.training.sweep_specs import SweepSpec

FINAL = "transcoders"
# Every format writes its configuration last, so that a folder which has one is whole.
_WRITTEN_LAST = "cfg.json"


def train_transcoders(
    model: LanguageModel,
    texts: Sequence[str],
    sites: SiteMapping[SiteLike],
    config: TrainingConfig,
    plans: Sequence[SweepSpec],
    folder: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    also: Sequence[str] = (),
) -> dict[str, dict[Site, Dictionary]]:
    """Sample text, train a transcoder for each pair of sites and each plan, measure them, save them.

    Resumes, and reads what is complete, as :func:`gossamer.training.pipeline.train_sets` does. The result lies in
    `folder`/transcoders/<name of the plan>/<site that is read>, in SAELens' format, topk ones in that of sparsify.
    Claimed are L0 and explained variance of what stands at the site written to, on held-out text; what a transcoder in
    the model's stream leaves of its predictions is not measured.

    Args:
        sites: for every site that is read the one that is written; both of one width.
        folder, cache, also: see :func:`gossamer.training.pipeline.train_dictionaries`.

    Returns:
        For each plan's name its transcoders, by the sites that they read.

    Raises:
        UsageError: the request is impossible (widths that differ, gated latents, a fine-tuning on the model's logits),
            or the folder belongs to another request or to another process that is at work in it.
        NotFiniteError: activations or a loss are not finite (the site is named).
        GossamerError: a file in the folder is damaged.
    """
    pairs = {site: Site.of(out) for site, out in sorted(by_site(sites).items())}
    each = [
        DictionarySpec(plan_name(plan, site), site, out, plan.trainer, plan.seed)
        for plan in plans
        for site, out in pairs.items()
    ]
    _require_possible(model, each, config)
    loggers.require_known(also)
    request = request_of(model, texts, list(pairs), config, plans, cache)
    request["sites_out"] = [str(site) for site in pairs.values()]
    with at_work(model, request, folder, cache) as target:
        if not all((target / FINAL / plan.name / _WRITTEN_LAST).is_file() for plan in each):
            _train(model, texts, config, each, target, cache, also)
        places = {plan.name: target / FINAL / plan.name for plan in plans}
        return {name: {site: Dictionary.load(place / str(site)) for site in pairs} for name, place in places.items()}


def _require_possible(model: LanguageModel, plans: Sequence[DictionarySpec], config: TrainingConfig) -> None:
    if not plans:
        raise UsageError("expected at least one pair of sites and one plan, found none")
    if config.finetune.tokens:
        raise UsageError("transcoders are not fine-tuned on the model's logits; set the tokens of finetune to 0")
    for plan in plans:
        if plan.trainer.control == RANDOM_MODEL:
            raise UsageError(f"transcoder {plan.name}: no control {RANDOM_MODEL} expected; use another one")
        transcoder_format(plan.trainer.architecture)
        read, written = model.width(plan.site), model.width(plan.target)
        if read != written:
            raise UsageError(
                f"transcoder from {plan.site} to {plan.target}: expected sites of one width, found {read} and {written}"
            )


def _train(
    model: LanguageModel,
    texts: Sequence[str],
    config: TrainingConfig,
    plans: Sequence[DictionarySpec],
    folder: Path,
    cache: str | Path | None,
    also: Sequence[str],
) -> None:
    processes = Processes.current()
    corpus = corpus_for(model, texts, config, folder)
    announce(lambda: told(model, corpus, plans, config.fit, config.finetune))
    found = fit(model, corpus, plans, config.fit, folder / "fit", config.seed, cache=cache, also=also)
    if processes.writes:
        for plan in plans:
            transcoder = found[plan.name]
            measured = measure(model, {plan.site: transcoder}, corpus.measured, mask=corpus.mask)[plan.site]
            of_plan = replace(config, trainer=plan.trainer, seed=plan.seed).facts
            facts = {"config": of_plan, "corpus_sha256": corpus.fingerprint, **mask_facts(corpus.mask)}
            facts["torch"] = torch.__version__
            format = transcoder_format(transcoder.architecture)
            with_reported_metrics(transcoder, measured, facts).save(folder / FINAL / plan.name, format)
    # Read back by all, so that a first run returns exactly what a later one does.
    processes.wait()
