"""The main job: a model, its dictionaries and a task in; a tested circuit out."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.circuits.ablation import Ablation, AblationKind
from gossamer.circuits.bootstrap import FewTextsWarning, few_texts
from gossamer.circuits.candidates import candidates
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.edges import circuit_edges
from gossamer.circuits.evaluate.bench import Bench
from gossamer.circuits.evaluate.minimality import node_effects
from gossamer.circuits.export import graph_prompt, to_attribution_graph
from gossamer.circuits.inputs import Inputs
from gossamer.circuits.methods import METHODS, MethodInputs, Prompts
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.outcome import ability
from gossamer.circuits.path import Path
from gossamer.circuits.prune import Polish
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.sinks import with_sinks_passed_through
from gossamer.circuits.splice import Splice
from gossamer.dictionary.attach import Attachment, attach
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import listed, plural, short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site, SiteMapping, by_site
from gossamer.replacement.replacement_model import ErrorPolicy
from gossamer.results import versions
from gossamer.tasks.grouping import Grouping, grouped
from gossamer.tasks.metric import kept
from gossamer.tasks.published import TaskLike, task_of
from gossamer.tasks.split import Split, validation_split
from gossamer.tasks.task import Examples, Task

Recipe = Literal["gossamer", "reference"]
MINIMUM_ACCURACY = 0.75
DEFAULT_FAITHFULNESS = 0.9
# Edges are means over so many held-out prompts, one backward pass a node; the strongest few of each target are kept.
EDGE_PROMPTS = 32
EDGES_KEPT = 4


@dataclass(frozen=True)
class StudySettings:
    """How a task is studied.

    Attributes:
        ablation: where ablated latents go.
        errors: what stands in for the dictionaries' reconstruction error.
        masks: one mask entry a latent for every role, every position, or one shared by all tokens.
        minimum_accuracy: the model must prefer the answer on this share of training prompts before any search.
        batch_size: prompts a network pass; halved when memory runs out.
        prompts: training prompts that circuits are searched on, at most (the ablation values use all of them).
        validation: share of these prompts that choices between circuits are made on, with names or templates of their
            own (see :func:`gossamer.tasks.split.validation_split`); 0 chooses on the prompts that were fitted.
        seed: of the search, the split, the subsets and the bootstrap.
    """

    ablation: AblationKind = "mean"
    errors: ErrorPolicy = "mean"
    masks: Grouping = "role"
    minimum_accuracy: float = MINIMUM_ACCURACY
    batch_size: int = 64
    prompts: int = 512
    validation: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "prompts"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: at least 1 expected, found {getattr(self, name)}")
        if not 0 <= self.minimum_accuracy <= 1:
            raise UsageError(f"minimum_accuracy: a share from 0 to 1 expected, found {self.minimum_accuracy}")
        if not 0 <= self.validation < 1:
            raise UsageError(f"validation: a share from 0 to less than 1 expected, found {self.validation}")


@dataclass(frozen=True)
class Study:
    """A model, its dictionaries and a task, made ready for searching and testing circuits.

    Training prompts are divided: circuits are fitted to some and chosen on others (`choice`); every number that is
    reported comes from the test prompts (`bench`). Where the model uses the first token of a prompt as an attention
    sink, that token passes through as a BOS does.

    Raises:
        UsageError: the first token is a sink, and prompts differ there from their counterfactuals.
    """

    model: LanguageModel
    dictionaries: Mapping[Site, Dictionary]
    task: Task
    settings: StudySettings = field(default_factory=StudySettings)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.task.name} on {self.model.title}"
        yield f"dictionaries at {listed(self.dictionaries)}"
        yield f"ablation={self.settings.ablation!r}, errors={self.settings.errors!r}, seed={self.settings.seed}"

    def __post_init__(self) -> None:
        object.__setattr__(self, "task", with_sinks_passed_through(self.model, self.task))

    @cached_property
    def ablation(self) -> Ablation:
        """Ablation values, from the training counterfactuals."""
        chosen = self.settings
        return Ablation.measure(
            self.model,
            self.dictionaries,
            self.task,
            kind=chosen.ablation,
            errors=chosen.errors,
            batch_size=chosen.batch_size,
        )

    @cached_property
    def examples(self) -> Examples:
        """The training prompts that circuits are searched on."""
        return self.task.train.select(range(min(self.settings.prompts, len(self.task.train))))

    @cached_property
    def attachments(self) -> list[Attachment]:
        """What each dictionary does on the training prompts, with warnings where that is not what its file claims.

        Raises:
            UsageError: as :func:`gossamer.dictionary.attach.attach`.
        """
        return attach(self.model, self.dictionaries, self.task.train.clean.tokens)

    @cached_property
    def nodes(self) -> Nodes:
        """Candidate nodes, from the training prompts. Task and dictionaries are checked first.

        Raises:
            GossamerError: as :meth:`require_ability`.
            UsageError: as :func:`gossamer.dictionary.attach.attach`, which also warns of dictionaries that do not do
                here what their files claim.
        """
        self.require_one_device()
        self.require_ability()
        _ = self.attachments  # warns of dictionaries that do not do what their files claim
        return candidates(
            self.model,
            self.dictionaries,
            self.examples,
            self.ablation,
            self.task.role_names,
            self.settings.batch_size,
        )

    @cached_property
    def splice(self) -> Splice:
        """The network over the training prompts, masks over the candidates."""
        nodes = self.nodes  # before anything is measured: this checks the task and the dictionaries
        return Splice.of(
            self.model,
            self.dictionaries,
            self.examples,
            self.ablation,
            nodes,
            batch_size=self.settings.batch_size,
        )

    @cached_property
    def train(self) -> Bench:
        """Measures circuits on all training prompts."""
        return Bench(self.splice, self.settings.seed)

    @cached_property
    def sides(self) -> Split | None:
        """Which training prompts circuits are fitted to and which they are chosen on; None: all are both."""
        if not self.settings.validation:
            return None
        return validation_split(self.examples.prompts, self.settings.validation, self.settings.seed)

    @cached_property
    def choice(self) -> Bench:
        """Measures circuits on the training prompts that choices are made on: for choosing, never for reporting."""
        if self.sides is None:
            return self.train
        rows = torch.tensor(self.sides.test, dtype=torch.long, device=self.model.device)
        return Bench(self.splice.on(rows), self.settings.seed)

    def method_inputs(self, search: SearchSettings | None = None) -> MethodInputs:
        """What the methods are given: the same network, ablation and training prompts for all."""
        search = search or SearchSettings(seed=self.settings.seed)
        return MethodInputs.divided(Prompts(self.splice, self.train.full), self.sides, search)

    @cached_property
    def bench(self) -> Bench:
        """Measures circuits on the held-out prompts."""
        nodes = self.nodes  # before anything is measured: this checks the task and the dictionaries
        splice = Splice.of(
            self.model,
            self.dictionaries,
            self.task.test,
            self.ablation,
            nodes,
            batch_size=self.settings.batch_size,
        )
        return Bench(splice, self.settings.seed)

    def require_one_device(self) -> None:
        """Refuse a model spread over several devices, or dictionaries on another one: masks lie beside both.

        Raises:
            UsageError: the weights are on several devices (those that accelerate has offloaded do not count), or a
                dictionary is not where the model is.
        """
        devices = sorted({str(p.device) for p in self.model.hf.parameters() if p.device.type != "meta"})
        if len(devices) > 1:
            raise UsageError(
                f"circuits: a model on one device expected, found {self.model.title} on {', '.join(devices)}; "
                "load it on one device (--device; in Python, device= in place of device_map=)"
            )
        for site, dictionary in self.dictionaries.items():
            if dictionary.W_dec.device != self.model.device:
                raise UsageError(
                    f"dictionary at {site}: expected on {self.model.device} as {self.model.title}, found on "
                    f"{dictionary.W_dec.device}; load it with device=model.device"
                )

    def require_ability(self) -> None:
        """Refuse a task that the model itself cannot do.

        Raises:
            GossamerError: accuracy below the minimum, or a metric that is not positive though it is a difference; the
                message has both.
        """
        tokens, examples = self.examples.clean.tokens, self.examples

        def network(rows: slice) -> Tensor:
            return self.model.logits(tokens[rows].to(self.model.device), at=examples.clean.end[rows])

        accuracy, mean = ability(network, examples, self.settings.batch_size)
        if accuracy < self.settings.minimum_accuracy or (mean is not None and mean <= 0):
            paired = examples.also_right is None and examples.also_wrong is None
            raise GossamerError(
                f"{self.model.title} cannot do {self.task.name}: it prefers the right answer on {accuracy:.0%} of "
                f"{len(examples)} prompts (at least {self.settings.minimum_accuracy:.0%} expected"
                f"{'; chance is 50%' if paired else ''})"
                f"{'' if mean is None else f', mean {examples.metric.label} {mean:.2f}'}; "
                "there is no circuit to find: choose another task"
            )

    def require_dictionaries(self) -> None:
        """Refuse dictionaries that together, before any ablation, keep nothing of the task on training prompts.

        Raises:
            GossamerError: the message has what was measured of each.
        """
        kept = self.train.faithfulness(self.train.dictionaries)
        if kept > 0:
            return
        each = ", ".join(
            f"{one.site} L0 {one.measured.l0:.4g} and explained variance {one.measured.explained_variance:.3g}"
            for one in self.attachments
        )
        raise GossamerError(
            f"the dictionaries together keep {kept:.0%} of {self.task.name} in {self.model.title}: expected more than "
            f"nothing, or there is no circuit to find in them; on these prompts they have {each}; train them longer or "
            "on other text, or use fewer sites"
        )

    def paths(self, methods: Sequence[str], search: SearchSettings | None = None) -> tuple[Path, ...]:
        """The circuits of several methods (see METHODS), on the same network, prompts and ablation.

        Raises:
            UsageError: a method that does not exist.
            GossamerError: as :meth:`require_dictionaries`.
        """
        unknown = [method for method in methods if method not in METHODS]
        if unknown:
            raise UsageError(f"methods are {', '.join(METHODS)}; found {', '.join(unknown)}")
        self.require_dictionaries()
        given = self.method_inputs(search)
        return tuple(METHODS[method](given) for method in methods)

    def provenance(self, path: Path, target: Mapping[str, float]) -> dict[str, Any]:
        """Everything needed to find the same circuit again."""
        return {
            "method": path.method,
            "method_settings": path.settings,
            "target": dict(target),
            "metric": self.task.metric.name,
            **asdict(self.settings),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": str(self.model.device),
            "sign": "a score is the faithfulness lost on held-out prompts when the node alone is removed",
            "dictionaries": {str(site): dict(found.provenance) for site, found in self.dictionaries.items()},
            "task": dict(self.task.provenance),
            "versions": versions(),
        }


@dataclass(frozen=True)
class Found:
    """A circuit with the study and the path that it was taken from, and how the path was searched."""

    circuit: Circuit
    nodes: Nodes
    path: Path
    study: Study
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
        study = self.study
        return to_attribution_graph(
            self.circuit,
            graph_prompt(study.bench.splice, self.nodes, row),
            widths={site: dictionary.n_latents for site, dictionary in study.dictionaries.items()},
            n_layers=study.model.n_layers,
            scan=study.model.title,
            slug=f"{study.task.name}-{len(self.nodes)}",
        )


def find_circuit(
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    task: TaskLike,
    *,
    faithfulness: float | None = None,
    size: int | None = None,
    recipe: Recipe = "gossamer",
    settings: StudySettings | None = None,
    search: SearchSettings | None = None,
) -> Found:
    """The smallest circuit that is as faithful as asked, or the most faithful of the size asked.

    Args:
        model: the language model.
        dictionaries: a dictionary for each site, in execution order.
        task: training prompts fit and choose the circuit, test prompts measure it; or the name of a task ("ioi"), or a
            file of one, as :func:`gossamer.tasks.open_task` takes it.
        faithfulness: how much of the task's metric to keep, as a share (default 0.9 when no size is given).
        size: number of nodes wanted instead.
        recipe: "gossamer" (the default search), or "reference" (the published recipe, for comparison).
        settings: ablation, error policy, seed and the like.
        search: settings of the mask search.

    Raises:
        UsageError: both or neither usable target, dictionaries that do not fit the model, unaligned prompts.
        GossamerError: the model cannot do the task, the dictionaries keep nothing of it, or no circuit reaches the
            target.
    """
    _check_target(faithfulness, size)
    settings = settings or StudySettings()
    prompts = grouped(task_of(task, model.tokenizer), settings.masks)
    study = Study(model, by_site(dictionaries), prompts, settings)
    search = search or SearchSettings(seed=study.settings.seed)
    if size is not None:
        _check_room(study.nodes, size)
        search = replace(search, sizes=sorted({size, *search.sizes}, reverse=True))
    path = study.paths(["mask" if recipe == "gossamer" else "reference recipe"], search)[0]
    return choose(study, path, faithfulness=faithfulness, size=size, search=search)


def choose(
    study: Study,
    path: Path,
    *,
    faithfulness: float | None = None,
    size: int | None = None,
    search: SearchSettings | None = None,
) -> Found:
    """Take a circuit from a path: the size or the faithfulness (default 0.9) is met, then it is pruned.

    Faithfulness is met on the training prompts that choices are made on. `search` is what the path was searched with:
    pruning goes by the same loss.

    Raises:
        UsageError: the target is impossible (no circuit so small).
        GossamerError: no circuit of the path is so faithful; the message says what the dictionaries allow.
    """
    search = search or SearchSettings(seed=study.settings.seed)
    for sentence in few_texts(study.task.test):
        warnings.warn(f"{study.task.name}: {sentence}", FewTextsWarning, stacklevel=2)
    polish = study.method_inputs(search).polish(path)
    wanted = DEFAULT_FAITHFULNESS if faithfulness is None else faithfulness
    if size is not None:
        _check_room(path.nodes, size)
        target, chosen = {"size": float(size)}, polish.refined(path.of_size(size), size)
    else:
        target, chosen = {"faithfulness": wanted}, _smallest(study, path, polish, wanted)
    nodes = path.nodes.select(chosen)
    scores = node_effects(study.bench, nodes)
    measured = study.bench.behaviour("circuit", study.bench.outcome(nodes))
    network = study.bench.splice.on(torch.arange(min(EDGE_PROMPTS, len(study.task.test)), device=study.model.device))
    circuit = Circuit.from_nodes(
        path.nodes,
        chosen,
        model=study.model.title,
        task=study.task.name,
        scores=scores,
        provenance=study.provenance(path, target),
        measured=measured.measured,
        inputs=Inputs.of(study.model, study.dictionaries, study.task),
    )
    edges = circuit_edges(network, nodes, keep=EDGES_KEPT)
    return Found(replace(circuit, edges=edges), nodes, path, study, search)


def _smallest(study: Study, path: Path, polish: Polish, wanted: float) -> Int[Tensor, "chosen"]:
    """The smallest circuit that pruning finds in the first of the path that is faithful enough."""

    def enough(shorter: Int[Tensor, "shorter"]) -> bool:
        return study.choice.kept(path.nodes.select(shorter)) >= wanted

    return polish.pruned(polish.shortened(_faithful(study, path, wanted), enough), enough)


def _check_room(nodes: Nodes, size: int) -> None:
    if size >= len(nodes):
        raise UsageError(f"size: fewer than the {len(nodes)} candidate nodes expected, found {size}")


def _check_target(faithfulness: float | None, size: int | None) -> None:
    if faithfulness is not None and size is not None:
        raise UsageError("give faithfulness or size as the target, not both")
    if faithfulness is not None and not 0 < faithfulness <= 1:
        raise UsageError(f"faithfulness: a share above 0 and at most 1 expected, found {faithfulness}")
    if size is not None and size < 1:
        raise UsageError(f"size: at least 1 node expected, found {size}")


def _faithful(study: Study, path: Path, wanted: float) -> Int[Tensor, "chosen"]:
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
