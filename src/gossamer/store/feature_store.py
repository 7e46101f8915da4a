"""Ask a feature store: all tokens of a latent, all latents of a token, statistics, cards, search, SQL."""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import listed, plural, short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.features.feature import Feature
from gossamer.features.feature_card import FeatureCard
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site, SiteMapping, by_site
from gossamer.results import digest
from gossamer.results.difference import difference
from gossamer.store import explanations, search
from gossamer.store.cards import read_cards
from gossamer.store.database import connect, create_views, database_errors, interruptible, quoted, require_select
from gossamer.store.location import locate
from gossamer.store.manifest import EXPLANATIONS, StoreManifest, damaged_files
from gossamer.store.source import stored_dictionary

# Rows of an answer, unless a caller asks for more or for batches.
LIMIT = 1_000_000


class FeatureStore:
    """What each latent of some dictionaries did on a corpus; see :func:`gossamer.store.build_store`.

    A store is only read, by as many processes as wish to, each with a DuckDB of its own in memory. Answers are Arrow
    tables: `.to_pandas()` and `polars.from_arrow` make frames of them. Tables of :meth:`sql` are those of
    :func:`gossamer.store.database.create_views`. Close it, or use it in a `with` statement.

    Attributes:
        manifest: what it holds and what it was made of.
        url: where it lies.
    """

    def __init__(self, url: str | Path) -> None:
        """Open the store at a local folder or a URL; see :meth:`open`."""
        self._location = locate(url)
        self.url = self._location.url
        self.manifest = StoreManifest.load(self._location)
        if not self.manifest.complete:
            done = f"{len(self.manifest.shards)} of {plural(self.manifest.shard_count, 'shard')}"
            raise UsageError(
                f"{url}: a complete store expected, found {done} and no full summary; the 'gossamer store build' that "
                "began it goes on where it stopped"
            )
        for name, what in damaged_files(self._location, self.manifest, hashes=False).items():
            raise GossamerError(f"{self._location.path(name)}: damaged ({what}); build the store again with --repair")
        self._connect()

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.manifest.model} at {listed(self.manifest.dictionaries)}"
        yield f"{plural(self.manifest.tokens, 'token')}, {plural(self.manifest.entries, 'activation')}"

    def __enter__(self) -> "FeatureStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self._connection.close()

    def _connect(self) -> None:
        self._connection = connect(self._location)
        with database_errors(self.url, asked=False):
            create_views(self._connection, self._location, self.manifest)

    @property
    def sites(self) -> list[Site]:
        """In the order in which the model computes them."""
        return [Site.parse(site) for site in self.manifest.dictionaries]

    @property
    def text(self) -> str:
        """What text it is of, for readers: of a path the last folder alone."""
        return f"{self.manifest.tokens:,} tokens of the store {PurePath(self.url).name}"

    def require(self, model: LanguageModel | None = None, dictionaries: SiteMapping[Dictionary] | None = None) -> None:
        """Refuse a store of another model, tokenizer or dictionary than these, by their hashes.

        Raises:
            UsageError: naming what differs; a site that the store has not.
        """
        stored: dict[str, Any] = {}
        asked: dict[str, Any] = {}
        if model is not None:
            stored |= {"weights": self.manifest.weights, "tokenizer": self.manifest.tokenizer}
            asked |= {"weights": weights_sha256(model.hf), "tokenizer": digest(model.tokenizer.get_vocab())}
        for site, dictionary in by_site(dictionaries or {}).items():
            known = self.manifest.dictionaries.get(str(site))
            stored[str(site)] = None if known is None else known.sha256
            asked[str(site)] = stored_dictionary(dictionary).sha256
        self._require_same(stored, asked)

    def own(self, dictionaries: SiteMapping[Dictionary]) -> dict[Site, Dictionary]:
        """Those that this store was built of, out of a set that may have more sites.

        Raises:
            UsageError: one differs from the store's at its site, naming what; none is at a site of the store.
        """
        given = by_site(dictionaries)
        found = {site: one for site, one in given.items() if str(site) in self.manifest.dictionaries}
        if not found:
            raise UsageError(
                f"{self.url}: dictionaries at {listed(self.manifest.dictionaries)} expected, found {listed(given)}; "
                "give those that the store was built of"
            )
        self.require(dictionaries=found)
        return found

    def require_weights(self, model: str | None, dictionaries: Mapping[str, str | None]) -> None:
        """The same by SHA-256 of the weights alone, as a circuit's file records them.

        Args:
            model: of the model's weights.
            dictionaries: of each dictionary's, by its site.

        Raises:
            UsageError: naming what differs; a site that the store has not; hashes of none, as stores of before have.
        """
        stored: dict[str, Any] = {"weights": self.manifest.weights}
        for site in dictionaries:
            known = self.manifest.dictionaries.get(site)
            stored[site] = None if known is None else known.weights
        asked = {"weights": model, **dictionaries}
        self._require_same(stored, asked)
        if nothing := [name for name, one in asked.items() if one is None]:
            raise UsageError(f"{self.url}: nothing says whether {nothing[0]} is the same; build the store again")

    def _require_same(self, stored: dict[str, Any], asked: dict[str, Any]) -> None:
        if stored != asked:
            raise UsageError(
                f"{self.url}: of another model or dictionary ({difference(stored, asked)}); build one of these"
            )

    def verify(self) -> dict[str, str]:
        """Files that differ from their SHA-256 (explanations: from their own), with what is wrong with each;
        reads all of them."""
        return damage(self.url)[1]

    def sql(self, query: str, *, limit: int | None = LIMIT) -> Any:
        """The answer to one SELECT, as an Arrow table.

        Args:
            query: DuckDB's SQL.
            limit: most rows; None for as many as there are (memory: all of them).

        Raises:
            UsageError: it is no SELECT, it asks for what is not there, or the answer has more rows.
            GossamerError: a file cannot be read.
        """
        require_select(self._connection, query)
        return self._answer(query.strip().rstrip(";"), limit)

    def first(self, query: str, rows: int) -> tuple[Any, bool]:
        """The first rows of the answer to one SELECT, and whether there are more. Errors: see :meth:`sql`."""
        require_select(self._connection, query)
        found = self._rows(query.strip().rstrip(";"), rows + 1)
        return found.slice(0, rows), len(found) > rows

    def batches(self, query: str, rows: int = 100_000) -> Iterator[Any]:
        """The answer to one SELECT of any length, as Arrow record batches of so many rows. Errors: see :meth:`sql`."""
        require_select(self._connection, query)
        # A connection has one answer at a time: others may be asked meanwhile.
        with self._connection.cursor() as cursor, database_errors(query):
            yield from cursor.sql(query).to_arrow_reader(rows)

    def _answer(self, query: str, limit: int | None) -> Any:
        found = self._rows(query, None if limit is None else limit + 1)
        if limit is not None and len(found) > limit:
            raise UsageError(
                f"query: at most {limit:,} rows expected, found more; ask for fewer (LIMIT, WHERE, GROUP BY), for "
                "limit=None, or for batches()"
            )
        return found

    def _rows(self, query: str, most: int | None) -> Any:
        """At most so many rows of an answer."""
        with database_errors(query):
            limited = query if most is None else f"SELECT * FROM ({query}) LIMIT {most}"
            return interruptible(self._connection, lambda: self._connection.sql(limited).to_arrow_table())

    def tokens_of(
        self,
        feature: Feature | str,
        *,
        above: float = 0.0,
        relative: float = 0.0,
        strongest: int | None = None,
    ) -> Any:
        """All tokens on which a latent is active: document, position, token, text, value, in the corpus's order.

        Args:
            above: activations of at most this much are left out.
            relative: so are those of at most this share of the latent's maximum, 0 to 1.
            strongest: only so many, the strongest first.

        Raises:
            UsageError: no such latent, a threshold outside its range, or more than a million rows.
        """
        site, latent = self.resolve(feature)
        level = _level(above, relative, lambda: self._statistic(site, latent, "maximum"))
        order = "document, position" if strongest is None else f"value DESC, document, position LIMIT {int(strongest)}"
        return self._answer(
            f"SELECT document, position, token, text, value FROM activations "
            f"WHERE site = {quoted(site)} AND latent = {latent} AND value > {level!r} ORDER BY {order}",
            LIMIT,
        )

    def words_of(self, feature: Feature | str, *, limit: int = 20) -> Any:
        """The tokens of the vocabulary on which a latent's activation adds up to most.

        Columns: token, text, active (times that it is active there), occurrences (that count), total, mean (over the
        occurrences) and maximum of its activation.

        Raises:
            UsageError: no such latent.
        """
        site, latent = self.resolve(feature)
        own = (
            "SELECT token, text, count(*) AS active, sum(value::DOUBLE) AS total, max(value) AS maximum FROM "
            f"activations WHERE site = {quoted(site)} AND latent = {latent} GROUP BY token, text "
            f"ORDER BY total DESC, token LIMIT {int(limit)}"
        )
        counted = "SELECT token, count(*) AS occurrences FROM tokens WHERE counted GROUP BY token"
        return self._answer(
            "SELECT token, text, active, occurrences, total, total / occurrences AS mean, maximum "
            f"FROM ({own}) JOIN ({counted}) USING (token) ORDER BY total DESC, token",
            LIMIT,
        )

    def latents_at(self, document: int, position: int) -> Any:
        """All latents that are active at one token: site, latent, value, the strongest first.

        Raises:
            UsageError: the corpus has no such token.
        """
        token = self._answer(
            f"SELECT token FROM tokens WHERE document = {int(document)} AND position = {int(position)}", LIMIT
        )
        if not len(token):
            raise UsageError(f"document {document}, position {position}: a token of the store expected, found none")
        return self._answer(
            f"SELECT site, latent, value FROM activations_by_token WHERE token = {token['token'][0].as_py()} "
            f"AND document = {int(document)} AND position = {int(position)} ORDER BY value DESC, site, latent",
            LIMIT,
        )

    def latents_of(self, token: int | str, *, limit: int = 100) -> Any:
        """The latents that are most a token's own, over all its occurrences; see :func:`search.of_token`."""
        return self._answer(search.of_token(self.token_ids(token), limit), limit)

    def token_ids(self, token: int | str) -> list[int]:
        """A token's id, or the ids of all tokens of that text, spaces around it and case left aside.

        Raises:
            UsageError: it does not occur in the corpus.
        """
        matches = (
            f"token = {token}" if isinstance(token, int) else f"lower(trim(text)) = {quoted(token.strip().lower())}"
        )
        found = self._answer(f"SELECT token FROM vocabulary WHERE {matches} ORDER BY token", LIMIT)
        if not len(found):
            raise UsageError(
                f"token {token!r}: one of the store's corpus expected, found none; a word may be several tokens"
            )
        return [int(one) for one in found["token"].to_pylist()]

    def search(self, query: search.Search, *, limit: int = 100) -> Any:
        """Latents by what is known of them: rows of `statistics`, with the score that they are sorted by.

        Raises:
            UsageError: a bound outside its range, a token that does not occur, no words or explanations to search.
        """
        if query.explanation is not None and not self.explained:
            raise UsageError(f"{self.url}: has no explanations; add some with 'gossamer store explain'")
        if query.word is not None and not self.manifest.settings.words:
            raise UsageError(f"{self.url}: was built without logit-lens words; build it with words=8")
        if query.site is not None and query.site not in self.manifest.dictionaries:
            raise UsageError(f"{self.url}: has {', '.join(self.manifest.dictionaries)}, asked for {query.site}")
        tokens = None if query.token is None else self.token_ids(query.token)
        return self._answer(search.statement(query, tokens, limit), limit)

    @property
    def explained(self) -> bool:
        """Whether the store has explanations."""
        return explanations.exist(self._location)

    def explain(
        self,
        texts: Mapping[Feature, str],
        method: str = "",
        *,
        scores: Mapping[Feature, float] | None = None,
        scorer: str = "",
    ) -> None:
        """Keep texts that say what latents stand for, in place of what was said of those latents before.

        Args:
            texts: the texts.
            method: how they were made.
            scores: how well they fit, of those for which that is known.
            scorer: what measured it.

        Raises:
            UsageError: a latent that the store has not, or another process writes there.
        """
        plain = {one: Feature.parse("/".join(map(str, self.resolve(one)))) for one in {**texts, **(scores or {})}}
        named = {plain[one]: text for one, text in texts.items()}
        measured = {plain[one]: score for one, score in (scores or {}).items()}
        with self._location.lock():
            explanations.add(self._location, named, method, measured, scorer)
        self._connection.close()
        self._connect()

    def cards(self, features: Iterable[Feature | str]) -> dict[Feature, FeatureCard]:
        """The card of each feature, as :func:`gossamer.features.feature_cards` makes it of a text.

        What was not kept (activations up to the threshold, BOS) counts as 0 in the windows of examples.

        Raises:
            UsageError: a latent that the store has not.
        """
        known = [Feature.parse("/".join(map(str, self.resolve(one)))) for one in features]
        found = read_cards(
            lambda query: list(self._answer(query, None).to_pylist()),
            self.manifest,
            dict.fromkeys(known),
            explained=self.explained,
        )
        cards = {card.feature: card for card in found}
        return {feature: cards[feature] for feature in known}

    def card(self, feature: Feature | str) -> FeatureCard:
        """The card of one feature; see :meth:`cards`."""
        return next(iter(self.cards([feature]).values()))

    def _statistic(self, site: str, latent: int, name: str) -> float:
        found = self._answer(f"SELECT {name} FROM statistics WHERE site = {quoted(site)} AND latent = {latent}", LIMIT)
        return float(found[name][0].as_py() or 0.0)

    def resolve(self, feature: Feature | str) -> tuple[str, int]:
        """The site and latent of a feature, as the tables have them.

        Raises:
            UsageError: a latent that the store has not.
        """
        parsed = Feature.parse(feature) if isinstance(feature, str) else feature
        site, latent = str(Site.of(parsed.site)), int(parsed.latent)
        stored = self.manifest.dictionaries.get(site)
        if stored is None or not 0 <= latent < stored.n_latents:
            known = ", ".join(f"{name} (0 to {one.n_latents - 1})" for name, one in self.manifest.dictionaries.items())
            raise UsageError(f"feature {site}/{latent}: a latent of {known} expected")
        return site, latent


def _level(above: float, relative: float, maximum: Any) -> float:
    """The larger of two thresholds, one of them a share of a maximum."""
    if not 0 <= above < math.inf:
        raise UsageError(f"above: a finite activation of at least 0 expected, found {above}")
    if not 0 <= relative <= 1:
        raise UsageError(f"relative: a share of the maximum, 0 to 1, expected, found {relative}")
    return max(float(above), relative * maximum()) if relative else float(above)


def damage(url: str | Path) -> tuple[StoreManifest, dict[str, str]]:
    """The manifest of a store, complete or not, and its damaged files; see :meth:`FeatureStore.verify`."""
    location = locate(url)
    manifest = StoreManifest.load(location)
    found = damaged_files(location, manifest)
    try:
        explanations.read(location)
    except GossamerError:
        found[EXPLANATIONS] = "damaged; --repair cannot write it: delete it and explain again"
    return manifest, found
