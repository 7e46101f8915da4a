"""What a store is made of: a model, its dictionaries, and a corpus cut into rows and shards."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from gossamer.activations.corpus import DocumentRows, RowConfig
from gossamer.activations.stream import BATCH
from gossamer.dictionary.attach import require_model
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.training_tokens import TrainingTokens, counted_for
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.features.links import neuronpedia_link
from gossamer.model.fingerprint import arrays_sha256, weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site, SiteMapping, by_site
from gossamer.model.tokenizing import adds_bos
from gossamer.results import digest
from gossamer.results.values import to_json
from gossamer.store.manifest import StoredDictionary, StoreManifest, StoreSettings

_CONTEXT = 128


@dataclass(frozen=True, eq=False)
class StoreSource:
    """A model with dictionaries and the rows that it reads. Memory: 10 bytes a token, beside the models.

    Attributes:
        model, dictionaries: as given, in the order in which the model computes the sites.
        rows: of all texts.
        counted: True at the tokens that count.
        settings: all of them decided.
        documents: texts given.
        batch_size: most rows at once.
    """

    model: LanguageModel
    dictionaries: Mapping[Site, Dictionary]
    rows: DocumentRows
    counted: Bool[Tensor, "batch pos"]
    settings: StoreSettings
    documents: int
    batch_size: int

    __repr__ = short_repr

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        dictionaries: SiteMapping[Dictionary],
        texts: Sequence[str],
        settings: StoreSettings,
        *,
        allow_other_model: bool = False,
        batch_size: int = BATCH,
    ) -> "StoreSource":
        """Tokenise the texts and find out which tokens count.

        Raises:
            UsageError: no dictionary, dictionaries of another model, a context that the model does not read, a text
                that is no Unicode, or no token that counts.
        """
        found = by_site(dictionaries)
        dictionaries = {site: found[site] for site in sorted(found)}
        if not dictionaries:
            raise UsageError("store: at least one dictionary expected, found none")
        if not allow_other_model:
            require_model(model, dictionaries)
        settings = _decided(model, dictionaries, settings)
        for number, text in enumerate(texts):
            _require_unicode(number, text)
        assert settings.context is not None
        config = RowConfig(context=settings.context, bos=float(bool(settings.bos)))
        # Every token of a text has its place in the store.
        rows = DocumentRows.of(model, texts, config, shortest=1)
        if not len(rows):
            raise UsageError(f"store: some text expected, found {len(texts)} texts without a token; give more")
        counted = counted_for(model, dictionaries.values(), rows, settings.mask)
        if not counted.any():
            raise UsageError("store: tokens besides BOS, padding and attention sinks expected; give more text")
        return cls(model, dictionaries, rows, counted, settings, len(texts), batch_size)

    def spans(self) -> list[slice]:
        """Rows of each shard: whole documents, until there are `shard_tokens`."""
        lengths, documents = self.rows.lengths.tolist(), self.rows.documents.tolist()
        found, first, tokens = [], 0, 0
        for row, length in enumerate(lengths):
            tokens += length
            ends = row + 1 == len(lengths) or documents[row + 1] != documents[row]
            if ends and (tokens >= self.settings.shard_tokens or row + 1 == len(lengths)):
                found.append(slice(first, row + 1))
                first, tokens = row + 1, 0
        return found

    def part(self, span: slice) -> "StoreSource":
        """The same with a copy of these rows alone."""
        rows = torch.arange(span.start, span.stop)
        return replace(self, rows=self.rows[rows], counted=self.counted[rows])

    @property
    def shared(self) -> list[object]:
        """The large objects that all parts refer to."""
        return [self.model, *self.dictionaries.values()]

    def manifest(self) -> StoreManifest:
        """That of the store before its first shard."""
        rows_of_document = self.rows.documents.bincount(minlength=self.documents)
        parts = (self.rows.ids * self.rows.mask, self.rows.mask, self.counted, self.rows.documents)
        return StoreManifest(
            model=self.model.title,
            weights=weights_sha256(self.model.hf),
            model_dtype=str(self.model.dtype).removeprefix("torch."),
            tokenizer=digest(self.model.tokenizer.get_vocab()),
            dictionaries={str(site): stored_dictionary(one) for site, one in self.dictionaries.items()},
            corpus=arrays_sha256(part.cpu().numpy() for part in parts),
            documents=self.documents,
            empty=int((rows_of_document == 0).sum()),
            split=int((rows_of_document > 1).sum()),
            rows=len(self.rows),
            shard_count=len(self.spans()),
            settings=self.settings,
        )

    def vocabulary(self) -> Iterator[tuple[int, str]]:
        """Every token id that occurs, with its text."""
        for token in np.unique(self.rows.ids[self.rows.mask].numpy()).tolist():
            yield token, self.model.word(token)


def _decided(model: LanguageModel, dictionaries: Mapping[Site, Dictionary], settings: StoreSettings) -> StoreSettings:
    learned = [TrainingTokens.of(one) for one in dictionaries.values()]
    context, bos = settings.context, settings.bos
    if context is None:
        context = min([_CONTEXT, model.n_context, *(one.context for one in learned if one.context is not None)])
    if not 2 <= context <= model.n_context:
        raise UsageError(f"store: a context of 2 to {model.n_context} tokens expected, found {context}")
    if bos is None:
        said = {one.bos for one in learned}
        agreed = said.pop() if len(said) == 1 else None
        bos = adds_bos(model.tokenizer) if agreed is None else agreed
    return replace(settings, context=context, bos=bos)


def _require_unicode(number: int, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = repr(text[error.start : error.end])
        raise UsageError(
            f"text {number}: Unicode expected, found half of a character ({found}); read the file as UTF-8"
        ) from None


def stored_dictionary(dictionary: Dictionary) -> StoredDictionary:
    """What a manifest keeps of a dictionary."""
    link = neuronpedia_link(dictionary, 0)
    weights = weights_sha256(dictionary)
    return StoredDictionary(
        dictionary.n_latents,
        dictionary.architecture,
        digest({"weights": weights, "conventions": to_json(dictionary.config)}),
        None if link is None else link.rpartition("/")[0],
        weights,
    )
