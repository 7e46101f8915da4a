"""Every prompt that a study tried, as lines of JSON: what broke in full, and all that searches asked in brief."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gossamer.circuits.adversarial.search import Tried
from gossamer.circuits.adversarial.successes import Success
from gossamer.display import plural, short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.files import read_json_lines, write_json_lines
from gossamer.results.values import from_json, to_json

# The first line of a file has it; the other lines are of two kinds.
TAG = "gossamer.adversarial_prompts.1"
FILE = "adversarial_prompts.jsonl"


@dataclass(frozen=True)
class ArmSuccess:
    """A held-out prompt that the recipe of an arm breaks."""

    arm: str
    success: Success


@dataclass(frozen=True)
class TriedText:
    """One prompt that a search asked the model.

    Attributes:
        arm: its letter; `search`: its number; `prompt`: the prompt's place among those of the search.
        edits: that were made; `parent`: those of the recipe that this one was made from, None: it was drawn anew.
        ids: the tokens after them.
        margin: of the right answer over the best wrong one.
        spent: forward passes of the search by then.
    """

    arm: str
    search: int
    prompt: int
    edits: tuple[str, ...]
    parent: tuple[str, ...] | None
    ids: tuple[int, ...]
    margin: float
    spent: int


@dataclass
class PromptRecord:
    """The prompts of a study.

    Attributes:
        about: the study: task, model, checksums of its weights and of the circuit, settings.
        successes: held-out prompts that the arms' recipes break.
        tried: prompts of the searches.
    """

    about: Mapping[str, Any]
    successes: list[ArmSuccess] = field(default_factory=list)
    tried: list[TriedText] = field(default_factory=list)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield str(self.about.get("task"))
        yield f"{plural(len(self.successes), 'success')}, {len(self.tried)} tried"

    def add_search(self, arm: str, number: int, run: Sequence[Tried]) -> None:
        """Keep what a search asked."""
        for one in run:
            edits = tuple(map(str, one.recipe))
            parent = None if one.parent is None else tuple(map(str, one.parent))
            for place, (ids, margin) in enumerate(one.prompts):
                self.tried.append(TriedText(arm, number, place, edits, parent, ids, margin, one.spent))

    def save(self, path: str | Path) -> Path:
        """Write a line of JSON each, atomically: first what the study is, then successes, then what was tried."""
        lines = [{"format": TAG, **to_json(self.about)}]
        lines += [{"kind": "success", **to_json(one)} for one in self.successes]
        lines += [{"kind": "tried", **to_json(one)} for one in self.tried]
        return write_json_lines(path, lines)

    @classmethod
    def load(cls, path: str | Path) -> "PromptRecord":
        """Read such a file.

        Raises:
            UsageError: no such file, or another kind.
            GossamerError: it is damaged.
        """
        (_, about), *lines = read_json_lines(path) or [(1, None)]
        if not isinstance(about, dict) or about.pop("format", None) != TAG:
            raise UsageError(f"{path}: expected prompts of gossamer adversarial ({TAG}), found something else")
        found = cls(about)
        for number, line in lines:
            try:
                kind = line.pop("kind")
                if kind == "success":
                    found.successes.append(from_json(line, ArmSuccess))
                else:
                    found.tried.append(from_json(line, TriedText))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise GossamerError(f"{path}, line {number}: a prompt expected, found damage ({error})") from error
        return found
