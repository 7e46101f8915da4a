"""How alike two latents are by what is said of them: cosines of their explanations' sentence vectors."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse  # type: ignore[import-untyped]

from gossamer.errors import UsageError
from gossamer.relations.measures import EXPLANATION_COSINE, Floats
from gossamer.relations.relation import BestPartner, Relation
from gossamer.store.database import quoted
from gossamer.store.feature_store import FeatureStore

# Of a user's own model of sentences: texts to vectors (texts, width).
Embedder = Callable[[Sequence[str]], Any]
_WORD = re.compile(r"\w+")
# Cosines that stand in memory at a time.
_BLOCK_VALUES = 2**22


def tfidf_vectors(texts: Sequence[str]) -> Any:
    """Sentence vectors from the words alone: scipy's CSR (texts, words), of length 1, or 0 of a text without words.

    A word counts as often as it comes, times ln((1 + N) / (1 + texts that have it)) + 1 (the smoothed TF-IDF of
    scikit-learn, on words of any length in lower case).
    """
    counts = [Counter(_WORD.findall(text.lower())) for text in texts]
    columns = {word: place for place, word in enumerate(sorted({word for own in counts for word in own}))}
    starts = np.cumsum([0, *map(len, counts)])
    places = [columns[word] for own in counts for word in own]
    values = [float(count) for own in counts for count in own.values()]
    found = sparse.csr_matrix((values, places, starts), shape=(len(counts), len(columns)))
    rarity = np.log((1 + len(counts)) / (1 + np.bincount(found.indices, minlength=len(columns)))) + 1
    found.data *= rarity[found.indices]
    lengths = np.sqrt(np.asarray(found.multiply(found).sum(axis=1)).reshape(-1))
    found.data /= np.repeat(lengths, np.diff(found.indptr))
    return found


def stored_explanations(store: FeatureStore, site: str) -> dict[int, str]:
    """What a store says of the latents of a site, by their numbers.

    Raises:
        UsageError: it says nothing.
    """
    found: list[dict[str, Any]] = []
    if store.explained:
        query = f"SELECT latent, text FROM explanations WHERE site = {quoted(site)}"
        found = store.sql(query, limit=None).to_pylist()
    if not found:
        raise UsageError(f"{store.url}: explanations of latents of {site} expected, found none; add some")
    return {row["latent"]: row["text"] for row in found}


def with_explanations(
    relation: Relation, upstream: Mapping[int, str], downstream: Mapping[int, str], embed: Embedder | None = None
) -> Relation:
    """The same relation with the best partner of each latent by the cosine of their explanations: one more measure,
    `explanation_cosine`, of :func:`gossamer.relations.threshold_sweep`. Latents without a text take no part.

    Two explanations of the same words are alike, whatever the latents do: it is a check on the others, not a relation.

    Memory: 2**22 cosines at a time.

    Args:
        upstream, downstream: what is said of latents, by their numbers (a store's explanations, say).
        embed: vectors of sentences; None: :func:`tfidf_vectors` of both sides' texts.

    Raises:
        UsageError: a latent that is not there, a side without texts, or an `embed` whose vectors are not one a text.
    """
    sides = (upstream, downstream)
    for said, sums, name in zip(sides, (relation.upstream, relation.downstream), relation.pair, strict=True):
        wrong = [one for one in said if not 0 <= one < len(sums.active)]
        if wrong or not said:
            raise UsageError(
                f"explanations: texts of latents 0 to {len(sums.active) - 1} of {name} expected, found "
                f"{f'one of latent {wrong[0]}' if wrong else 'none'}"
            )
    latents = [np.array(sorted(said)) for said in sides]
    texts = [said[one] for said, own in zip(sides, latents, strict=True) for one in own.tolist()]
    vectors = tfidf_vectors(texts) if embed is None else _unit(embed(texts), len(texts))
    rows, columns = vectors[: len(latents[0])], vectors[len(latents[0]) :]
    itself = relation.pair.upstream == relation.pair.downstream
    forward = _best(rows, columns, latents, len(relation.upstream.active), itself)
    backward = _best(columns, rows, latents[::-1], len(relation.downstream.active), itself)
    return replace(
        relation,
        forward={**relation.forward, EXPLANATION_COSINE: forward},
        backward={**relation.backward, EXPLANATION_COSINE: backward},
    )


def _unit(vectors: Any, count: int) -> Floats:
    found = np.asarray(vectors, float)
    if found.ndim != 2 or len(found) != count or not np.isfinite(found).all():
        raise UsageError(f"embed: {count} finite vectors of one width expected, found {found.shape}")
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-30)


def _best(rows: Any, columns: Any, latents: Sequence[Any], width: int, itself: bool) -> BestPartner:
    """The largest cosine of each row, and whose it is; 0 and -1 of latents without a text."""
    best = BestPartner(np.zeros(width), np.full(width, -1))
    own, others = latents
    step = max(1, _BLOCK_VALUES // len(others))
    for start in range(0, len(own), step):
        found = rows[start : start + step] @ columns.T
        found = found.toarray() if sparse.issparse(found) else np.array(found)
        here = own[start : start + step]
        if itself:
            found[here[:, None] == others] = -np.inf
        partner = found.argmax(axis=1)
        value = found[np.arange(len(here)), partner]
        some = np.isfinite(value)
        best.partner[here[some]], best.value[here[some]] = others[partner[some]], value[some]
    return best
