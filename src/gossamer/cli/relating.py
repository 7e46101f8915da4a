"""`gossamer relate` and `gossamer lifecycle`: which features belong together across layers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, out, print_json
from gossamer.display import plural
from gossamer.errors import UsageError

PairNames = Annotated[
    list[str] | None,
    typer.Option("--pair", help="Two sites, as resid_post.0>resid_post.2; repeat. Default: each with the next."),
]
MeasureName = Annotated[
    str,
    typer.Option(
        "--measure",
        help="jaccard, sufficiency, necessity, mutual_information, cosine, pearson or decoder_cosine.",
        callback=early.one_of("--measure", early.MEASURES),
    ),
]


def relate(
    model: options.Model,
    text: Annotated[Path, typer.Option("--text", help=f"{options.TEXT[0].upper()}{options.TEXT[1:]}.")],
    dictionaries: options.Dictionaries = None,
    text_key: options.TextKey = "text",
    fact: options.Facts = None,
    allow_other_model: options.AllowOtherModel = False,
    pair: PairNames = None,
    rows: options.Rows = 1024,
    context: Annotated[
        int,
        typer.Option(help="Tokens of a row; longer texts become several.", callback=early.from_least("--context", 2)),
    ] = 128,
    absolute: Annotated[float, typer.Option(help="Activation above which a latent is active.")] = 0.0,
    relative: Annotated[float, typer.Option(help="The same as a share of its largest, for a pass more.")] = 0.0,
    top: Annotated[int, typer.Option(help="Partners kept of each latent, each way.")] = 8,
    least: Annotated[int, typer.Option(help="Activations below which a latent is too rare to judge.")] = 10,
    measure: MeasureName = "pearson",
    threshold: Annotated[
        float | None, typer.Option(help="Of the graph's edges; default: where 5 % are expected by chance.")
    ] = None,
    gates: Annotated[bool, typer.Option("--gates", help="Look for AND, OR, XOR and AND NOT as well.")] = False,
    null: Annotated[bool, typer.Option("--null/--no-null", help="Count shuffled documents beside.")] = True,
    block_rows: Annotated[int, typer.Option(help="Rows counted and saved together.")] = 128,
    engine: options.Engine = None,
    workers: options.Workers = None,
    seed: options.Seed = 0,
    output: options.Out = Path("gossamer-out/relations"),
    device: options.Device = None,
    dtype: options.Dtype = None,
    family: options.FamilyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Count which latents of several sites are active together, all pairs of sites in one pass of a text.

    Writes a file a pair, and graph.json (node-link), graph.graphml and graph.parquet of the pairs above the threshold;
    with --gates also gates.md, with truth tables. The command can be stopped at any moment and goes on where it
    stopped, to the same files.
    """
    facts = early.dictionary_facts(fact)
    early.require_texts([text])
    early.engine_address(engine, workers)
    if threshold is None and not null:
        raise UsageError("--threshold: a number expected with --no-null, as nothing calibrates it; give one")

    from gossamer.activations import DocumentRows, RowConfig, read_texts
    from gossamer.activations.text import bos_id
    from gossamer.progress import progress_bars
    from gossamer.relations import ActiveAbove, Keep, ModelLatents, adjacent, relate_in_folder, sources_of
    from gossamer.results.lock import folder_lock

    by = Keep().by if measure == "decoder_cosine" else tuple(dict.fromkeys((*Keep().by, measure)))
    active, keep = ActiveAbove(absolute, relative), Keep(by, top=top, least=least)
    network = inputs.language_model(model, device, dtype, family)
    found = inputs.dictionary_set(network, model, dictionaries, facts=facts, allow_other_model=allow_other_model)
    sources = sources_of(network, found)
    pairs = adjacent(sources) if not pair else [_pair(one, sources) for one in pair]
    texts = read_texts(text, text_key)[:rows]
    length = min(context, network.n_context)
    config = RowConfig(context=length, bos=0.0 if bos_id(network) is None else 1.0)
    stream = ModelLatents(sources, DocumentRows.of(network, texts, config), seed=seed)
    with folder_lock(output), inputs.engine(engine, workers, network) as counting, progress_bars(err):
        counts = {"null": null, "block_rows": block_rows, "engine": counting}
        relations = relate_in_folder(stream, pairs, output, activity=active, keep=keep, **counts)
        chosen = threshold
        if chosen is None:
            chosen = max(max(one.edge_threshold(measure) for one in relations.values()), 1e-6)
        graph = _graph(relations, measure, chosen, output, f"{measure} of {network.title} on {text.name}")
        count = _gates(stream, relations, active, output) if gates else None
    said = {"tokens": next(iter(relations.values())).tokens, "measure": measure, "threshold": chosen}
    said |= {"nodes": len(graph), "edges": len(graph.heads), "gates": count}
    if as_json:
        print_json(said)
        return
    for one, relation in relations.items():
        out.print(f"{one}: {len(relation.kept):,} pairs kept over {relation.tokens:,} tokens")
    edges, found_gates = plural(len(graph.heads), "edge"), "" if count is None else f", {plural(count, 'gate')}"
    out.print(f"{plural(len(graph), 'feature')} and {edges} with {measure} from {chosen:.3f}{found_gates}")
    out.print(f"wrote {output}", soft_wrap=True)


def _graph(relations: Any, measure: str, threshold: float, folder: Path, description: str) -> Any:
    """The graph of the pairs above the threshold, written in its three formats."""
    from gossamer.relations import RelationGraph
    from gossamer.relations.graph_files import write_graphml, write_node_link, write_parquet

    graph = RelationGraph.of(list(relations.values()), measure, threshold)
    write_node_link(graph, folder / "graph.json", description=description)
    write_graphml(graph, folder / "graph.graphml")
    write_parquet(graph, folder / "graph.parquet")
    return graph


def _pair(text: str, sources: Any) -> Any:
    from gossamer.relations import SitePair

    parts = text.split(">")
    if len(parts) != 2 or any(part not in sources for part in parts):
        raise UsageError(f"--pair: two of {', '.join(sources)} as ONE>OTHER expected, found {text!r}")
    return SitePair(*parts)


def _gates(stream: Any, relations: Any, active: Any, folder: Path) -> int:
    from gossamer import files
    from gossamer.relations import find_gates
    from gossamer.report.relations import gates_table

    found = {pair: find_gates(stream, relation, active=active) for pair, relation in relations.items()}
    text = "\n".join(f"## {pair}\n\n{gates_table(gates)}" for pair, gates in found.items())
    files.write_text(folder / "gates.md", text)
    return sum(map(len, found.values()))


def lifecycle(
    folder: Annotated[Path, typer.Argument(help="What `gossamer relate` wrote.")],
    measure: MeasureName = "pearson",
    threshold: Annotated[float, typer.Option(help="From which on two latents are one feature.")] = 0.5,
    matching: Annotated[
        str,
        typer.Option(help="best, hungarian or mutual.", callback=early.one_of("--matching", early.MATCHINGS)),
    ] = "best",
    as_json: options.AsJson = False,
) -> None:
    """Say which features are passed on, new, gone, dead and too rare between sites, from relations that were counted.

    Writes lifecycle.md, sankey.png and sweep.png (and .svg) beside them. The pairs must make a chain.
    """
    from gossamer.relations import LifecycleSettings
    from gossamer.relations import lifecycle as lifecycle_of
    from gossamer.relations.saved import TAIL
    from gossamer.relations.storage import load_relation
    from gossamer.report.relations import lifecycle_table, write_lifecycle

    settings = LifecycleSettings(measure, threshold, matching)
    paths = sorted(folder.glob(f"*{TAIL}"))
    if not paths:
        raise UsageError(f"{folder}: relations expected, found none; make them with 'gossamer relate'")
    relations = _in_order([load_relation(path) for path in paths])
    chain = [lifecycle_of(one, settings) for one in relations]
    named = {str(one.pair): one for one in relations}
    picture = write_lifecycle(named, chain, folder, [measure])
    if as_json:
        sides = ("upstream", "downstream")
        print_json({">".join(one.names): {side: one.counts(side) for side in sides} for one in chain})
        return
    out.print(lifecycle_table(chain))
    out.print(f"wrote {picture} with sweep.png and lifecycle.md", soft_wrap=True)


def _in_order(relations: Sequence[Any]) -> list[Any]:
    """From the first site on, each pair after the one that ends where it begins."""
    from gossamer.model import Site

    return sorted(relations, key=lambda one: [Site.parse(name.partition("@")[0]) for name in one.pair])
