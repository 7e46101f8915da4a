"""Prompts taken apart so that a page or a workbench can be clicked through without the model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from gossamer.attention.attribution_data import AttributionData, AttributionDictionary, Limits, PromptAttribution
from gossamer.attention.catalogue import group_of
from gossamer.attention.frozen import FrozenPass
from gossamer.attention.prompt_exploration import Begin, explore_prompt
from gossamer.attention.trace import logit_root
from gossamer.attention.tracing import Dictionaries, answer_root
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.features.feature_card import CardSource
from gossamer.features.lens import has_words, logit_lens
from gossamer.features.links import neuronpedia_link
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.published import TaskLike, task_of
from gossamer.tokens import Tokens

# Words of a latent.
_WORDS = 5


@dataclass(frozen=True)
class Question:
    """A prompt and what to begin with: the difference of two answers' logits, or a latent; nothing: only its latents.

    Attributes:
        text: the prompt.
        answer, wrong: two continuations, of which the first tokens are compared.
        feature, position: a latent at a token, counted from the end where negative.
    """

    text: str
    answer: str | None = None
    wrong: str | None = None
    feature: Feature | None = None
    position: int = -1

    __repr__ = short_repr


def attribution_data(
    model: LanguageModel,
    dictionaries: Dictionaries,
    questions: Sequence[str | Question],
    *,
    limits: Limits | None = None,
    bos: bool | None = None,
    source: CardSource | None = None,
) -> AttributionData:
    """Take prompts apart, to be looked at (:func:`gossamer.report.write_attribution_page`).

    Memory and size: of one prompt at a time, see :func:`explore_prompt`.

    Args:
        model: the language model.
        dictionaries: autoencoders and transcoders, one for each site.
        questions: prompts, as texts or with what to begin with.
        limits: how much is listed.
        bos: whether BOS comes first; None: as the tokenizer does.
        source: where what is said of latents comes from, such as a feature store; None: the logit lens.

    Raises:
        UsageError: no prompts, or what the functions that it calls refuse.
    """
    found = []
    for question in questions:
        asked = Question(question) if isinstance(question, str) else question
        if asked.feature is not None and (asked.answer is not None or asked.wrong is not None):
            raise UsageError("exploring: a latent or an answer with a wrong one expected, found both; give one")
        frozen = FrozenPass.of(model, dictionaries, model.tokenize([asked.text], bos=bos))
        root: Begin = None
        if asked.feature is not None:
            root = (asked.feature, asked.position)
        elif asked.answer is not None or asked.wrong is not None:
            logits = answer_root(frozen, asked.text, asked.answer, asked.wrong)
            root = replace(logits, name=f"logit difference, {asked.answer!r} over {asked.wrong!r}")
        found.append((frozen, root))
    return _data(model, found, limits or Limits(), source)


def task_attribution(
    model: LanguageModel,
    dictionaries: Dictionaries,
    task: TaskLike,
    *,
    prompts: int = 4,
    limits: Limits | None = None,
    source: CardSource | None = None,
) -> AttributionData:
    """Take a task's first held-out prompts apart, each from the logit of its first right over its first wrong answer.

    Args:
        model: the language model.
        dictionaries: autoencoders and transcoders, one for each site.
        task: a task, the name of one, or its file.
        prompts: at most so many.
        limits: how much is listed.
        source: as in :func:`attribution_data`.

    Raises:
        UsageError: fewer than one prompt asked for, or what the functions that it calls refuse.
    """
    if prompts < 1:
        raise UsageError(f"prompts: at least 1 expected, found {prompts}")
    chosen = task_of(task, model.tokenizer).test
    examples = chosen.select(torch.arange(min(prompts, len(chosen)))).to(model.device)
    found = []
    for row in range(len(examples)):
        mask, tokens = examples.clean.tokens.mask[row], examples.clean.tokens.ids[row]
        frozen = FrozenPass.of(model, dictionaries, Tokens.full(tokens[mask].unsqueeze(0)))
        answers = examples.answer[row : row + 1], examples.incorrect[row : row + 1]
        # Columns of padding before the prompt are gone.
        at = mask.cumsum(0)[examples.clean.answer_position[row : row + 1]] - 1
        right, wrong = (model.word(int(one)) for one in answers)
        root = replace(logit_root(frozen, *answers, at), name=f"logit difference, {right!r} over {wrong!r}")
        found.append((frozen, root))
    return _data(model, found, limits or Limits(), source)


def _data(
    model: LanguageModel, passes: Sequence[tuple[FrozenPass, Begin]], limits: Limits, source: CardSource | None
) -> AttributionData:
    if not passes:
        raise UsageError("exploring: at least one prompt expected, found none")
    prompts = tuple(explore_prompt(frozen, begin, limits) for frozen, begin in passes)
    frozen, facts = passes[0][0], []
    for site, codes in frozen.codes.items():
        group, link = group_of("latent", site), neuronpedia_link(codes.dictionary, 0)
        latents = sorted({latent for prompt in prompts for latent in _taken_apart(prompt, site)})
        words = _words(frozen, site, latents) if source is None else _said(source, site, latents)
        number = codes.dictionary.n_latents
        facts.append(
            AttributionDictionary(str(site), site.layer or 0, group, number, link and link.removesuffix("0"), words)
        )
    return AttributionData(model.title, model.n_layers, model.n_heads, tuple(facts), limits, prompts)


def _taken_apart(prompt: PromptAttribution, site: Site) -> list[int]:
    """Latents of a site that are functions of a prompt."""
    place, items = prompt.items.sites.index(str(site)), [one.item for one in prompt.functions]
    here = (prompt.items.site.values[items] == place) & (prompt.items.latent.values[items] >= 0)
    return prompt.items.latent.values[items][here].tolist()


def _words(frozen: FrozenPass, site: Site, latents: list[int]) -> dict[str, tuple[str, ...]]:
    """Words that latents raise; none of what the head cannot read."""
    dictionary = frozen.codes[site].dictionary
    if not has_words(frozen.model, dictionary):
        return {}
    read = logit_lens(frozen.model, dictionary, latents, words=_WORDS)
    return {str(latent): tuple(word for word, _ in one.promotes) for latent, one in zip(latents, read, strict=True)}


def _said(source: CardSource, site: Site, latents: list[int]) -> dict[str, tuple[str, ...]]:
    """What cards say of latents: an explanation, or words."""
    cards = source.cards([Feature(site, latent) for latent in latents]).values()
    return {
        str(card.feature.latent): card.words(_WORDS) if card.explanation is None else (card.explanation,)
        for card in cards
    }
