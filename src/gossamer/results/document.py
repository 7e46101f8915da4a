"""A file of results: its format's name and version, a checksum of its content, and the content of one dataclass."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from gossamer.display import short_repr
from gossamer.errors import GossamerError, NotFiniteError, UsageError
from gossamer.files import read_json, write_json
from gossamer.results.values import from_json, to_json

Content = TypeVar("Content")


@dataclass(frozen=True)
class Older:
    """How files of an earlier version are read.

    Attributes:
        upgrade: from the content of such a file to that of the present version.
        checksum: whether such files have one.
        digest: what it was of the content; None: what it is now.
    """

    upgrade: Callable[[dict[str, Any]], dict[str, Any]]
    checksum: bool = True
    digest: Callable[[Any], str] | None = None


@dataclass(frozen=True)
class Format(Generic[Content]):
    """One kind of file: {"format": NAME.VERSION, "sha256": of the rest, and the fields of a dataclass}.

    Attributes:
        name, version: of the format; the version rises when a file of before would be misread.
        content: the dataclass.
        what: the kind in words, for messages.
        older: earlier versions by what stands in their "format"; "" for files that have none.
    """

    name: str
    version: int
    content: Any
    what: str
    older: Mapping[str, Older] = field(default_factory=dict)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.tag}, {self.what}"

    @property
    def tag(self) -> str:
        """What stands in "format"."""
        return f"{self.name}.{self.version}"

    def save(self, path: str | Path, content: Content) -> Path:
        """Write `content` as JSON, atomically. Returns the path.

        Raises:
            NotFiniteError: NaN or an infinity where the dataclass has no float.
            GossamerError: writing failed; whatever stood at `path` stands there still.
        """
        return write_json(path, self.encode(content))

    def encode(self, content: Content) -> dict[str, Any]:
        """What stands in the file of `content`, as JSON values.

        Raises:
            NotFiniteError: NaN or an infinity where the dataclass has no float.
        """
        body = to_json(content, self.content)
        return {"format": self.tag, "sha256": digest(body), **body}

    def load(self, path: str | Path) -> Content:
        """Read a file of this format, of the present version or an earlier one.

        Raises:
            UsageError: no such file, another kind of file, or one of a later version.
            GossamerError: damaged, or changed since it was written.
        """
        return self.decode(read_json(path, what=self.what), path)

    def decode(self, values: Any, path: str | Path) -> Content:
        """The inverse of :meth:`encode`. Errors: those of :meth:`load`; `path` begins their messages."""
        body = dict(values) if isinstance(values, dict) else values
        tag = body.pop("format", "") if isinstance(body, dict) else None
        older = self.older.get(tag) if isinstance(tag, str) else None
        if tag != self.tag and older is None:
            raise UsageError(f"{path}: expected {self.what} (format {self.tag!r}), found {self._other(tag)}")
        if older is None or older.checksum:
            self._check_sum(body, digest if older is None or older.digest is None else older.digest, path)
        try:
            found: Content = from_json(older.upgrade(body) if older else body, self.content)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as error:
            raise GossamerError(f"{path}: expected {self.what}, found damage ({error}); make it again") from error
        return found

    def _check_sum(self, body: dict[str, Any], sum_of: Callable[[Any], str], path: str | Path) -> None:
        """Take the checksum from the content and refuse another content than it is of."""
        try:
            found = "" if body.pop("sha256", None) == sum_of(body) else "other content"
        except NotFiniteError:
            found = "NaN or an infinity, which JSON does not have"
        if found:
            raise GossamerError(
                f"{path}: {self.what} whose checksum matches its content expected, found {found}; it was changed or "
                "damaged: make it again"
            )

    def _other(self, tag: Any) -> str:
        start, _, number = str(tag).rpartition(".")
        if start == self.name and number.isdecimal():
            return f"version {number}: upgrade gossamer" if int(number) > self.version else f"version {number}"
        return f"format {tag!r}" if start.startswith("gossamer.") else "something else"


def digest(body: Any) -> str:
    """SHA-256 of JSON values, whatever the order of their names.

    Raises:
        NotFiniteError: NaN or an infinity, which JSON does not have.
    """
    try:
        text = json.dumps(body, sort_keys=True, allow_nan=False)
    except ValueError as error:
        raise NotFiniteError(f"results: a number is NaN or infinite ({error}); measure it again") from error
    return hashlib.sha256(text.encode()).hexdigest()
