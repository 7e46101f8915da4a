"""Train dictionaries on reconstruction, all from the same passes of the model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.training import run
from gossamer.training.buffer import Activations, Place
from gossamer.training.config import FitConfig, Plan
from gossamer.training.corpus import Corpus
from gossamer.training.learner import Learner
from gossamer.training.sensitivity import sensitivity


def fit(
    model: LanguageModel, corpus: Corpus, plans: Sequence[Plan], config: FitConfig, folder: Path, seed: int
) -> dict[str, Dictionary]:
    """Train the dictionaries of `plans`; returns them by name.

    `folder` gets a checkpoint every so many steps and metrics.jsonl (step, site, what :meth:`Learner.step` returns,
    tokens per second); calling again with the same arguments goes on from the checkpoint, to exactly the result of a
    run that was never stopped (on the same machine with as many threads). `seed` is that of the order of the data.

    Raises:
        UsageError: no plan, too little text, or the folder belongs to a run with other settings.
        NotFiniteError: activations or a loss are not finite (the site is named); the last checkpoint stays.
        GossamerError: the checkpoint is damaged.
    """
    if not plans:
        raise UsageError("no site to train a dictionary for; give at least one, such as resid_post.3")
    job = _Fit(model, corpus, list(plans), config, seed)
    settings = {"stage": "fit", "model": model.name, "plans": [plan.facts for plan in plans], "seed": seed}
    settings |= {"corpus": corpus.fingerprint, **asdict(config)}
    run.finish(job, "training dictionaries", config.steps, folder, settings, config.checkpoint_every)
    facts: dict[str, Any] = {"fit": asdict(config), "fit_corpus": corpus.fingerprint, "seed": seed}
    return {
        name: learner.dictionary(model.name, {"training": {**facts, "plan": learner.plan.facts}})
        for name, learner in job.learners.items()
    }


class _Fit:
    def __init__(self, model: LanguageModel, corpus: Corpus, plans: list[Plan], config: FitConfig, seed: int) -> None:
        self.model, self.corpus, self.plans, self.config, self.seed = model, corpus, plans, config, seed
        sites = sorted({site for plan in plans for site in (plan.site, plan.target)})
        self.activations = Activations(model, corpus, sites, config, seed)
        self.learners: dict[str, Learner] = {}
        self.place = Place()
        self.batches: Iterator[tuple[Place, dict[Site, Tensor]]] | None = None

    def begin(self) -> None:
        first = self.activations.buffer(0)
        metrics: dict[Site, Tensor] = {}
        minding = sorted({plan.target for plan in self.plans if plan.learner.sensitivity > 0})
        if minding:
            rows = self.corpus.rows(0, self.config.sensitivity_rows, self.seed)
            metrics = sensitivity(self.model, rows, minding, self.seed)
        for plan in self.plans:
            metric = metrics[plan.target] if plan.learner.sensitivity > 0 else None
            targets = None if plan.site_out is None else first[plan.site_out]
            self.learners[plan.name] = Learner.begin(plan, self.config.steps, first[plan.site], targets, metric)

    def resume(self, state: Mapping[str, Tensor]) -> None:
        self.place = Place(*state["place"].tolist())
        for plan in self.plans:
            own = {
                name.removeprefix(f"{plan.name}:"): x for name, x in state.items() if name.startswith(f"{plan.name}:")
            }
            self.learners[plan.name] = Learner.resume(plan, self.config.steps, own, self.model.device)

    def state(self) -> dict[str, Tensor]:
        tensors = {"place": torch.tensor([self.place.turn, self.place.batch])}
        for name, learner in self.learners.items():
            tensors |= {f"{name}:{key}": value for key, value in learner.state().items()}
        return tensors

    def step(self, step: int) -> tuple[int, list[dict[str, Any]]]:
        if self.batches is None:
            self.batches = self.activations.batches(self.place)
        self.place, batch = next(self.batches)
        return self.config.batch, [self._line(learner, batch, step) for learner in self.learners.values()]

    def _line(self, learner: Learner, batch: Mapping[Site, Tensor], step: int) -> dict[str, Any]:
        plan = learner.plan
        targets = None if plan.site_out is None else batch[plan.site_out]
        measured = learner.step(batch[plan.site], targets, step)
        return {"site": plan.name, **{name: float(value) for name, value in measured.items()}}
