"""The text of a store, cut into windows that share no text and are split by document."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.explain.token_rows import TokenRows
from gossamer.features.feature import Feature
from gossamer.store.database import quoted
from gossamer.store.feature_store import FeatureStore

# What documents are for; a duplicate window is for nothing.
TRAIN, VALIDATION, TEST, DUPLICATE = 0, 1, 2, -1
_GRAM = 8
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class WindowSettings:
    """How a corpus is cut, and which windows of a feature are shown.

    Attributes:
        length: tokens of a window.
        shortest: pieces of a document that are shorter are joined to the piece beside them.
        tokens: most tokens of the corpus that are read, whole documents from the first.
        split: shares of the documents that rules are fitted on and explainers see, that rules are chosen on, and that
            explanations are tested on.
        duplicate: a window is left out if more than this share of its tokens is in 8-grams that occurred before it.
        strata: quantile groups of the windows' maxima that positive windows are drawn from, as many of each.
        shown: windows that an explainer sees.
        positives, negatives: windows of a test; half of the negatives are hard ones where there are any.
        least: fewest active windows, both for explaining and for testing, of a feature that is explained.
        mark: share of the largest activation from which a token is marked.
        seed: of the split, the cut and all draws.
    """

    length: int = 32
    shortest: int = 8
    tokens: int = 2_000_000
    split: tuple[float, float, float] = (0.5, 0.2, 0.3)
    duplicate: float = 0.5
    strata: int = 10
    shown: int = 40
    positives: int = 50
    negatives: int = 50
    least: int = 20
    mark: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.shortest, self.tokens, self.strata, self.shown, self.positives, self.negatives, self.least)
        if min(counts) < 1 or self.length < 2 * self.shortest:
            raise UsageError(
                f"windows: counts of at least 1, and a length of at least twice the shortest, expected, found {self}"
            )
        if min(self.split) <= 0 or abs(sum(self.split) - 1) > 1e-9:
            raise UsageError(f"windows: three shares above 0 with the sum 1 expected as split, found {self.split}")
        if not (0 <= self.duplicate <= 1 and 0 < self.mark <= 1):
            raise UsageError(
                f"windows: duplicate in [0, 1] and mark in (0, 1] expected, found {self.duplicate} and {self.mark}"
            )


@dataclass(frozen=True, eq=False)
class WindowedCorpus:
    """All tokens of a store's first documents, window after window. Memory: 24 bytes a token.

    Every token is in one window. Where in its window a token stands is chance: each document's grid of windows begins
    at a random place, so that a feature's maximum is no more often in the middle than anywhere else.

    Attributes:
        store: where activations come from.
        settings: how it was cut.
        words: the texts of the tokens that occur.
        ids: index into `words` of each token.
        documents, positions: of each token.
        bounds: window w is the tokens `bounds[w]` to `bounds[w + 1]`.
        split: of each window: TRAIN, VALIDATION, TEST or DUPLICATE.
    """

    store: FeatureStore
    settings: WindowSettings
    words: tuple[str, ...]
    ids: Int[np.ndarray, "tokens"]
    documents: Int[np.ndarray, "tokens"]
    positions: Int[np.ndarray, "tokens"]
    bounds: Int[np.ndarray, "ends"]
    split: Int[np.ndarray, "windows"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        counts = [int((self.split == part).sum()) for part in (TRAIN, VALIDATION, TEST, DUPLICATE)]
        yield plural(len(self.ids), "token")
        yield "{} windows to fit on, {} to choose on, {} to test on, {} duplicates".format(*counts)

    @classmethod
    def of(cls, store: FeatureStore, settings: WindowSettings | None = None) -> "WindowedCorpus":
        """Read a store's tokens and cut them.

        Raises:
            UsageError: a corpus that leaves no window for one of the three parts.
        """
        settings = settings or WindowSettings()
        documents, positions, tokens = _first_documents(store, settings.tokens)
        vocabulary = store.sql("SELECT token, text FROM vocabulary ORDER BY token", limit=None)
        # Tokens of the same text, such as parts of a character, are one: nobody who reads the text can tell them apart.
        words: dict[str, int] = {}
        number = np.array([words.setdefault(text, len(words)) for text in vocabulary["text"].to_pylist()])
        ids = number[np.searchsorted(vocabulary["token"].to_numpy(), tokens)].astype(np.int32)
        draw = np.random.default_rng([settings.seed, 1])
        bounds = _cut(documents, settings, draw)
        split = _split(documents[bounds[:-1]], settings, draw)
        split[_repeated(ids, tuple(words), documents, bounds) > settings.duplicate] = DUPLICATE
        for part, name in ((TRAIN, "fit on"), (VALIDATION, "choose on"), (TEST, "test on")):
            if not (split == part).any():
                raise UsageError(
                    f"{store.url}: text for windows to {name} expected, found {plural(int(documents[-1]) + 1, 'text')} "
                    "without any; build a store of more texts"
                )
        return cls(store, settings, tuple(words), ids, documents, positions, bounds, split)

    @property
    def lengths(self) -> Int[np.ndarray, "windows"]:
        """Tokens of each window."""
        return np.diff(self.bounds)

    def window_text(self, number: int) -> str:
        """The words of a window."""
        return "".join(self.words[one] for one in self.ids[self.bounds[number] : self.bounds[number + 1]].tolist())

    def activations(self, feature: Feature) -> Float[np.ndarray, "tokens"]:
        """A feature's activation at every token; what the store did not keep (BOS, attention sinks) is 0.

        Raises:
            UsageError: a latent that the store has not.
        """
        site, latent = self.store.resolve(feature)
        found = self.store.sql(
            f"SELECT document, position, value FROM activations WHERE site = {quoted(site)} AND latent = {latent} "
            f"AND position >= 0 AND document <= {int(self.documents[-1])}",
            limit=None,
        )
        places = np.searchsorted(self._keys, _key(found["document"].to_numpy(), found["position"].to_numpy()))
        values = np.zeros(len(self.ids), dtype=np.float32)
        values[places] = found["value"].to_numpy()
        return values

    def rows(self, part: int) -> tuple[TokenRows, Bool[np.ndarray, "tokens"]]:
        """The tokens of the windows of one part, and which of all tokens they are."""
        inside = np.repeat(self.split == part, self.lengths)
        windows = np.repeat(np.arange(len(self.split)), self.lengths)[inside]
        return TokenRows(self.words, self.ids[inside], windows, self.positions[inside]), inside

    @property
    def _keys(self) -> Int[np.ndarray, "tokens"]:
        return _key(self.documents, self.positions)


def _first_documents(store: FeatureStore, tokens: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Document, position and id of the tokens of as many first documents as have so many tokens, one at least."""
    counts = store.sql(
        "SELECT document, count(*) AS n FROM tokens WHERE position >= 0 GROUP BY document ORDER BY document", limit=None
    )
    if not len(counts):
        raise UsageError(f"{store.url}: a store with tokens expected, found none")
    fits = int((np.cumsum(counts["n"].to_numpy()) <= tokens).sum())
    last = int(counts["document"][max(fits - 1, 0)].as_py())
    found = store.sql(
        f"SELECT document, position, token FROM tokens WHERE position >= 0 AND document <= {last} "
        "ORDER BY document, position",
        limit=None,
    )
    documents, positions, ids = (found[name].to_numpy() for name in ("document", "position", "token"))
    return documents, positions, ids


def _cut(documents: np.ndarray, settings: WindowSettings, draw: np.random.Generator) -> np.ndarray:
    """Where windows begin, and the end of the last."""
    starts = np.flatnonzero(np.diff(documents, prepend=documents[0] - 1))
    ends = np.append(starts[1:], len(documents))
    bounds: list[np.ndarray] = []
    for start, end, offset in zip(starts, ends, draw.integers(0, settings.length, len(starts)), strict=True):
        places = np.arange(start + offset, end, settings.length)
        inner = places[(places - start >= settings.shortest) & (end - places >= settings.shortest)]
        bounds.append(np.concatenate([[start], inner]))
    return np.concatenate([*bounds, [len(documents)]])


def _split(documents: np.ndarray, settings: WindowSettings, draw: np.random.Generator) -> np.ndarray:
    """The part of each window, given its document: all windows of a document are in one part."""
    names, inverse = np.unique(documents, return_inverse=True)
    order = draw.permutation(len(names))
    ends = np.round(np.cumsum(settings.split) * len(names)).astype(int)
    part = np.empty(len(names), dtype=np.int8)
    part[order] = np.searchsorted(ends, np.arange(len(names)), side="right")
    return part[inverse]


def _repeated(
    ids: np.ndarray, words: tuple[str, ...], documents: np.ndarray, bounds: np.ndarray
) -> Float[np.ndarray, "windows"]:
    """The share of each window's tokens in 8-grams that occurred in an earlier window; case and spaces aside."""
    plain: dict[str, int] = {}
    normal = np.array([plain.setdefault("".join(word.lower().split()), len(plain)) for word in words], dtype=np.uint64)
    length = min(_GRAM, len(ids))
    hashes = np.zeros(len(ids) - length + 1, dtype=np.uint64)
    for offset in range(length):
        hashes = (hashes ^ (normal[ids[offset : offset + len(hashes)]] + np.uint64(1))) * _MIX
        hashes ^= hashes >> np.uint64(29)
    within = documents[: len(hashes)] == documents[length - 1 :]
    places = np.flatnonzero(within)
    window = np.searchsorted(bounds, places, side="right") - 1
    _, first, inverse = np.unique(hashes[within], return_index=True, return_inverse=True)
    again = places[window[first[inverse]] < window]
    # How many of those 8-grams each token is in: they begin at it or up to seven tokens before.
    begun = np.bincount(again, minlength=len(ids)).cumsum()
    covered = begun > np.concatenate([np.zeros(min(length, len(ids)), dtype=begun.dtype), begun[:-length]])
    return np.add.reduceat(covered, bounds[:-1], dtype=np.int64) / np.diff(bounds)


def _key(documents: np.ndarray, positions: np.ndarray) -> np.ndarray:
    return documents.astype(np.int64) * (1 << 32) + positions
