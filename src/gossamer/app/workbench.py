"""What the routes share: the run, its circuits, models in memory, and where a reader's views are kept."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from gossamer.app.jobs import Jobs
from gossamer.app.live import LiveModel, LiveModels
from gossamer.app.model_inputs import ModelInputs, inputs_of
from gossamer.app.run_folder import Part, RunFolder, UnknownError
from gossamer.app.stores import Stores
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.evaluate.rerun import RestoredCircuit
from gossamer.circuits.results import Findings
from gossamer.display import short_repr
from gossamer.errors import GossamerError
from gossamer.explain.judges import ChatJudge
from gossamer.files import require_folder
from gossamer.results.lock import HeldError, folder_lock

__all__ = ["VIEWS", "SavedCircuit", "UnknownError", "Workbench", "same_circuit"]

VIEWS = "views"


class SavedCircuit(NamedTuple):
    """A circuit of the run with the findings beside it that are of the same circuit."""

    part: Part
    circuit: Circuit
    findings: Findings | None
    findings_part: Part | None


@dataclass(eq=False)
class Workbench:
    """One run, looked at.

    Attributes:
        run: its folder.
        live: what it was made with, in memory.
        stores: its feature stores.
        jobs: work that takes longer than an answer.
        judge: a language model that plays the game; None where there is none.
        read_only: why nothing can be saved in the folder; None if it can.
        offline: why no model can be asked of anything; None if one can.
    """

    run: RunFolder
    live: LiveModels
    read_only: str | None = None
    judge: ChatJudge | None = None
    offline: str | None = None
    stores: Stores = field(init=False)
    jobs: Jobs = field(init=False, default_factory=Jobs)

    def __post_init__(self) -> None:
        self.stores = Stores(self.run)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.run)
        if self.read_only is not None:
            yield "read only"

    @contextmanager
    def holding_views(self) -> Iterator[None]:
        """Hold the views of the run while inside; who comes second can look and cannot save.

        A folder elsewhere stands for theirs, which is not made before something is kept.
        """
        named = hashlib.sha256(f"{Path.home()} {self.run.path.resolve()}".encode()).hexdigest()[:16]
        with ExitStack() as stack:
            try:
                require_folder(self.views)
                stack.enter_context(folder_lock(Path(tempfile.gettempdir()) / f"gossamer-views-{named}"))
                self.read_only = None
            except HeldError:
                self.read_only = f"{self.run.path}: another process shows it and may keep views there; close that one"
            except GossamerError as error:
                self.read_only = str(error)
            yield

    @property
    def views(self) -> Path:
        """Where views are kept."""
        return self.run.path / VIEWS

    def said(self, digest: str | None = None) -> dict[str, Any]:
        """What every answer carries."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return {"run": self.run.name, "digest": digest, "generated_at": now}

    def content(self, identifier: str, kind: str) -> tuple[Part, Any]:
        """A part of the run and what it holds. Errors: those of :meth:`RunFolder.content`."""
        return self.run.content(identifier, kind)

    def circuit(self, identifier: str) -> SavedCircuit:
        """A circuit of the run. Errors: those of :meth:`content`."""
        part, circuit = self.content(identifier, "circuit")
        for other in self.run.parts().values():
            if other.kind == "findings" and other.path.parent == part.path.parent:
                findings = self.run.read(other).content
                if findings is not None and findings.are_of(circuit):
                    return SavedCircuit(part, circuit, findings, other)
        return SavedCircuit(part, circuit, None, None)

    def inputs(self, identifier: str) -> ModelInputs:
        """What a part of the run was made with.

        Raises:
            UnknownError: no such part.
            GossamerError: damaged, newer than this version, or it names no model.
        """
        part, content = self.run.content(identifier)
        return inputs_of(self.run, part, content, self.live.given)

    @contextmanager
    def model(self, identifier: str) -> Iterator[LiveModel]:
        """The model and the dictionaries that a part of the run names, in memory, for this thread alone.

        Of parts without dictionaries (a steering sweep) the model alone. Errors: those of :meth:`inputs` and
        :meth:`LiveModels.use`.
        """
        self._require_live()
        with self.live.use(self.inputs(identifier)) as found:
            yield found

    @contextmanager
    def restored(self, identifier: str) -> Iterator[RestoredCircuit]:
        """A circuit with its model in memory. Errors: those of :meth:`content` and :meth:`LiveModels.use`."""
        _, circuit = self.content(identifier, "circuit")
        self._require_live()
        with self.live.use_circuit(circuit, self.inputs(identifier)) as found:
            yield found

    def _require_live(self) -> None:
        if self.offline is not None:
            raise GossamerError(self.offline)


def same_circuit(circuit: Circuit, findings: Findings) -> bool:
    """Whether findings are of this circuit: they have its nodes and name its task and model."""
    named = (circuit.task, circuit.model) == (findings.task, findings.model)
    return named and {node.node for node in circuit.nodes} == {card.node for card in findings.nodes}
