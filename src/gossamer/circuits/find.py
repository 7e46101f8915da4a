"""The main job: the smallest circuit that is as faithful as asked, pruned, measured on held-out prompts and kept."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from jaxtyping import Int
from torch import Tensor

from gossamer.circuits.bootstrap import FewTextsWarning, few_texts, require_texts
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.cost import affordable, first_prompts, prompt_operations, spared
from gossamer.circuits.edges import DirectEffects, direct_effects
from gossamer.circuits.evaluate.minimality import node_effects
from gossamer.circuits.export import graph_on_prompt
from gossamer.circuits.inputs import Inputs
from gossamer.circuits.methods import searched
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.refine import CircuitRefiner
from gossamer.circuits.search import FEWEST_RANKED, RANKED, SearchSettings, effort
from gossamer.circuits.study import Study, StudySettings
from gossamer.circuits.target import require_target
from gossamer.circuits.task_metrics import DICTIONARIES
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import plural, short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.model.cost import Cost, operations_per_second, pass_operations
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site, SiteMapping, by_site
from gossamer.progress import announce, part_of
from gossamer.replacement.replacement_model import resumable
from gossamer.tasks.grouping import grouped
from gossamer.tasks.metric import kept
from gossamer.tasks.prompt_pairs import PromptPairs
from gossamer.tasks.published import TaskLike, task_of

Recipe = Literal["gossamer", "reference"]
DEFAULT_FAITHFULNESS = 0.9
# Edges are means over so many training prompts; the strongest few of each target are kept, of the metric all.
EDGE_PROMPTS = 32
EDGES_KEPT = 4
# At least: held-out prompts that nodes are scored on, and training prompts that edges are means over.
SCORED, EDGED = 32, 8
# For the estimate of costs: nodes of a circuit; the share of a pass that it takes to leave a node out, on those prompts
# and positions that it moves; passes of the prompts that a step is tried on, in all steps; passes that a node's edges
# take; streams that autograd keeps of a layer; and passes that the order takes in which a search starts.
_NODES, _MOVED, _TRIED, _EDGES, _STREAMS, _STARTING = 50, 0.45, 40, 2.5, 30, 10
# Seconds of a pass beside its products: nothing in a large model, most of the time in a tiny one.
_OVERHEAD = 0.005


@dataclass(frozen=True)
class CircuitResult:
    """A circuit with the study and the path that it was taken from, as it was searched, and how.

    To find the circuit only what may become it is improved by exact steps; a report improves the whole path.

    Attributes:
        effects: all of its edges, measured on training prompts; `circuit` has the strongest.
    """

    circuit: Circuit
    nodes: Nodes
    path: CircuitPath
    study: Study
    effects: DirectEffects
    search: SearchSettings = field(default_factory=SearchSettings)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.circuit.task} on {self.circuit.model}"
        yield f"{plural(len(self.nodes), 'node')} of {plural(len(self.path.nodes), 'candidate')}"
        yield f"method {self.path.method}"
        if "faithfulness" in self.circuit.measured:
            yield f"faithfulness {self.circuit.measured['faithfulness']:.3g}"

    def _repr_html_(self) -> str:
        return self.circuit._repr_html_()

    def graph(self, row: int = 0) -> dict[str, Any]:
        """The circuit on one held-out prompt as the attribution graph that Neuronpedia and circuit-tracer read."""
        return graph_on_prompt(self.circuit, self.nodes, self.study.evaluator.splice, row)


def find_circuit(
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    task: TaskLike,
    *,
    faithfulness: float | None = None,
    size: int | None = None,
    most: int | None = None,
    recipe: Recipe = "gossamer",
    settings: StudySettings | None = None,
    search: SearchSettings | None = None,
) -> CircuitResult:
    """The smallest circuit that is as faithful as asked, or the most faithful of the size asked.

    Args:
        model: the language model.
        dictionaries: a dictionary for each site, in execution order.
        task: training prompts fit and choose the circuit, test prompts measure it; or the name of a task ("ioi"), or a
            file of one, as :func:`gossamer.tasks.open_task` takes it.
        faithfulness: how much of the task's metric to keep, as a share (default 0.9 when no size is given). How many
            nodes that takes is found by a search that knows nothing of the validation prompts; a second one, on all
            training prompts, then finds that many.
        size: number of nodes wanted instead.
        most: nodes that so much faithfulness may take; every node of a circuit is left out and its edges are measured,
            so that a large one takes long.
        recipe: "gossamer" (the default search), or "reference" (the published recipe, for comparison).
        settings: ablation, error policy, seed and the like.
        search: settings of the mask search.

    Raises:
        UsageError: both or neither usable target, dictionaries that do not fit the model, unaligned prompts, or only
            one held-out text, over which no interval is known.
        GossamerError: the model cannot do the task, the dictionaries keep nothing of it, or no circuit (of at most
            `most` nodes) reaches the target.
    """
    require_target(faithfulness, size)
    settings = settings or StudySettings()
    prompts = grouped(task_of(task, model.tokenizer), settings.masks)
    require_texts(prompts.test, prompts.name)
    study = Study(model, by_site(dictionaries), prompts, settings)
    search = search or SearchSettings(seed=study.settings.seed)
    wanted = DEFAULT_FAITHFULNESS if faithfulness is None else faithfulness
    announce(partial(_cost, study, search, size))
    study.require_ability()
    study.require_dictionaries()
    announce(partial(_allowed, study, None if size is not None else wanted))
    if size is not None:
        _check_room(study.nodes, size)
    elif recipe == "gossamer" and study.sides is not None:
        size = _size_for(study, search, wanted, most)
    if size is not None:
        search = replace(search, sizes=sorted({size, *search.sizes}, reverse=True))
    with part_of("for the circuit"):
        path, better = _searched_path(study, search, recipe, size, wanted)
    found = choose(study, better, faithfulness=faithfulness, size=size, most=most, search=search)
    return replace(found, path=path)


def _searched_path(
    study: Study, search: SearchSettings, recipe: Recipe, size: int | None, wanted: float
) -> tuple[CircuitPath, CircuitPath]:
    """The path as it was searched, and with those circuits improved that the circuit may come from."""
    if recipe == "reference":
        path = study.paths(["reference recipe"], search)[0]
        return path, path
    given = study.method_inputs(search)
    path = searched(given)
    refiner = given.refiner(path)
    return path, refiner.improved_at(path, size) if size is not None else _improved(study, path, refiner, wanted)


def _size_for(study: Study, search: SearchSettings, wanted: float, most: int | None) -> int:
    """How many nodes it takes to keep `wanted` on the validation prompts, of which the search knows nothing."""
    given = study.method_inputs(search)
    path = given.searched_apart()
    refiner = given.held_apart.refiner(path)
    with part_of("for the size"):
        return len(_smallest(study, _improved(study, path, refiner, wanted), refiner, wanted, most))


def passes_to_find(
    model: LanguageModel, start: Site, examples: PromptPairs, search: SearchSettings, nodes: int, searches: int
) -> float:
    """Passes of a prompt through the layers from `start` on until the circuit is there, about.

    Args:
        model: the model; `start`: where its passes begin.
        examples: training prompts.
        search: settings of the mask search.
        nodes: of the circuit.
        searches: 2 where some prompts are held apart: a search without them goes before the one with all.
    """
    n, afford = len(examples), partial(spared, model, prompt_operations(model, start, examples))
    # A gradient costs two passes, with many latents three. The model's own passes, of prompts and counterfactuals,
    # begin at its first layer.
    whole = 2 * n * pass_operations(model) / max(pass_operations(model, start.layer or 0), 1.0)
    steps = 3 * search.steps * effort(search, afford).prompts
    searching = searches * (_STARTING * afford(min(n, RANKED), FEWEST_RANKED) + steps)
    left_out = 2 * afford(n, 24) + afford(n, SCORED)
    after = _TRIED * afford(n, 64) + nodes * (_MOVED * left_out + _EDGES * afford(min(n, EDGE_PROMPTS), EDGED))
    return whole + 2.5 * n + searching + after


def _cost(study: Study, search: SearchSettings, nodes: int | None) -> str:
    """What it will cost until the circuit is there, about: the prompts' passes, and the memory of a search step."""
    model, examples = study.model, study.examples
    start = resumable(next(iter(study.dictionaries)))
    each, n = prompt_operations(model, start, examples), len(examples)
    afford = partial(spared, model, each)
    steps, (batch, _) = search.steps, effort(search, afford)
    searches, nodes = 1 if study.sides is None else 2, nodes or _NODES
    seconds = passes_to_find(model, start, examples, search, nodes, searches) * each / operations_per_second(model)
    seconds += _OVERHEAD * (
        3 * searches * steps + _TRIED * math.ceil(afford(n, 64) / study.settings.batch_size) + 3 * nodes
    )
    values = batch * examples.clean.tokens.ids.shape[1] * model.n_layers * _STREAMS * model.d_model
    weights = sum(one.nbytes for dictionary in study.dictionaries.values() for one in dictionary.parameters())
    counted = f"{plural(n, 'training prompt')}, {len(study.task.test)} held out, {steps} steps of {batch}"
    cost = Cost(seconds, 4 * values + weights).told(model)
    return f"{study.task.name} in {model.title}, until the circuit is there (its report not counted): {counted}; {cost}"


def _allowed(study: Study, wanted: float | None) -> str:
    """What the dictionaries allow, before a search that may be long."""
    share, what = study.task_share, kept(study.task.metric)
    said = (
        f"the dictionaries, with all of their latents, keep {share:.0%} of the {what} of {study.task.name} on the "
        "training prompts"
    )
    if study.settings.error_nodes:
        return f"{said}; error nodes may add what these leave out"
    if wanted is None or share >= wanted:
        return said
    return (
        f"{said}: less than the {wanted:.0%} asked for, which a circuit in them will hardly keep; ask for less "
        "(--faithfulness, --size), or use better dictionaries or fewer sites"
    )


def _improved(study: Study, path: CircuitPath, refiner: CircuitRefiner, wanted: float) -> CircuitPath:
    """The path with nodes of those circuits exchanged that may be the smallest that is faithful enough.

    These are the smallest that is so already (else the largest), and each smaller one as long as it becomes so.
    """
    circuits = list(path.circuits)
    enough = [study.choice.kept(path.nodes.select(circuit)) >= wanted for circuit in circuits]
    index = max((place for place, fits in enumerate(enough) if fits), default=-1) + 1
    while index < len(circuits):
        circuits[index] = refiner.swap(circuits[index])
        if study.choice.kept(path.nodes.select(circuits[index])) < wanted:
            break
        index += 1
    return replace(path, circuits=tuple(circuits))


def choose(
    study: Study,
    path: CircuitPath,
    *,
    faithfulness: float | None = None,
    size: int | None = None,
    most: int | None = None,
    search: SearchSettings | None = None,
) -> CircuitResult:
    """Take a circuit from a path: the size or the faithfulness (default 0.9) is met, then it is pruned.

    Faithfulness is met on the training prompts that choices are made on; where a size is given with it, which was found
    to meet it, the size decides. `search` is what the path was searched with: pruning goes by the same loss.

    Raises:
        UsageError: the target is impossible (no circuit so small).
        GossamerError: no circuit of the path (of at most `most` nodes) is so faithful; the message says what the
            dictionaries allow.
    """
    search = search or SearchSettings(seed=study.settings.seed)
    for sentence in few_texts(study.task.test):
        warnings.warn(f"{study.task.name}: {sentence}", FewTextsWarning, stacklevel=2)
    refiner = study.method_inputs(search).refiner(path)
    wanted = DEFAULT_FAITHFULNESS if faithfulness is None else faithfulness
    if size is not None:
        _check_room(path.nodes, size)
        target, chosen = {"size": float(size)}, refiner.refined(path.of_size(size), size)
        target |= {} if faithfulness is None else {"faithfulness": faithfulness}
    else:
        target, chosen = {"faithfulness": wanted}, _smallest(study, path, refiner, wanted, most)
    nodes = path.nodes.select(chosen)
    scores = node_effects(study.evaluator.affordable(SCORED), nodes)
    measured = study.evaluator.task_metrics("circuit", study.evaluator.prompt_metrics(nodes))
    circuit = Circuit.from_nodes(
        path.nodes,
        chosen,
        model=study.model.title,
        task=study.task.name,
        scores=scores,
        provenance=study.provenance(path, target),
        measured={**measured.measured, DICTIONARIES: study.evaluator.faithfulness(study.evaluator.dictionaries)},
        inputs=Inputs.of(study.model, study.dictionaries, study.task),
    )
    effects = circuit_effects(study, nodes)
    edges = effects.edges(keep=EDGES_KEPT, every_to_metric=True)
    return CircuitResult(replace(circuit, edges=edges), nodes, path, study, effects, search)


def circuit_effects(study: Study, nodes: Nodes) -> DirectEffects:
    """What each of the nodes adds to each later one and to the metric, on training prompts."""
    some = first_prompts(study.splice, affordable(study.splice, min(len(study.examples), EDGE_PROMPTS), EDGED))
    return direct_effects(study.splice.select(some), nodes)


def _smallest(
    study: Study, path: CircuitPath, refiner: CircuitRefiner, wanted: float, most: int | None
) -> Int[Tensor, "chosen"]:
    """The smallest circuit that pruning finds in the first of the path that is faithful enough, if that is allowed."""

    def enough(shorter: Int[Tensor, "shorter"]) -> bool:
        return study.choice.kept(path.nodes.select(shorter)) >= wanted

    found = refiner.pruned(refiner.shortened(_faithful(study, path, wanted), enough), enough)
    if most is not None and len(found) > most:
        raise GossamerError(
            f"{wanted:.0%} of the {kept(study.task.metric)} of {study.task.name} takes {len(found)} nodes, more than "
            f"the {most} allowed; allow more, lower the faithfulness, or ask for a size"
        )
    return found


def _check_room(nodes: Nodes, size: int) -> None:
    if size >= len(nodes):
        raise UsageError(f"size: fewer than the {len(nodes)} candidate nodes expected, found {size}")


def _faithful(study: Study, path: CircuitPath, wanted: float) -> Int[Tensor, "chosen"]:
    """The smallest circuit of the path that is faithful enough on the prompts that choices are made on."""
    reached = 0.0
    for circuit in reversed(path.circuits):
        found = study.choice.kept(path.nodes.select(circuit))
        if found >= wanted:
            return circuit
        reached = max(reached, found)
    ceiling = study.choice.faithfulness(study.choice.dictionaries)
    raise GossamerError(
        f"no circuit of at most {path.sizes[0]} nodes keeps {wanted:.0%} of the {kept(study.task.metric)} of "
        f"{study.task.name}: the best keeps {reached:.0%}, all dictionaries without ablation {ceiling:.0%}; lower the "
        "faithfulness, ask for a size, or use better dictionaries or fewer sites"
    )
