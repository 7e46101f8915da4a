r"""Train all dictionaries of a set together, spliced into the model, on what the model itself says.

Every site's stream is replaced by its reconstruction (a BOS at the start of a row passes through), each dictionary
reading what the earlier ones wrote, and

    loss = KL(model's logits || spliced model's logits)  +  reconstruction * mean over sites of unexplained variance

at a random share of the positions for the KL, at all of them for the second term, whose target is the activation of the
untouched model. So errors are moved to where the model does not mind them, and each dictionary learns to take what the
ones before it let through. Thresholds stay as they are. End-to-end training is Braun et al. 2024 (arXiv 2405.12241);
doing it for a short time at the end is Karvonen 2025 (arXiv 2503.17272).
"""

import functools
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.dictionary.attach import counted_tokens
from gossamer.dictionary.config import Claims
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.set import DictionarySet
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tokens import Tokens
from gossamer.training import run
from gossamer.training.active import Active, above, reconstruct, topk
from gossamer.training.config import FinetuneConfig, learning_rate
from gossamer.training.corpus import Corpus
from gossamer.training.optimiser import Optimiser
from gossamer.training.seeding import generator


def finetune(
    model: LanguageModel,
    dictionaries: DictionarySet,
    corpus: Corpus,
    config: FinetuneConfig,
    folder: Path,
    seed: int,
) -> DictionarySet:
    """A new set, fine-tuned; `dictionaries` are left as they are.

    Resumable like :func:`gossamer.training.fit.fit`, with the same files in `folder`.

    Raises:
        UsageError: a dictionary is no topk or batchtopk of a stream's site, the corpus is too small, or the folder
            belongs to a run with other settings.
        NotFiniteError: a stream or the loss is not finite (the site is named).
        GossamerError: the checkpoint is damaged.
    """
    job = _Finetune(model, dictionaries, corpus, config, seed)
    settings = {"stage": "finetune", "model": model.name, "sites": [str(site) for site in dictionaries], "seed": seed}
    settings |= {"corpus": corpus.fingerprint, **asdict(config)}
    run.finish(job, "fine-tuning dictionaries", job.steps, folder, settings, config.checkpoint_every)
    return DictionarySet(learner.dictionary() for learner in job.learners.values())


class _Learner:
    """One dictionary of the set, in units in which its site's activations have variance one per dimension.

    Without them a learning rate would mean something else at every site and in every model.
    """

    def __init__(self, source: Dictionary, scale: float, clip: float) -> None:
        self.source, self.scale = source, scale
        parameters = {
            name: source.get_parameter(name).detach().clone() for name in ("W_enc", "W_dec", "b_enc", "b_dec")
        }
        if source.config.subtract_b_dec:
            parameters["b_enc"] -= parameters["b_dec"] @ parameters["W_enc"]
        for name in ("b_enc", "b_dec"):
            parameters[name] /= scale
        self.parameters = {name: value.requires_grad_() for name, value in parameters.items()}
        self.optimiser = Optimiser(self.parameters, clip)

    def reconstruct(self, stream: Float[Tensor, "tokens d"]) -> tuple[Float[Tensor, "tokens d"], Active]:
        p = self.parameters
        x = require_finite(stream, f"spliced stream at {self.source.site}") / self.scale
        with torch.no_grad():
            pre = torch.addmm(p["b_enc"], x, p["W_enc"])
            active = self._select(pre)
        out = reconstruct(x, p["W_enc"], p["b_enc"], p["W_dec"], pre, active) + p["b_dec"]
        return out * self.scale, active

    def _select(self, pre: Tensor) -> Active:
        if self.source.architecture == "topk":
            assert isinstance(self.source.k, int)
            return topk(pre, self.source.k)
        assert self.source.threshold is not None
        return above(pre, float(self.source.threshold) / self.scale)

    def dictionary(self) -> Dictionary:
        """The dictionary in the model's units. Its old claims no longer hold and are dropped."""
        tensors = {name: value.detach().clone() for name, value in self.parameters.items()}
        for name in ("b_enc", "b_dec"):
            tensors[name] *= self.scale
        if self.source.config.subtract_b_dec:
            tensors["b_enc"] += tensors["b_dec"] @ tensors["W_enc"]
        if self.source.threshold is not None:
            tensors["threshold"] = self.source.threshold.detach().clone()
        tuned = Dictionary(self.source.config, provenance=self.source.provenance, claims=Claims(), device="meta")
        tuned.load_state_dict(tensors, assign=True)
        return tuned.requires_grad_(False)


class _Finetune:
    def __init__(
        self, model: LanguageModel, dictionaries: DictionarySet, corpus: Corpus, config: FinetuneConfig, seed: int
    ) -> None:
        for site, dictionary in dictionaries.items():
            if dictionary.architecture not in ("topk", "batchtopk") or not site.kind.startswith("resid"):
                raise UsageError(
                    f"dictionary at {site}: fine-tuning takes topk and batchtopk dictionaries of residual streams, "
                    f"found {dictionary.architecture}; leave it out"
                )
        self.model, self.dictionaries, self.corpus, self.config, self.seed = model, dictionaries, corpus, config, seed
        self.steps = config.tokens // (config.rows * corpus.training.ids.shape[1])
        self.last = model.sites("resid_post")[-1]
        self.learners: dict[Site, _Learner] = {}

    def begin(self) -> None:
        tokens = self.corpus.rows(0, self.config.rows, self.seed)
        kept = counted_tokens(self.model, tokens)
        with torch.no_grad():
            first = self.model.capture(tokens, list(self.dictionaries))
        self._make({site: float(_spread(values[kept.to(values.device)]) ** 0.5) for site, values in first.items()})

    def _make(self, scales: Mapping[Site, float]) -> None:
        self.learners = {
            site: _Learner(dictionary, scales[site], self.config.clip) for site, dictionary in self.dictionaries.items()
        }

    def resume(self, state: Mapping[str, Tensor]) -> None:
        self._make({site: float(state[f"{site}:scale"]) for site in self.dictionaries})
        for site, learner in self.learners.items():
            learner.optimiser.restore(
                {name.removeprefix(f"{site}:"): value for name, value in state.items() if name.startswith(f"{site}:")}
            )

    def state(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for site, learner in self.learners.items():
            tensors[f"{site}:scale"] = torch.tensor(learner.scale, dtype=torch.float64)
            tensors |= {f"{site}:{name}": value for name, value in learner.optimiser.state().items()}
        return tensors

    def step(self, step: int) -> tuple[int, list[dict[str, Any]]]:
        tokens = self.corpus.rows(step * self.config.rows, self.config.rows, self.seed)
        kept = counted_tokens(self.model, tokens).to(self.model.device)
        with torch.no_grad():
            target = self.model.capture(tokens, [*self.learners, self.last])
        streams, active = self._spliced(tokens, kept)
        unexplained = {
            site: (streams[site][kept] - target[site][kept]).square().mean() / _spread(target[site][kept])
            for site in self.learners
        }
        kl = self._kl(target[self.last], streams[self.last], kept, step)
        loss = kl + self.config.reconstruction * torch.stack(list(unexplained.values())).mean()
        self._descend(require_finite(loss, "fine-tuning loss"), step)
        line: dict[str, Any] = {"loss": float(loss.detach()), "kl": float(kl.detach())}
        for site, entries in active.items():
            line[str(site)] = {
                "l0": len(entries.latents) / int(kept.sum()),
                "explained_variance": 1 - float(unexplained[site].detach()),
            }
        return int(kept.sum()), [line]

    def _spliced(self, tokens: Tokens, kept: Bool[Tensor, "rows pos"]) -> tuple[dict[Site, Tensor], dict[Site, Active]]:
        active: dict[Site, Active] = {}

        def replace(site: Site, stream: Tensor) -> Tensor:
            out, active[site] = self.learners[site].reconstruct(stream[kept])
            replaced = stream.clone()
            replaced[kept] = out
            return replaced

        with self.model.edit({site: functools.partial(replace, site) for site in self.learners}):
            streams = self.model.capture(tokens, [*self.learners, self.last])
        return streams, active

    def _kl(self, target: Tensor, stream: Tensor, kept: Bool[Tensor, "rows pos"], step: int) -> Tensor:
        places = kept.nonzero()
        share = max(1, round(self.config.positions * len(places)))
        chosen = torch.randperm(len(places), generator=generator(self.seed, "positions", step))[:share]
        row, position = places[chosen.to(places.device)].unbind(dim=1)
        with torch.no_grad():
            expected = self.model.unembed(target[row, position]).float().log_softmax(dim=-1)
        found = self.model.unembed(stream[row, position]).float().log_softmax(dim=-1)
        return (expected.exp() * (expected - found)).sum(dim=-1).mean()

    def _descend(self, loss: Tensor, step: int) -> None:
        rate = learning_rate(self.config.learning_rate, self.config.warm_up, self.config.decay, step, self.steps)
        names = [(site, name) for site, learner in self.learners.items() for name in learner.parameters]
        wanted = [self.learners[site].parameters[name] for site, name in names]
        # Only with respect to the dictionaries: the model's own weights may require gradients and must get none.
        gradients = dict(zip(names, torch.autograd.grad(loss, wanted), strict=True))
        for site, learner in self.learners.items():
            learner.optimiser.step({name: gradients[site, name] for name in learner.parameters}, rate)


def _spread(x: Float[Tensor, "tokens d"]) -> Float[Tensor, ""]:
    return (x - x.mean(dim=0)).square().mean()
