"""`gossamer pursuit`: is the encoder the weak part of dictionaries, or the decoder?"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, number, out, print_json
from gossamer.errors import UsageError

KS = "2,4,8,16,32,64"
# Ways of coding that discard the encoder, as gossamer.report.coding has them.
_PURSUITS = ("gradient", "orthogonal", "matching")


ForEachL0 = Annotated[
    list[str],
    typer.Option("--dictionaries", "-d", help="A folder of dictionaries, or hub:REPO/PATH; repeat for each L0."),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        help="encoder, rescaled, shifted, top_k, refit, gradient, matching or orthogonal; repeat. "
        "Default: encoder, rescaled, top_k, refit and gradient.",
        callback=early.one_of("--method", early.CODING_METHODS),
    ),
]
Rows = Annotated[
    int,
    typer.Option(
        help="Texts to measure on, from the first; rescaled and shifted are fitted on later ones.",
        callback=early.from_least("--rows", 1),
    ),
]


def pursuit(
    model: options.Model,
    text: Annotated[Path, typer.Option("--text", help=f"Held-out {options.TEXT}.")],
    dictionaries: ForEachL0,
    text_key: options.TextKey = "text",
    fact: options.Facts = None,
    allow_other_model: options.AllowOtherModel = False,
    site: Annotated[str | None, typer.Option(help="Which site, where folders hold several.")] = None,
    k: Annotated[str, typer.Option("--k", help="Most latents a token, as 2,4,8.")] = KS,
    method: Methods = None,
    rows: Rows = 256,
    context: Annotated[
        int,
        typer.Option(help="Tokens of a text that are read, from the first.", callback=early.from_least("--context", 2)),
    ] = 128,
    bos: options.Bos = None,
    output: options.Out = Path("gossamer-out/pursuit"),
    device: options.Device = None,
    dtype: options.Dtype = None,
    family: options.FamilyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Sweep ways of coding over k: encoder, encoder cut to k, re-optimised, rescaled, shifted, and pursuit.

    Give dictionaries of one site that were trained at several L0s. Writes results.json after each method, so that a run
    can be stopped and goes on; then tables.md and a picture of cross-entropy recovered against L0.

    Example: gossamer pursuit MODEL -d l0_16 -d l0_32 --text held_out.jsonl
    """
    early.require_dictionaries(dictionaries)
    facts = early.dictionary_facts(fact)
    early.require_texts([text])
    ks, named = inputs.numbers("--k", k), inputs.by_folder(dictionaries)
    if method and not set(method) & set(_PURSUITS):
        raise UsageError(f"--method: one of {', '.join(_PURSUITS)} expected among them, found {', '.join(method)}")

    from gossamer.activations import read_texts
    from gossamer.progress import progress_bars
    from gossamer.replacement import coding_study
    from gossamer.report.coding import headline, write_coding
    from gossamer.results.lock import folder_lock

    methods = tuple(method or coding_study.DEFAULT)
    texts = read_texts(text, text_key)
    _require_sample(methods, text, len(texts), rows)
    network = inputs.language_model(model, device, dtype, family)
    found = {name: _one(network, source, site, facts, allow_other_model) for name, source in named.items()}
    length = min(context, network.n_context)
    tokens = network.tokenize(texts[: 2 * rows], bos=bos).cut(length)
    sample = tokens[rows:] if len(tokens) > rows else None
    with folder_lock(output), progress_bars(err):
        done = coding_study.study_coding(
            network, found, tokens[:rows], ks, sample=sample, methods=methods, folder=output
        )
    picture = write_coding(done, output)
    if as_json:
        print_json({"settings": dict(done.settings), "points": [asdict(point) for point in done.points]})
        return
    out.print(_table(done))
    out.print(headline(done))
    out.print(f"wrote {picture} with tables.md and results.json", soft_wrap=True)


def _require_sample(methods: Sequence[str], text: Path, texts: int, count: int) -> None:
    from gossamer.replacement.coding_study import FITTED

    fitted = [method for method in methods if method in FITTED]
    if fitted and texts <= count:
        raise UsageError(
            f"--rows: fewer than the {texts} texts of {text} expected, as {fitted[0]!r} is fitted on those after the "
            f"first {count}; give more text, fewer --rows, or methods without it"
        )


def _one(model: Any, source: str, site: str | None, facts: dict[str, Any], allow_other_model: bool) -> Any:
    from gossamer.model import Site

    held = inputs.dictionary_set(model, "", [source], facts=facts, allow_other_model=allow_other_model)
    if site is not None:
        if Site.parse(site) not in held:
            raise UsageError(f"--site: {source} has dictionaries at {', '.join(map(str, held))}, found {site}")
        return held[Site.parse(site)]
    if len(held) > 1:
        raise UsageError(f"{source}: dictionaries at {', '.join(map(str, held))}; choose one with --site")
    return next(iter(held.values()))


def _table(found: Any) -> Table:
    """CE recovered: a line for each dictionary and method, a column for each k."""
    ks = found.settings["ks"]
    table = Table("dictionary", "method", "own L0", *(f"k {k}" for k in ks), box=None, padding=(0, 1, 0, 0))
    for name in found.dictionaries:
        for method in found.settings["methods"]:
            points = {point.k: point for point in found.points if (point.dictionary, point.method) == (name, method)}
            own = points.get(None)
            cells = [number(points[k].loss_recovered, 3) if k in points else "" for k in ks]
            alone = "" if own is None else f"{own.l0:.1f}: {own.loss_recovered:.3f}"
            table.add_row(name, method, alone, *cells)
    return table
