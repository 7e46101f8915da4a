"""Who says where an explanation fits: a rule that is followed, or a language model that is asked."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from gossamer.chat.chat import Chat, ChatReply, ChatRequest, Failure, PromptScorer, TokenChances
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.explain import grammar
from gossamer.explain.answers import JudgeAnswer, parse_booleans, parse_choices, parse_numbers
from gossamer.explain.metrics import LEVELS, expected_level
from gossamer.explain.prompts import messages, plain
from gossamer.explain.rules import Executable
from gossamer.explain.token_rows import TokenRows
from gossamer.explain.windows import Window

# Tokens of an answer for each item of a list, and beside them.
_PER_ITEM, _BESIDE = 4, 20
Simulating = Literal["list", "one", "all"]


@dataclass(frozen=True)
class Marked:
    """A text with tokens marked.

    Attributes:
        window: the text.
        places: of the marked tokens.
    """

    window: Window
    places: tuple[int, ...]

    __repr__ = short_repr

    @property
    def text(self) -> str:
        """The words, with << and >> around the marked ones."""
        return self.window.marked(self.places)


@runtime_checkable
class Judge(Protocol):
    """Answers about texts, given an explanation.

    Attributes:
        name: of a language model, or "rule".
    """

    name: str

    def detect(self, explanation: str, windows: Sequence[Window]) -> list[JudgeAnswer]:
        """Whether the feature is active anywhere in each text."""

    def fuzz(self, explanation: str, items: Sequence[Marked]) -> list[JudgeAnswer]:
        """Whether every marked token of each text is one that the explanation means."""

    def simulate(self, explanation: str, windows: Sequence[Window]) -> list[tuple[float, ...] | Failure]:
        """The activation at every token of each text, on any scale."""


class RuleJudge:
    """Follows rules: no words are understood, nothing is unparsed, the same always."""

    name = "rule"

    def detect(self, explanation: str, windows: Sequence[Window]) -> list[JudgeAnswer]:
        """See :class:`Judge`; the probability is the largest expected activation as a share of the largest of all."""
        rule, rows = _rule(explanation), _rows(windows)
        fires = np.logical_or.reduceat(rule.fires(rows), rows.begins)
        largest = np.maximum.reduceat(rule.expected(rows), rows.begins)
        shares = largest / max(float(largest.max()), 1e-30)
        return [JudgeAnswer(bool(one), float(share)) for one, share in zip(fires, shares, strict=True)]

    def fuzz(self, explanation: str, items: Sequence[Marked]) -> list[JudgeAnswer]:
        """See :class:`Judge`; the probability is the share of the marked tokens that fire."""
        rule, rows = _rule(explanation), _rows([item.window for item in items])
        fires = rule.fires(rows)
        shares = [
            float(fires[start + np.array(item.places, dtype=int)].mean())
            for start, item in zip(rows.begins.tolist(), items, strict=True)
        ]
        return [JudgeAnswer(share == 1, share) for share in shares]

    def simulate(self, explanation: str, windows: Sequence[Window]) -> list[tuple[float, ...] | Failure]:
        """See :class:`Judge`."""
        rows = _rows(windows)
        expected = _rule(explanation).expected(rows)
        return [tuple(part.tolist()) for part in np.split(expected, rows.begins[1:])]


def _rule(explanation: str) -> Executable:
    found = grammar.parse(explanation)
    if found is None:
        raise UsageError(
            f"rule: a sentence as 'activates on \" dog\"' expected, found {explanation[:80]!r}; other sentences need a "
            "language model as judge (--endpoint)"
        )
    return found


def _rows(windows: Sequence[Window]) -> TokenRows:
    return TokenRows.of([one.tokens for one in windows], [one.start for one in windows])


class ChatJudge:
    """Asks a language model, several texts a question.

    Attributes:
        name: of the model.
        chat: the model that is asked.
        batch: texts a question.
        logprobs: ask for the likeliest tokens as well, so that answers have probabilities.
        simulating: "list" (a JSON list a text), "one" (a question a token), or "all" (all tokens of a text in one
            prompt whose own log-probabilities are read; few servers give them).
        prompts: gives log-probabilities of prompts; needed for "all".
    """

    def __init__(
        self,
        chat: Chat,
        *,
        batch: int = 5,
        logprobs: bool = True,
        simulating: Simulating = "list",
        prompts: PromptScorer | None = None,
    ) -> None:
        if simulating == "all" and prompts is None:
            raise UsageError("simulation: a model that gives log-probabilities of prompts expected for 'all'")
        self.name, self.chat, self.batch = chat.model, chat, batch
        self.logprobs, self.simulating, self._prompts = logprobs, simulating, prompts

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.name

    def detect(self, explanation: str, windows: Sequence[Window]) -> list[JudgeAnswer]:
        """See :class:`Judge`."""
        return self._sorted("detect", explanation, [one.text for one in windows])

    def fuzz(self, explanation: str, items: Sequence[Marked]) -> list[JudgeAnswer]:
        """See :class:`Judge`."""
        return self._sorted("fuzz", explanation, [one.text for one in items])

    def simulate(self, explanation: str, windows: Sequence[Window]) -> list[tuple[float, ...] | Failure]:
        """See :class:`Judge`."""
        if self.simulating == "all":
            return [self._all_at_once(explanation, one) for one in windows]
        if self.simulating == "one":
            return self._one_by_one(explanation, windows)
        replies = self.chat.ask([simulation_request(explanation, one) for one in windows])
        return [_numbers(reply, len(window.tokens)) for reply, window in zip(replies, windows, strict=True)]

    def intruders(self, groups: Sequence[Sequence[Marked]], truths: Sequence[int]) -> list[JudgeAnswer]:
        """Of each group of texts, whether the one that was named is the one that does not belong (from 0)."""
        requests = []
        for group in groups:
            system, user = messages("intruder", count=len(group), texts=[one.text for one in group])
            requests.append(ChatRequest(system, user, _BESIDE, schema=_list_schema(1, {"type": "integer"})))
        found = []
        for reply, truth in zip(self.chat.ask(requests), truths, strict=True):
            numbers = _numbers(reply, 1)
            found.append(
                JudgeAnswer(failure=numbers) if isinstance(numbers, Failure) else JudgeAnswer(numbers[0] == truth + 1)
            )
        return found

    def choose(self, explanation: str, windows: Sequence[Window]) -> list[JudgeAnswer]:
        """SAEBench's question: which of the numbered texts would activate the feature, all in one answer."""
        texts = [one.text for one in windows]
        system, user = messages("saebench_score", explanation=explanation, count=len(texts), texts=texts)
        (reply,) = self.chat.ask([ChatRequest(system, user, _BESIDE + _PER_ITEM * len(texts))])
        chosen = None if reply.error else parse_choices(reply.text, len(texts))
        if chosen is None:
            return [_failed(reply)] * len(texts)
        return [JudgeAnswer(one) for one in chosen]

    def rate(self, explanation: str, windows: Sequence[Window]) -> list[int | Failure]:
        """How much of a concept each window has: 0, 1 or 2."""
        return self.rate_texts(explanation, [one.text for one in windows])

    def rate_texts(self, explanation: str, texts: Sequence[str]) -> list[int | Failure]:
        """The same of any texts."""
        found: list[int | Failure] = []
        batches = [texts[start : start + self.batch] for start in range(0, len(texts), self.batch)]
        requests = [_list_request("rate", explanation, batch) for batch in batches]
        for reply, batch in zip(self.chat.ask(requests), batches, strict=True):
            numbers = _numbers(reply, len(batch))
            if isinstance(numbers, tuple) and set(numbers) <= {0.0, 1.0, 2.0}:
                found += [int(one) for one in numbers]
            else:
                found += [numbers if isinstance(numbers, Failure) else Failure.UNPARSED] * len(batch)
        return found

    def _sorted(self, template: str, explanation: str, texts: Sequence[str]) -> list[JudgeAnswer]:
        batches = [texts[start : start + self.batch] for start in range(0, len(texts), self.batch)]
        requests = [sorting_request(template, explanation, batch, logprobs=self.logprobs) for batch in batches]
        replies = self.chat.ask(requests)
        return [
            answer for reply, batch in zip(replies, batches, strict=True) for answer in _booleans(reply, len(batch))
        ]

    def _one_by_one(self, explanation: str, windows: Sequence[Window]) -> list[tuple[float, ...] | Failure]:
        requests = []
        for window in windows:
            for place, token in enumerate(window.tokens):
                before = "".join(window.tokens[:place])
                system, user = messages("simulate_one", explanation=explanation, before=before, token=token)
                requests.append(ChatRequest(system, user, 2, top_logprobs=20))
        replies = iter(self.chat.ask(requests))
        found: list[tuple[float, ...] | Failure] = []
        for window in windows:
            levels = [_expected(next(replies)) for _ in window.tokens]
            failed = next((one for one in levels if isinstance(one, Failure)), None)
            found.append(failed or tuple(one for one in levels if not isinstance(one, Failure)))
        return found

    def _all_at_once(self, explanation: str, window: Window) -> tuple[float, ...] | Failure:
        assert self._prompts is not None
        head = plain("simulate_all", explanation=explanation, tokens=[])
        prompt = plain("simulate_all", explanation=explanation, tokens=window.tokens)
        found = self._prompts.prompt_chances(prompt, 20)
        places = unknown_places(found, len(head))
        levels = [expected_level(found[place].top) for place in places]
        if len(levels) != len(window.tokens) or None in levels:
            return Failure.UNPARSED
        return tuple(level for level in levels if level is not None)


def unknown_places(chances: Sequence[TokenChances], start: int) -> list[int]:
    """The tokens of a prompt that begin the word "unknown" after a tab, behind the first `start` characters."""
    text = "".join(one.token for one in chances)
    begins = np.cumsum([0, *(len(one.token) for one in chances[:-1])])
    found, at = [], text.find("\tunknown", start)
    while at >= 0:
        # The word begins in the token that holds its first letter.
        found.append(int(np.searchsorted(begins, at + 1, side="right")) - 1)
        at = text.find("\tunknown", at + 1)
    return found


def sorting_request(template: str, explanation: str, texts: Sequence[str], *, logprobs: bool) -> ChatRequest:
    """The question whether an explanation fits each of some texts."""
    request = _list_request(template, explanation, texts)
    return replace(request, top_logprobs=5) if logprobs else request


def simulation_request(explanation: str, window: Window) -> ChatRequest:
    """The question of the activation at every token of a text, as one list."""
    count = len(window.tokens)
    system, user = messages("simulate_list", explanation=explanation, count=count, tokens=window.tokens)
    schema = _list_schema(count, {"type": "integer", "minimum": 0, "maximum": LEVELS})
    return ChatRequest(system, user, _BESIDE + _PER_ITEM * count, schema=schema)


def _list_request(template: str, explanation: str, texts: Sequence[str]) -> ChatRequest:
    count = len(texts)
    sample = json.dumps([place % 2 for place in range(count)])
    system, user = messages(template, explanation=explanation, count=count, sample=sample, texts=texts)
    items = {"type": "integer", "minimum": 0, "maximum": 2 if template == "rate" else 1}
    return ChatRequest(system, user, _BESIDE + _PER_ITEM * count, schema=_list_schema(count, items))


def _list_schema(count: int, items: dict[str, object]) -> str:
    return json.dumps({"type": "array", "items": items, "minItems": count, "maxItems": count})


def _failed(reply: ChatReply) -> JudgeAnswer:
    return JudgeAnswer(failure=Failure.ERROR if reply.error else Failure.UNPARSED)


def _booleans(reply: ChatReply, count: int) -> list[JudgeAnswer]:
    found = None if reply.error else parse_booleans(reply.text, count)
    if found is None:
        return [_failed(reply)] * count
    chances = _chances(reply.chances, count)
    if chances is None:
        return [JudgeAnswer(one) for one in found]
    return [JudgeAnswer(one, chance) for one, chance in zip(found, chances, strict=True)]


def _chances(tokens: Sequence[TokenChances], count: int) -> list[float] | None:
    """P(1) / (P(0) + P(1)) at each digit of an answer, over the tokens that hold the digit; None where they are not
    just as many."""
    found = []
    for one in tokens:
        if one.token.strip(" [],\n") not in ("0", "1"):
            continue
        zero, yes = (
            sum(np.exp(value) for token, value in one.top.items() if token.strip(" [],\n") == digit) for digit in "01"
        )
        if not zero + yes:
            return None
        found.append(float(yes / (zero + yes)))
    return found if len(found) == count else None


def _numbers(reply: ChatReply, count: int) -> tuple[float, ...] | Failure:
    if reply.error:
        return Failure.ERROR
    found = parse_numbers(reply.text, count)
    return Failure.UNPARSED if found is None else tuple(found)


def _expected(reply: ChatReply) -> float | Failure:
    if reply.error:
        return Failure.ERROR
    level = expected_level(reply.chances[0].top) if reply.chances else None
    return Failure.UNPARSED if level is None else level
