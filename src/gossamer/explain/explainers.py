"""Language models that say what a feature stands for, in the manners that are published."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.chat.chat import Chat, ChatReply, ChatRequest
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.explain.metrics import ceil_level, floor_level
from gossamer.explain.prompts import messages
from gossamer.explain.windows import FeatureWindows, Window
from gossamer.features.feature import Feature
from gossamer.features.lens import Words

# Examples that each manner shows, and the longest text that Neuronpedia takes.
_BILLS, _LOGITS, _SAEBENCH, _LISTED, LONGEST = 5, 10, 10, 10, 512
_MARKER, _BILLS_START = "[EXPLANATION]:", "this feature looks for"


@dataclass(frozen=True)
class Evidence:
    """What an explainer may see of a feature.

    Attributes:
        windows: where it is active.
        promotes, suppresses: words by the logit lens; empty where there are none.
        changed: tokens whose probability rose most when it was amplified; empty where that was not measured.
    """

    windows: FeatureWindows
    promotes: Words = ()
    suppresses: Words = ()
    changed: tuple[str, ...] = ()

    __repr__ = short_repr


@dataclass(frozen=True)
class Explanation:
    """What is said of a feature.

    Attributes:
        feature: the latent.
        text: the sentence, or a rule; "" where there is none.
        method: how it was made: "rule", or the manner of an explainer, "person" ...
        model: of the explainer; "" for rules and people.
        failure: why there is none.
    """

    feature: Feature
    text: str
    method: str
    model: str = ""
    failure: str = ""

    __repr__ = short_repr


def _bills(evidence: Evidence) -> ChatRequest:
    """Bills et al. 2023: the strongest texts, a token a line with its activation from 0 to 10, rounded down."""
    windows, maximum = evidence.windows, evidence.windows.maximum
    texts = []
    for window in windows.top[:_BILLS]:
        levels = [
            (token, floor_level(value, maximum)) for token, value in zip(window.tokens, window.activations, strict=True)
        ]
        texts.append({"levels": levels, "active": [one for one in levels if one[1]]})
    return ChatRequest(*messages("explain_bills", texts=texts), max_tokens=80)


def _delphi(evidence: Evidence) -> ChatRequest:
    """delphi's default: examples of every quantile, strong tokens marked and listed with their activation, 1 to 10."""
    texts = [_with_strong(window, evidence.windows.maximum) for window in evidence.windows.shown]
    system, user = messages("explain_delphi", texts=texts)
    return ChatRequest(f"{system}\n{_rules_too()}", user, max_tokens=200)


def _with_strong(window: Window, maximum: float) -> dict[str, object]:
    places = window.strong(0.3 * window.maximum)
    strong = [(window.tokens[one], ceil_level(window.activations[one], maximum)) for one in places[:_LISTED]]
    return {"marked": window.marked(places), "strong": strong}


def _logits(evidence: Evidence) -> ChatRequest:
    """Neuronpedia's `np_max-act-logits`: strongest tokens, those after them, words by the logit lens; or "say X"."""
    top = evidence.windows.top[:_LOGITS]
    places = [int(np.argmax(one.activations)) for one in top]
    strongest = [one.tokens[place] for one, place in zip(top, places, strict=True)]
    following = [one.tokens[place + 1] for one, place in zip(top, places, strict=True) if place + 1 < len(one.tokens)]
    raised = [word for word, _ in evidence.promotes]
    system, user = messages("explain_logits", strongest=strongest, following=following, raised=raised, texts=top)
    return ChatRequest(system, user, max_tokens=30)


def _output(evidence: Evidence) -> ChatRequest:
    """Output-centric (Gur-Arieh et al. 2025): words by the logit lens, and by what amplifying the feature changes."""
    if not evidence.promotes:
        raise UsageError(
            f"{evidence.windows.feature}: logit-lens words expected for an output-centric explanation, found none; "
            "the dictionary must write to the residual stream, and the store be built with words"
        )
    system, user = messages(
        "explain_output", raised=evidence.promotes, lowered=evidence.suppresses, changed=evidence.changed
    )
    return ChatRequest(system, user, max_tokens=80)


def _saebench(evidence: Evidence) -> ChatRequest:
    """SAEBench's: 10 strongest and 5 drawn by squared activation, every token above 1 % of the maximum marked."""
    windows, level = evidence.windows, 0.01 * evidence.windows.maximum
    top = list(windows.top[:_SAEBENCH])
    others = [one for one in windows.shown if one not in top]
    squares = np.array([one.maximum**2 for one in others])
    draw = np.random.default_rng([9, windows.feature.latent])
    count = min(_SAEBENCH // 2, len(others))
    chosen = list(draw.choice(len(others), count, replace=False, p=squares / squares.sum())) if count else []
    texts = [{"marked": one.marked(one.strong(level))} for one in [*top, *(others[int(one)] for one in chosen)]]
    return ChatRequest(*messages("explain_saebench", texts=texts), max_tokens=40)


def _rules_too() -> str:
    return messages("rules")[0]


EXPLAINERS: Mapping[str, Callable[[Evidence], ChatRequest]] = {
    "bills": _bills,
    "delphi": _delphi,
    "np_max-act-logits": _logits,
    "output": _output,
    "saebench": _saebench,
}


def explanation_request(method: str, evidence: Evidence) -> ChatRequest:
    """What a language model is asked for an explanation.

    Raises:
        UsageError: an unknown manner, or evidence that it lacks.
    """
    if method not in EXPLAINERS:
        raise UsageError(f"explainer: one of rule, {', '.join(EXPLAINERS)} expected, found {method!r}")
    return EXPLAINERS[method](evidence)


def explained(chat: Chat, method: str, evidence: Sequence[Evidence]) -> list[Explanation]:
    """An explanation of each feature; one that failed has no text and says why."""
    replies = chat.ask([explanation_request(method, one) for one in evidence])
    return [_read(one.windows.feature, method, chat.model, reply) for one, reply in zip(evidence, replies, strict=True)]


def _read(feature: Feature, method: str, model: str, reply: ChatReply) -> Explanation:
    if reply.error:
        return Explanation(feature, "", method, model, f"error: {reply.error}")
    text = reply.text.strip()
    if reply.finish == "length":
        return Explanation(feature, "", method, model, f"unparsed: cut off after {text[:80]!r}")
    if method == "delphi":
        if _MARKER not in text:
            return Explanation(feature, "", method, model, f"unparsed: no {_MARKER} in {text[:80]!r}")
        text = text.rpartition(_MARKER)[2].strip()
    if method == "bills" and text.lower().startswith(_BILLS_START):
        text = text[len(_BILLS_START) :].strip()
    text = " ".join(text.split())
    if not text:
        return Explanation(feature, "", method, model, "unparsed: an empty answer")
    if len(text) > LONGEST:
        return Explanation(feature, "", method, model, f"unparsed: {len(text)} characters, {LONGEST} at most")
    return Explanation(feature, text, method, model)
