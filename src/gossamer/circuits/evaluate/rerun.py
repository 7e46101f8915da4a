"""A saved circuit measured again: from its file alone, on other prompts, or in another model of the same shape."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from gossamer.circuits.circuit import Circuit
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.export import graph_on_prompt
from gossamer.circuits.inputs import Inputs, ModelInput, located, recorded_model, require_same
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.passing import with_tokens_passed_through
from gossamer.circuits.splice import Splice
from gossamer.circuits.study import Study, StudySettings
from gossamer.circuits.task_metrics import DICTIONARIES, TaskMetrics, behaviours_html, measured_of
from gossamer.dictionary.attach import attach
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.set import DictionarySet
from gossamer.display import plural, short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site, SiteMapping, by_site
from gossamer.results import versions
from gossamer.tasks.grouping import grouped
from gossamer.tasks.published import TaskLike, task_of
from gossamer.tasks.storage import tokens_digest
from gossamer.tasks.task import Task

Dictionaries = Mapping[Site, Dictionary]


@dataclass(frozen=True)
class Difference:
    """A number that is not what the circuit's file says. `recorded` is None where the file lacks it."""

    name: str
    recorded: float | None
    found: float


@dataclass(frozen=True)
class CircuitEvaluation:
    """What a circuit does now.

    Attributes:
        circuit: as its file has it.
        model, task: what it was measured on, by name.
        prompts: held-out prompts it was measured on.
        metrics: full model, each dictionary alone, all dictionaries, circuit, empty circuit.
        changed: what is not as it was when the circuit was made, a sentence each.
        differences: numbers that differ from `circuit.measured`; empty where the rerun gives the same.
    """

    circuit: Circuit
    model: str
    task: str
    prompts: int
    metrics: tuple[TaskMetrics, ...]
    changed: tuple[str, ...]
    differences: tuple[Difference, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.task} on {self.model}"
        yield plural(self.prompts, "prompt")
        yield repr(self.metrics[-2])
        yield "as recorded" if not self.differences else f"{plural(len(self.differences), 'number')} not as recorded"

    def _repr_html_(self) -> str:
        return behaviours_html(self.metrics, f"{self.task} on {self.model}, {plural(self.prompts, 'prompt')}")

    @property
    def measured(self) -> dict[str, float]:
        """The numbers that the circuit's file has, measured again."""
        return measured_of(self.metrics)


@dataclass(frozen=True)
class RestoredCircuit:
    """A saved circuit with what it was made with, ready to be measured.

    Attributes:
        circuit: as its file has it.
        study: model, dictionaries and prompts.
        nodes: the circuit's nodes, as places in these dictionaries and this task.
    """

    circuit: Circuit
    study: Study
    nodes: Nodes

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.study)
        yield repr(self.nodes)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Measures circuits on the held-out prompts: for reporting."""
        study = self.study
        splice = Splice.of(
            study.model,
            study.dictionaries,
            study.task.test,
            study.ablation,
            self.nodes,
            batch_size=study.settings.batch_size,
        )
        return Evaluator(splice, study.settings.seed)

    @cached_property
    def choice(self) -> Evaluator:
        """Measures circuits on the training prompts that choices are made on: for choosing, never for reporting."""
        sides, found = self.study.sides, self.study.bare
        if sides is None:
            return found
        return found.select(torch.tensor(sides.test, dtype=torch.long, device=self.study.model.device))

    def graph(self, row: int = 0) -> dict[str, Any]:
        """The circuit on one held-out prompt as the attribution graph that Neuronpedia and circuit-tracer read."""
        return graph_on_prompt(self.circuit, self.nodes, self.evaluator.splice, row)


def restore_circuit(
    circuit: Circuit | str | Path,
    *,
    model: LanguageModel | str | Path | None = None,
    dictionaries: SiteMapping[Dictionary] | str | Path | Sequence[str | Path] | None = None,
    task: TaskLike | None = None,
    device: str | torch.device | None = None,
) -> RestoredCircuit:
    """Find the inputs of a saved circuit again, and check that they are what it was made with.

    Arguments and errors: those of :func:`evaluate_circuit`.
    """
    beside = None if isinstance(circuit, Circuit) else Path(circuit).parent
    circuit = circuit if isinstance(circuit, Circuit) else Circuit.load(circuit)
    settings = _settings(circuit)
    network = circuit_model(circuit, model, beside=beside, device=device)
    found = circuit_dictionaries(circuit, dictionaries, beside, network)
    if task is None:
        prompts = _task(circuit, network, found, settings)
    else:
        prompts = grouped(task_of(task, network.tokenizer), settings.masks)
    study = Study(network, found, prompts, settings)
    study.require_one_device()
    study.require_ability()
    nodes = circuit_nodes(circuit, found, prompts)
    # A model whose weights were compared is the circuit's whatever its folder is called now.
    known = model is not None or circuit.inputs is not None
    attach(network, found, prompts.train.clean.tokens, allow_other_model=known)
    return RestoredCircuit(circuit, study, nodes)


def evaluate_circuit(
    circuit: Circuit | str | Path,
    *,
    model: LanguageModel | str | Path | None = None,
    dictionaries: SiteMapping[Dictionary] | str | Path | Sequence[str | Path] | None = None,
    task: TaskLike | None = None,
    device: str | torch.device | None = None,
) -> CircuitEvaluation:
    """Measure a circuit again on held-out prompts.

    What is not given is found by what the file records and must be what it was, by its hash. Ablation values are
    measured on the training prompts of the task, as they were for the circuit. On one machine, device and set of
    versions the numbers are those of the file, to the last digit.

    Args:
        circuit: or its file.
        model: another one of the same shape; a name is loaded with the dtype of the circuit's own.
        dictionaries: others at the same sites, of at least as many latents.
        task: other prompts, which have the roles of the circuit's nodes: a task, or what
            :func:`gossamer.tasks.open_task` takes.
        device: for what is loaded here.

    Raises:
        UsageError: something that the file does not record is not given, or what is given does not fit the circuit.
        GossamerError: what the file records is not there any more or has changed, or the model cannot do the task.
    """
    restored = restore_circuit(circuit, model=model, dictionaries=dictionaries, task=task, device=device)
    circuit, study = restored.circuit, restored.study
    metrics = restored.evaluator.budget(restored.nodes)
    measured, recorded = measured_of(metrics), circuit.measured
    # Files of earlier versions lack what the dictionaries keep.
    measured = measured if DICTIONARIES in recorded else metrics[-2].measured
    return CircuitEvaluation(
        circuit,
        study.model.title,
        study.task.name,
        len(study.task.test),
        metrics,
        _changed(circuit, Inputs.of(study.model, study.dictionaries, study.task)),
        tuple(Difference(name, recorded.get(name), now) for name, now in measured.items() if recorded.get(name) != now),
    )


def _settings(circuit: Circuit) -> StudySettings:
    names = [one.name for one in fields(StudySettings) if one.name in circuit.provenance]
    try:
        return StudySettings(**{name: circuit.provenance[name] for name in names})
    except TypeError as error:
        raise GossamerError(f"circuit of {circuit.task}: settings that are none ({error}); make it again") from error


def _lacking(circuit: Circuit, what: str, option: str) -> UsageError:
    return UsageError(
        f"circuit of {circuit.task} on {circuit.model}: its file does not record the {what}, as those of earlier "
        f"versions; give {option}"
    )


def circuit_model(
    circuit: Circuit,
    given: LanguageModel | str | Path | None = None,
    *,
    beside: Path | None = None,
    device: str | torch.device | None = None,
) -> LanguageModel:
    """The model that a circuit records, or the one that is given instead.

    Args:
        circuit: as it was loaded.
        given: a model, or a name, which is loaded with the dtype of the circuit's own.
        beside: the folder of the circuit's file, from which relative paths are tried too.
        device: for what is loaded here.

    Raises:
        UsageError: the model that is given does not exist.
        GossamerError: the recorded model is not there any more, or its weights have changed.
    """
    if isinstance(given, LanguageModel):
        return given
    # The names of models from the hub and of those that come with the package are sources too.
    known = None if circuit.inputs is None else circuit.inputs.model
    kind = None if known is None else getattr(torch, known.dtype)
    if given is not None:
        return LanguageModel.load(given, dtype=kind, device=device)
    known = known or ModelInput(circuit.model, None, "", "")
    model = recorded_model(known, beside=beside, device=device)
    if known.sha256 is not None:
        require_same("model", model.name, known.sha256, weights_sha256(model.hf), "--model (model=)")
    return model


def circuit_dictionaries(
    circuit: Circuit,
    given: SiteMapping[Dictionary] | str | Path | Sequence[str | Path] | None,
    beside: Path | None,
    model: LanguageModel,
) -> Dictionaries:
    option = "--dictionaries (dictionaries=)"
    found: Dictionaries
    if given is not None:
        found = by_site(given) if isinstance(given, Mapping) else DictionarySet.load(given, device=model.device)
    elif circuit.inputs is None:
        raise _lacking(circuit, "dictionaries", option)
    else:
        found = DictionarySet(
            [_dictionary(circuit, circuit.inputs, site, beside, model, option) for site in circuit.inputs.dictionaries]
        )
    if set(found) != set(circuit.sites):
        raise UsageError(
            f"dictionaries at {', '.join(map(str, circuit.sites))} expected, as the circuit has, found some at "
            f"{', '.join(map(str, found))}; give the same sites"
        )
    return found


def _dictionary(
    circuit: Circuit, inputs: Inputs, site: str, beside: Path | None, model: LanguageModel, option: str
) -> Dictionary:
    known = inputs.dictionaries[site]
    if known.source is None:
        raise _lacking(circuit, f"dictionary at {site}", option)
    source, kind = located(known.source, beside), getattr(torch, known.dtype)
    try:
        found = Dictionary.load(source, site=site, device=model.device, dtype=kind)
    except UsageError as error:
        raise GossamerError(f"the circuit's dictionary at {site}: not found ({error}); give {option}") from error
    require_same(f"dictionary at {site},", source, known.sha256, weights_sha256(found), option)
    return found


def _task(circuit: Circuit, model: LanguageModel, dictionaries: Dictionaries, settings: StudySettings) -> Task:
    if circuit.inputs is None or circuit.inputs.task is None:
        raise _lacking(circuit, "task", "--task (task=)")
    body: Mapping[str, Any] = circuit.inputs.task

    def arranged(task: Task) -> Task:
        # The file has the prompts as the study had them: where tokens passed through, without roles there.
        made = grouped(task, by=settings.masks)
        if tokens_digest(made.train, made.test) == body["tokens_sha256"]:
            return made
        return with_tokens_passed_through(model, dictionaries.values(), made)

    try:
        return Task.from_body(body, model.tokenizer, arranged)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise GossamerError(f"circuit of {circuit.task}: a task expected, found damage ({error!r})") from error


def circuit_nodes(circuit: Circuit, dictionaries: Dictionaries, task: Task) -> Nodes:
    """The circuit's nodes as places in these dictionaries and this task."""
    lacking = sorted({node.role for node in circuit.nodes} - set(task.role_names))
    if lacking:
        raise UsageError(
            f"task {task.name}: the roles of the circuit's nodes expected, lacks {', '.join(lacking)} (has "
            f"{', '.join(task.role_names)}); give prompts with these roles"
        )
    for node in circuit.nodes:
        width = dictionaries[node.site].n_latents
        if node.latent >= width:
            raise UsageError(f"dictionary at {node.site}: more than {node.latent} latents expected, found {width}")
    device = next(iter(dictionaries.values())).W_dec.device
    return Nodes.from_keys(tuple(dictionaries), task.role_names, [one.node for one in circuit.nodes], device)


def _changed(circuit: Circuit, now: Inputs) -> tuple[str, ...]:
    """What differs from when the circuit was made, as sentences."""
    then = circuit.inputs
    said = []
    if then is not None:
        if then.model.sha256 != now.model.sha256:
            said.append(f"model: {now.model.source} instead of {then.model.source}, or other weights of it")
        for name, one, other in (
            ("dtype", then.model.dtype, now.model.dtype),
            ("device", then.model.device, now.model.device),
        ):
            said += [f"{name}: {other} instead of {one}"] if one != other else []
        for site, dictionary in now.dictionaries.items():
            if (known := then.dictionaries.get(site)) is None or known.sha256 != dictionary.sha256:
                said.append(f"dictionary at {site}: other weights")
        said += _changed_task(then.task, now.task)
    stored, present = circuit.provenance.get("versions", {}), versions()
    said += [
        f"{name}: version {present[name]} instead of {stored[name]}"
        for name in present
        if stored.get(name, present[name]) != present[name]
    ]
    return tuple(said)


def _changed_task(then: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> list[str]:
    if then is None or now is None:
        return ["task: not recorded, so that it cannot be compared"]
    if then["tokens_sha256"] == now["tokens_sha256"] and then["metric"] == now["metric"]:
        return []
    if then["name"] != now["name"]:
        return [f"task: {now['name']} instead of {then['name']}"]
    if then["metric"] != now["metric"]:
        return [f"task: measured by {now['metric']} instead of {then['metric']}"]
    return [f"task: other prompts of {now['name']}"]
