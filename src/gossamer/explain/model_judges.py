"""Models that score explanations in ways of their own: embedders, models that read, and models that write texts."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.chat.chat import Chat
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.explain.answers import ExplanationScore, ItemCounts
from gossamer.explain.controls import GoldItem, judged
from gossamer.explain.corpus import TRAIN, WindowedCorpus
from gossamer.explain.embedders import Embedder
from gossamer.explain.judges import ChatJudge
from gossamer.explain.metrics import auroc
from gossamer.explain.model_scorers import (
    clarity,
    embedding,
    embedding_likeness,
    intervention,
    loss_saved,
    mean_norm,
    steered_faithfulness,
    surprisal,
    token_changes,
)
from gossamer.explain.scorers import Trial
from gossamer.explain.windows import Window
from gossamer.features.feature import Feature
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site

# What a language model scores that sees what the features' model does.
_OF_WRITERS = ("clarity", "faithfulness")
MODEL_SCORERS = ("embedding", "surprisal", "intervention", *_OF_WRITERS)
# Beginnings of texts that are continued under steering; the interval of a score is over them.
PROMPTS = (
    *("One day", "The", "She", "Then", "I think", "There was", "It was", "He said"),
    *("In the morning", "After that", "They went", "My friend"),
)
# Mean residual norms by which a feature is amplified, and windows that are read meanwhile.
_AMPLIFIED, _READ = 0.4, 16


@dataclass(frozen=True, eq=False)
class FeaturesModel:
    """The model whose features are explained, with their dictionaries.

    Attributes:
        model: the model.
        dictionaries: by site.
    """

    model: LanguageModel
    dictionaries: Mapping[Site, Dictionary]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.model.title

    def dictionary(self, feature: Feature) -> Dictionary:
        """That of a feature.

        Raises:
            UsageError: there is none at its site.
        """
        if feature.site not in self.dictionaries:
            found = ", ".join(map(str, self.dictionaries))
            raise UsageError(f"explain: a dictionary at {feature.site} expected, found {found}")
        return self.dictionaries[feature.site]

    def changed(self, feature: Feature, corpus: WindowedCorpus, count: int = 20) -> tuple[str, ...]:
        """The tokens that become likelier when the feature is amplified by .4 mean residual norms, over windows of the
        documents that explainers see; none where the dictionary does not write to the residual stream."""
        dictionary = self.dictionary(feature)
        site = dictionary.site_out or dictionary.site
        if site is None or not site.facts.in_stream:
            return ()
        own = np.flatnonzero(corpus.split == TRAIN)
        texts = [corpus.window_text(int(one)) for one in own[:: max(1, len(own) // _READ)][:_READ]]
        tokens = self.model.tokenize(texts)
        factor = (
            _AMPLIFIED * mean_norm(self.model, site, tokens) / float(dictionary.W_dec[feature.latent].detach().norm())
        )
        return token_changes(self.model, dictionary, feature.latent, tokens, factor=factor, count=count)


class ModelJudge(ABC):
    """A model that scores explanations by itself: nothing is asked of it in words.

    Attributes:
        name: what records call it.
        scorers: of `MODEL_SCORERS`, those that it is for.
    """

    name: str
    scorers: tuple[str, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.name

    @abstractmethod
    def score(self, scorer: str, test: Trial, corpus: WindowedCorpus) -> ExplanationScore:
        """By one of its scorers."""

    def likeness(self, explanation: str, windows: Sequence[Window]) -> list[float] | None:
        """How well an explanation fits each window; None of a judge that does not rank windows."""
        return None

    def gold(self, items: Sequence[GoldItem]) -> ExplanationScore | None:
        """Whether it ranks windows with a word above those without it, where the explanation is that word: AUROC over
        the windows of all items, each less its item's mean. None of a judge that does not rank windows."""
        kinds: dict[bool, list[float]] = {True: [], False: []}
        for item in items:
            found = self.likeness(item.explanation, item.windows)
            if found is None:
                return None
            for value, window in zip(found, item.windows, strict=True):
                kinds[window.active].append(value - float(np.mean(found)))
        area, count = auroc(kinds[True], kinds[False]), len(kinds[True]) + len(kinds[False])
        return ExplanationScore("gold", area.value, area.low, area.high, area, items=ItemCounts(right=count))


class EmbeddingJudge(ModelJudge):
    """Ranks windows by their vectors' likeness to an explanation's."""

    def __init__(self, embed: Embedder, name: str) -> None:
        self.embed, self.name, self.scorers = embed, f"embedder {name}", ("embedding",)

    def score(self, scorer: str, test: Trial, corpus: WindowedCorpus) -> ExplanationScore:
        """See :class:`ModelJudge`."""
        return embedding(test, self.embed)

    def likeness(self, explanation: str, windows: Sequence[Window]) -> list[float]:
        """See :class:`ModelJudge`."""
        return embedding_likeness(explanation, windows, self.embed)


class ReadingJudge(ModelJudge):
    """A language model that reads: windows behind an explanation, and explanations behind steered texts."""

    def __init__(self, reader: LanguageModel, steered: FeaturesModel | None = None) -> None:
        """
        Args:
            reader: reads.
            steered: the model whose features are amplified, for `intervention`; None: without it.
        """
        self.reader, self.steered, self.name = reader, steered, f"reader {reader.title}"
        self.scorers = ("surprisal",) if steered is None else ("surprisal", "intervention")

    def score(self, scorer: str, test: Trial, corpus: WindowedCorpus) -> ExplanationScore:
        """See :class:`ModelJudge`."""
        if scorer == "surprisal":
            return surprisal(test, self.reader)
        assert self.steered is not None
        dictionary = self.steered.dictionary(test.windows.feature)
        return intervention(test, self.steered.model, dictionary, self.reader, prompts=PROMPTS)

    def likeness(self, explanation: str, windows: Sequence[Window]) -> list[float]:
        """See :class:`ModelJudge`."""
        return loss_saved(explanation, windows, self.reader)


class WritingJudge(ModelJudge):
    """A language model that writes texts for explanations, on which the feature should be active, and rates texts that
    the features' model wrote while it was steered."""

    def __init__(self, writer: Chat, features: FeaturesModel) -> None:
        self.writer, self.features, self.scorers = writer, features, _OF_WRITERS
        self.name = f"writer {writer.model}"

    def score(self, scorer: str, test: Trial, corpus: WindowedCorpus) -> ExplanationScore:
        """See :class:`ModelJudge`."""
        dictionary = self.features.dictionary(test.windows.feature)
        if scorer == "faithfulness":
            rates = ChatJudge(self.writer)
            return steered_faithfulness(test, rates, self.features.model, dictionary, prompts=PROMPTS)
        return clarity(test, self.writer, self.features.model, dictionary, corpus)

    def gold(self, items: Sequence[GoldItem]) -> ExplanationScore:
        """What it answers as a judge: what does not know a word when it sees it writes no texts about it."""
        return judged(ChatJudge(self.writer), items)
