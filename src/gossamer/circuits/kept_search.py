"""A search that is kept in a folder: the same request takes its circuit from there, so that only measuring is left."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gossamer.circuits.circuit import Circuit
from gossamer.circuits.find import CircuitResult, Recipe, circuit_effects, find_circuit
from gossamer.circuits.inputs import Inputs
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import Study, StudySettings
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import short_repr
from gossamer.errors import GossamerError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site, SiteMapping, by_site
from gossamer.progress import announce
from gossamer.results import Format, digest, versions
from gossamer.results.values import to_json
from gossamer.tasks.grouping import grouped
from gossamer.tasks.published import TaskLike, task_of

FILE = "search.json"


@dataclass(frozen=True)
class KeptSearch:
    """What a search came to.

    Attributes:
        asked: digest of everything that it depends on: model, dictionaries, prompts, target, settings, versions.
        circuit: the circuit.
        method, seconds, settings: of the path (:class:`CircuitPath`).
        sites, roles, nodes: the candidates; of each the indices of site and role, and its latent.
        circuits: positions of nodes.
        chosen: those of the circuit, in the order in which it was found.
        scores: of the candidates, with the type that they had; None where the method has none.
        search: the settings it was searched with.
    """

    asked: str
    circuit: Circuit
    method: str
    seconds: float
    settings: Mapping[str, str]
    sites: tuple[Site, ...]
    roles: tuple[str, ...]
    nodes: tuple[tuple[int, int, int], ...]
    circuits: tuple[tuple[int, ...], ...]
    chosen: tuple[int, ...]
    scores: tuple[float, ...] | None
    dtype: str
    search: SearchSettings

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{len(self.chosen)} of {len(self.nodes)} nodes"
        yield self.method
        yield f"{self.seconds:.1f} s"

    @classmethod
    def of(cls, asked: str, found: CircuitResult) -> "KeptSearch":
        """What is kept of a result."""
        path, nodes = found.path, found.path.nodes
        return cls(
            asked,
            found.circuit,
            path.method,
            path.seconds,
            path.settings,
            nodes.sites,
            nodes.roles,
            tuple(zip(nodes.site.tolist(), nodes.role.tolist(), nodes.latent.tolist(), strict=True)),
            tuple(tuple(circuit.tolist()) for circuit in path.circuits),
            tuple(nodes.find(found.nodes.keys()).tolist()),
            None if path.scores is None else tuple(path.scores.tolist()),
            "" if path.scores is None else str(path.scores.dtype).removeprefix("torch."),
            found.search,
        )

    def result(self, study: Study) -> CircuitResult:
        """The result again; the edges' effects are measured anew (:func:`circuit_effects`)."""
        device = study.model.device
        columns = torch.tensor(self.nodes, device=device).reshape(-1, 3).unbind(-1)
        nodes = Nodes(self.sites, self.roles, *columns)
        circuits = tuple(torch.tensor(circuit, device=device, dtype=torch.long) for circuit in self.circuits)
        chosen = nodes.select(torch.tensor(self.chosen, device=device, dtype=torch.long))
        scores = None
        if self.scores is not None:
            scores = torch.tensor(self.scores, device=device, dtype=getattr(torch, self.dtype))
        path = CircuitPath(self.method, nodes, circuits, self.seconds, scores, dict(self.settings))
        return CircuitResult(self.circuit, chosen, path, study, circuit_effects(study, chosen), self.search)


FORMAT: Format[KeptSearch] = Format("gossamer.circuit_search", 5, KeptSearch, "a kept search for a circuit")


def find_circuit_once(
    folder: str | Path,
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    task: TaskLike,
    *,
    faithfulness: float | None = None,
    size: int | None = None,
    recipe: Recipe = "gossamer",
    settings: StudySettings | None = None,
    search: SearchSettings | None = None,
) -> CircuitResult:
    """:func:`find_circuit`, whose outcome stays in `folder` as search.json: asked the same again, nothing is searched.

    The same means the same weights, prompts, target, settings and versions of the packages; any other search in the
    folder is replaced. A file that is damaged or of another version is searched for again. Errors: those of
    :func:`find_circuit`.
    """
    settings = settings or StudySettings()
    search = search or SearchSettings(seed=settings.seed)
    prompts, path = task_of(task, model.tokenizer), Path(folder) / FILE
    made = Inputs.of(model, by_site(dictionaries), prompts)
    target = {"faithfulness": faithfulness, "size": size, "recipe": recipe}
    parts = (made, settings, search)
    asked = digest([target, versions(), *(to_json(asdict(part)) for part in parts)])
    kept = None
    if path.is_file() and made.task is not None:
        with suppress(GossamerError):
            kept = FORMAT.load(path)
    if kept is not None and kept.asked == asked:
        announce(partial(_found_before, kept, path))
        return kept.result(Study(model, by_site(dictionaries), grouped(prompts, settings.masks), settings))
    how: dict[str, Any] = {"recipe": recipe, "settings": settings, "search": search}
    found = find_circuit(model, dictionaries, prompts, faithfulness=faithfulness, size=size, **how)
    FORMAT.save(path, KeptSearch.of(asked, found))
    return found


def _found_before(kept: KeptSearch, path: Path) -> str:
    return f"{len(kept.circuit.nodes)} nodes were found before with these settings ({path}): nothing is searched again"
