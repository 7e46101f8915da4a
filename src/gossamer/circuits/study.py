"""A model, its dictionaries and a task: what every search and every measurement of circuits shares."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.ablation import Ablation, AblationKind
from gossamer.circuits.candidates import candidates, every_node
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.methods import ASKED_FOR, METHODS, MaskedPrompts, MethodInputs
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.outputs import Outputs, last_stream
from gossamer.circuits.passing import with_tokens_passed_through
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.prompt_metrics import FullModel, ability
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.splice import Splice
from gossamer.dictionary.attach import Attachment, attach
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import listed, short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.finite import require_finite
from gossamer.model.inputs import gathered
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.replacement.replacement_model import ErrorPolicy, resumable
from gossamer.results import versions
from gossamer.tasks.grouping import Grouping
from gossamer.tasks.split import Split, validation_split
from gossamer.tasks.task import PromptPairs, Task

MINIMUM_ACCURACY = 0.75
# Training prompts on which dictionaries are held against their files' claims: about a thousand tokens.
ATTACHED = 64
# Of a task's metric: dictionaries that keep less have nothing of it for a circuit to keep.
LEAST_SHARE = 0.05
# Bytes of streams that are kept between passes over the training prompts.
_KEPT = 2**28


@dataclass(frozen=True)
class StudySettings:
    """How a task is studied.

    Attributes:
        ablation: where ablated latents go.
        errors: what stands in for the dictionaries' reconstruction error.
        error_nodes: whether the error of a dictionary at a role may be a node of a circuit (see
            :class:`gossamer.circuits.splice.Splice`); those that are none are as `errors` has it.
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
    error_nodes: bool = False
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
        if self.error_nodes and self.errors == "keep":
            raise UsageError(
                "error nodes need errors='mean' or 'drop' (--errors mean), found 'keep', which keeps all errors anyway"
            )


class _Streams(NamedTuple):
    """What prompts have in the model itself: where the first dictionary begins, at the end at the answer position, and
    at all dictionaries' sites if that is kept."""

    start: Float[Tensor, "prompt pos d"]
    end: Float[Tensor, "prompt d"]
    sites: Mapping[Site, Float[Tensor, "prompt pos d"]]


@dataclass(frozen=True)
class Study:
    """A model, its dictionaries and a task, made ready for searching and testing circuits.

    Training prompts are divided: circuits are fitted to some and chosen on others (`choice`); every number that is
    reported comes from the test prompts (`evaluator`). Where the model uses the first token of a prompt as an attention
    sink, that token passes through as a BOS does.

    Raises:
        UsageError: the first token is a sink, and prompts differ there from their counterfactuals.
    """

    model: LanguageModel
    dictionaries: Mapping[Site, Dictionary]
    task: Task
    settings: StudySettings = field(default_factory=StudySettings)
    # What was searched without the validation prompts serves all that asks for it.
    _apart: dict[SearchSettings, CircuitPath] = field(default_factory=dict, init=False, compare=False)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.task.name} on {self.model.title}"
        yield f"dictionaries at {listed(self.dictionaries)}"
        yield f"ablation={self.settings.ablation!r}, errors={self.settings.errors!r}, seed={self.settings.seed}"

    def __post_init__(self) -> None:
        object.__setattr__(self, "task", with_tokens_passed_through(self.model, self.dictionaries.values(), self.task))

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
    def examples(self) -> PromptPairs:
        """The training prompts that circuits are searched on."""
        return self.task.train.select(range(min(self.settings.prompts, len(self.task.train))))

    @cached_property
    def attachments(self) -> list[Attachment]:
        """What each dictionary does on the training prompts, with warnings where that is not what its file claims.

        Raises:
            UsageError: as :func:`gossamer.dictionary.attach.attach`.
        """
        return attach(self.model, self.dictionaries, self.task.train.clean.tokens[:ATTACHED])

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
            self.bare.splice,
            self._own_streams.sites or None,
            self._task_share[1] or None,
            error_nodes=self.settings.error_nodes,
        )

    @cached_property
    def bare(self) -> Evaluator:
        """The training prompts with the model and its dictionaries, before there are candidates."""
        nothing = every_node(self.dictionaries, self.task.role_names, self.model.device).none()
        splice = Splice.of(
            self.model,
            self.dictionaries,
            self.examples,
            self.ablation,
            nothing,
            batch_size=self.settings.batch_size,
            stream=self._own_streams.start,
        )
        empty = partial(splice.outputs, torch.zeros(0, device=self.model.device))
        full = FullModel.measure(self._own_outputs, splice.examples, splice.batch_size, empty)
        return Evaluator(splice, self.settings.seed, full)

    @cached_property
    def _own_streams(self) -> _Streams:
        """Of the training prompts in the model itself, from one pass."""
        clean, last = self.examples.clean, last_stream(self.model)
        start = resumable(next(iter(self.dictionaries)))
        wanted = sorted({start, last, *(self.dictionaries if self._keeps_streams else ())})

        def part(rows: slice) -> tuple[Tensor, dict[Site, Tensor]]:
            found = self.model.capture(clean.tokens[rows].to(self.model.device), wanted)
            end = gathered(found[last], clean.answer_position[rows].to(found[last].device))
            return end, {site: found[site] for site in wanted if site in self.dictionaries or site == start}

        with torch.no_grad():
            parts = in_batches(len(self.examples), self.settings.batch_size, part)
        streams = {site: torch.cat([found[site] for _, found in parts]) for site in parts[0][1]}
        kept = {site: streams[site] for site in self.dictionaries} if self._keeps_streams else {}
        return _Streams(require_finite(streams[start], str(start)), torch.cat([end for end, _ in parts]), kept)

    @property
    def _keeps_streams(self) -> bool:
        """Whether what the training prompts have at all dictionaries' sites is little enough to be kept."""
        width = sum(map(self.model.width, self.dictionaries))
        return self.examples.clean.tokens.ids.numel() * width * self.model.dtype.itemsize <= _KEPT

    @cached_property
    def own(self) -> Outputs:
        """What the model itself says of the training prompts that circuits are searched on."""
        return Outputs(self._own_streams.end, self.model.unembed)

    def _own_outputs(self, rows: slice) -> Outputs:
        return self.own[rows]

    @property
    def task_share(self) -> float:
        """Faithfulness of the model with all dictionaries, nothing ablated, on training prompts: what they allow.

        Known before any search, from one pass over the prompts.
        """
        return self._task_share[0]

    @cached_property
    def _task_share(self) -> tuple[float, dict[Site, Float[Tensor, "prompt pos d"]]]:
        """That, and what the dictionaries read in that pass if it is little."""
        self.require_one_device()
        _ = self.attachments  # refuses dictionaries that do not fit
        whole = self.bare.splice.with_nodes(self.bare.splice.nodes, non_nodes="kept")
        streams: dict[Site, Tensor] = {}
        shape = self.examples.clean.tokens.ids.shape

        def network(rows: slice) -> Outputs:
            outputs, read = whole.read(torch.zeros(0, device=self.model.device), rows)
            for site, stream in read.items() if self._keeps_streams else ():
                kept = streams.setdefault(site, stream.new_zeros(*shape, stream.shape[-1]))
                kept[rows, : stream.shape[1]] = stream
            return outputs

        return self.bare.full.kept(network, self.settings.batch_size), streams

    @cached_property
    def splice(self) -> Splice:
        """The network over the training prompts, masks over the candidates."""
        nodes = self.nodes  # before anything is measured: this checks the task and the dictionaries
        return self.bare.splice.with_nodes(nodes)

    @cached_property
    def train(self) -> Evaluator:
        """Measures circuits on all training prompts."""
        return Evaluator(self.splice, self.settings.seed, self.bare.full)

    @cached_property
    def sides(self) -> Split | None:
        """Which training prompts circuits are fitted to and which they are chosen on; None: all are both."""
        if not self.settings.validation:
            return None
        return validation_split(self.examples.prompts, self.settings.validation, self.settings.seed)

    @cached_property
    def choice(self) -> Evaluator:
        """Measures circuits on the training prompts that choices are made on: for choosing, never for reporting."""
        if self.sides is None:
            return self.train
        rows = torch.tensor(self.sides.test, dtype=torch.long, device=self.model.device)
        return self.train.select(rows)

    def method_inputs(self, search: SearchSettings | None = None) -> MethodInputs:
        """What the methods are given: the same network, ablation and training prompts for all."""
        search = search or SearchSettings(seed=self.settings.seed)
        given = MethodInputs.divided(MaskedPrompts(self.splice, self.train.full), self.sides, search)
        return replace(given, apart=self._apart)

    @cached_property
    def evaluator(self) -> Evaluator:
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
        return Evaluator(splice, self.settings.seed)

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
        examples = self.examples
        accuracy, mean = ability(self._own_outputs, examples, self.settings.batch_size)
        if accuracy < self.settings.minimum_accuracy or (mean is not None and mean <= 0):
            paired = examples.also_correct is None and examples.also_incorrect is None
            raise GossamerError(
                f"{self.model.title} cannot do {self.task.name}: it prefers the right answer on {accuracy:.0%} of "
                f"{len(examples)} prompts (at least {self.settings.minimum_accuracy:.0%} expected"
                f"{'; chance is 50%' if paired else ''})"
                f"{'' if mean is None else f', mean {examples.metric.label} {mean:.2f}'}; "
                "there is no circuit to find: choose another task"
            )

    def require_dictionaries(self) -> None:
        """Refuse dictionaries that together, before any ablation, keep next to nothing of the task on training prompts.

        Raises:
            GossamerError: the message has what was measured of each.
        """
        share = self.task_share
        if share >= LEAST_SHARE:
            return
        each = ", ".join(
            f"{one.site} L0 {one.measured.l0:.4g} and explained variance {one.measured.explained_variance:.3g}"
            for one in self.attachments
        )
        raise GossamerError(
            f"the dictionaries together keep {share:.0%} of {self.task.name} in {self.model.title}: expected at least "
            f"{LEAST_SHARE:.0%}, or there is no circuit to find in them; on these prompts they have {each}; train them "
            "longer or on other text, or use fewer sites"
        )

    @property
    def methods(self) -> list[str]:
        """All methods that these prompts allow, but for those that are too dear unless they are asked for."""
        allowed = [name for name in METHODS if self.task.train.aligned or not name.startswith("EAP-IG inputs")]
        return [name for name in allowed if name not in ASKED_FOR]

    def paths(self, methods: Sequence[str], search: SearchSettings | None = None) -> tuple[CircuitPath, ...]:
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

    def provenance(self, path: CircuitPath, target: Mapping[str, float]) -> dict[str, Any]:
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
