"""What the answers of a server that a folder keeps have cost, in tokens: prices are the reader's own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gossamer.display import plural, short_repr
from gossamer.errors import GossamerError
from gossamer.files import read_json

# Answers that are read, at most.
_MOST = 20_000


@dataclass(frozen=True)
class AnswersUsage:
    """Answers that are kept on disk.

    Attributes:
        answers: how many were read; `unread`: damaged ones, and those behind the first 20,000.
        prompt_tokens, output_tokens: of these, as the server counted them.
        models: names that answered.
    """

    answers: int
    unread: int
    prompt_tokens: int
    output_tokens: int
    models: tuple[str, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(self.answers, "answer")
        yield f"{self.prompt_tokens:,} tokens of prompts, {self.output_tokens:,} of answers"


def answers_usage(folder: str | Path) -> AnswersUsage | None:
    """The answers that :class:`gossamer.chat.endpoint.Endpoint` keeps in a folder; None where there are none."""
    paths = sorted(Path(folder).rglob("*.json")) if Path(folder).is_dir() else []
    prompt_tokens, output_tokens, read, models = 0, 0, 0, set[str]()
    for path in paths[:_MOST]:
        try:
            reply = read_json(path)
            counts, model = (int(reply["prompt_tokens"]), int(reply["output_tokens"])), str(reply["model"])
        except (GossamerError, TypeError, KeyError, ValueError):
            continue
        prompt_tokens, output_tokens, read = prompt_tokens + counts[0], output_tokens + counts[1], read + 1
        models.add(model)
    if not paths:
        return None
    return AnswersUsage(read, len(paths) - read, prompt_tokens, output_tokens, tuple(sorted(models)))
