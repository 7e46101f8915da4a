"""Latents by what is known of them, as SQL over a store's tables."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.store.database import quoted

# Of Okapi BM25 (Robertson & Zaragoza 2009): how soon repeated words add nothing, how much long texts are discounted.
_K1, _B = 1.2, 0.75


@dataclass(frozen=True)
class Search:
    """What is asked of latents; whatever is given must hold.

    Attributes:
        site: of the dictionary.
        token: an id, or a text: the latents that are most that token's own come first.
        word: one of the logit-lens words that they raise, case and spaces left aside: the most raised first.
        explanation: words of which an explanation has at least one, ranked by BM25.
        density: least and largest share of tokens on which they are active.
        maximum: least and largest activation.
        active: least number of tokens on which they are active.
    """

    site: str | None = None
    token: int | str | None = None
    word: str | None = None
    explanation: str | None = None
    density: tuple[float, float] = (0.0, 1.0)
    maximum: tuple[float, float] = (0.0, math.inf)
    active: int = 0

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if self.site is not None:
            object.__setattr__(self, "site", str(Site.of(self.site)))
        for name, (least, largest), limit in (("density", self.density, 1.0), ("maximum", self.maximum, math.inf)):
            if not 0 <= least <= largest <= limit:
                raise UsageError(f"{name}: 0 <= least <= largest <= {limit:g} expected, found {least} and {largest}")
        if self.active < 0:
            raise UsageError(f"active: at least 0 tokens expected, found {self.active}")
        if self.explanation is not None and not terms(self.explanation):
            raise UsageError(f"explanation: some words expected, found {self.explanation!r}")


def terms(text: str) -> list[str]:
    """The words of a text, lower case, each once."""
    cut = "".join(one if one.isalnum() else " " for one in text.lower())
    return list(dict.fromkeys(cut.split()))


def of_token(tokens: Sequence[int], limit: int) -> str:
    """The latents of some tokens, the most their own first.

    Columns: `on_token`, occurrences on which a latent is active, `of_token`, their share of all occurrences that count,
    `of_latent`, their share of all tokens on which it is active; `mean_on_token`, `max_on_token`; `score`, the cosine
    of the two sets of tokens (Ochiai), sqrt(of_token * of_latent).
    """
    return f"SELECT * FROM ({_token_scores(tokens)}) ORDER BY score DESC, site, latent LIMIT {limit:d}"


def statement(search: Search, tokens: Sequence[int] | None, limit: int) -> str:
    """SQL for a search; `tokens` are the ids that its token stands for."""
    joins, scores = [], []
    if tokens is not None:
        joins.append(f"JOIN ({_token_scores(tokens)}) AS by_token USING (site, latent)")
        scores.append("by_token.score")
    if search.word is not None:
        joins.append(
            "JOIN (SELECT site, latent, max(change) AS score FROM words WHERE promotes AND "
            f"lower(trim(word)) = {quoted(search.word.strip().lower())} GROUP BY site, latent) "
            "AS by_word USING (site, latent)"
        )
        scores.append("by_word.score")
    if search.explanation is not None:
        joins.append(f"JOIN ({_bm25(terms(search.explanation))}) AS by_text USING (site, latent)")
        scores.append("by_text.score")
    bounds = [
        f"density BETWEEN {search.density[0]!r} AND {search.density[1]!r}",
        f"coalesce(maximum, 0) >= {search.maximum[0]!r}",
        f"active >= {search.active:d}",
    ]
    if search.maximum[1] < math.inf:
        bounds.append(f"coalesce(maximum, 0) <= {search.maximum[1]!r}")
    if search.site is not None:
        bounds.append(f"site = {quoted(search.site)}")
    score = scores[0] if scores else "CAST(active AS DOUBLE)"
    return (
        f"SELECT statistics.* EXCLUDE (first_bin, histogram), {score} AS score FROM statistics {' '.join(joins)} "
        f"WHERE {' AND '.join(bounds)} ORDER BY score DESC, site, latent LIMIT {limit:d}"
    )


def _token_scores(tokens: Sequence[int]) -> str:
    chosen = ", ".join(f"{token:d}" for token in tokens)
    return (
        "SELECT site, latent, on_token, on_token / occurrences AS of_token, on_token / active AS of_latent, "
        "mean_on_token, max_on_token, on_token / sqrt(occurrences * active) AS score FROM ("
        "SELECT site, latent, count(*) AS on_token, avg(value) AS mean_on_token, max(value) AS max_on_token "
        f"FROM activations_by_token WHERE token IN ({chosen}) GROUP BY site, latent) "
        f"CROSS JOIN (SELECT count(*) AS occurrences FROM tokens WHERE counted AND token IN ({chosen})) "
        "JOIN (SELECT site, latent, active FROM statistics) USING (site, latent)"
    )


def _bm25(words: Sequence[str]) -> str:
    """Explanations with at least one of the words, by Okapi BM25 with the idf that is never negative."""
    listed = ", ".join(quoted(word) for word in words)
    return (
        "WITH texts AS (SELECT site, latent, list_filter(regexp_split_to_array(lower(text), '[^\\p{L}\\p{N}]+'), "
        "lambda one: one <> '') AS terms FROM explanations), "
        "corpus AS (SELECT count(*) AS n, avg(len(terms)) AS mean FROM texts), "
        "hits AS (SELECT site, latent, len(terms) AS length, word, "
        "len(list_filter(terms, lambda one: one = word)) AS often "
        f"FROM texts CROSS JOIN (SELECT unnest([{listed}]) AS word)), "
        "known AS (SELECT word, count(*) AS having_it FROM hits WHERE often > 0 GROUP BY word) "
        "SELECT site, latent, sum(ln(1 + (n - having_it + 0.5) / (having_it + 0.5)) * often * "
        f"({_K1} + 1) / (often + {_K1} * (1 - {_B} + {_B} * length / mean))) AS score "
        "FROM hits JOIN known USING (word) CROSS JOIN corpus WHERE often > 0 GROUP BY site, latent"
    )
