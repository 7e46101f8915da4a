"""Train the dictionaries of several sites on reconstruction, all from the same passes of the model."""

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
from gossamer.training.config import FitConfig, learning_rate
from gossamer.training.corpus import Corpus
from gossamer.training.learner import Learner
from gossamer.training.sensitivity import sensitivity


def fit(
    model: LanguageModel, corpus: Corpus, sites: Sequence[Site], config: FitConfig, folder: Path, seed: int
) -> dict[Site, Dictionary]:
    """Train one dictionary a site.

    `folder` gets a checkpoint every so many steps and metrics.jsonl (step, site, loss, explained variance and L0 of the
    step's batch, share of dead latents, tokens per second); calling again with the same arguments goes on from the
    checkpoint, to exactly the result of a run that was never stopped (on the same machine with as many threads).

    Raises:
        UsageError: no site, too little text, or the folder belongs to a run with other settings.
        NotFiniteError: activations or a loss are not finite (the site is named); the last checkpoint stays.
        GossamerError: the checkpoint is damaged.
    """
    if not sites:
        raise UsageError("no site to train a dictionary for; give at least one, such as resid_post.3")
    job = _Fit(model, corpus, sorted(set(sites)), config, seed)
    settings = {"stage": "fit", "model": model.name, "sites": [str(site) for site in job.sites], "seed": seed}
    settings |= {"corpus": corpus.fingerprint, **asdict(config)}
    run.finish(job, "training dictionaries", config.steps, folder, settings, config.checkpoint_every)
    facts: dict[str, Any] = {"fit": asdict(config), "fit_corpus": corpus.fingerprint, "seed": seed}
    return {site: learner.dictionary(model.name, {"training": facts}) for site, learner in job.learners.items()}


class _Fit:
    def __init__(self, model: LanguageModel, corpus: Corpus, sites: list[Site], config: FitConfig, seed: int) -> None:
        self.model, self.corpus, self.sites, self.config, self.seed = model, corpus, sites, config, seed
        self.activations = Activations(model, corpus, sites, config, seed)
        self.learners: dict[Site, Learner] = {}
        self.place = Place()
        self.batches: Iterator[tuple[Place, dict[Site, Tensor]]] | None = None

    def begin(self) -> None:
        first = self.activations.buffer(0)
        metrics: dict[Site, Tensor] = {}
        if self.config.sensitivity > 0:
            rows = self.corpus.rows(0, self.config.sensitivity_rows, self.seed)
            metrics = sensitivity(self.model, rows, self.sites, self.seed)
        for site in self.sites:
            self.learners[site] = Learner.begin(site, first[site], metrics.get(site), self.config, self.seed)

    def resume(self, state: Mapping[str, Tensor]) -> None:
        self.place = Place(*state["place"].tolist())
        for site in self.sites:
            own = {name.removeprefix(f"{site}:"): value for name, value in state.items() if name.startswith(f"{site}:")}
            self.learners[site] = Learner.resume(site, own, self.config, self.seed, self.model.device)

    def state(self) -> dict[str, Tensor]:
        tensors = {"place": torch.tensor([self.place.turn, self.place.batch])}
        for site, learner in self.learners.items():
            tensors |= {f"{site}:{name}": value for name, value in learner.state().items()}
        return tensors

    def step(self, step: int) -> tuple[int, list[dict[str, Any]]]:
        if self.batches is None:
            self.batches = self.activations.batches(self.place)
        self.place, batch = next(self.batches)
        rate = learning_rate(self.config.learning_rate, self.config.warm_up, self.config.decay, step, self.config.steps)
        lines = [{"site": str(site), **self.learners[site].step(batch[site], rate)} for site in self.sites]
        return self.config.batch, lines
