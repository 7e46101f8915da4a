"""Counting block by block of rows: by an engine, and in files, so that a run that was stopped goes on.

A block is counted by itself, and blocks are added up in order, so that sums come out the same to the last bit whoever
counted a block, and whether it was counted now or before.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from gossamer.engine import Engine
from gossamer.errors import UsageError
from gossamer.progress import announce, begin, silenced
from gossamer.relations.counting import CoActivation, SitePair, Tables, maxima
from gossamer.relations.latents import LatentStream
from gossamer.results.record import Recorder, record_format, versions
from gossamer.store.manifest import StoredFile
from gossamer.tensor_files import write_tensors

# Rows that are counted, and saved, together: a stopped run loses one block at most. A multiple of the batch size leaves
# batches as they are.
BLOCK_ROWS = 128
FILE = "blocks.json"


@dataclass(frozen=True)
class SavedBlock:
    """A block whose results are in files.

    Attributes:
        what: counts, or maxima for relative thresholds.
        block: its number.
        files: by table.
    """

    what: str
    block: int
    files: Mapping[str, StoredFile]


FORMAT = record_format("gossamer.blocks", 1, SavedBlock, "counts of blocks of rows")


class BlockFiles:
    """A folder of blocks that were counted, each file with its SHA-256 in a record. Hold the folder meanwhile."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Begin, or go on with what is there.

        Raises:
            UsageError: the folder has blocks of another request, or cannot be written.
            GossamerError: its record is damaged.
        """
        self.folder = folder
        self._recorder = Recorder(folder / FILE, FORMAT, settings, {"versions": versions()})

    def missing(self, what: str, count: int) -> list[int]:
        """Numbers of blocks that are not there as they were written; says so of the others, and of damaged ones."""
        # A block that was damaged and counted again comes twice: the later one is the one.
        rows = {row.block: row for row in self._recorder.rows if row.what == what}
        damaged = [name for row in rows.values() for name in self._damaged(row)]
        missing = [block for block in range(count) if block not in rows or any(self._damaged(rows[block]))]
        if rows:
            said = f", {damaged[0]} is damaged and its block counted again" if damaged else ""
            there = count - len(missing)
            announce(lambda: f"{self.folder}: {what} of {there} of {count} blocks of rows are there already{said}")
        return missing

    def load(self, what: str, block: int) -> Tables:
        """What a block amounted to, mapped from its files as far as it is looked at."""
        row = [one for one in self._recorder.rows if (one.what, one.block) == (what, block)][-1]
        found = {}
        for table in row.files:
            with safe_open(self._path(what, block, table), framework="pt") as file:
                found[table] = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118  (no mapping)
        return found

    def save(self, what: str, block: int, tables: Tables) -> Tables:
        """Write what a block amounts to, a file a table; returns it as it lies there."""
        files = {}
        for table, arrays in tables.items():
            path = self._path(what, block, table)
            write_tensors(path, {name: _tensor(one) for name, one in arrays.items()})
            files[table] = StoredFile.at(path)
        self._recorder.add(SavedBlock(what, block, files))
        return self.load(what, block)

    def _path(self, what: str, block: int, table: str) -> Path:
        return self.folder / f"{what}-{block:06d}" / f"{table}.safetensors"

    def _damaged(self, row: SavedBlock) -> Iterator[Path]:
        for table, file in row.files.items():
            path = self._path(row.what, row.block, table)
            if not path.is_file() or StoredFile.at(path) != file:
                yield path


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    whole = np.ascontiguousarray(array)
    return torch.from_numpy(whole if whole.flags.writeable else whole.copy())


@dataclass(frozen=True, eq=False)
class BlockCounter:
    """Counts the rows of a stream block by block, each by one worker of an engine.

    Attributes:
        stream: where latents come from.
        rows: of a block.
        engine: who counts.
        files: where results of blocks lie; None: nowhere.
    """

    stream: LatentStream
    rows: int
    engine: Engine
    files: BlockFiles | None = None

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise UsageError(f"relations: blocks of at least 1 row expected, found {self.rows}")

    def maxima(self) -> dict[str, NDArray[np.float64]]:
        """See :func:`gossamer.relations.counting.maxima`."""
        found = {name: np.zeros(width) for name, width in self.stream.widths.items()}
        for tables in self._each("maxima", _maxima, lambda part: part, []):
            found = {name: np.maximum(top, tables["maxima"][name]) for name, top in found.items()}
        return found

    @contextmanager
    def counted(
        self, pairs: Sequence[SitePair], thresholds: Mapping[str, NDArray[np.float64]], *, entries: int, **options: bool
    ) -> Iterator[CoActivation]:
        """All pairs counted; what lies in a temporary folder is removed at the end of the block.

        Args:
            pairs: the pairs.
            thresholds: of each latent.
            entries: of all sums that stay in memory, half of them for the block in work.
            options: `products` and `null` of :meth:`CoActivation.empty`.
        """
        options_of: dict[str, Any] = {**options, "entries": entries // 2}
        with TemporaryDirectory(prefix="gossamer-relations-", ignore_cleanup_errors=True) as folder:
            found = CoActivation.empty(thresholds, pairs, folder=Path(folder), **options_of)

            def item(part: LatentStream) -> _Block:
                return _Block(part, pairs, thresholds, options_of)

            for tables in self._each("counts", _counted, item, list(thresholds.values())):
                found.take(tables)
            found.finish()
            yield found

    def _each(
        self, what: str, work: Callable[[Any], Tables], item: Callable[[LatentStream], Any], shared: Sequence[object]
    ) -> Iterator[Tables]:
        """What each block amounts to, in order."""
        starts = range(0, self.stream.rows, self.rows)
        spans = [slice(start, min(start + self.rows, self.stream.rows)) for start in starts]
        missing = list(range(len(spans))) if self.files is None else self.files.missing(what, len(spans))
        items = (item(self.stream.part(spans[number])) for number in missing)
        results = self.engine.map(work, items, [*self.stream.shared, *shared])
        advance, left = begin(f"relations: {what}", self.stream.rows), set(missing)
        for number, span in enumerate(spans):
            if number not in left:
                assert self.files is not None
                yield self.files.load(what, number)
            else:
                tables = next(results)
                yield tables if self.files is None else self.files.save(what, number, tables)
            advance(span.stop - span.start, "")


@dataclass(frozen=True, eq=False)
class _Block:
    stream: LatentStream
    pairs: Sequence[SitePair]
    thresholds: Mapping[str, NDArray[np.float64]]
    options: Mapping[str, Any]


def _counted(block: _Block) -> Tables:
    # Files of runs go with the folder; what is mapped of them stays.
    with TemporaryDirectory(prefix="gossamer-relations-", ignore_cleanup_errors=True) as folder, silenced():
        found = CoActivation.empty(block.thresholds, block.pairs, folder=Path(folder), **block.options)
        block.stream.map(found.add)
        return found.tables()


def _maxima(stream: LatentStream) -> Tables:
    with silenced():
        return {"maxima": maxima(stream)}
