"""What is known of one feature on one text: what a report, an explanation, a relation and a page all show."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, Protocol, runtime_checkable

import torch

from gossamer.display import plural, quoted, short_repr
from gossamer.features.feature import Feature
from gossamer.features.lens import Words
from gossamer.features.neighbours import Neighbour

# What stands for bytes that are no character.
_BROKEN = "\ufffd"


@dataclass(frozen=True)
class FeatureExample:
    """A piece of text in which a feature fires.

    Attributes:
        tokens: the tokens in words.
        activations: of the feature at each token.
        position: index into `tokens` of the token that the example was chosen for.
        document: number of the text it stands in.
        stratum: number of the quantile group that it was drawn from, 0 the weakest; None for a strongest example.
    """

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    position: int
    document: int
    stratum: int | None = None

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        before = "".join(self.tokens[: self.position])
        yield f"…{before[-60:]!r}, then {self.tokens[self.position]!r}"
        yield f"activation {self.activation:.3g} in document {self.document}"

    @property
    def activation(self) -> float:
        """At the token that the example was chosen for."""
        return self.activations[self.position]


# Edges of the bins that activations are counted in: quarters of an octave from 2^-20 to 2^20.
HISTOGRAM_EDGES = tuple(torch.pow(2.0, torch.arange(-80, 81) / 4).tolist())


@dataclass(frozen=True)
class Histogram:
    """Counts of positive values between edges: `counts[i]` lie in [edges[i], edges[i + 1])."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def from_bins(cls, counts: Sequence[int], first: int = 0) -> "Histogram":
        """From counts between the edges of :data:`HISTOGRAM_EDGES`, beginning with bin `first`.

        Empty bins at either end are left out.
        """
        filled = [place for place, count in enumerate(counts) if count]
        if not filled:
            return cls((), ())
        kept = slice(filled[0], filled[-1] + 1)
        return cls(HISTOGRAM_EDGES[first + kept.start : first + kept.stop + 1], tuple(counts[kept]))

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{sum(self.counts):,} values in {plural(len(self.counts), 'bin')}"


@dataclass(frozen=True)
class FeatureCard:
    """One feature on one text.

    Attributes:
        feature: the latent.
        model: name of the language model.
        tokens: tokens that were looked at; BOS and padding are none of them.
        active: tokens on which the feature was active.
        mean, std, maximum: of its activation where it was active; 0 if it never was.
        histogram: of its activation where it was active, in quarters of an octave.
        promotes, suppresses: logit-lens words; empty where the dictionary writes to no residual stream.
        examples: where it fired most, a document at most once, the strongest first.
        strata: examples drawn from all its activations, grouped by quantile, the weakest group first.
        link: address of its page on Neuronpedia.
        explanation: what it is said to stand for.
        neighbours: latents that have most to do with it, grouped by measure, of each the largest value first.
    """

    feature: Feature
    model: str
    tokens: int
    active: int
    mean: float
    std: float
    maximum: float
    histogram: Histogram
    promotes: Words = ()
    suppresses: Words = ()
    examples: tuple[FeatureExample, ...] = ()
    strata: tuple[FeatureExample, ...] = ()
    link: str | None = None
    explanation: str | None = None
    neighbours: tuple[Neighbour, ...] = ()

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.feature}, active on {self.density:.2%} of {plural(self.tokens, 'token')}"
        yield f"max {self.maximum:.3g}"
        if self.promotes:
            yield f"promotes {' '.join(word.strip() for word, _ in self.promotes[:3])}"

    @property
    def density(self) -> float:
        """Share of the tokens on which it was active."""
        return self.active / self.tokens if self.tokens else 0.0

    @property
    def label(self) -> str:
        """The shortest that can be said of it: its explanation, else words that it promotes, else where it fires."""
        if self.explanation is not None:
            return self.explanation
        return ", ".join(map(quoted, self.words()))

    def words(self, count: int = 3) -> tuple[str, ...]:
        """Words that it promotes; where there are none, those on which it fires most, each once.

        Tokens that are parts of a character are none: all look alike.
        """
        promoted = [word for word, _ in self.promotes if _BROKEN not in word]
        fired = (example.tokens[example.position] for example in self.examples)
        found = promoted or [word for word in fired if _BROKEN not in word]
        return tuple(dict.fromkeys(word.strip() or word for word in found))[:count]

    def to_json(self) -> dict[str, Any]:
        """JSON values only; :meth:`from_json` is the inverse."""
        neighbours = [{**asdict(one), "feature": str(one.feature)} for one in self.neighbours]
        return {**asdict(self), "feature": str(self.feature), "neighbours": neighbours}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "FeatureCard":
        """The card that :meth:`to_json` wrote."""
        given = dict(value)
        given["feature"] = Feature.parse(given["feature"])
        given["histogram"] = Histogram(*(tuple(given["histogram"][name]) for name in ("edges", "counts")))
        for name in ("promotes", "suppresses"):
            given[name] = tuple((word, number) for word, number in given[name])
        for name in ("examples", "strata"):
            given[name] = tuple(
                FeatureExample(**{**one, "tokens": tuple(one["tokens"]), "activations": tuple(one["activations"])})
                for one in given[name]
            )
        given["neighbours"] = tuple(
            Neighbour(Feature.parse(one["feature"]), one["measure"], one["value"])
            for one in given.get("neighbours", ())
        )
        return cls(**given)

    def _repr_html_(self) -> str:
        return "".join(_html(self))


@runtime_checkable
class CardSource(Protocol):
    """Where cards of features come from, if not from a pass over a text that is made for them: a feature store."""

    @property
    def text(self) -> str:
        """What text its cards are of, in a reader's words."""

    def cards(self, features: Iterable[Feature]) -> Mapping[Feature, FeatureCard]:
        """The card of each feature. Raises :class:`gossamer.UsageError` for one that it does not know."""


def _html(card: FeatureCard) -> Iterator[str]:
    """A block that stands alone in a notebook: no script, no style sheet, nothing fetched."""
    yield '<div style="font:14px/1.5 sans-serif;max-width:60em">'
    yield f"<b>{escape(str(card.feature))}</b> in {escape(card.model)}: active on {card.density:.3%} of "
    yield f"{card.tokens:,} tokens, mean {card.mean:.3g}, max {card.maximum:.3g}"
    # Addresses come from files of other people: only web addresses become links.
    if card.link and card.link.startswith(("https://", "http://")):
        yield f' · <a href="{escape(card.link)}">Neuronpedia</a>'
    if card.explanation:
        yield f"<div><i>{escape(card.explanation)}</i></div>"
    for name, words in (("promotes", card.promotes), ("suppresses", card.suppresses)):
        if words:
            yield f"<div>{name} {', '.join(f'<code>{escape(word)}</code> {value:+.2f}' for word, value in words)}</div>"
    if card.neighbours:
        near = (f"{escape(str(one.feature))} ({escape(one.measure)} {one.value:.2f})" for one in card.neighbours)
        yield f"<div>near {', '.join(near)}</div>"
    for example in (*card.examples, *card.strata):
        yield f"<div>{example.activation:.3g} &nbsp; {''.join(_shaded(example, card.maximum))}</div>"
    yield "</div>"


def _shaded(example: FeatureExample, largest: float) -> Iterator[str]:
    for token, activation in zip(example.tokens, example.activations, strict=True):
        share = min(max(activation / largest, 0.0), 1.0) if largest > 0 else 0.0
        shown = escape(token).replace("\n", "⏎")
        style = f' style="background:rgba(255,140,0,{share:.2f})" title="{activation:.3g}"' if share else ""
        yield f"<span{style}>{shown}</span>"
