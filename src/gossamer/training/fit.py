"""Train many dictionaries, of whatever sites, sizes, objectives and seeds, on the same activations."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.activations.corpus import Corpus
from gossamer.activations.loudness import warn_of_loud_tokens
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.training_tokens import mask_facts
from gossamer.errors import NotFiniteError, UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.names import title_of
from gossamer.model.site import Site
from gossamer.training import run
from gossamer.training.buffer import OnTheFly
from gossamer.training.cache.read import Cached
from gossamer.training.cache.write import buffers_for, write_cache
from gossamer.training.calibration import calibration_tokens
from gossamer.training.checks import warn_of_undercomplete
from gossamer.training.config import DictionarySpec, FitConfig
from gossamer.training.dictionary_trainer import DictionaryTrainer
from gossamer.training.gradients import Gradients
from gossamer.training.parallel import Processes, combined
from gossamer.training.sensitivity import sensitivity
from gossamer.training.source import Activations, ActivationSource, TurnPlace, batches
from gossamer.training.tensors import InMemory

# Activations that tell whether a few are louder than all others.
_JUDGED = 8192
# How much the model's output minds errors, at some sites: asked for once, when a run begins.
Sensitivities = Callable[[list[Site]], Mapping[Site, Float[Tensor, "d d"]]]


def fit(
    model: LanguageModel,
    corpus: Corpus,
    plans: Sequence[DictionarySpec],
    config: FitConfig,
    folder: str | Path,
    seed: int,
    *,
    cache: str | Path | None = None,
    also: Sequence[str] = (),
) -> dict[str, Dictionary]:
    """Train the dictionaries of `plans` from the same passes of the model; returns them by name.

    `folder` gets a checkpoint every so many steps and metrics.jsonl (step, name, site, what :class:`Gradients` holds of
    the step's batch, tokens per second); calling again with the same arguments goes on from the checkpoint, to exactly
    the result of a run that was never stopped (on the same machine with as many threads). In each of several processes
    that `torchrun` started (:func:`gossamer.training.parallel.joined`), the same call trains the same dictionaries.

    Args:
        seed: of the order of the data.
        cache: a folder: activations are first written there (:func:`gossamer.training.cache.write_cache`), or found
            there, and read from it. None: every buffer is captured when it is needed.
        also: "wandb" or "tensorboard", to send the lines of metrics.jsonl there as well.

    Raises:
        UsageError: no plan, two of one name, too little text, or a folder that belongs to a run with other settings, or
            to another process that is at work in it.
        NotFiniteError: activations or a loss are not finite (the site is named); the last checkpoint stays.
        GossamerError: the checkpoint or a shard of the cache is damaged.

    Warns:
        TrainingWarning: a dictionary has fewer latents than dimensions; it is trained as asked.
        LoudTokensWarning: a few tokens carry most of the variance of a site.
    """
    _require_plans(plans)
    sites = sorted({site for plan in plans for site in (plan.site, plan.target)})
    whole = cache is not None
    captured = OnTheFly(model, corpus, sites, config, seed, Processes.current(), whole_buffers=whole)
    source = captured if cache is None else _cached(captured, config, Path(cache))

    def minding(wanted: list[Site]) -> Mapping[Site, Tensor]:
        rows = sensitivity_rows(config, max(map(model.width, wanted)), corpus.training.ids.shape[1])
        return sensitivity(model, corpus.rows(0, rows, seed), wanted, seed, mask=corpus.mask)

    facts = {"fit_corpus": corpus.fingerprint, "seed": seed, **mask_facts(corpus.mask)}
    return fit_source(source, plans, config, folder, sensitivities=minding, also=also, facts=facts)


def fit_tensors(
    activations: Activations,
    plans: Sequence[DictionarySpec],
    config: FitConfig,
    folder: str | Path,
    seed: int = 0,
    *,
    model_name: str | None = None,
    also: Sequence[str] = (),
) -> dict[str, Dictionary]:
    """Train the dictionaries of `plans` on activations that are at hand; no model is needed. Otherwise as :func:`fit`.

    Args:
        activations: by site; row i of every tensor belongs to the same token. Their device is the dictionaries'.

    Raises:
        UsageError: also where a plan asks for a sensitivity, which only a model can tell, or a site is missing.
    """
    source = InMemory(activations, seed, model_name=model_name, processes=Processes.current())
    return fit_source(source, plans, config, folder, also=also, facts={"seed": seed})


def fit_source(
    source: ActivationSource,
    plans: Sequence[DictionarySpec],
    config: FitConfig,
    folder: str | Path,
    *,
    sensitivities: Sensitivities | None = None,
    also: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Dictionary]:
    """Train the dictionaries of `plans` on any source of activations. Otherwise as :func:`fit`.

    Args:
        sensitivities: what gives the metric of errors to plans that ask for one; None: no plan may.
        facts: what the dictionaries say of their training beside their plan and `config`.
    """
    _require_plans(plans)
    for plan in plans:
        if missing := [str(site) for site in (plan.site, plan.target) if site not in source.sites]:
            raise UsageError(f"dictionary {plan.name}: no activations at {missing[0]}; found {_listed(source.sites)}")
        if sensitivities is None and plan.trainer.sensitivity > 0:
            raise UsageError(f"dictionary {plan.name}: sensitivity needs the model; set it to 0")
    processes = Processes.current()
    job = _Fit(source, list(plans), config, sensitivities, processes)
    settings = {"stage": "fit", **source.facts, "plans": [plan.facts for plan in plans], **asdict(config)}
    what = "training dictionaries" if len(plans) > 1 else "training a dictionary"
    run.finish(job, what, config.steps, Path(folder), settings, config.checkpoint_every, processes=processes, also=also)
    said = {"fit": asdict(config), **(facts or {})}
    # Dictionaries go to other machines, this one's paths do not.
    model_name = None if source.model_name is None else title_of(source.model_name)
    return {
        name: trainer.dictionary(model_name, {"training": {**said, "plan": trainer.plan.facts}})
        for name, trainer in job.trainers.items()
    }


def sensitivity_rows(config: FitConfig, width: int, context: int) -> int:
    """Rows of `context` tokens from which the sensitivity of sites of some width is estimated.

    A row costs as much as capturing several: they are no more than a thirty-second of what is learned from, as long as
    that spans the site's dimensions.
    """
    return min(config.sensitivity_rows, -(-max(config.tokens // 32, 8 * width) // context))


def _require_plans(plans: Sequence[DictionarySpec]) -> None:
    if not plans:
        raise UsageError("no site to train a dictionary for; give at least one, such as resid_post.3")
    names = [plan.name for plan in plans]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two dictionaries named {twice[0]}; give each a name of its own")


def _listed(sites: Sequence[Site]) -> str:
    return ", ".join(map(str, sites))


def _cached(source: OnTheFly, config: FitConfig, folder: Path) -> Cached:
    shards = buffers_for(source, config.steps, config.batch, config.reuse)
    write_cache(source, shards, config.cache_dtype, folder)
    return Cached(
        folder,
        source.sites,
        shards=shards,
        reuse=config.reuse,
        device=source.model.device,
        processes=source.processes,
    )


class _Fit:
    def __init__(
        self,
        source: ActivationSource,
        plans: list[DictionarySpec],
        config: FitConfig,
        sensitivities: Sensitivities | None,
        processes: Processes,
    ) -> None:
        self.source, self.plans, self.config, self.processes = source, plans, config, processes
        self.sensitivities = sensitivities
        self.trainers: dict[str, DictionaryTrainer] = {}
        self.place = TurnPlace()
        self.batches: Iterator[tuple[TurnPlace, list[Activations]]] | None = None
        self.latest: dict[str, dict[str, Float[Tensor, ""]]] = {}

    def begin(self) -> None:
        first = self.source.first()
        if self.processes.writes:
            sizes = {plan.name: (plan.trainer.n_latents, first[plan.site].shape[1]) for plan in self.plans}
            warn_of_undercomplete(sizes)
            for site in sorted({plan.target for plan in self.plans}):
                some = first[site][:_JUDGED].float()
                warn_of_loud_tokens((some - some.mean(dim=0)).square().sum(dim=1), str(site))
        minding = sorted({plan.target for plan in self.plans if plan.trainer.sensitivity > 0})
        metrics = self.sensitivities(minding) if self.sensitivities is not None and minding else {}
        for plan in self.plans:
            metric = metrics[plan.target] if plan.trainer.sensitivity > 0 else None
            self.trainers[plan.name] = DictionaryTrainer.begin(plan, self.config.steps, *_ends(plan, first), metric)
            self.trainers[plan.name].processes = self.processes

    def resume(self, state: Mapping[str, Tensor]) -> None:
        self.place = TurnPlace(*state["place"].tolist())
        for plan in self.plans:
            start = f"{plan.name}:"
            own = {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
            self.trainers[plan.name] = DictionaryTrainer.resume(plan, self.config.steps, own, self.source.device)
            self.trainers[plan.name].processes = self.processes

    def state(self) -> dict[str, Tensor]:
        tensors = {"place": torch.tensor([self.place.turn, self.place.batch])}
        for name, trainer in self.trainers.items():
            tensors |= {f"{name}:{key}": value for key, value in trainer.state().items()}
        return tensors

    def step(self, step: int) -> int:
        if self.batches is None:
            self.batches = batches(self.source, self.place, self.config.batch, self.config.accumulate)
        self.place, parts = next(self.batches)
        for name, trainer in self.trainers.items():
            gradients = Gradients.joined([self._gradients(trainer, part, step) for part in parts])
            gradients = combined(gradients, self.config.batch, self.processes)
            trainer.update(gradients, step)
            self.latest[name] = gradients.averaged
        self._resample(step)
        if step + 1 == self.config.steps:
            self._calibrate()
        return self.config.batch

    def _resample(self, step: int) -> None:
        """Where an event is due, start dead latents anew from activations that are still to come.

        Memory: a second buffer where they are more than is left of the one in use.
        """
        draws = {name: draw for name, one in self.trainers.items() if (draw := one.restart_draw(step)) is not None}
        if not draws:
            return
        # No more of the work than an eighth at each event.
        tokens = min(self.config.tokens // 8, max(draw.sample for draw in draws.values()))
        coming = batches(self.source, self.place, self.config.batch, self.config.accumulate)
        for _ in range(max(1, tokens // self.config.batch)):
            for part, name in itertools.product(next(coming)[1], draws):
                with self._precision():
                    self.trainers[name].offer(draws[name], *_ends(self.trainers[name].plan, part), step)
        for name, draw in draws.items():
            self.trainers[name].restart(draw)

    def _calibrate(self) -> None:
        """Give every rule that picks from a batch the threshold that stands for it, on activations still to come."""
        fresh: list[Activations] = []
        wanted = calibration_tokens(self.config.tokens)
        for place, parts in batches(self.source, self.place, self.config.batch):
            fresh += parts
            tokens = len(fresh) * self.config.batch
            # Another turn may be another buffer, whose capture would take long.
            if tokens >= wanted or (place.batch == 0 and tokens >= wanted // 4):
                break
        for trainer in self.trainers.values():
            trainer.calibrate([part[trainer.plan.site] for part in fresh])

    def _gradients(self, trainer: DictionaryTrainer, part: Activations, step: int) -> Gradients:
        with self._precision():
            return trainer.gradients(*_ends(trainer.plan, part), step, self.config.batch)

    def _precision(self) -> AbstractContextManager[object]:
        if not self.config.autocast:
            return nullcontext()
        return torch.autocast(self.source.device.type, torch.bfloat16)

    def measured(self) -> list[dict[str, Any]]:
        return [_line(self.trainers[name].plan, found) for name, found in self.latest.items()]


def _ends(plan: DictionarySpec, activations: Activations) -> tuple[Tensor, Tensor | None]:
    """What a dictionary reads, and what a transcoder is to write."""
    return activations[plan.site], None if plan.site_out is None else activations[plan.site_out]


def _line(plan: DictionarySpec, averaged: Mapping[str, Float[Tensor, ""]]) -> dict[str, Any]:
    names = list(averaged)
    # Stacked first, so that the device is waited for once.
    values = torch.stack([averaged[name].double() for name in names]).tolist()
    # A batch that does not vary has no explained variance.
    numbers = {name: value if math.isfinite(value) else None for name, value in zip(names, values, strict=True)}
    if numbers["loss"] is None or numbers["auxiliary_loss"] is None:
        raise NotFiniteError(
            f"training loss at {plan.site}: expected finite values, found {numbers}; "
            "give a lower learning rate; the last checkpoint stays"
        )
    return {"name": plan.name, "site": str(plan.site), **numbers}
