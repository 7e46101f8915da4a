"""Cards of latents from the tables of a store."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from gossamer.features.feature import Feature
from gossamer.features.feature_card import FeatureCard, FeatureExample, Histogram
from gossamer.features.neighbours import DECODER_COSINE, Neighbour
from gossamer.model.site import Site
from gossamer.store.database import quoted
from gossamer.store.manifest import StoreManifest

Row = dict[str, Any]
Ask = Callable[[str], list[Row]]
# Latents whose rows are read together.
_TOGETHER = 512


def read_cards(
    ask: Ask, manifest: StoreManifest, features: Iterable[Feature], *, explained: bool
) -> Iterator[FeatureCard]:
    """The cards of features that the store has, site by site: a few queries for some hundred latents.

    Args:
        ask: the rows of a query.
        explained: whether there is a table of explanations.
    """
    wanted: dict[str, list[int]] = defaultdict(list)
    for feature in features:
        wanted[str(feature.site)].append(feature.latent)
    for site, latents in wanted.items():
        for start in range(0, len(latents), _TOGETHER):
            part = latents[start : start + _TOGETHER]
            tables = _tables(ask, manifest, site, part, explained)
            places = {token for rows in tables["examples"].values() for row in rows for token in row["tokens"]}
            listed = ", ".join(map(str, sorted(places))) or "-1"
            found = ask(f"SELECT token, text FROM vocabulary WHERE token IN ({listed})")
            texts = {row["token"]: row["text"] for row in found}
            for latent in part:
                yield _card(manifest, site, latent, {name: rows[latent] for name, rows in tables.items()}, texts)


def _tables(
    ask: Ask, manifest: StoreManifest, site: str, latents: Sequence[int], explained: bool
) -> dict[str, dict[int, list[Row]]]:
    """What each table has of some latents of a site, by latent; of one that is not there, nothing."""
    here = f"WHERE site = {quoted(site)} AND latent IN ({', '.join(map(str, latents))})"
    there = {"words": manifest.settings.words, "neighbours": manifest.settings.neighbours, "explanations": explained}
    order = {"examples": "rank", "words": "promotes, rank", "neighbours": "rank"}
    found: dict[str, dict[int, list[Row]]] = {}
    for name in ("statistics", "examples", "words", "neighbours", "explanations"):
        found[name] = defaultdict(list)
        if there.get(name, True):
            for row in ask(f"SELECT * FROM {name} {here} ORDER BY latent, {order.get(name, 'latent')}"):
                found[name][row["latent"]].append(row)
    return found


def _card(
    manifest: StoreManifest, site: str, latent: int, rows: Mapping[str, list[Row]], texts: Mapping[int, str]
) -> FeatureCard:
    (known,) = rows["statistics"]
    words: dict[bool, list[tuple[str, float]]] = {True: [], False: []}
    for row in rows["words"]:
        words[row["promotes"]].append((row["word"], row["change"]))
    windows = [
        FeatureExample(
            tuple(texts[token] for token in row["tokens"]),
            tuple(row["activations"]),
            row["at"],
            row["document"],
            row["stratum"],
        )
        for row in rows["examples"]
    ]
    link = manifest.dictionaries[site].link
    return FeatureCard(
        Feature(Site.parse(site), latent),
        manifest.model,
        known["tokens"],
        known["active"],
        mean=known["mean"] or 0.0,
        std=known["std"] or 0.0,
        maximum=known["maximum"] or 0.0,
        histogram=Histogram.from_bins(known["histogram"], known["first_bin"]),
        promotes=tuple(words[True]),
        suppresses=tuple(words[False]),
        examples=tuple(one for one in windows if one.stratum is None),
        strata=tuple(one for one in windows if one.stratum is not None),
        link=None if link is None else f"{link}/{latent}",
        explanation=rows["explanations"][0]["text"] if rows["explanations"] else None,
        neighbours=tuple(
            Neighbour(Feature(Site.parse(row["other_site"]), row["other_latent"]), DECODER_COSINE, row["cosine"])
            for row in rows["neighbours"]
        ),
    )
