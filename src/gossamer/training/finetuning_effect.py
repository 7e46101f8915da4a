"""What a fine-tuning changed: divergence from the model before and after it, on held-out text and on its prompts."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from gossamer.activations.corpus import Corpus
from gossamer.batching import in_batches
from gossamer.dictionary.set import DictionarySet
from gossamer.display import short_repr
from gossamer.model.language_model import LanguageModel
from gossamer.model.predictions import divergence
from gossamer.replacement.evaluate.quality import Quality, quality
from gossamer.replacement.replacement_model import ReplacementModel
from gossamer.training.checks import TrainingWarning
from gossamer.training.task_prompts import TaskPrompts

# Prompts of tasks that are measured, at most, and how many at once.
_PROMPTS, _BATCH = 256, 32


@dataclass(frozen=True)
class FinetuningEffect:
    """KL(model || model with all dictionaries spliced in, errors dropped), in nats.

    Attributes:
        kl_before, kl: on held-out text.
        ce_before: cross-entropy of that text with the dictionaries before.
        answer_kl_before, answer_kl: at the answers of the training prompts of tasks, as they are; None without any.
            Held-out prompts are for whoever judges the dictionaries.
    """

    kl_before: float
    kl: float
    ce_before: float
    answer_kl_before: float | None
    answer_kl: float | None

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"KL {self.kl_before:.3f} to {self.kl:.3f}"
        if self.answer_kl is not None:
            yield f"at answers {self.answer_kl_before:.3f} to {self.answer_kl:.3f}"


def finetuning_effect(
    model: LanguageModel,
    before: DictionarySet,
    after: DictionarySet,
    found: Quality,
    corpus: Corpus,
    prompts: TaskPrompts | None,
) -> FinetuningEffect:
    """Measure it; `found` is what the dictionaries do after it on the held-out text of the corpus.

    Warns:
        TrainingWarning: it made one of the two worse.
    """
    was = quality(model, before, corpus.measured, mask=corpus.mask)
    answers = [None if prompts is None else answer_kl(model, one, corpus, prompts) for one in (before, after)]
    effect = FinetuningEffect(was.kl, found.kl, was.ce_spliced, *answers)
    for where, old, new in (
        ("on held-out text", effect.kl_before, effect.kl),
        ("at the answers of its own prompts", effect.answer_kl_before, effect.answer_kl),
    ):
        if old is not None and new is not None and new > old:
            warnings.warn(
                f"the fine-tuning raised the KL to the model {where} from {old:.3g} to {new:.3g} nats: use the "
                "dictionaries from before it, or a lower learning rate (--finetune-learning-rate)",
                TrainingWarning,
                stacklevel=2,
            )
    return effect


@torch.no_grad()
def answer_kl(model: LanguageModel, dictionaries: DictionarySet, corpus: Corpus, prompts: TaskPrompts) -> float:
    """Mean KL to the model at the last token of the prompts, in nats, with all dictionaries spliced in."""
    network, end = ReplacementModel(model, dictionaries), model.sites("resid_post")[-1]

    def part(rows: slice) -> torch.Tensor:
        tokens = prompts.tokens[rows]
        kept = corpus.mask.counted(model, tokens).to(model.device)
        own, spliced = (one[end] for one in (model.capture(tokens, [end]), network.capture(tokens, kept, [end])))
        place = torch.arange(len(tokens), device=own.device), tokens.last.to(own.device)
        return divergence(model, own[place], spliced[place])

    return float(torch.cat(in_batches(min(len(prompts.tokens), _PROMPTS), _BATCH, part)).mean())
