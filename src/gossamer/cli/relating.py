"""`gossamer relate` and `gossamer lifecycle`: which features belong together across layers."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
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
    typer.Option(
        "--pair", help="Two sites in quotes, as 'resid_post.0>resid_post.2'; repeat. Default: each with the next."
    ),
]
OtherDictionaries = Annotated[
    list[str] | None,
    typer.Option(
        "--other",
        help="Dictionaries to relate those of -d with: another seed or width at the same sites, or those of "
        "--other-model; repeat for several sites. Their names are SITE@other.",
    ),
]
OtherModel = Annotated[
    str | None,
    typer.Option(
        "--other-model",
        help="The model that --other's dictionaries read, of the same tokenizer.",
        callback=early.known_model,
    ),
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
    other: OtherDictionaries = None,
    other_model: OtherModel = None,
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
    gate_inputs: Annotated[int, typer.Option(help="Most inputs of a gate, 2 to 4.")] = 2,
    confirm_gates: Annotated[
        bool, typer.Option("--confirm-gates", help="Ablate the inputs of gates, and read their outputs.")
    ] = False,
    communities: Annotated[
        str | None,
        typer.Option(
            help="Of the graph: leiden, cpm (Leiden, constant Potts), louvain or components.",
            callback=early.one_of("--communities", _METHODS),
        ),
    ] = None,
    errors: Annotated[
        bool, typer.Option("--errors", help="Measure what the next dictionaries' errors hold, for `lifecycle`.")
    ] = False,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Ablate upstream latents: which measure predicts what happens?")
    ] = False,
    null: Annotated[bool, typer.Option("--null/--no-null", help="Count shuffled documents beside.")] = True,
    store: options.CardsFrom = None,
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
    with --gates also gates.json and gates.md, with truth tables and, with --confirm-gates, what ablation makes of them;
    with --communities communities.md; with --ablate effects.md. With --store, nodes of graph.json and gates say what
    latents are. Default pairs are each site with the next; with --other, each site with the same site there. The
    command can be stopped at any moment and goes on where it stopped, to the same files.

    All of it for a chain of sites, with what held-out text says, is one command: gossamer study-relations.

    Example: gossamer relate bundled:spool --text text.txt --gates
    """
    _require_together(other_model, other, store, gates=gates, confirm_gates=confirm_gates)
    early.require_dictionaries(dictionaries, model)
    early.require_dictionaries(other)
    facts = early.dictionary_facts(fact)
    early.require_texts([text])
    early.require_store(store)
    early.engine_address(engine, workers)
    if threshold is None and not null:
        raise UsageError("--threshold: a number expected with --no-null, as nothing calibrates it; give one")

    from gossamer.activations import DocumentRows, RowConfig, read_texts
    from gossamer.activations.text import bos_id
    from gossamer.progress import progress_bars
    from gossamer.relations import ActiveAbove, GateSettings, Keep, ModelLatents, relate_in_folder, sources_of
    from gossamer.relations.ablation import ablation_ends
    from gossamer.results.lock import folder_lock

    by = Keep().by if measure == "decoder_cosine" else tuple(dict.fromkeys((*Keep().by, measure)))
    active, keep = ActiveAbove(absolute, relative), Keep(by, top=top, least=least)
    settings = GateSettings(inputs=gate_inputs)
    network = inputs.language_model(model, device, dtype, family)
    found = inputs.dictionary_set(network, model, dictionaries, facts=facts, allow_other_model=allow_other_model)
    sources = sources_of(network, found)
    if other:
        read = network if other_model is None else inputs.language_model(other_model, device, dtype, family)
        there = inputs.dictionary_set(read, other_model or model, other, allow_other_model=allow_other_model)
        sources |= sources_of(read, there, "other")
    pairs = _pairs(sources, list(map(str, found)), pair)
    texts = read_texts(text, text_key)[:rows]
    length = min(context, *(one.model.n_context for one in sources.values()))
    config = RowConfig(context=length, bos=0.0 if bos_id(network) is None else 1.0)
    stream = ModelLatents(sources, DocumentRows.of(network, texts, config), seed=seed)
    for one in pairs if confirm_gates else ():
        ablation_ends(stream, one)
    with (
        folder_lock(output),
        inputs.feature_store(store) as source,
        inputs.engine(engine, workers, network) as counting,
        progress_bars(err),
    ):
        if source is not None:
            source.require(network, found)
        counts = {"null": null, "block_rows": block_rows, "engine": counting}
        relations = relate_in_folder(stream, pairs, output, activity=active, keep=keep, **counts)
        chosen = threshold
        if chosen is None:
            chosen = max(max(one.edge_threshold(measure) for one in relations.values()), 1e-6)
        title = f"{measure} of {network.title} on {text.name}"
        graph, groups = _graph(relations, measure, chosen, output, title, communities, source)
        count = _gates(stream, relations, active, settings, output, source, confirm=confirm_gates) if gates else None
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


def _require_together(
    other_model: str | None, other: Sequence[str] | None, store: str | None, *, gates: bool, confirm_gates: bool
) -> None:
    """Refuse options that mean nothing without, or beside, another."""
    if other_model is not None and not other:
        raise UsageError("--other-model: its dictionaries expected; name them with --other")
    if confirm_gates and not gates:
        raise UsageError("--confirm-gates: goes with --gates; add it")
    if store is not None and other:
        raise UsageError("--store: says what latents of one set of dictionaries are; leave --other out")


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
    relations: Any, measure: str, threshold: float, folder: Path, description: str, method: str | None, source: Any
) -> tuple[Any, Any]:
    """The graph of the pairs above the threshold, written in its three formats, and its communities if asked for.

    What nodes are is said by `source`.
    """
    from gossamer import files
    from gossamer.relations import CommunitySettings, RelationGraph, find_communities
    from gossamer.relations.graph_files import write_graphml, write_node_link, write_parquet
    from gossamer.report.relations import communities_table

    graph = RelationGraph.of(list(relations.values()), measure, threshold)
    said, words = None, None
    if source is not None:
        cards = source.cards(graph.features)
        said = {name: cards[one].label for name, one in zip(graph.ids, graph.features, strict=True)}
        words = {node: cards[one].words(8) for node, one in enumerate(graph.features)}
    found = None if method is None else find_communities(graph, CommunitySettings(method))
    labels = None if found is None else found.labels
    write_node_link(graph, folder / "graph.json", description=description, communities=labels, explanations=said)
    write_graphml(graph, folder / "graph.graphml")
    write_parquet(graph, folder / "graph.parquet")
    if found is not None:
        files.write_text(folder / "communities.md", communities_table(graph, found, words=words))
    return graph, found


def _pairs(sources: Any, sites: Sequence[str], wanted: Sequence[str] | None) -> list[Any]:
    """Those that were asked for; else each site with the next or, where there are others, with its own there."""
    from gossamer.relations import SitePair, adjacent

    known = f"two of {', '.join(sources)} as ONE>OTHER expected"
    if wanted:
        parts = [tuple(text.split(">")) for text in wanted]
        for text, own in zip(wanted, parts, strict=True):
            if len(own) != 2 or any(part not in sources for part in own):
                raise UsageError(f"--pair: {known}, found {text!r}")
        return [SitePair(*own) for own in parts]
    if len(sources) == len(sites):
        return adjacent(sites)
    found = [SitePair(site, f"{site}@other") for site in sites if f"{site}@other" in sources]
    if not found:
        raise UsageError(f"--pair: {known}, as no site has dictionaries of both")
    return found


def _gates(stream: Any, relations: Any, active: Any, settings: Any, folder: Path, source: Any, *, confirm: bool) -> int:
    """Find the gates of all pairs and write gates.md, gates.json and gate_checks.json; returns how many there are."""
    from gossamer import files
    from gossamer.relations import check_gates, find_gates, write_gates
    from gossamer.relations.folder import CHECKED, GATES
    from gossamer.relations.gate_files import write_gate_checks
    from gossamer.relations.gates import company_of
    from gossamer.report.relations import gate_checks_table, gates_table

    among = company_of(stream, relations, active)
    found, checked, text = {}, {}, []
    for pair, relation in relations.items():
        own = stream.only(pair)
        found[pair] = find_gates(own, relation, among=among[pair.upstream], active=active, settings=settings)
        text.append(f"## {pair}\n\n{gates_table(found[pair], pair, source)}")
        if confirm:
            checks = check_gates(own, relation, found[pair], active=active)
            text.append(f"Ablated: {sum(one.confirmed for one in checks)} confirmed\n\n{gate_checks_table(checks)}")
            checked[pair] = checks
    files.write_text(folder / "gates.md", "\n".join(text))
    # Those of gates that were found before say nothing of these.
    (folder / CHECKED).unlink(missing_ok=True)
    write_gates(found, folder / GATES)
    if confirm:
        write_gate_checks(checked, folder / CHECKED)
    return sum(map(len, found.values()))


def _errors(stream: Any, relations: Any, folder: Path) -> None:
    from gossamer.relations.error_share import error_shares
    from gossamer.relations.saved import ERROR_TAIL, neighbours_of, pair_path, save_error_share

    for pair, share in error_shares(stream, neighbours_of(relations)).items():
        save_error_share(share, pair_path(folder, pair, ERROR_TAIL))


def _ablations(stream: Any, relations: Any, folder: Path, seed: int) -> dict[str, float]:
    """Spearman's correlation of each measure with the effects, over all pairs of sites; effects.md and effects.json."""
    from gossamer import files
    from gossamer.relations import CausalSettings, ablation_check, joint_agreement
    from gossamer.relations.folder import ABLATED
    from gossamer.relations.gate_files import write_ablations
    from gossamer.report.relations import agreement_table

    settings = CausalSettings(seed=seed)
    checks = [
        (one, ablation_check(stream.only(pair), one, list(one.forward), settings)) for pair, one in relations.items()
    ]
    shared = [name for name in checks[0][1].drawn if all(name in check.drawn for _, check in checks)]
    joint = [joint_agreement(checks, name, settings) for name in shared]
    text = "\n".join(f"## {one.pair}\n\n{agreement_table(list(check.agreement.values()))}" for one, check in checks)
    write_ablations(checks, folder / ABLATED)
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
    pair: PairNames = None,
    explained: Annotated[
        str | None,
        typer.Option("--explained", help="A feature store with explanations: the sweep then has their likeness too."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Say which features are passed on, new, gone, dead and too rare between sites, from relations that were counted.

    Writes lifecycle.md, sankey.png and sweep.png (and .svg) beside them. Each site goes on to the next one that it was
    related to, or as --pair says, which must make a chain. After `gossamer relate --errors`, features that are lost in
    an error are told.

    Example: gossamer lifecycle gossamer-out/relations --threshold 0.7
    """
    early.require_relations(folder)
    early.require_store(explained)

    from gossamer.relations import (
        EXPLANATION_COSINE,
        LifecycleSettings,
        load_error_share,
        load_folder,
        neighbours_of,
    )
    from gossamer.relations import lifecycle as lifecycle_of
    from gossamer.relations.saved import ERROR_TAIL, pair_path
    from gossamer.report.relations import lifecycle_table, write_lifecycle

    settings = LifecycleSettings(measure, threshold, matching)
    relations = load_folder(folder)
    pairs = _chosen(relations, pair) if pair else neighbours_of(relations)
    if any(one.downstream != other.upstream for one, other in pairwise(pairs)):
        found = ", ".join(map(str, pairs))
        raise UsageError(f"{folder}: pairs that make a chain expected, found {found}; choose some with --pair")
    paths = {pair: pair_path(folder, pair, ERROR_TAIL) for pair in pairs}
    errors = {pair: load_error_share(path) for pair, path in paths.items() if path.is_file()}
    chain = [lifecycle_of(relations[pair], settings, errors.get(pair)) for pair in pairs]
    named = {str(pair): relations[pair] for pair in pairs}
    measures = [measure]
    if explained is not None:
        named = _with_explanations(named, explained)
        measures.append(EXPLANATION_COSINE)
    picture = write_lifecycle(named, chain, folder, measures)
    if as_json:
        sides = ("upstream", "downstream")
        print_json({">".join(one.names): {side: one.counts(side) for side in sides} for one in chain})
        return
    out.print(lifecycle_table(chain))
    out.print(f"wrote {picture} with sweep.png and lifecycle.md", soft_wrap=True)


def _chosen(pairs: Iterable[Any], names: Sequence[str]) -> list[Any]:
    known = {str(one): one for one in pairs}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"--pair: some of {', '.join(known)} expected, found {unknown[0]!r}")
    return [known[name] for name in names]


def _with_explanations(relations: dict[str, Any], url: str) -> dict[str, Any]:
    """The relations with best partners by what a store says of their latents."""
    from gossamer.relations import stored_explanations, with_explanations
    from gossamer.store import FeatureStore

    with FeatureStore(url) as store:
        said = {name: stored_explanations(store, name) for one in relations.values() for name in one.pair}
    return {
        name: with_explanations(one, said[one.pair.upstream], said[one.pair.downstream])
        for name, one in relations.items()
    }
