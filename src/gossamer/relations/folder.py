"""What a folder of relations, or of a study of them, has to be looked at."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gossamer.relations.causal import AblationCheck
from gossamer.relations.communities import Communities, CommunitySettings, find_communities
from gossamer.relations.counting import SitePair
from gossamer.relations.error_share import ErrorShare
from gossamer.relations.gate_ablation import GateCheck
from gossamer.relations.gate_files import read_ablations, read_gate_checks, read_gates
from gossamer.relations.gates import Gate
from gossamer.relations.graph import RelationGraph
from gossamer.relations.graph_files import read_communities, read_node_link
from gossamer.relations.prompt_latents import PromptActivations
from gossamer.relations.relation import Relation
from gossamer.relations.relations_data import RelationsData
from gossamer.relations.saved import ERROR_TAIL, load_error_share, load_folder, pair_path
from gossamer.relations.study_results import RESULTS, RelationStudy
from gossamer.relations.summary import Describe, from_words, lifecycles_of, of_study, relations_data
from gossamer.relations.words import WORDS, read_words

# What `gossamer relate` and a study write.
GRAPH, GATES, CHECKED, ABLATED = "graph.json", "gates.json", "gate_checks.json", "effects.json"


def folder_data(
    folder: str | Path,
    *,
    model: str | None = None,
    measure: str = "pearson",
    threshold: float | None = None,
    communities: str | None = "leiden",
    prompts: Sequence[PromptActivations] = (),
    describe: Describe | None = None,
) -> RelationsData:
    """All that `gossamer relate` or a study left in a folder: lifecycles, gates, communities, ablations.

    Args:
        model: its title; None: as the study says, or the folder's name.
        measure, threshold: of the graph whose communities are found; without a threshold it is the folder's graph, if
            there is one, and communities that a study found in it are not looked for again.
        communities: the method; None: none.
        prompts: what they light up.
        describe: what is known of latents; None: the words that a study saw them fire on.

    Raises:
        UsageError: no relations there, or what :func:`relations_data` refuses.
        GossamerError: a damaged file.
    """
    place = Path(folder)
    counted = load_folder(place)
    study = RelationStudy.load(place) if (place / RESULTS).is_file() else None
    gates, checks = _findings(place, counted) if study is None else of_study(study, counted)
    graph, groups = None, None
    if communities is not None:
        graph = _graph(place, list(counted.values()), measure, threshold)
        if graph is not None and len(graph.heads):
            known = study if threshold is None else None
            groups = _told(place, known, graph, communities) or find_communities(graph, CommunitySettings(communities))
    if describe is None and (place / WORDS).is_file():
        describe = from_words(read_words(place / WORDS))
    title = place.resolve().name if study is None else str(study.settings["model"])
    return relations_data(
        list(counted.values()),
        model=title if model is None else model,
        lifecycles=lifecycles_of(list(counted.values()), errors=_errors(place, counted)),
        gates=gates,
        graph=graph,
        communities=() if groups is None else (groups,),
        checks=checks,
        prompts=prompts,
        describe=describe,
    )


def _findings(
    folder: Path, counted: Mapping[SitePair, Relation]
) -> tuple[dict[SitePair, Sequence[Gate] | Sequence[GateCheck]] | None, dict[SitePair, AblationCheck] | None]:
    """Gates and ablations that `gossamer relate` left."""
    gates: dict[SitePair, Sequence[Gate] | Sequence[GateCheck]] | None = None
    if (folder / GATES).is_file():
        gates = {**read_gates(folder / GATES)}
        gates |= read_gate_checks(folder / CHECKED) if (folder / CHECKED).is_file() else {}
    return gates, read_ablations(folder / ABLATED, counted) if (folder / ABLATED).is_file() else None


def _errors(folder: Path, counted: Mapping[SitePair, Relation]) -> dict[SitePair, ErrorShare]:
    paths = {pair: pair_path(folder, pair, ERROR_TAIL) for pair in counted}
    return {pair: load_error_share(path) for pair, path in paths.items() if path.is_file()}


def _graph(folder: Path, relations: Sequence[Relation], measure: str, threshold: float | None) -> RelationGraph | None:
    if threshold is not None:
        return RelationGraph.of(relations, measure, threshold)
    return read_node_link(folder / GRAPH) if (folder / GRAPH).is_file() else None


def _told(folder: Path, study: RelationStudy | None, graph: RelationGraph, method: str) -> Communities | None:
    """The communities that a study found in the folder's graph by a method: it saves those of its first one alone."""
    facts = None if study is None else next(iter(study.found.communities), None)
    if facts is None or (facts.measure, facts.threshold, facts.method) != (graph.measure, graph.threshold, method):
        return None
    labels = read_communities(folder / GRAPH)
    settings = CommunitySettings(method, facts.resolution, facts.weighted)
    return None if labels is None else Communities(labels, settings, facts.stability, facts.quality, facts.chance)
