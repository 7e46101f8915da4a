"""`gossamer store`: what latents did on a corpus, written to disk and asked for."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, out, print_json
from gossamer.errors import GossamerError, UsageError

# Rows of an answer that are printed.
_SHOWN = 50

Url = Annotated[str, typer.Argument(help="The store: a folder, or a URL that fsspec knows (s3://…, memory://…).")]

store = typer.Typer(no_args_is_help=True, help="Write what all latents do on a corpus, check it, ask for it.")


@store.command()
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
    """
    early.require_dictionaries(dictionaries)
    facts = early.dictionary_facts(fact)
    early.require_texts([text])
    early.engine_address(engine, workers)

    from gossamer.activations import read_texts
    from gossamer.progress import progress_bars
    from gossamer.store import StoreSettings, build_store

    settings = StoreSettings(context=context, bos=bos, threshold=threshold, words=words)
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
        f"{len(manifest.dictionaries)} sites; {size:,} bytes in {url}",
        soft_wrap=True,
    )


@store.command()
def verify(url: Url, as_json: options.AsJson = False) -> None:
    """Compare every file of a store with its SHA-256; damaged ones are named, and the exit code is 1."""
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


@store.command()
def query(
    url: Url,
    sql: Annotated[str | None, typer.Option(help="One SELECT in DuckDB's SQL.")] = None,
    feature: Annotated[str | None, typer.Option(help="SITE/LATENT: the card of a latent.")] = None,
    token: Annotated[str | None, typer.Option(help="A token's text: the latents that are most its own.")] = None,
    word: Annotated[str | None, typer.Option(help="A logit-lens word: the latents that raise it.")] = None,
    explanation: Annotated[str | None, typer.Option(help="Words of an explanation.")] = None,
    site: Annotated[str | None, typer.Option(help="Latents of this site alone.")] = None,
    density: Annotated[str, typer.Option(help="LEAST,LARGEST share of tokens on which a latent is active.")] = "0,1",
    limit: Annotated[int, typer.Option(help="Most rows.")] = _SHOWN,
    as_json: options.AsJson = False,
) -> None:
    """Ask a store: by SQL, for a latent's card, or for latents by token, word, explanation and statistics.

    SQL tables: activations, activations_by_token, tokens, statistics, examples, words, vocabulary, explanations.
    """
    searched = any(one is not None for one in (token, word, explanation, site)) or density != "0,1"
    if (sql is not None) + (feature is not None) + searched != 1:
        raise UsageError("store query: one of --sql, --feature or a search (--token, --word, ...) expected")
    early.at_least("--limit", limit, 1)
    bounds = inputs.decimals("--density", density)
    if len(bounds) != 2:
        raise UsageError(f"--density: LEAST,LARGEST expected, as 0.001,0.1, found {density!r}")

    from gossamer.store import FeatureStore, Search

    with FeatureStore(url) as opened:
        if feature is not None:
            card = opened.card(feature)
            print_json(card.to_json()) if as_json else _print_card(card)
            return
        if sql is not None:
            found = opened.sql(sql, limit=limit)
        else:
            asked = Search(site, token, word, explanation, density=(bounds[0], bounds[1]))
            found = opened.search(asked, limit=limit)
    rows = found.to_pylist()
    if as_json:
        print_json({"rows": json.loads(json.dumps(rows, default=str))})
        return
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in found.column_names:
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*(f"{one:.4g}" if isinstance(one, float) else str(one) for one in row.values()))
    out.print(table)


def _print_card(card: Any) -> None:
    out.print(
        f"{card.feature} in {card.model}: active on {card.active:,} of {card.tokens:,} tokens ({card.density:.3%}), "
        f"mean {card.mean:.3g}, max {card.maximum:.3g}",
        soft_wrap=True,
    )
    for name, several in (("promotes", card.promotes), ("suppresses", card.suppresses)):
        if several:
            out.print(f"{name} {', '.join(f'{word!r} {change:+.2f}' for word, change in several)}", soft_wrap=True)
    for example in (*card.examples, *card.strata):
        marked = [f"[{word}]" if at == example.position else word for at, word in enumerate(example.tokens)]
        group = "" if example.stratum is None else f" group {example.stratum}"
        out.print(f"{example.activation:9.3g}{group}  {''.join(marked)!r}", soft_wrap=True)
