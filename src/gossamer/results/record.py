"""Studies of many rows: settings, rows and provenance in one file that grows row by row."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, TypeVar

from gossamer.display import listed, plural, short_repr
from gossamer.errors import UsageError
from gossamer.files import require_folder
from gossamer.results.document import Format, Older
from gossamer.results.values import to_json

Row = TypeVar("Row")


@dataclass(frozen=True)
class Record(Generic[Row]):
    """What a study measured.

    Attributes:
        settings: everything that the numbers depend on; a study goes on only under the same ones.
        rows: what was measured, in the order in which it was.
        provenance: what else is known of how it was made: versions, device, where the inputs lie.
    """

    settings: Mapping[str, Any]
    rows: tuple[Row, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.rows), "row")
        yield f"settings {listed(self.settings)}"


def record_format(
    name: str, number: int, row: type[Row], what: str, older: Mapping[str, Older] | None = None
) -> Format[Record[Row]]:
    """The format of records with rows of one dataclass."""
    return Format(name, number, Record[row], what, older or {})  # type: ignore[valid-type]


def versions() -> dict[str, str]:
    """Of the packages that numbers come from."""
    return {name: version(name) for name in ("gossamer", "torch", "transformers")}


class Recorder(Generic[Row]):
    """A study at work: each row is on disk, synced, as soon as it is added.

    The file is replaced as a whole, so that a reader sees all of it and a killed process loses the row in work only; a
    second run goes on behind the last row, to the same bytes. Cost: the file is written once an `add`, some
    milliseconds for a thousand rows. Hold the folder with :func:`gossamer.results.lock.folder_lock` meanwhile.

    Attributes:
        rows: those there are.
    """

    def __init__(
        self,
        path: str | Path | None,
        form: Format[Record[Row]],
        settings: Mapping[str, Any],
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin a study, or go on with the one at `path`; None keeps it in memory.

        Raises:
            UsageError: the file is that of another study, or cannot be written.
            GossamerError: it is damaged.
        """
        self._path, self._form = None if path is None else Path(path), form
        # As they come back from the file: a tuple is a list there.
        self.settings: dict[str, Any] = json.loads(json.dumps(to_json(settings)))
        self.provenance = dict(provenance or {})
        self.rows: list[Row] = []
        if self._path is None:
            return
        if not self._path.is_file():
            require_folder(self._path.parent)
            return
        stored = form.load(self._path)
        names = dict.fromkeys([*self.settings, *stored.settings])
        if differing := [name for name in names if stored.settings.get(name) != self.settings.get(name)]:
            raise UsageError(
                f"{self._path}: holds another study (other {', '.join(differing)}); use the same settings, or choose "
                "another folder or remove the file"
            )
        self.rows, self.provenance = list(stored.rows), dict(stored.provenance)

    def add(self, *rows: Row) -> None:
        """Add rows, together: after a kill all of them are there or none is.

        Raises:
            GossamerError: writing failed; the rows before stay.
        """
        self.rows += rows
        if self._path is not None:
            self._form.save(self._path, self.record)

    @property
    def record(self) -> Record[Row]:
        """What there is."""
        return Record(self.settings, tuple(self.rows), self.provenance)
