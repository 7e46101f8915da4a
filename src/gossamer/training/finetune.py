r"""Train all dictionaries of a set together, spliced into the model, on what the model itself says.

Every site's stream is replaced by its reconstruction (a BOS at the start of a row passes through), each dictionary
reading what the earlier ones wrote, and

    loss = KL(model's logits || spliced model's logits) + logit_error * L + reconstruction * R

The KL is taken at a random share of the positions; where prompts of tasks are among the rows, a share of it is that at
the positions of their answers. L is the mean square of the error of the logits, each minus its mean
over the vocabulary, as a share of the model's own mean square deviation: a quadratic form of the final stream, cheap at
all positions, which also keeps the differences between logits that the KL no longer sees once a token is certain. R is
the unexplained variance of the untouched model's activations, mean over sites. So errors move to where the model does
not mind them, and each dictionary learns to take what the ones before it let through. End-to-end training is Braun et
al. 2024 (arXiv 2405.12241); doing it for a short time at the end, with a KL of the reconstruction's size at the start
(`FinetuneConfig.balanced`), is Karvonen 2025 (arXiv 2503.17272).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.activations.corpus import Corpus
from gossamer.activations.stream import ActivationStream
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.set import DictionarySet
from gossamer.dictionary.training_prompts import FINETUNED, finetunings
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.predictions import divergence
from gossamer.model.site import Site
from gossamer.replacement.replacement_model import ReplacementModel
from gossamer.seeding import generator
from gossamer.tokens import Tokens
from gossamer.training import run
from gossamer.training.calibration import calibration_tokens
from gossamer.training.chosen import ChosenLatents
from gossamer.training.config import FinetuneConfig, learning_rate
from gossamer.training.end_to_end_trainer import EndToEndTrainer, K
from gossamer.training.parallel import Processes
from gossamer.training.sensitivity import unembedding_covariance
from gossamer.training.task_prompts import TaskPrompts, together

_WEIGHTS = "weights"


def finetune(
    model: LanguageModel,
    dictionaries: DictionarySet,
    corpus: Corpus,
    config: FinetuneConfig,
    folder: Path,
    seed: int,
    prompts: TaskPrompts | None = None,
) -> DictionarySet:
    """A new set, fine-tuned; `dictionaries` are left as they are.

    Each says in its provenance, under "finetuned", with which weights of the loss and on which prompts of tasks.

    Of several processes each does the whole work, and the first one writes. Resumable like
    :func:`gossamer.training.fit.fit`, with the same files in `folder`; lines of metrics.jsonl hold the loss and its
    parts, and per site L0 and explained variance of the spliced stream.

    Raises:
        UsageError: a dictionary is none of topk, batchtopk and jumprelu or reads a site that cannot be replaced, the
            corpus is too small, or the folder belongs to a run with other settings.
        NotFiniteError: a stream or the loss is not finite (the site is named).
        GossamerError: the checkpoint is damaged.
    """
    job = _Finetune(model, dictionaries, corpus, config, seed, prompts)
    settings = {"stage": "finetune", "model": model.name, "sites": [str(site) for site in dictionaries], "seed": seed}
    settings |= {"weights_sha256": weights_sha256(model.hf), "corpus": corpus.fingerprint, **config.facts}
    settings |= {} if prompts is None else {"prompts": prompts.facts}
    run.finish(
        job,
        "fine-tuning dictionaries",
        job.steps,
        folder,
        settings,
        config.checkpoint_every,
        processes=Processes.current(),
    )
    return DictionarySet(
        tuner.dictionary(
            {**dictionaries[site].provenance, FINETUNED: [*finetunings(dictionaries[site]), job.facts_at(site)]}
        )
        for site, tuner in job.tuners.items()
    )


@dataclass(frozen=True)
class _Rows:
    """What one step learns from.

    Attributes:
        tokens: rows of text, and below them prompts of tasks.
        kept: which tokens are replaced.
        prompts: numbers of the rows that are prompts.
    """

    tokens: Tokens
    kept: Bool[Tensor, "rows pos"]
    prompts: Int[Tensor, "prompts"]


class _Finetune:
    def __init__(
        self,
        model: LanguageModel,
        dictionaries: DictionarySet,
        corpus: Corpus,
        config: FinetuneConfig,
        seed: int,
        prompts: TaskPrompts | None,
    ) -> None:
        if prompts is not None and config.rows < 2:
            raise UsageError("fine-tuning on prompts of tasks: expected rows of at least 2 in the settings, found 1")
        self.model, self.dictionaries, self.corpus, self.config, self.seed = model, dictionaries, corpus, config, seed
        self.prompts = prompts
        self.steps = config.tokens // (config.rows * corpus.training.ids.shape[1])
        self.network = ReplacementModel(model, dictionaries)
        self.last = model.sites("resid_post")[-1]
        self.covariance = unembedding_covariance(model)
        self.tuners: dict[Site, EndToEndTrainer] = {}
        self.k = config.k_at(list(dictionaries))
        # Of logit error and reconstruction beside the KL. Where they are balanced, the first step tells them.
        asked = torch.tensor([config.logit_error, config.reconstruction], dtype=torch.float64)
        self.weights = None if config.balanced else asked
        self.latest: dict[str, Any] = {}

    def begin(self) -> None:
        tokens = self.corpus.rows(0, self.config.rows, self.seed)
        sites, rows = list(self.dictionaries), self.config.rows
        stream = ActivationStream(self.model, tokens, sites, mask=self.corpus.mask, batch_size=rows)
        first = stream.collect(torch.float32)
        for site, dictionary in self.dictionaries.items():
            own = first[site]
            self.tuners[site] = self._tuner(dictionary, float(_spread(own).sqrt()))
            self.tuners[site].measure_k(own)

    def _tuner(self, dictionary: Dictionary, scale: float) -> EndToEndTrainer:
        assert dictionary.site is not None
        return EndToEndTrainer(dictionary, scale, self.config.clip, self.k.get(dictionary.site))

    def resume(self, state: Mapping[str, Tensor]) -> None:
        for site, dictionary in self.dictionaries.items():
            own = {name.removeprefix(f"{site}:"): value for name, value in state.items() if name.startswith(f"{site}:")}
            self.tuners[site] = self._tuner(dictionary, float(own["numbers"][0]))
            self.tuners[site].resume(own)
        self.weights = state.get(_WEIGHTS, self.weights)

    def state(self) -> dict[str, Tensor]:
        own = {f"{site}:{name}": value for site, tuner in self.tuners.items() for name, value in tuner.state().items()}
        return own if self.weights is None else {**own, _WEIGHTS: self.weights}

    def facts_at(self, site: Site) -> dict[str, Any]:
        """What the dictionary of a site says of it."""
        found: dict[str, Any] = {"config": self.config.facts}
        if site in self.k:
            found[K] = self.k[site]
        if self.weights is not None:
            found["loss_weights"] = dict(zip(("logit_error", "reconstruction"), self.weights.tolist(), strict=True))
        if self.prompts is not None:
            found["prompts"] = {"share": self.config.prompt_share, **self.prompts.facts}
        return found

    def _rows(self, step: int) -> _Rows:
        few = 0 if self.prompts is None else self.config.prompt_rows
        tokens: Tokens = self.corpus.rows(step * (self.config.rows - few), self.config.rows - few, self.seed)
        prompts = torch.tensor([], dtype=torch.long)
        if self.prompts is not None:
            tokens, prompts = together(tokens, self.prompts.rows(step * few, few, self.seed))
        return _Rows(tokens, self.corpus.mask.counted(self.model, tokens).to(self.model.device), prompts)

    def step(self, step: int) -> int:
        rows = self._rows(step)
        tokens, kept = rows.tokens, rows.kept
        with torch.no_grad():
            target = self.model.capture(tokens, sorted({*self.tuners, self.network.start, self.last}))
        streams, active = self._spliced(tokens, kept, target[self.network.start])
        # In float32: a difference of two numbers in half precision has hardly a digit.
        own = {site: target[site][kept].float() for site in self.tuners}
        unexplained = {
            site: (streams[site][kept].float() - own[site]).square().mean() / _spread(own[site]) for site in self.tuners
        }
        kl = self._kl(target[self.last], streams[self.last], rows, step)
        logit_error = self._logit_error(target[self.last][kept], streams[self.last][kept])
        loss = self._loss(kl, logit_error, torch.stack(list(unexplained.values())).mean())
        self._descend(require_finite(loss, "fine-tuning loss"), step)
        self.latest = {"loss": loss.detach(), "logit_error": logit_error.detach()}
        self.latest |= {name: one.detach() for name, one in kl.items()}
        self.latest |= {
            str(site): {
                "l0": int(chosen.fired.sum()) / int(kept.sum()),
                "explained_variance": 1 - float(unexplained[site].detach()),
            }
            for site, chosen in active.items()
        }
        if step + 1 == self.steps:
            self._calibrate()
        return int(kept.sum())

    def _calibrate(self) -> None:
        """Give every rule that picks from a batch the threshold that stands for it, on rows still to come.

        On the model's own activations L0 is measured and compared everywhere. What reaches a later site with
        reconstructions before it is smaller: thresholds set there are lower, and let more than k of the model's own
        activations through.
        """
        rows, sites = self.config.rows, list(self.tuners)
        count = rows * -(-calibration_tokens(self.config.tokens) // (rows * self.corpus.training.ids.shape[1]))
        tokens = self.corpus.rows(self.steps * rows, count, self.seed)
        read = ActivationStream(self.model, tokens, sites, mask=self.corpus.mask, batch_size=rows).collect()
        before: list[Dictionary] = []
        for site, tuner in self.tuners.items():
            spliced = bool(before) and self.config.thresholds == "spliced"
            tuner.calibrate(self._behind(DictionarySet(before), site, tokens) if spliced else [read[site]])
            before.append(tuner.dictionary({}))

    @torch.no_grad()
    def _behind(self, dictionaries: DictionarySet, site: Site, tokens: Tokens) -> list[Float[Tensor, "_ d"]]:
        """What reaches `site` at the tokens that count, with these dictionaries before it."""
        network = ReplacementModel(self.model, dictionaries)
        found = []
        for start in range(0, len(tokens), self.config.rows):
            some = tokens[start : start + self.config.rows]
            kept = self.corpus.mask.counted(self.model, some).to(self.model.device)
            found.append(network.capture(some, kept, [site])[site][kept])
        return found

    def measured(self) -> list[dict[str, Any]]:
        return [{name: value if isinstance(value, dict) else float(value) for name, value in self.latest.items()}]

    def _spliced(
        self, tokens: Tokens, kept: Bool[Tensor, "rows pos"], prefix: Float[Tensor, "rows pos d"]
    ) -> tuple[dict[Site, Tensor], dict[Site, ChosenLatents]]:
        """Streams behind every dictionary and at the end, and which latents were active."""
        active: dict[Site, ChosenLatents] = {}

        def reconstruct(site: Site, stream: Tensor) -> Tensor:
            # Only what is replaced: BatchTopK picks the largest of a whole batch.
            out, active[site] = self.tuners[site].reconstruct(stream[kept])
            return stream.clone().index_put(kept.nonzero(as_tuple=True), out.to(stream.dtype))

        sites = [*self.tuners, self.last]
        return self.network.capture(tokens, kept, sites, prefix=prefix, reconstruct=reconstruct), active

    def _kl(self, target: Tensor, stream: Tensor, rows: _Rows, step: int) -> dict[str, Tensor]:
        """The mean divergence at some of all positions, and at the answers' positions of prompts."""
        places = rows.kept.nonzero()
        share = max(1, round(self.config.positions * len(places)))
        chosen = torch.randperm(len(places), generator=generator(self.seed, "positions", step))[:share]
        answers = torch.stack([rows.prompts, rows.tokens.last[rows.prompts]], dim=1).to(places)
        row, position = torch.cat([places[chosen.to(places.device)], answers]).unbind(dim=1)
        found = divergence(self.model, target[row, position], stream[row, position])
        return {"kl": found[:share].mean(), **({"answer_kl": found[share:].mean()} if len(answers) else {})}

    def _loss(self, kl: Mapping[str, Tensor], logit_error: Tensor, unexplained: Tensor) -> Tensor:
        share = self.config.prompt_share
        whole = (1 - share) * kl["kl"] + share * kl["answer_kl"] if "answer_kl" in kl else kl["kl"]
        terms = torch.stack([logit_error, unexplained]).to(whole.dtype)
        if self.weights is None:
            asked = torch.tensor([self.config.logit_error, self.config.reconstruction], dtype=torch.float64)
            self.weights = asked * float(whole.detach()) / terms.detach().double().cpu()
        return whole + (self.weights.to(terms) * terms).sum()

    def _logit_error(self, target: Float[Tensor, "tokens d"], stream: Float[Tensor, "tokens d"]) -> Tensor:
        covariance = self.covariance.to(stream.device)
        expected, found = (self.model.anatomy.norm(x).float() for x in (target, stream))
        error, spread = found - expected, expected - expected.mean(dim=0)
        return ((error @ covariance) * error).sum() / ((spread @ covariance) * spread).sum()

    def _descend(self, loss: Tensor, step: int) -> None:
        rate = learning_rate(self.config.learning_rate, self.config.warm_up, self.config.decay, step, self.steps)
        names = [(site, name) for site, tuner in self.tuners.items() for name in tuner.parameters]
        wanted = [self.tuners[site].parameters[name] for site, name in names]
        # Only with respect to the dictionaries: the model's own weights may require gradients and must get none.
        gradients = dict(zip(names, torch.autograd.grad(loss, wanted), strict=True))
        for site, tuner in self.tuners.items():
            tuner.optimiser.step({name: gradients[site, name] for name in tuner.parameters}, rate)


def _spread(x: Float[Tensor, "tokens d"]) -> Float[Tensor, ""]:
    return (x - x.mean(dim=0)).square().mean()
