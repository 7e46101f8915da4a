"""What each latent did on the whole corpus, from the shards: statistics, examples, and the words that it raises."""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from gossamer.dictionary.dictionary import Dictionary
from gossamer.features.examples import ExampleSettings
from gossamer.features.feature import Feature
from gossamer.features.feature_card import HISTOGRAM_EDGES
from gossamer.features.lens import has_words, logit_lens
from gossamer.features.neighbours import decoder_neighbours
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.store.parquet import Rows
from gossamer.store.source import StoreSource

# Quantiles of the activations of a latent, where it is active.
QUANTILES = {"q01": 0.01, "q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95, "q99": 0.99}
# Examples that a reader of one latent reads at least: they are long rows.
_EXAMPLES_TOGETHER = 1 << 10
_EDGES = np.array(HISTOGRAM_EDGES, dtype=np.float32)


class SiteSummary:
    """Statistics and examples of the latents of one site, offered latent by latent.

    Memory: the statistics and examples of a site, some kB a latent, and the activations of the busiest latent.
    """

    def __init__(self, source: StoreSource, site: Site) -> None:
        self._site, self._latents = site, source.dictionaries[site].n_latents
        self._tokens, self._settings = int(source.counted.sum()), source.settings.examples
        self._windows = _Windows(source)
        self._statistics, self._examples = Rows(_STATISTICS), Rows(_EXAMPLES)

    def add_all(self, batches: Iterable[Any]) -> "SiteSummary":
        """Go through Arrow batches of (latent, document, position, value), sorted by the first three."""
        following = 0
        for latent, documents, positions, values in _by_latent(batches):
            for silent in range(following, latent):
                self._add_statistics(silent, documents[:0], values[:0])
            self._add_statistics(latent, documents, values)
            self._add_examples(latent, documents, positions, values)
            following = latent + 1
        for silent in range(following, self._latents):
            self._add_statistics(silent, np.zeros(0, np.int32), np.zeros(0, np.float32))
        return self

    def files(self) -> dict[str, bytes]:
        """The two tables of the site, by name."""
        return {
            f"statistics/{self._site}.parquet": self._statistics.parquet(),
            f"examples/{self._site}.parquet": self._examples.parquet(group=_EXAMPLES_TOGETHER),
        }

    def _add_statistics(self, latent: int, documents: Int[np.ndarray, "n"], values: Float[np.ndarray, "n"]) -> None:
        exact = values.astype(np.float64)
        bins = np.searchsorted(_EDGES, values, side="right").clip(1, len(_EDGES) - 1) - 1
        counts = np.bincount(bins)
        first = int(bins.min()) if len(bins) else 0
        row = {
            "site": str(self._site),
            "latent": latent,
            "active": len(values),
            "documents": int((np.diff(documents) != 0).sum()) + 1 if len(documents) else 0,
            "tokens": self._tokens,
            "density": len(values) / self._tokens,
            "total": float(exact.sum()),
            "squares": float(np.square(exact).sum()),
            **_moments(exact),
            "first_bin": first,
            "histogram": counts[first:],
        }
        self._statistics.add(row)

    def _add_examples(
        self,
        latent: int,
        documents: Int[np.ndarray, "n"],
        positions: Int[np.ndarray, "n"],
        values: Float[np.ndarray, "n"],
    ) -> None:
        keys = _key(documents, positions)
        chosen: list[tuple[int, int | None]] = []
        chosen += [(place, None) for place in _strongest(documents, values, self._settings.k)]
        draw = np.random.default_rng([self._settings.seed, zlib.crc32(str(self._site).encode()), latent])
        chosen += _stratified(values, self._settings, draw)
        for rank, (place, stratum) in enumerate(chosen):
            document, position = int(documents[place]), int(positions[place])
            at, tokens, activations = self._windows.around(document, position, keys, values)
            row = {
                "site": str(self._site),
                "latent": latent,
                "rank": rank,
                "stratum": stratum,
                "document": document,
                "position": position,
                "value": float(values[place]),
                "at": at,
                "tokens": tokens,
                "activations": activations,
            }
            self._examples.add(row)


# Columns with their Arrow types; a list of them in brackets.
_STATISTICS: dict[str, Any] = {
    "site": "string",
    "latent": "int32",
    "active": "int64",
    "documents": "int64",
    "tokens": "int64",
    "density": "float64",
    "total": "float64",
    "squares": "float64",
    "maximum": "float64",
    "mean": "float64",
    "std": "float64",
    "skewness": "float64",
    "kurtosis": "float64",
    **dict.fromkeys(QUANTILES, "float64"),
    "first_bin": "int32",
    "histogram": ["int64"],
}
_EXAMPLES: dict[str, Any] = {
    "site": "string",
    "latent": "int32",
    "rank": "int32",
    "stratum": "int32",
    "document": "int32",
    "position": "int32",
    "value": "float32",
    "at": "int32",
    "tokens": ["int32"],
    "activations": ["float32"],
}


_WORDS = {
    "site": "string",
    "latent": "int32",
    "promotes": "bool_",
    "rank": "int32",
    "word": "string",
    "change": "float64",
}


_NEIGHBOURS = {
    "site": "string",
    "latent": "int32",
    "rank": "int32",
    "other_site": "string",
    "other_latent": "int32",
    "cosine": "float32",
}


def _moments(values: Float[np.ndarray, "n"]) -> dict[str, float | None]:
    """Maximum, moments and quantiles of a latent where it is active; None where it never was.

    Skewness and kurtosis are the third and fourth standardised moments (that of a normal distribution is 3); None where
    all values are equal.
    """
    if not len(values):
        return dict.fromkeys(("maximum", "mean", "std", "skewness", "kurtosis", *QUANTILES))
    mean = values.mean()
    apart = values - mean
    std = float(np.sqrt(np.square(apart).mean()))
    found: dict[str, float | None] = {"maximum": float(values.max()), "mean": float(mean), "std": std}
    for name, power in (("skewness", 3), ("kurtosis", 4)):
        found[name] = float((apart**power).mean() / std**power) if std > 1e-12 * mean else None
    quantiles = np.quantile(values, list(QUANTILES.values()))
    return {**found, **dict(zip(QUANTILES, quantiles.tolist(), strict=True))}


def _strongest(documents: Int[np.ndarray, "n"], values: Float[np.ndarray, "n"], k: int) -> list[int]:
    """Where a latent is most active, a document at most once, the strongest first; of equal ones the earlier."""
    starts = np.flatnonzero(np.diff(documents, prepend=-1))
    best = np.maximum.reduceat(values, starts)
    ends = np.append(starts[1:], len(values))
    ranked = np.argsort(-best, kind="stable")[:k]
    return [int(starts[one] + values[starts[one] : ends[one]].argmax()) for one in ranked]


def _stratified(
    values: Float[np.ndarray, "n"], settings: ExampleSettings, draw: np.random.Generator
) -> list[tuple[int, int]]:
    """Places drawn from each quantile group of a latent's activations, with the group's number, the weakest first."""
    if not settings.strata:
        return []
    ranked = np.argsort(values, kind="stable")
    return [
        (int(group[place]), stratum)
        for stratum, group in enumerate(np.array_split(ranked, settings.strata))
        for place in draw.choice(len(group), min(settings.per_stratum, len(group)), replace=False)
    ]


class _Windows:
    """Windows of tokens around places of the corpus, within their row."""

    def __init__(self, source: StoreSource) -> None:
        rows = source.rows
        self._starts = _key(rows.documents.numpy(), rows.starts.numpy())
        self._ids, self._lengths = rows.ids.numpy(), rows.lengths.numpy()
        self._first, self._with_bos = rows.starts.numpy(), rows.with_bos.long().numpy()
        self._window = source.settings.examples.window

    def around(
        self, document: int, position: int, keys: Int[np.ndarray, "n"], values: Float[np.ndarray, "n"]
    ) -> tuple[int, Int[np.ndarray, "w"], Float[np.ndarray, "w"]]:
        """Which token of the window the place is, the window's token ids, and the latent's activation at each of them.

        Args:
            document, position: the place.
            keys, values: all places and activations of the latent.
        """
        row = int(np.searchsorted(self._starts, _key(document, position), side="right")) - 1
        offset = int(self._first[row] - self._with_bos[row])
        column, length = position - offset, int(self._lengths[row])
        before, after = (length, length) if self._window is None else self._window
        start, stop = max(0, column - before), min(length, column + after + 1)
        activations = np.zeros(stop - start, dtype=np.float32)
        low, high = np.searchsorted(keys, [_key(document, max(start + offset, 0)), _key(document, stop + offset)])
        inside = (keys[low:high] & _POSITION) - offset - start
        activations[inside] = values[low:high]
        return column - start, self._ids[row, start:stop], activations


_POSITION = (1 << 32) - 1


def _key(document: Any, position: Any) -> Any:
    """A number that ascends with documents and positions."""
    return np.int64(document) * (1 << 32) + np.int64(position)


def _by_latent(batches: Iterable[Any]) -> Iterator[tuple[int, Any, Any, Any]]:
    """Each latent with its documents, positions and values."""
    held: list[list[np.ndarray]] = [[], [], []]
    present = -1
    for batch in batches:
        latents, *columns = (batch.column(place).to_numpy() for place in range(4))
        if not len(latents):
            continue
        starts = np.flatnonzero(np.diff(latents, prepend=-1))
        for start, stop in zip(starts, np.append(starts[1:], len(latents)), strict=True):
            if latents[start] != present and held[0]:
                documents, positions, values = (np.concatenate(parts) for parts in held)
                yield present, documents, positions, values
                held = [[], [], []]
            present = int(latents[start])
            for parts, column in zip(held, columns, strict=True):
                parts.append(column[start:stop])
    if held[0]:
        documents, positions, values = (np.concatenate(parts) for parts in held)
        yield present, documents, positions, values


def words_file(model: LanguageModel, dictionary: Dictionary, site: Site, words: int) -> bytes:
    """The table of a site's logit-lens words: a row a word, the most promoted or suppressed first.

    It is empty where the head cannot read what the dictionary writes.
    """
    rows = Rows(_WORDS)
    if has_words(model, dictionary):
        for latent, found in enumerate(logit_lens(model, dictionary, range(dictionary.n_latents), words=words)):
            for promotes, several in ((True, found.promotes), (False, found.suppresses)):
                for rank, (word, change) in enumerate(several):
                    one = {"latent": latent, "promotes": promotes, "rank": rank, "word": word, "change": change}
                    rows.add({"site": str(site), **one})
    return rows.parquet()


def neighbours_file(dictionaries: Mapping[Site, Dictionary], site: Site, count: int) -> bytes:
    """The table of a site's neighbours: a row a neighbour, the largest cosine first."""
    rows = Rows(_NEIGHBOURS)
    features = [Feature(site, latent) for latent in range(dictionaries[site].n_latents)]
    for feature, several in decoder_neighbours(dictionaries, features, count=count).items():
        for rank, one in enumerate(several):
            other = {"other_site": str(one.feature.site), "other_latent": one.feature.latent, "cosine": one.value}
            rows.add({"site": str(site), "latent": feature.latent, "rank": rank, **other})
    return rows.parquet()
