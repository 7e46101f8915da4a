"""`gossamer store`: what latents did on a corpus, written to disk and asked for."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from gossamer.cli import early, inputs, options
from gossamer.cli.help import Command
from gossamer.cli.printing import err, out, print_json
from gossamer.display import plural
from gossamer.errors import GossamerError, UsageError

# Rows of an answer that are printed.
_SHOWN = 50
# Most characters of a cell.
_CELL = 60

Url = Annotated[str, typer.Argument(help="The store: a folder, or a URL that fsspec knows (s3://…, file://…).")]

store = typer.Typer(no_args_is_help=True, help="Write what all latents do on a corpus, check it, ask for it.")


@store.command(cls=Command)
def build(
    model: options.Model,
    url: Url,
    text: Annotated[Path, typer.Option("--text", help=f"The corpus: {options.TEXT}.")],
    text_key: options.TextKey = "text",
    dictionaries: options.Dictionaries = None,
    fact: options.Facts = None,
    allow_other_model: options.AllowOtherModel = False,
    rows: Annotated[int | None, typer.Option(help="Texts to read, from the first; default: all.")] = None,
    context: Annotated[
        int | None, typer.Option(help="Tokens of a row; a longer text becomes several. Default: 128, or as trained.")
    ] = None,
    bos: options.Bos = None,
    threshold: Annotated[float, typer.Option(help="Activations up to this one are not kept.")] = 0.0,
    words: Annotated[int, typer.Option(help="Logit-lens words each way; 0 for none.")] = 8,
    neighbours: Annotated[int, typer.Option(help="Latents with the nearest decoder rows; 0 for none.")] = 8,
    repair: Annotated[bool, typer.Option("--repair", help="Write damaged files anew, each alone.")] = False,
    engine: options.Engine = None,
    workers: options.Workers = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    family: options.FamilyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a store, or what is missing of one: all activations, statistics and examples of all latents, in one pass.

    The command can be stopped at any moment and goes on where it stopped, to the same bytes.

    Example: gossamer store build bundled:spool store --text text.txt
    """
    early.require_dictionaries(dictionaries, model)
    facts = early.dictionary_facts(fact)
    early.require_texts([text])
    early.engine_address(engine, workers)

    from gossamer.activations import read_texts
    from gossamer.progress import progress_bars
    from gossamer.store import StoreSettings, build_store

    settings = StoreSettings(context=context, bos=bos, threshold=threshold, words=words, neighbours=neighbours)
    texts = read_texts(text, text_key)
    texts = texts if rows is None else texts[: early.at_least("--rows", rows, 1)]
    network = inputs.language_model(model, device, dtype, family)
    chosen = inputs.dictionary_set(network, model, dictionaries, facts=facts, allow_other_model=allow_other_model)
    checks = {"repair": repair, "allow_other_model": allow_other_model}
    with inputs.engine(engine, workers, network) as shared_out, progress_bars(err):
        manifest = build_store(network, chosen, texts, url, settings=settings, engine=shared_out, **checks)
    size = sum(file.size for file in manifest.files.values())
    if as_json:
        counts = {name: getattr(manifest, name) for name in ("documents", "split", "empty", "tokens", "entries")}
        print_json({"url": url, **counts, "bytes": size, "sites": list(manifest.dictionaries)})
        return
    out.print(
        f"{manifest.documents:,} texts ({manifest.split:,} longer than {manifest.settings.context} tokens and split, "
        f"{manifest.empty:,} empty), {manifest.tokens:,} tokens, {manifest.entries:,} activations at "
        f"{plural(len(manifest.dictionaries), 'site')}; {size:,} bytes in {url}",
        soft_wrap=True,
    )


@store.command(cls=Command)
def verify(url: Url, as_json: options.AsJson = False) -> None:
    """Compare every file of a store with its SHA-256; damaged ones are named, and the exit code is 1.

    Example: gossamer store verify STORE
    """
    early.require_store(url)

    from gossamer.store.feature_store import damage

    manifest, damaged = damage(url)
    if as_json:
        print_json({"url": url, "files": len(manifest.files), "complete": manifest.complete, "damaged": damaged})
    for name, what in damaged.items():
        err.print(f"{name}: {what}", soft_wrap=True)
    if damaged:
        raise GossamerError(
            f"{url}: {len(damaged)} of {len(manifest.files)} files damaged; run the command that built it with --repair"
        )
    if not as_json:
        state = "complete" if manifest.complete else "not complete: build it again to go on"
        out.print(f"{len(manifest.files)} files as they were written; the store is {state}", soft_wrap=True)


@store.command(cls=Command)
def explain(
    url: Url,
    texts: Annotated[Path, typer.Argument(help='JSON Lines of {"feature": "SITE/LATENT", "text": "…"}.')],
    method: Annotated[str, typer.Option(help="Where the texts come from, to be kept with them.")] = "",
    as_json: options.AsJson = False,
) -> None:
    """Keep texts that say what latents stand for: cards show them, and --explanation finds them.

    Example: gossamer store explain STORE texts.jsonl --method mine
    """
    early.require_store(url)
    early.require_files([texts], "JSON lines")

    from gossamer.features import Feature
    from gossamer.files import read_json_lines
    from gossamer.store import FeatureStore

    found: dict[Feature, str] = {}
    for line, row in read_json_lines(texts):
        given = row if isinstance(row, dict) else {}
        feature, text = given.get("feature"), given.get("text")
        if not isinstance(feature, str) or not isinstance(text, str):
            raise UsageError(f'{texts}, line {line}: {{"feature": "SITE/LATENT", "text": "…"}} expected')
        found[Feature.parse(feature)] = text
    with FeatureStore(url) as opened:
        opened.explain(found, method)
    if as_json:
        print_json({"url": url, "kept": len(found)})
        return
    out.print(f"{plural(len(found), 'explanation')} kept in {url}", soft_wrap=True)


@store.command(cls=Command)
def query(
    url: Url,
    sql: Annotated[str | None, typer.Option(help="One SELECT in DuckDB's SQL.")] = None,
    feature: Annotated[str | None, typer.Option(help="SITE/LATENT: the card of a latent.")] = None,
    relations: Annotated[
        Path | None, typer.Option(help="With --feature: what gossamer relate wrote, for neighbours by co-activation.")
    ] = None,
    tokens_of: Annotated[str | None, typer.Option(help="SITE/LATENT: its tokens, the strongest first.")] = None,
    latents_at: Annotated[str | None, typer.Option(help="DOCUMENT,POSITION: all latents active at a token.")] = None,
    token: Annotated[str | None, typer.Option(help="A token's text: the latents that are most its own.")] = None,
    word: Annotated[str | None, typer.Option(help="A logit-lens word: the latents that raise it.")] = None,
    explanation: Annotated[str | None, typer.Option(help="Words of an explanation.")] = None,
    site: Annotated[str | None, typer.Option(help="Latents of this site alone.")] = None,
    density: Annotated[str, typer.Option(help="LEAST,LARGEST share of tokens on which a latent is active.")] = "0,1",
    maximum: Annotated[str, typer.Option(help="LEAST,LARGEST of a latent's largest activation.")] = "0,inf",
    active: Annotated[int, typer.Option(help="Fewest tokens on which a latent is active.")] = 0,
    limit: Annotated[int, typer.Option(help="Most rows.")] = _SHOWN,
    as_json: options.AsJson = False,
) -> None:
    """Ask a store: for a latent's card or tokens, for latents by token, word, explanation and statistics, or by SQL.

    SQL tables: activations, activations_by_token, tokens, statistics, examples, words, neighbours, vocabulary,
    explanations. Without options, what the store holds.

    Example: gossamer store query STORE --word dog --density 0.0001,0.01
    Example: gossamer store query STORE --sql "SELECT site, avg(density) FROM statistics GROUP BY site"
    """
    early.require_store(url)
    searched = any(one is not None for one in (token, word, explanation, site)) or bool(active)
    searched = searched or density != "0,1" or maximum != "0,inf"
    asked = sum(one is not None for one in (sql, feature, tokens_of, latents_at)) + searched
    if asked > 1:
        raise UsageError(
            "store query: one of --sql, --feature, --tokens-of, --latents-at or a search (--token, --word, ...) "
            f"expected, found {asked} of them"
        )
    if relations is not None and feature is None:
        raise UsageError("--relations: for the card of a latent; give --feature too")
    early.at_least("--limit", limit, 1)
    bounds = [_bounds(f"--{name}", text) for name, text in (("density", density), ("maximum", maximum))]
    place = None if latents_at is None else inputs.numbers("--latents-at", latents_at)
    if place is not None and len(place) != 2:
        raise UsageError(f"--latents-at: DOCUMENT,POSITION expected, as 7,12, found {latents_at!r}")

    from gossamer.store import FeatureStore, Search

    wanted = Search(site, token, word, explanation, density=bounds[0], maximum=bounds[1], active=active)
    with FeatureStore(url) as opened:
        if feature is not None:
            _tell_card(_card(opened, feature, relations), as_json)
        elif sql is not None:
            found, more = opened.first(sql, limit)
            _tell(found.to_pylist(), as_json)
            if more:
                err.print(f"the first {limit} rows; there are more: --limit")
        elif tokens_of is not None:
            _tell(opened.tokens_of(tokens_of, strongest=limit).to_pylist(), as_json)
        elif place is not None:
            rows = opened.latents_at(*place).slice(0, limit).to_pylist()
            _tell(rows if as_json else list(_short(opened, rows, ["value"])), as_json)
        elif searched:
            rows = opened.search(wanted, limit=limit).to_pylist()
            # What was looked for by statistics alone has no score of its own.
            scored = ["score"] if (token, word, explanation) != (None, None, None) else []
            columns = [*scored, "active", "density", "maximum"]
            _tell(rows if as_json else list(_short(opened, rows, columns)), as_json)
        else:
            _tell_contents(opened, as_json)


def _bounds(option: str, text: str) -> tuple[float, float]:
    found = inputs.decimals(option, text)
    if len(found) != 2:
        raise UsageError(f"{option}: LEAST,LARGEST expected, as 0.001,0.1, found {text!r}")
    return found[0], found[1]


def _card(opened: Any, feature: str, relations: Path | None) -> Any:
    from gossamer.features import Feature

    parsed = Feature.parse(feature)
    if relations is None:
        return opened.card(parsed)
    from gossamer.relations import RelatedCards
    from gossamer.relations.saved import load_folder

    found = list(load_folder(relations).values())
    for one in found:
        for name, side in zip(one.pair, (one.upstream, one.downstream), strict=True):
            stored = opened.manifest.dictionaries.get(name)
            if stored is not None and stored.n_latents != len(side.active):
                raise UsageError(
                    f"{relations}: {name} of {stored.n_latents} latents expected, as in the store, found one of "
                    f"{len(side.active)}; give relations of the same dictionaries"
                )
    return RelatedCards(opened, found).cards([parsed])[parsed]


def _short(opened: Any, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What fits a line of each latent that was found: some of what is known, and what its card calls it."""
    from gossamer.features import Feature

    cards = opened.cards([Feature.parse(f"{row['site']}/{row['latent']}") for row in rows])
    for row, card in zip(rows, cards.values(), strict=True):
        yield {"feature": str(card.feature), **{name: row[name] for name in columns}, "what it is": card.label}


def _tell(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json({"rows": json.loads(json.dumps(rows, default=str))})
        return
    if not rows:
        err.print("nothing found")
        return
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name, value in rows[0].items():
        table.add_column(name, no_wrap=True, justify="right" if isinstance(value, int | float) else "left")
    for row in rows:
        table.add_row(*(_cell(one) for one in row.values()))
    out.print(table)


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)
    text = text.replace("\n", "↵")
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"


def _tell_contents(opened: Any, as_json: bool) -> None:
    manifest = opened.manifest
    size = sum(file.size for file in manifest.files.values())
    rows = [
        {"site": site, "latents": one.n_latents, "architecture": one.architecture}
        for site, one in manifest.dictionaries.items()
    ]
    if as_json:
        counts = {name: getattr(manifest, name) for name in ("model", "documents", "tokens", "entries")}
        print_json({**counts, "bytes": size, "sites": rows, "explained": opened.explained})
        return
    out.print(
        f"{manifest.model} on {manifest.documents:,} texts: {manifest.tokens:,} tokens, {manifest.entries:,} "
        f"activations, {size:,} bytes, {'with' if opened.explained else 'without'} explanations",
        soft_wrap=True,
    )
    _tell(rows, as_json)


def _tell_card(card: Any, as_json: bool) -> None:
    if as_json:
        print_json(card.to_json())
        return
    out.print(
        f"{card.feature} in {card.model}: active on {card.active:,} of {card.tokens:,} tokens ({card.density:.3%}), "
        f"mean {card.mean:.3g}, max {card.maximum:.3g}",
        soft_wrap=True,
    )
    if card.explanation is not None:
        out.print(f"said to be: {card.explanation}", soft_wrap=True)
    for name, several in (("promotes", card.promotes), ("suppresses", card.suppresses)):
        if several:
            out.print(f"{name} {', '.join(f'{word!r} {change:+.2f}' for word, change in several)}", soft_wrap=True)
    for measure in dict.fromkeys(one.measure for one in card.neighbours):
        near = (f"{one.feature} {one.value:.2f}" for one in card.neighbours if one.measure == measure)
        out.print(f"near by {measure.replace('_', ' ')}: {', '.join(near)}", soft_wrap=True)
    for example in (*card.examples, *card.strata):
        marked = [f"[{word}]" if at == example.position else word for at, word in enumerate(example.tokens)]
        group = "" if example.stratum is None else f" group {example.stratum}"
        out.print(f"{example.activation:9.3g}{group}  {''.join(marked)!r}", soft_wrap=True)
