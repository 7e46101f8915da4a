"""`gossamer relate` and `gossamer lifecycle`: which features belong together across layers."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, out, print_json
from gossamer.display import plural
from gossamer.errors import UsageError

# As gossamer.relations.communities has them, which takes seconds to import.
_METHODS = ("leiden", "cpm", "louvain", "components")

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
    communities: Annotated[
        str | None, typer.Option(help="Of the graph: leiden, cpm (Leiden, constant Potts), louvain or components.")
    ] = None,
    errors: Annotated[
        bool, typer.Option("--errors", help="Measure what the next dictionaries' errors hold, for `lifecycle`.")
    ] = False,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Ablate upstream latents: which measure predicts what happens?")
    ] = False,
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
    with --gates also gates.json and gates.md, with truth tables; with --communities communities.md; with --ablate
    effects.md. The command can be stopped at any moment and goes on where it stopped, to the same files.

    All of it for a chain of sites, with what held-out text says, is one command: gossamer study-relations.
    """
    facts = early.dictionary_facts(fact)
    early.require_texts([text])
    early.engine_address(engine, workers)
    if threshold is None and not null:
        raise UsageError("--threshold: a number expected with --no-null, as nothing calibrates it; give one")
    if communities is not None:
        inputs.choice("--communities", communities, _METHODS)

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
        title = f"{measure} of {network.title} on {text.name}"
        graph, groups = _graph(relations, measure, chosen, output, title, communities)
        count = _gates(stream, relations, active, output) if gates else None
        if errors:
            _errors(stream, relations, output)
        spearman = _ablations(stream, relations, output, seed) if ablate else None
    said = {"tokens": next(iter(relations.values())).tokens, "measure": measure, "threshold": chosen}
    said |= {"nodes": len(graph), "edges": len(graph.heads), "gates": count}
    said |= {"communities": None if groups is None else len(groups.sizes), "spearman": spearman}
    if as_json:
        print_json(said)
    else:
        _tell(said, relations, groups, output)


def _tell(said: dict[str, Any], relations: Any, groups: Any, output: Path) -> None:
    for one, relation in relations.items():
        out.print(f"{one}: {len(relation.kept):,} pairs kept over {relation.tokens:,} tokens")
    found = [f"{plural(said['nodes'], 'feature')} and {plural(said['edges'], 'edge')}"]
    found[0] += f" with {said['measure']} from {said['threshold']:.3f}"
    found += [] if said["gates"] is None else [plural(said["gates"], "gate")]
    if groups is not None:
        found.append(f"{plural(len(groups.sizes), 'community', 'communities')} of stability {groups.stability:.2f}")
    out.print(", ".join(found))
    for name, value in (said["spearman"] or {}).items():
        out.print(f"Spearman's correlation of {name} and the effect of ablating: {value:.2f}")
    out.print(f"wrote {output}", soft_wrap=True)


def _graph(
    relations: Any, measure: str, threshold: float, folder: Path, description: str, method: str | None
) -> tuple[Any, Any]:
    """The graph of the pairs above the threshold, written in its three formats, and its communities if asked for."""
    from gossamer import files
    from gossamer.relations import CommunitySettings, RelationGraph, find_communities
    from gossamer.relations.graph_files import write_graphml, write_node_link, write_parquet
    from gossamer.report.relations import communities_table

    graph = RelationGraph.of(list(relations.values()), measure, threshold)
    found = None if method is None else find_communities(graph, CommunitySettings(method))
    labels = None if found is None else found.labels
    write_node_link(graph, folder / "graph.json", description=description, communities=labels)
    write_graphml(graph, folder / "graph.graphml")
    write_parquet(graph, folder / "graph.parquet")
    if found is not None:
        files.write_text(folder / "communities.md", communities_table(graph, found))
    return graph, found


def _pair(text: str, sources: Any) -> Any:
    from gossamer.relations import SitePair

    parts = text.split(">")
    if len(parts) != 2 or any(part not in sources for part in parts):
        raise UsageError(f"--pair: two of {', '.join(sources)} as ONE>OTHER expected, found {text!r}")
    return SitePair(*parts)


def _gates(stream: Any, relations: Any, active: Any, folder: Path) -> int:
    from gossamer import files
    from gossamer.relations import find_gates, write_gates
    from gossamer.relations.gates import company_of
    from gossamer.report.relations import gates_table

    among = company_of(stream, relations, active)
    found = {
        pair: find_gates(stream.only(pair), relation, among=among[pair.upstream], active=active)
        for pair, relation in relations.items()
    }
    text = "\n".join(f"## {pair}\n\n{gates_table(gates)}" for pair, gates in found.items())
    files.write_text(folder / "gates.md", text)
    write_gates(found, folder / "gates.json")
    return sum(map(len, found.values()))


def _errors(stream: Any, relations: Any, folder: Path) -> None:
    from gossamer.relations.error_share import error_shares
    from gossamer.relations.saved import ERROR_TAIL, neighbours_of, pair_path, save_error_share

    for pair, share in error_shares(stream, neighbours_of(relations)).items():
        save_error_share(share, pair_path(folder, pair, ERROR_TAIL))


def _ablations(stream: Any, relations: Any, folder: Path, seed: int) -> dict[str, float]:
    """Spearman's correlation of each measure with the effects, over all pairs of sites; and effects.md."""
    from gossamer import files
    from gossamer.relations import CausalSettings, ablation_check, joint_agreement
    from gossamer.report.relations import agreement_table

    settings = CausalSettings(seed=seed)
    checks = [
        (one, ablation_check(stream.only(pair), one, list(one.forward), settings)) for pair, one in relations.items()
    ]
    shared = [name for name in checks[0][1].drawn if all(name in check.drawn for _, check in checks)]
    joint = [joint_agreement(checks, name, settings) for name in shared]
    text = "\n".join(f"## {one.pair}\n\n{agreement_table(list(check.agreement.values()))}" for one, check in checks)
    files.write_text(folder / "effects.md", f"## All pairs\n\n{agreement_table(joint)}\n{text}")
    return {one.measure: one.spearman for one in joint}


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

    Writes lifecycle.md, sankey.png and sweep.png (and .svg) beside them. Each site goes on to the next one that it was
    related to, which must make a chain. After `gossamer relate --errors`, features that are lost in an error are told.
    """
    from gossamer.relations import LifecycleSettings, load_error_share, load_folder, neighbours_of
    from gossamer.relations import lifecycle as lifecycle_of
    from gossamer.relations.saved import ERROR_TAIL, pair_path
    from gossamer.report.relations import lifecycle_table, write_lifecycle

    settings = LifecycleSettings(measure, threshold, matching)
    relations = load_folder(folder)
    pairs = neighbours_of(relations)
    paths = {pair: pair_path(folder, pair, ERROR_TAIL) for pair in pairs}
    errors = {pair: load_error_share(path) for pair, path in paths.items() if path.is_file()}
    chain = [lifecycle_of(relations[pair], settings, errors.get(pair)) for pair in pairs]
    named = {str(pair): relations[pair] for pair in pairs}
    picture = write_lifecycle(named, chain, folder, [measure])
    if as_json:
        sides = ("upstream", "downstream")
        print_json({">".join(one.names): {side: one.counts(side) for side in sides} for one in chain})
        return
    out.print(lifecycle_table(chain))
    out.print(f"wrote {picture} with sweep.png and lifecycle.md", soft_wrap=True)
