"""Lists of latents: from a feature store, or from what the weights alone say."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gossamer.app.live import LiveModel
from gossamer.app.schema.dictionaries import LatentRow, Sort
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.features.lens import has_words, logit_lens
from gossamer.model.site import Site
from gossamer.report import text
from gossamer.store.database import quoted
from gossamer.store.feature_store import FeatureStore

_ORDER = {"density": "density DESC, latent", "max": "coalesce(maximum, 0) DESC, latent", "name": "latent"}


@dataclass(frozen=True)
class Asked:
    """Which latents of a site, in which order, and which part of them.

    Attributes:
        site: of the dictionary.
        sort: the order.
        min_density: least share of tokens on which they are active.
        words: what their number, explanation or promoted words have; "" for all.
        cursor, limit: the part of them.
    """

    site: str
    sort: Sort = "density"
    min_density: float = 0.0
    words: str = ""
    cursor: int = 0
    limit: int = 100


class LatentPart(NamedTuple):
    """Rows of a list, and how many latents there are of all."""

    total: int
    rows: list[LatentRow]


def stored_latents(store: FeatureStore, asked: Asked, nodes: Mapping[Feature, int]) -> LatentPart:
    """From a store's tables; `nodes` says how many nodes of circuits each latent is."""
    found = f"SELECT latent, active, density, maximum FROM statistics WHERE {_condition(store, asked)}"
    total = int(store.sql(f"SELECT count(*) AS n FROM ({found})")["n"][0].as_py())
    part = f"{found} ORDER BY {_ORDER[asked.sort]} LIMIT {asked.limit:d} OFFSET {asked.cursor:d}"
    rows = store.sql(_with_words(store, asked.site, part, _ORDER[asked.sort])).to_pylist()
    return LatentPart(total, [_stored_row(asked.site, row, nodes) for row in rows])


def _condition(store: FeatureStore, asked: Asked) -> str:
    wanted = [f"site = {quoted(asked.site)}", f"density >= {asked.min_density!r}"]
    given = asked.words.strip().lower()
    if not given:
        return " AND ".join(wanted)
    ways = [f"latent = {int(given):d}"] if given.isdecimal() and len(given) < 10 else []
    here = f"SELECT latent FROM {{}} WHERE site = {quoted(asked.site)} AND {{}}"
    if store.manifest.settings.words:
        promoted = f"promotes AND lower(trim(word)) = {quoted(given)}"
        ways.append(f"latent IN ({here.format('words', promoted)})")
    if store.explained:
        said = f"contains(lower(text), {quoted(given)})"
        ways.append(f"latent IN ({here.format('explanations', said)})")
    return " AND ".join([*wanted, f"({' OR '.join(ways) or 'false'})"])


def _with_words(store: FeatureStore, site: str, part: str, order: str) -> str:
    """The rows with the first word each way and the explanation, where the store has them."""
    columns, joins = [], []
    if store.manifest.settings.words:
        for name, promotes in (("top", "promotes"), ("bottom", "NOT promotes")):
            columns.append(f"{name}.word AS {name}")
            joins.append(
                f"LEFT JOIN (SELECT latent, word FROM words WHERE site = {quoted(site)} AND {promotes} AND rank = 0) "
                f"AS {name} USING (latent)"
            )
    if store.explained:
        columns += ["told.text AS label", "told.score AS score", "told.scorer AS scorer"]
        joins.append(f"LEFT JOIN (SELECT * FROM explanations WHERE site = {quoted(site)}) AS told USING (latent)")
    return f"SELECT {', '.join(['part.*', *columns])} FROM ({part}) AS part {' '.join(joins)} ORDER BY {order}"


def _stored_row(site: str, row: Mapping[str, Any], nodes: Mapping[Feature, int]) -> LatentRow:
    feature = Feature(Site.parse(site), row["latent"])
    return LatentRow(
        feature=str(feature),
        label=_shown(row.get("label")),
        score=row.get("score"),
        scorer=row.get("scorer"),
        density=row["density"],
        active=row["active"],
        maximum=row["maximum"] or 0.0,
        top=_shown(row.get("top")),
        bottom=_shown(row.get("bottom")),
        nodes=nodes.get(feature, 0),
    )


def _shown(words: str | None) -> str | None:
    return None if words is None else text.visible(words)


def unmeasured_latents(live: LiveModel, asked: Asked, nodes: Mapping[Feature, int]) -> LatentPart:
    """From the weights alone: words each way; nothing is known of how often a latent is active.

    Raises:
        UsageError: asked for what only a store knows.
    """
    if asked.sort != "name" or asked.min_density > 0:
        raise UsageError(
            f"sort {asked.sort}: how often latents are active is known of a feature store alone; build one in the "
            "folder of the run with 'gossamer store build', or sort by name"
        )
    site = Site.parse(asked.site)
    dictionary = live.dictionaries[site]
    wanted = asked.words.strip()
    chosen: Sequence[int]
    if wanted.isdecimal():
        chosen = [int(wanted)] if int(wanted) < dictionary.n_latents else []
    elif wanted:
        chosen = sorted(feature.latent for feature in nodes if feature.site == site and wanted in str(feature))
    else:
        chosen = range(dictionary.n_latents)
    part = list(chosen[asked.cursor : asked.cursor + asked.limit])
    return LatentPart(len(chosen), list(_unmeasured(live, site, part, nodes)))


def _unmeasured(live: LiveModel, site: Site, latents: list[int], nodes: Mapping[Feature, int]) -> Iterator[LatentRow]:
    dictionary = live.dictionaries[site]
    lens = logit_lens(live.model, dictionary, latents, words=1) if latents and has_words(live.model, dictionary) else []
    for place, latent in enumerate(latents):
        feature = Feature(site, latent)
        yield LatentRow(
            feature=str(feature),
            top=text.visible(lens[place].promotes[0][0]) if lens else None,
            bottom=text.visible(lens[place].suppresses[0][0]) if lens else None,
            nodes=nodes.get(feature, 0),
        )
