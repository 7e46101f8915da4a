"""What the routes share: the run, its circuits, models in memory, and where a reader's views are kept."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from gossamer.app.live import LiveCircuits
from gossamer.app.run_folder import Part, RunFolder
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.evaluate.rerun import RestoredCircuit
from gossamer.circuits.results import Findings
from gossamer.display import short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.files import require_folder
from gossamer.results.lock import HeldError, folder_lock

VIEWS = "views"


class UnknownError(UsageError):
    """Nothing of that name is in the run."""


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
        live: its circuits with their models.
        read_only: why nothing can be saved in the folder; None if it can.
        offline: why no model can be asked of anything; None if one can.
    """

    run: RunFolder
    live: LiveCircuits
    read_only: str | None = None
    offline: str | None = None

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
        """A part of the run and what it holds.

        Raises:
            UnknownError: no such part, or one of another kind.
            GossamerError: damaged, or newer than this version.
        """
        part = self.run.part(identifier)
        if part is None or part.kind != kind:
            raise UnknownError(f"{kind} {identifier!r}: not in {self.run.name}; it holds {self._ids(kind)}")
        reading = self.run.read(part)
        if reading.content is None:
            raise GossamerError(reading.message or f"{part.path.name}: cannot be shown")
        return part, reading.content

    def circuit(self, identifier: str) -> SavedCircuit:
        """A circuit of the run. Errors: those of :meth:`content`."""
        part, circuit = self.content(identifier, "circuit")
        for other in self.run.parts().values():
            if other.kind == "findings" and other.path.parent == part.path.parent:
                findings = self.run.read(other).content
                if findings is not None and findings.are_of(circuit):
                    return SavedCircuit(part, circuit, findings, other)
        return SavedCircuit(part, circuit, None, None)

    @contextmanager
    def restored(self, identifier: str) -> Iterator[RestoredCircuit]:
        """A circuit with its model in memory. Errors: those of :meth:`LiveCircuits.use`."""
        part, circuit = self.content(identifier, "circuit")
        if self.offline is not None:
            raise GossamerError(self.offline)
        with self.live.use(circuit, part.path.parent) as found:
            yield found

    def _ids(self, kind: str) -> str:
        known = [part.id for part in self.run.parts().values() if part.kind == kind]
        return ", ".join(known[:20]) or f"no {kind}"
