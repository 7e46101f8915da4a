"""The latents of several dictionaries at the same tokens, batch by batch: what relations are counted from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]
from torch import Tensor

from gossamer.activations.corpus import DocumentRows
from gossamer.activations.stream import BATCH, ActivationBatch, ActivationStream
from gossamer.activations.token_mask import TokenMask
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.training_tokens import counted_for
from gossamer.errors import UsageError
from gossamer.model.fingerprint import arrays_sha256, weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.seeding import generator
from gossamer.sparse.latents import SparseLatents
from gossamer.store.source import stored_dictionary
from gossamer.tokens import Tokens

Csr = Any
Work = Callable[["LatentBatch"], None]


@dataclass(frozen=True, eq=False)
class LatentBatch:
    """Latents at the tokens of some rows that count.

    Attributes:
        latents: of each dictionary, by its name: activations as scipy's CSR (tokens, n_latents), float64.
        rows, positions, documents: of each token, in ascending order of rows and then positions.
        values: what the model has at the dictionaries' sites, (tokens, d), where it is asked for.
    """

    latents: Mapping[str, Csr]
    rows: NDArray[np.int64]
    positions: NDArray[np.int64]
    documents: NDArray[np.int64]
    values: Mapping[str, Tensor]


@runtime_checkable
class LatentStream(Protocol):
    """What passes latents on, row by row in an order of its own, as often as it is asked to."""

    @property
    def widths(self) -> Mapping[str, int]:
        """Number of latents of each dictionary, by its name."""

    @property
    def rows(self) -> int:
        """How many there are."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """All that its latents depend on, in values that JSON has."""

    @property
    def shared(self) -> Sequence[object]:
        """The large objects that all of its parts refer to."""

    def part(self, rows: slice) -> "LatentStream":
        """The stream of some of its rows, which keep their numbers."""

    def map(self, work: Work, *, values: Sequence[str] = ()) -> None:
        """Do `work` on every batch; `values` names the dictionaries whose sites' activations it needs as well."""


@dataclass(frozen=True, eq=False)
class LatentSource:
    """A dictionary and the model that it reads.

    Attributes:
        model: the model; sources of several models must have one tokenizer.
        dictionary: a sparse autoencoder or transcoder of a known site.
    """

    model: LanguageModel
    dictionary: Dictionary

    @property
    def site(self) -> Site:
        """Where it reads.

        Raises:
            UsageError: the dictionary does not say.
        """
        if self.dictionary.site is None:
            raise UsageError("relations: a dictionary that says which site it reads expected; load it with site=")
        return self.dictionary.site


class ModelLatents:
    """A text's latents, from one pass of each model: :class:`LatentStream` over an ActivationStream.

    Rows go by in an order that the seed draws, so that neighbours are of different documents, on which the shuffled
    null rests. Tokens count where all dictionaries learned, unless a mask says otherwise.

    Memory: that of an ActivationStream, and 12 bytes an active latent of a batch.
    """

    def __init__(
        self,
        sources: Mapping[str, LatentSource],
        tokens: Tokens,
        *,
        mask: TokenMask | None = None,
        batch_size: int = BATCH,
        seed: int = 0,
    ) -> None:
        """Raises:
        UsageError: no source, or models of different tokenizers.
        """
        if not sources:
            raise UsageError("relations: at least one dictionary expected, found none")
        self.sources, self._batch_size = dict(sources), batch_size
        self._first = next(iter(sources.values())).model
        models = {id(source.model): source.model for source in sources.values()}
        for model in models.values():
            if model.tokenizer.get_vocab() != self._first.tokenizer.get_vocab():
                raise UsageError(f"relations: models of one tokenizer expected, found others in {model.title}")
        order = torch.randperm(len(tokens), generator=generator(seed, "relations", "rows"))
        self.tokens, self._before = tokens[order], 0
        self._kept: list[LatentBatch] | None = None
        own = self.tokens.documents if isinstance(self.tokens, DocumentRows) else order
        self._documents = own.cpu().numpy()
        self.counted: Bool[Tensor, "batch pos"] = self.tokens.mask
        for model in models.values():
            dictionaries = [source.dictionary for source in sources.values() if source.model is model]
            self.counted = self.counted & counted_for(model, dictionaries, self.tokens, mask)

    @property
    def widths(self) -> Mapping[str, int]:
        """Number of latents of each dictionary."""
        return {name: source.dictionary.n_latents for name, source in self.sources.items()}

    def only(self, names: Iterable[str]) -> "ModelLatents":
        """The same stream of some of its dictionaries, at the same tokens.

        Raises:
            UsageError: a dictionary that is unknown, or none.
        """
        wanted = list(names)
        if not wanted or (unknown := [name for name in wanted if name not in self.sources]):
            found = repr(unknown[0]) if wanted else "none"
            raise UsageError(f"relations: some of {', '.join(self.sources)} expected, found {found}")
        part = copy(self)
        part.sources = {name: self.sources[name] for name in wanted}
        part._first = part.sources[wanted[0]].model
        return part

    def token_ids(self, batch: LatentBatch) -> NDArray[np.int64]:
        """The words of the model's vocabulary that stand at a batch's tokens."""
        ids: NDArray[np.int64] = self.tokens.ids.cpu().numpy()[batch.rows - self._before, batch.positions]
        return ids

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.tokens)

    @property
    def facts(self) -> Mapping[str, Any]:
        """Models and dictionaries by the SHA-256 of their weights, and that of the tokens; reads all of them once."""
        models = {
            id(model): {
                "model": model.title,
                "weights": weights_sha256(model.hf),
                "dtype": str(model.dtype).removeprefix("torch."),
            }
            for model in {id(source.model): source.model for source in self.sources.values()}.values()
        }
        sources = {
            name: {**models[id(source.model)], "dictionary": stored_dictionary(source.dictionary).sha256}
            for name, source in self.sources.items()
        }
        parts = (self.tokens.ids * self.tokens.mask, self.tokens.mask, self.counted)
        tokens = arrays_sha256([*(part.cpu().numpy() for part in parts), self._documents])
        return {"sources": sources, "tokens": tokens, "rows": self.rows, "batch_size": self._batch_size}

    @property
    def shared(self) -> Sequence[object]:
        """The large objects that all of its parts refer to."""
        return [one for source in self.sources.values() for one in (source.model, source.dictionary)]

    def part(self, rows: slice) -> "ModelLatents":
        """The stream of a copy of some of its rows, which keep their numbers."""
        chosen, found = torch.arange(rows.start, rows.stop), copy(self)
        found.tokens, found.counted, found._documents = self.tokens[chosen], self.counted[chosen], self._documents[rows]
        found._before, found._kept = self._before + rows.start, None
        return found

    def in_memory(self) -> "ModelLatents":
        """The same stream with its latents kept, from a pass now, so that passes over it cost no model.

        Memory: 12 bytes an active latent. Parts of it, and what else than latents it is asked for, pass by as before.
        """
        found, batches = copy(self), list[LatentBatch]()
        self.map(batches.append)
        found._kept = batches
        return found

    def map(self, work: Work, *, values: Sequence[str] = ()) -> None:
        """One pass; see :class:`LatentStream`."""
        if self._kept is not None and not values:
            for one in self._kept:
                work(one)
            return
        own = list(dict.fromkeys(source.site for source in self.sources.values() if source.model is self._first))
        others = {id(one.model): one.model for one in self.sources.values() if one.model is not self._first}

        def batch(found: ActivationBatch) -> None:
            captured = {id(self._first): {site: found.at(site) for site in own}}
            for key, model in others.items():
                sites = list(dict.fromkeys(one.site for one in self.sources.values() if one.model is model))
                captured[key] = dict(model.capture(found.tokens, sites))
            x = {
                name: captured[id(source.model)][source.site][found.mask.to(source.model.device)]
                for name, source in self.sources.items()
            }
            latents = {name: _encoded(source.dictionary, x[name]) for name, source in self.sources.items()}
            rows, positions = (part.numpy() for part in found.mask.cpu().nonzero(as_tuple=True))
            rows = rows + found.rows.start
            kept = {name: x[name] for name in values}
            work(LatentBatch(latents, rows + self._before, positions, self._documents[rows], kept))

        ActivationStream(
            self._first, self.tokens, own, mask=self.counted, batch_size=self._batch_size, what="relations"
        ).map(batch)


class GivenLatents:
    """Latents that are known already, (rows, positions) of tokens for each dictionary: :class:`LatentStream`."""

    def __init__(
        self,
        latents: Mapping[str, SparseLatents],
        *,
        documents: Sequence[int] | None = None,
        batch_size: int = BATCH,
        seed: int = 0,
    ) -> None:
        """`documents`: of each row; None: each row is one. Raises:
        UsageError: none, or dictionaries with other tokens than the first.
        """
        shapes = {tuple(one.shape) for one in latents.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 2:
            raise UsageError(f"relations: latents of one (rows, positions) shape expected, found {sorted(shapes)}")
        self._shape = next(iter(shapes))
        self._matrices = {name: as_csr(one) for name, one in latents.items()}
        self._order = torch.randperm(self._shape[0], generator=generator(seed, "relations", "rows")).numpy()
        self._documents = np.arange(self._shape[0]) if documents is None else np.asarray(documents)
        self._batch_size, self._before = batch_size, 0

    @property
    def widths(self) -> Mapping[str, int]:
        """Number of latents of each dictionary."""
        return {name: matrix.shape[1] for name, matrix in self._matrices.items()}

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self._order)

    @property
    def facts(self) -> Mapping[str, Any]:
        """SHA-256 of all latents and of the order of rows and documents."""
        latents = {name: arrays_sha256([one.indptr, one.indices, one.data]) for name, one in self._matrices.items()}
        rows = arrays_sha256([self._order, self._documents])
        return {"latents": latents, "order": rows, "rows": self.rows, "batch_size": self._batch_size}

    @property
    def shared(self) -> Sequence[object]:
        """The large objects that all of its parts refer to."""
        return [*self._matrices.values(), self._documents]

    def part(self, rows: slice) -> "GivenLatents":
        """The stream of some of its rows, which keep their numbers."""
        found = copy(self)
        found._order, found._before = self._order[rows], self._before + rows.start
        return found

    def map(self, work: Work, *, values: Sequence[str] = ()) -> None:
        """One pass. Raises:
        UsageError: activations of the model are asked for, which are not there.
        """
        if values:
            raise UsageError("relations: activations of the model are needed, found latents alone; give the model")
        width = self._shape[1]
        for start in range(0, self.rows, self._batch_size):
            rows = self._order[start : start + self._batch_size]
            tokens = (rows[:, None] * width + np.arange(width)).reshape(-1)
            latents = {name: matrix[tokens] for name, matrix in self._matrices.items()}
            places = self._before + np.repeat(np.arange(start, start + len(rows)), width)
            work(
                LatentBatch(
                    latents, places, np.tile(np.arange(width), len(rows)), self._documents[rows].repeat(width), {}
                )
            )


def sources_of(
    model: LanguageModel, dictionaries: Mapping[Site, Dictionary], label: str = ""
) -> dict[str, LatentSource]:
    """A set's dictionaries as sources, named by their sites, with `@label` where several sets have the same site."""
    tail = f"@{label}" if label else ""
    return {f"{site}{tail}": LatentSource(model, one) for site, one in dictionaries.items()}


@torch.no_grad()
def _encoded(dictionary: Dictionary, x: Tensor) -> Csr:
    return as_csr(dictionary.encode(x.to(dictionary.W_dec.device)))


def as_csr(latents: SparseLatents) -> Csr:
    """The active entries as scipy's CSR, float64, tokens in one row."""
    shape = (len(latents.counts), latents.n_latents)
    parts = (latents.activations.detach().cpu().double().numpy(), latents.latents.cpu().numpy())
    found = sparse.csr_matrix((*parts, latents.starts.cpu().numpy()), shape=shape)
    found.eliminate_zeros()
    found.sort_indices()
    return found
