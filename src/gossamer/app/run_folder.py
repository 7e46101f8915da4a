"""What a run folder holds: every file of results below it, with a name that a request may use, and whether it is whole.

A request names a part by its id alone. Ids are made here from what was found, so that no path is ever made of what was
asked for; what a link leads to outside the folder is not looked at.
"""

import hashlib
import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from gossamer.display import plural, short_repr
from gossamer.errors import GossamerError, UsageError

# Folders below the run's own that are looked into, and files that are looked at, at most.
_DEPTH, _FILES = 4, 5000
# Files up to this size are read whole to say whether they are; larger ones when they are asked for.
_WHOLE = 2**25
_HEAD = 4096
_SUM = re.compile(rb'"sha256"\s*:\s*"([0-9a-f]{64})"')
# In the head of a tensor file it is JSON within JSON.
_TAG = re.compile(rb'"format\\?"\s*:\s*\\?"([a-z_.]{1,60}\.[0-9]{1,6})\\?"')
_TENSORS = ".relation.safetensors"
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")
_PAGES = (".html",)
# What files of these names are meant to be where their beginning does not say it: damaged ones, and those of before
# there were formats.
_NAMES = {"circuit.json": "gossamer.circuit.0", "findings.json": "gossamer.findings.0"}
# One dictionary as SAELens and training write it, where no index beside it or above lists it.
_SINGLE, _INDEX = ("cfg.json", "sae_weights.safetensors"), "dictionaries.json"

State = Literal["whole", "damaged", "newer", "not read"]


class UnknownError(UsageError):
    """Nothing of that name is in the run."""


@dataclass(frozen=True)
class Kind:
    """A kind of results: what it is called, and where what loads it stands, as MODULE:NAME."""

    name: str
    form: str | None = None


KINDS: Mapping[str, Kind] = {
    "gossamer.circuit": Kind("circuit", "gossamer.circuits.circuit:FORMAT"),
    "gossamer.circuit_search": Kind("search for a circuit", "gossamer.circuits.kept_search:FORMAT"),
    "gossamer.task_study": Kind("study of circuits", "gossamer.circuits.task_study:FORMAT"),
    "gossamer.findings": Kind("findings", "gossamer.circuits.results:FORMAT"),
    "gossamer.adversarial": Kind("adversarial prompts", "gossamer.circuits.adversarial.results:FORMAT"),
    "gossamer.adversarial_seeds": Kind(
        "adversarial prompts of several seeds", "gossamer.circuits.adversarial.seeds:FORMAT"
    ),
    "gossamer.attribution": Kind("attribution", "gossamer.attention.attribution_data:FORMAT"),
    "gossamer.trace": Kind("trace", "gossamer.attention.tracing:FORMAT"),
    "gossamer.ioi": Kind("IOI study", "gossamer.attention.ioi.results:FORMAT"),
    "gossamer.steering": Kind("steering sweep", "gossamer.steering.sweep:FORMAT"),
    "gossamer.explanations": Kind("explanations", "gossamer.explain.study:EXPLANATIONS"),
    "gossamer.explanation_scores": Kind("scores of explanations", "gossamer.explain.study:SCORES"),
    "gossamer.relations": Kind("relations", "gossamer.relations.relations_data:FORMAT"),
    "gossamer.relation_study": Kind("study of relations", "gossamer.relations.study_results:FORMAT"),
    "gossamer.relation": Kind("relation"),
    "gossamer.dictionaries": Kind("dictionaries", "gossamer.app.saved_dictionaries:SavedDictionaries"),
    "gossamer.store": Kind("feature store", "gossamer.store.manifest:FORMAT"),
    "gossamer.task": Kind("task"),
    "gossamer.training": Kind("training run", "gossamer.training.request:FORMAT"),
    "gossamer.coding": Kind("study of encoders", "gossamer.replacement.coding_study:FORMAT"),
    "gossamer.ablation": Kind("comparison of recipes", "gossamer.training.recipe_comparison.results:FORMAT"),
}


@dataclass(frozen=True)
class Part:
    """One file of results.

    Attributes:
        id: what requests call it.
        kind: of results; the format's name for one that the workbench has no view of.
        path: where it lies.
        bytes: its size.
        modified: seconds since the epoch.
    """

    id: str
    kind: str
    format: str
    path: Path
    bytes: int
    modified: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.id
        yield self.kind


@dataclass(frozen=True)
class Reading:
    """What became of reading a part: its content if it is whole, else why not."""

    state: State
    content: Any = None
    message: str | None = None


class RunFolder:
    """A folder of results, looked at again whenever it is asked for: a run at work adds to it.

    Raises:
        UsageError: no such folder, or one that cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        given = Path(path)
        if not given.is_dir():
            found = "a file" if given.exists() else "nothing"
            raise UsageError(f"{given}: the folder of a run expected, found {found}; give the --out of a command")
        self.path = given.resolve()
        try:
            next(self.path.iterdir(), None)
        except OSError as error:
            raise UsageError(f"{given}: cannot be read ({error.strerror or error})") from error
        self._readings: dict[tuple[Path, int, float], Reading] = {}
        self._reading = threading.Lock()
        self._formats: dict[tuple[Path, int, float], str | None] = {}

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield str(self.path)
        yield plural(len(self.parts()), "part")

    @property
    def name(self) -> str:
        """What the run is called."""
        return self.path.name

    def parts(self) -> dict[str, Part]:
        """Every file of results, by id."""
        found = [self._part(path) for path in self._files() if path.suffix not in _PAGES]
        parts = {part.id: part for part in found if part is not None}
        told = {part.path.parent for part in parts.values() if part.kind == "relations"}
        return {name: part for name, part in parts.items() if part.kind != "relation" or part.path.parent not in told}

    def pages(self) -> list[Path]:
        """HTML pages that were written there, as paths from the folder."""
        return [path.relative_to(self.path) for path in self._files() if path.suffix in _PAGES]

    def part(self, identifier: str) -> Part | None:
        """The part of that id, if there is one now."""
        return self.parts().get(identifier)

    def content(self, identifier: str, *kinds: str) -> tuple[Part, Any]:
        """A part of one of these kinds (of any, where none is named), and what it holds.

        Raises:
            UnknownError: no such part, or one of another kind.
            GossamerError: damaged, or newer than this version.
        """
        part = self.part(identifier)
        if part is None or (kinds and part.kind not in kinds):
            known = [one.id for one in self.parts().values() if not kinds or one.kind in kinds]
            wanted = " or ".join(kinds) or "a file of results"
            raise UnknownError(
                f"{wanted} {identifier!r}: not in {self.name}; it holds {', '.join(known[:20]) or f'no {wanted}'}"
            )
        reading = self.read(part)
        if reading.content is None:
            raise GossamerError(reading.message or f"{part.path.name}: cannot be shown")
        return part, reading.content

    def read(self, part: Part) -> Reading:
        """The content of a part, read once as long as its file stays as it is."""
        key = (part.path, part.bytes, part.modified)
        # Requests of one page come in several threads.
        with self._reading:
            if key not in self._readings:
                self._readings = {known: one for known, one in self._readings.items() if known[0] != part.path}
                self._readings[key] = _read(part)
            return self._readings[key]

    def digest(self, part: Part) -> str | None:
        """SHA-256 of the content of a part, as its file says it."""
        try:
            with part.path.open("rb") as file:
                found = _SUM.search(file.read(_HEAD))
        except OSError:
            return None
        return None if found is None else found[1].decode()

    def checked(self, part: Part) -> Reading:
        """The same for a small file; a large one is not read to say whether it is whole."""
        return self.read(part) if part.bytes <= _WHOLE else Reading("not read")

    def _files(self) -> list[Path]:
        found: list[Path] = []
        for folder, folders, names in os.walk(self.path, followlinks=False):
            depth = len(Path(folder).relative_to(self.path).parts)
            hidden = depth >= _DEPTH
            folders[:] = [] if hidden else sorted(one for one in folders if one != "features" and one[0] != ".")
            # The relations of a folder are one part: its first pair of dictionaries stands for all.
            pair = next((name for name in sorted(names) if name.endswith(_TENSORS)), None)
            for name in sorted(names):
                path = Path(folder) / name
                known = path.suffix in (".json", *_PAGES) or name == pair
                if known and not name.startswith(".") and not path.is_symlink():
                    found.append(path)
            if len(found) >= _FILES:
                break
        return found[:_FILES]

    def _part(self, path: Path) -> Part | None:
        try:
            facts = path.stat()
            # A file that stays as it is, is not read again at every look.
            key = (path, facts.st_size, facts.st_mtime)
            if key not in self._formats:
                self._formats[key] = _format(path)
            name = self._formats[key]
        except OSError:
            return None
        if name is None:
            return None
        kind = KINDS.get(name.rpartition(".")[0])
        relative = path.relative_to(self.path)
        shown = name.rpartition(".")[0].removeprefix("gossamer.") if kind is None else kind.name
        return Part(_id(relative), shown, name, path, facts.st_size, facts.st_mtime)


def _format(path: Path) -> str | None:
    """What the beginning of a file says that it is, or else its name."""
    with path.open("rb") as file:
        tag = _TAG.search(file.read(_HEAD))
    if tag is None and path.name == _SINGLE[0] and (path.parent / _SINGLE[1]).is_file():
        listed = any((folder / _INDEX).is_file() for folder in (path.parent, path.parent.parent))
        return None if listed else "gossamer.dictionaries.0"
    return _NAMES.get(path.name) if tag is None else tag[1].decode()


def _id(path: Path) -> str:
    """A name of letters, digits, `.`, `_`, `-` and `~`, the same at every look; no two files share one."""
    parts = path.with_suffix("").parts
    plain = [re.sub(r"[^A-Za-z0-9._-]", "_", part)[:40] for part in parts]
    name = "~".join(plain)
    if all(_PLAIN.fullmatch(part) and len(part) <= 40 for part in parts) and len(name) <= 120:
        return name
    return f"{name[:100]}~{hashlib.sha256(str(path).encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"


def _read(part: Part) -> Reading:
    kind = KINDS.get(part.format.rpartition(".")[0])
    if kind is None or kind.form is None:
        return Reading("not read")
    module, _, name = kind.form.partition(":")
    form = getattr(import_module(module), name)
    try:
        return Reading("whole", form.load(part.path))
    except GossamerError as error:
        newer = isinstance(error, UsageError) and "upgrade gossamer" in str(error)
        return Reading("newer" if newer else "damaged", None, str(error).replace(f"{part.path.parent}{os.sep}", ""))
