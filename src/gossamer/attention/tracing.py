"""A trace from a prompt or a task to a file: what `gossamer trace` does."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from gossamer.attention.check import TraceCheck, check_trace
from gossamer.attention.frozen import FrozenPass
from gossamer.attention.trace import Root, Trace, latent_root, logit_root, trace
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import html_table, plural, short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import SiteMapping
from gossamer.results.document import Format
from gossamer.tasks.prompt_tokenizer import PromptTokenizer
from gossamer.tasks.published import TaskLike, task_of

Dictionaries = SiteMapping[Dictionary] | Iterable[Dictionary]


@dataclass(frozen=True)
class TraceResult:
    """A trace with what it is of.

    Attributes:
        model: title of the model.
        prompt: the tokens of the prompt, by position; of a task empty: places are its roles.
        prompts: how many prompts contributions are means over.
        trace: the tree.
        check: its edges against the model itself, where that was asked for.
    """

    model: str
    prompt: tuple[str, ...]
    prompts: int
    trace: Trace
    check: TraceCheck | None = None

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.trace.target} in {self.model}"
        yield plural(len(self.trace.nodes), "node")
        yield plural(self.prompts, "prompt")

    def _repr_html_(self) -> str:
        head = ("node", "parent", "source", "token", "contribution", "share of parent", "unexplained")
        rows = [
            (number, "" if node.parent is None else node.parent, node.source, self.token(number), *map(_short, values))
            for number, node in enumerate(self.trace.nodes)
            for values in [(node.contribution, node.share, node.remainder)]
        ]
        return html_table(head, rows, repr(self))

    def token(self, number: int) -> str:
        """The text of the token that a node stands at; "" of a task."""
        place = self.trace.nodes[number].source.place
        return self.prompt[place] if isinstance(place, int) and self.prompt else ""

    def save(self, path: str | Path) -> Path:
        """Write JSON, atomically. Returns the path."""
        return FORMAT.save(path, self)

    @classmethod
    def load(cls, path: str | Path) -> "TraceResult":
        """Read a saved trace.

        Raises:
            UsageError: no such file, or another kind of file.
            GossamerError: it is damaged.
        """
        return FORMAT.load(path)


FORMAT: Format[TraceResult] = Format("gossamer.trace", 1, TraceResult, "a trace")


def _short(value: float) -> str:
    return f"{value:.3g}"


def trace_prompt(
    model: LanguageModel,
    dictionaries: Dictionaries,
    prompt: str,
    *,
    answer: str | None = None,
    wrong: str | None = None,
    feature: Feature | None = None,
    position: int = -1,
    nodes: int = 100,
    least: float = 0.0,
    bos: bool | None = None,
    check: bool = False,
) -> TraceResult:
    """Where a logit difference after a prompt, or a latent on it, came from.

    Args:
        model: the language model.
        dictionaries: autoencoders and transcoders, one for each site.
        prompt: the text.
        answer, wrong: the two continuations whose logits are compared after the prompt; of several tokens, the first.
        feature, position: a latent at one of its tokens instead, counted from the end where negative.
        nodes, least: see :func:`gossamer.attention.trace.trace`.
        bos: whether BOS comes first; None: as the tokenizer does.
        check: remove every contribution from the model and measure what it does.

    Raises:
        UsageError: no target or two, answers that begin alike, or what the functions that it calls refuse.
    """
    if (feature is None) == (answer is None and wrong is None):
        raise UsageError("trace: an answer with a wrong one, or a latent, expected as what is explained; give one")
    tokens = model.tokenize([prompt], bos=bos)
    frozen = FrozenPass.of(model, dictionaries, tokens)
    root = _answer_root(frozen, prompt, answer, wrong) if feature is None else latent_root(frozen, feature, position)
    found = trace(frozen, root, nodes=nodes, least=least)
    words = tuple(model.word(token) for token in tokens.ids[0].tolist())
    return TraceResult(model.title, words, 1, found, check_trace(frozen, root, found) if check else None)


def _answer_root(frozen: FrozenPass, prompt: str, answer: str | None, wrong: str | None) -> Root:
    if answer is None or wrong is None:
        raise UsageError("trace: an answer and a wrong one expected, whose logits are compared; give both")
    found = PromptTokenizer(frozen.model.tokenizer).answers([prompt] * 2, [answer, wrong])
    first = [one.first for one in found]
    if first[0] is None or first[1] is None or first[0] == first[1]:
        raise UsageError(
            f"answers {answer!r} and {wrong!r}: two that go on after the prompt with different tokens expected; begin "
            "each with a space if the prompt ends in a word"
        )
    right, other = (torch.tensor([token], device=frozen.replaced.device) for token in first)
    return logit_root(frozen, right, other, frozen.tokens.last)


def trace_task(
    model: LanguageModel,
    dictionaries: Dictionaries,
    task: TaskLike,
    *,
    prompts: int = 64,
    nodes: int = 100,
    least: float = 0.0,
    check: bool = False,
) -> TraceResult:
    """Where a task's logit difference came from, added up by role over its held-out prompts, as means.

    It is that of each prompt's first right and first wrong answer, whatever else the task measures.

    Memory: the patterns of all layers for all of the prompts.

    Args:
        model: the language model.
        dictionaries: autoencoders and transcoders, one for each site.
        task: a task, the name of one, or its file.
        prompts: at most so many of the held-out prompts.
        nodes, least: see :func:`gossamer.attention.trace.trace`.
        check: remove every contribution from the model, at all tokens of its role, and measure what it does.

    Raises:
        UsageError: fewer than one prompt asked for, or what the functions that it calls refuse.
    """
    if prompts < 1:
        raise UsageError(f"prompts: at least 1 expected, found {prompts}")
    chosen = task_of(task, model.tokenizer)
    examples = chosen.test.select(torch.arange(min(prompts, len(chosen.test)))).to(model.device)
    clean = examples.clean
    frozen = FrozenPass.of(model, dictionaries, clean.tokens)
    root = logit_root(frozen, examples.answer, examples.incorrect, clean.answer_position)
    found = trace(frozen, root, nodes=nodes, least=least, roles=clean.roles, role_names=chosen.role_names)
    checked = check_trace(frozen, root, found, roles=clean.roles, role_names=chosen.role_names) if check else None
    return TraceResult(model.title, (), len(examples), found, checked)
