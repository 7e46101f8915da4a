"""Parquet files in memory, the same bytes for the same rows."""

from collections.abc import Mapping
from typing import Any

from gossamer.files import needed
from gossamer.store.location import EXTRA

# Rows that a reader of one latent or one token reads at least.
GROUP = 1 << 15
_LEVEL = 3
# Rows of Python values that are held before they are packed.
_HELD = 1 << 12


def parquet_bytes(table: Any, encodings: Mapping[str, str] | None = None, group: int = GROUP) -> bytes:
    """An Arrow table as a Parquet file, compressed by zstd.

    Args:
        encodings: of columns that are not kept by a dictionary of their values.
        group: rows of a row group: statistics say which of them a reader needs.
    """
    arrow, files = (needed(name, "a feature store", EXTRA) for name in ("pyarrow", "pyarrow.parquet"))
    own = dict(encodings or {})
    sink = arrow.BufferOutputStream()
    files.write_table(
        table,
        sink,
        row_group_size=group,
        compression="zstd",
        compression_level=_LEVEL,
        use_dictionary=[name for name in table.column_names if name not in own],
        column_encoding=own or None,
        # What stands beside the rows is kept with the schema, which nothing else needs.
        store_schema=table.schema.metadata is not None,
    )
    return bytes(sink.getvalue())


class Rows:
    """A table that grows row by row. Memory: its packed rows, and some thousand that are not."""

    def __init__(self, kinds: Mapping[str, str | list[str]]) -> None:
        """An empty table.

        Args:
            kinds: names of columns with their Arrow types; in a list, lists of them.
        """
        self._arrow = needed("pyarrow", "a feature store", EXTRA)
        types = {
            name: self._arrow.list_(self._type(kind[0])) if isinstance(kind, list) else self._type(kind)
            for name, kind in kinds.items()
        }
        self._schema = self._arrow.schema(list(types.items()))
        self._rows: list[Mapping[str, Any]] = []
        self._packed = [self._schema.empty_table()]

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self._rows.append(row)
        if len(self._rows) == _HELD:
            self._pack()

    def parquet(self, *, group: int = _HELD, facts: Mapping[str, str] | None = None) -> bytes:
        """All rows as a Parquet file, with row groups of so many; `facts` are kept in the file beside them."""
        self._pack()
        table = self._arrow.concat_tables(self._packed).combine_chunks()
        return parquet_bytes(table.replace_schema_metadata(facts), group=group)

    def _pack(self) -> None:
        self._packed.append(self._arrow.Table.from_pylist(self._rows, self._schema))
        self._rows = []

    def _type(self, kind: str) -> Any:
        return getattr(self._arrow, kind)()
