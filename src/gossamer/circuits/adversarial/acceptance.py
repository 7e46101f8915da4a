"""Is a failure one? What a prompt that breaks the model has to stand beside a margin below zero."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.adversarial.prompts import CountedModel
from gossamer.dictionary.dictionary import Dictionary
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.replacement.replacement_model import ReplacementModel
from gossamer.tasks.prompt_pairs import PromptPairs

# The margin that a clear failure is below, and tokens of the greedy continuation.
CLEAR, CONTINUED = -1.0, 5
_BATCH = 32

Said = Literal["wrong", "right", "neither"]


@dataclass(frozen=True)
class FailureCheck:
    """A prompt that the model fails on, seen in other ways.

    Attributes:
        margin: of the right answer over the best wrong one, in the dtype that the model runs in.
        in_float32: the same with weights and activations in float32.
        with_dictionaries: the same of the model with the dictionaries in its stream, their errors dropped.
        continuation: the next five tokens, each the most likely one.
        said: which answer comes first among them.
    """

    margin: float
    in_float32: float
    with_dictionaries: float
    continuation: str
    said: Said

    @property
    def clear(self) -> bool:
        """Whether the margin is below -1 both as the model runs and in float32."""
        return max(self.margin, self.in_float32) < CLEAR

    @property
    def stands(self) -> bool:
        """Whether it is a clear failure that the continuation shows too, and the model with dictionaries has."""
        return self.clear and self.said == "wrong" and self.with_dictionaries < 0


def float32_model(model: LanguageModel) -> LanguageModel:
    """The model in float32: itself, or a copy. Memory: the weights once more, in float32."""
    if model.dtype == torch.float32:
        return model
    return LanguageModel(copy.deepcopy(model.hf).float(), model.tokenizer, model.name, model.family)


def check_failures(
    model: LanguageModel, full: LanguageModel, dictionaries: Mapping[Site, Dictionary], pairs: PromptPairs, *, bos: bool
) -> list[FailureCheck]:
    """Every check of each prompt.

    Args:
        model: the model as it runs; `full`: in float32 (:func:`float32_model`).
        dictionaries: at the circuit's sites, in execution order.
        pairs: the prompts.
        bos: whether they begin with a BOS token, which no dictionary stands in for.
    """
    own = CountedModel(model, _BATCH).margins(pairs)
    exact = own if full is model else CountedModel(full, _BATCH).margins(pairs)
    spliced = _spliced_margins(model, dictionaries, pairs, bos)
    margins = zip(own.tolist(), exact.tolist(), spliced.tolist(), strict=True)
    return [FailureCheck(*one, *said) for one, said in zip(margins, _continued(model, pairs), strict=True)]


def _spliced_margins(
    model: LanguageModel, dictionaries: Mapping[Site, Dictionary], pairs: PromptPairs, bos: bool
) -> Float[Tensor, "prompt"]:
    network = ReplacementModel(model, dictionaries)

    def run(rows: slice) -> Tensor:
        clean = pairs.clean[rows].to(model.device)
        replaced = clean.tokens.mask.clone()
        if bos:
            replaced[:, 0] = False
        logits = network.logits(clean.tokens, replaced, at=clean.answer_position)
        return pairs.measure(logits, rows).cpu()

    with torch.no_grad():
        return torch.cat(in_batches(len(pairs), _BATCH, run))


def _continued(model: LanguageModel, pairs: PromptPairs) -> list[tuple[str, Said]]:
    """The greedy continuation of every prompt, and which of its answers comes first there."""

    def run(rows: slice) -> list[tuple[str, Said]]:
        new = model.generate(pairs.clean.tokens[rows].to(model.device), max_new_tokens=CONTINUED).new
        answers = zip(pairs.answers(rows).tolist(), pairs.incorrect_answers(rows).tolist(), strict=True)
        found: list[tuple[str, Said]] = []
        for ids, mask, (right, wrong) in zip(new.ids.cpu(), new.mask.cpu(), answers, strict=True):
            tokens = ids[mask].tolist()
            known: list[Said] = ["right" if one in right else "wrong" for one in tokens if one in (*right, *wrong)]
            found.append(("".join(map(model.word, tokens)), known[0] if known else "neither"))
        return found

    return [one for part in in_batches(len(pairs), _BATCH, run) for one in part]
