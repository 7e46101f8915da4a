"""Tasks on disk: JSON with a checksum, so that a damaged or edited file is noticed and not believed."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gossamer.display import short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.results import Format, Older
from gossamer.tasks.examples import Encoded, Examples
from gossamer.tasks.prompt import Piece, Prompt

Result = TypeVar("Result")


@dataclass(frozen=True)
class SavedTask:
    """What the file of a task holds: see :meth:`gossamer.tasks.task.Task.body`."""

    name: str
    roles: str
    bos: bool
    metric: str
    provenance: Mapping[str, Any]
    tokens_sha256: str
    train: Sequence[Mapping[str, Any]]
    test: Sequence[Mapping[str, Any]]

    __repr__ = short_repr


def _digest_1(body: Mapping[str, Any]) -> str:
    """The checksum of version 1."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


FORMAT: Format[SavedTask] = Format(
    "gossamer.task", 2, SavedTask, "a saved task", {"gossamer task 1": Older(lambda body: body, digest=_digest_1)}
)


def plain(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """`provenance` as it comes back from JSON. Raises :class:`UsageError` if JSON cannot hold it."""
    try:
        values: dict[str, Any] = json.loads(json.dumps(dict(provenance), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"provenance: values that JSON can hold expected, found others ({error})") from error
    return values


def save_body(path: str | Path, body: Mapping[str, Any]) -> Path:
    """Write `body` with the format's name and its checksum. Returns the path."""
    return FORMAT.save(path, SavedTask(**body))


def is_saved(path: str | Path) -> bool:
    """Whether `path` is a file of `save_body` (only its beginning is read; damage is for `load_body` to name)."""
    with contextlib.suppress(OSError), Path(path).open("rb") as file:
        start = file.read(256)
        return any(f'"{tag}'.encode() in start for tag in (f"{FORMAT.name}.", *FORMAT.older))
    return False


def load_body(path: str | Path, restore: Callable[[dict[str, Any]], Result]) -> Result:
    """Read a file of `save_body` and `restore` it.

    Raises:
        UsageError: no such file, or one of another format.
        GossamerError: the file is damaged, or does not restore; the message begins with the path.
    """
    body = vars(FORMAT.load(path))
    try:
        return restore(body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise GossamerError(f"{path}: a saved task expected, found other fields ({error!r}); save it again") from error
    except GossamerError as error:
        raise GossamerError(f"{path}: {error}") from error


def prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    """A prompt as JSON: pieces are [text, role or null]; further answers are written where there are any."""
    more = {"also_right": list(prompt.also_right), "also_wrong": list(prompt.also_wrong)}
    return {
        "clean": [[piece.text, piece.role] for piece in prompt.clean],
        "counterfactual": [[piece.text, piece.role] for piece in prompt.counterfactual],
        "answer": prompt.answer,
        "wrong": prompt.wrong,
        "template": prompt.template,
        "case": prompt.case,
        **{side: texts for side, texts in more.items() if texts},
    }


def prompt_from_json(row: Mapping[str, Any]) -> Prompt:
    """The inverse of `prompt_to_json`."""
    clean, counterfactual = (
        tuple(Piece(text, role) for text, role in row[side]) for side in ("clean", "counterfactual")
    )
    more = (tuple(row.get(side, ())) for side in ("also_right", "also_wrong"))
    return Prompt(clean, counterfactual, row["answer"], row["wrong"], row["template"], row["case"], *more)


def tokens_digest(*sides: Examples) -> str:
    """SHA-256 of everything that a network pass or a score reads from `sides`."""
    digest = hashlib.sha256()
    for side in sides:
        for encoded in (side.clean, side.counterfactual):
            digest.update(_bytes(encoded))
        digest.update(json.dumps([side.answer.tolist(), side.wrong.tolist()]).encode())
        for more in (side.also_right, side.also_wrong):
            if more is not None:
                digest.update(json.dumps(more.tolist()).encode())
    return digest.hexdigest()


def _bytes(encoded: Encoded) -> bytes:
    ids = encoded.tokens.ids.masked_fill(~encoded.tokens.mask, -1)
    return json.dumps([tensor.tolist() for tensor in (ids, encoded.roles, encoded.slots, encoded.end)]).encode()
