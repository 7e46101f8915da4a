"""Windows of a feature: what an explainer is shown, and what an explanation is tested on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int

from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import plural, short_repr
from gossamer.explain.corpus import TEST, TRAIN, VALIDATION, WindowedCorpus
from gossamer.features.feature import Feature

RANDOM, SAME_TOKENS, NEIGHBOUR = "random", "same tokens", "neighbour"
# Tokens of a feature that hard negatives hold.
_TOP_TOKENS = 10


@dataclass(frozen=True)
class Window:
    """A piece of text with a feature's activation at every token.

    Attributes:
        document: number of the text.
        start: position of the first token in it.
        tokens: in words.
        activations: one a token.
        kind: of a silent window why it was chosen: "random", "same tokens" or "neighbour".
        stratum: of an active one, its quantile group, 0 the weakest.
    """

    document: int
    start: int
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    kind: str = ""
    stratum: int | None = None

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.text[:80]!r}"
        yield f"max {self.maximum:.3g}" if self.active else self.kind or "silent"

    @property
    def text(self) -> str:
        """The words."""
        return "".join(self.tokens)

    @property
    def maximum(self) -> float:
        """Largest activation."""
        return max(self.activations)

    @property
    def active(self) -> bool:
        """Whether the feature is active anywhere in it."""
        return self.maximum > 0

    def strong(self, level: float) -> tuple[int, ...]:
        """Places of the tokens with at least so much activation; of the largest, where all have less."""
        least = min(level, self.maximum)
        return tuple(place for place, value in enumerate(self.activations) if value >= least and value > 0)

    def marked(self, places: Sequence[int], left: str = "<<", right: str = ">>") -> str:
        """The text with tokens marked; neighbouring ones together."""
        chosen, parts = set(places), []
        for place, token in enumerate(self.tokens):
            opening = left if place in chosen and place - 1 not in chosen else ""
            closing = right if place in chosen and place + 1 not in chosen else ""
            parts.append(f"{opening}{token}{closing}")
        return "".join(parts)


@dataclass(frozen=True)
class FeatureWindows:
    """All windows of a feature that anybody sees. Those of one list share no document with those of another.

    Attributes:
        feature: the latent.
        maximum: largest activation in the corpus.
        shown: to explainers, a fair sample of all active windows, the strongest first.
        top: the strongest windows of the part that explainers see.
        positives: active windows of the test.
        negatives: silent ones, random ones first.
    """

    feature: Feature
    maximum: float
    shown: tuple[Window, ...]
    top: tuple[Window, ...]
    positives: tuple[Window, ...]
    negatives: tuple[Window, ...]
    silent: tuple[Window, ...] = field(default=(), repr=False)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        kinds = ", ".join(f"{kind} {len(self.of_kind(kind))}" for kind in (RANDOM, SAME_TOKENS, NEIGHBOUR))
        yield f"{self.feature}, {plural(len(self.shown), 'window')} to explain"
        yield f"{len(self.positives)} active and {len(self.negatives)} silent ones to test ({kinds})"

    def of_kind(self, kind: str) -> tuple[Window, ...]:
        """Silent windows of the test that were chosen for one reason."""
        return tuple(one for one in self.negatives if one.kind == kind)


@dataclass(frozen=True)
class Unexplained:
    """A feature without windows enough, and why."""

    feature: Feature
    reason: str

    __repr__ = short_repr


def feature_windows(
    corpus: WindowedCorpus,
    feature: Feature,
    values: Float[np.ndarray, "tokens"],
    neighbours: Sequence[Float[np.ndarray, "tokens"]] = (),
) -> FeatureWindows | Unexplained:
    """Draw the windows of a feature.

    Args:
        corpus: the text.
        feature: the latent.
        values: its activation at every token.
        neighbours: activations of the features that are most like it, for hard negatives: windows in which one of
            them is active and this one is not. Half of the negatives are random, the others are of these and of
            windows that hold the feature's own tokens, where there are any; none is drawn twice.
    """
    settings = corpus.settings
    maxima = np.maximum.reduceat(values, corpus.bounds[:-1])
    if not values.any():
        return Unexplained(feature, "never active in the corpus")
    draw = np.random.default_rng([settings.seed, 2, feature.latent, sum(map(ord, str(feature.site)))])
    shown, tested = (np.flatnonzero((corpus.split == part) & (maxima > 0)) for part in (TRAIN, TEST))
    if min(len(shown), len(tested)) < settings.least:
        return Unexplained(
            feature, f"active in {len(shown)} windows to explain and {len(tested)} to test, {settings.least} needed"
        )
    strongest = shown[np.argsort(-maxima[shown], kind="stable")]
    negatives = _negatives(corpus, values, maxima, neighbours, draw)
    kept = _stratified(strongest[::-1], settings.shown, settings.strata, draw)
    ranked = tested[np.argsort(maxima[tested], kind="stable")]
    positives = _stratified(ranked, settings.positives, settings.strata, draw)
    quiet = np.flatnonzero((corpus.split == TRAIN) & (maxima == 0))
    silent = draw.choice(quiet, min(settings.shown, len(quiet)), replace=False)
    return FeatureWindows(
        feature,
        float(values.max()),
        tuple(_window(corpus, values, one, stratum=stratum) for one, stratum in reversed(kept)),
        tuple(_window(corpus, values, one) for one in strongest[: settings.shown].tolist()),
        tuple(_window(corpus, values, one, stratum=stratum) for one, stratum in positives),
        tuple(_window(corpus, values, one, kind=kind) for one, kind in negatives),
        tuple(_window(corpus, values, one, kind=RANDOM) for one in silent.tolist()),
    )


def validation_windows(corpus: WindowedCorpus, windows: FeatureWindows, values: np.ndarray) -> tuple[Window, ...]:
    """As many windows of the validation part, half active and half silent where there are, for a calibration."""
    maxima = np.maximum.reduceat(values, corpus.bounds[:-1])
    draw = np.random.default_rng([corpus.settings.seed, 3, windows.feature.latent])
    found: list[Window] = []
    for active in (True, False):
        places = np.flatnonzero((corpus.split == VALIDATION) & ((maxima > 0) == active))
        chosen = draw.choice(places, min(len(windows.positives) // 2, len(places)), replace=False)
        found += [_window(corpus, values, one) for one in chosen.tolist()]
    return tuple(found)


def shuffled(windows: Sequence[Window], seed: int) -> list[int]:
    """A fixed random order of some windows."""
    return [int(one) for one in np.random.default_rng([seed, 4, len(windows)]).permutation(len(windows))]


def _stratified(
    ranked: Int[np.ndarray, "n"], count: int, strata: int, draw: np.random.Generator
) -> list[tuple[int, int]]:
    """As many of each quantile group of windows, the weakest first; what small groups lack the others make up for."""
    groups = [draw.permutation(group) for group in np.array_split(ranked, strata)]
    takes = [0] * strata
    while sum(takes) < min(count, len(ranked)):
        open_groups = [number for number in range(strata) if takes[number] < len(groups[number])]
        takes[min(open_groups, key=lambda number: (takes[number], -number))] += 1
    order = {int(one): place for place, one in enumerate(ranked)}
    found = []
    for number, (group, take) in enumerate(zip(groups, takes, strict=True)):
        found += [(int(one), number) for one in sorted(group[:take], key=lambda one: order[int(one)])]
    return found


def _negatives(
    corpus: WindowedCorpus,
    values: Float[np.ndarray, "tokens"],
    maxima: Float[np.ndarray, "windows"],
    neighbours: Sequence[Float[np.ndarray, "tokens"]],
    draw: np.random.Generator,
) -> list[tuple[int, str]]:
    """Silent windows of the test with the reason for each, without replacement."""
    silent = (corpus.split == TEST) & (maxima == 0)
    count = corpus.settings.negatives
    near = np.zeros(len(maxima))
    for other in neighbours:
        near = np.maximum(near, np.maximum.reduceat(other, corpus.bounds[:-1]) / max(float(other.max()), 1e-30))
    close = np.flatnonzero(silent & (near > 0))
    close = close[np.argsort(-near[close], kind="stable")][: max(count // 4, 1)]
    weights = np.bincount(corpus.ids, weights=values, minlength=len(corpus.words))
    top = np.argsort(-weights, kind="stable")[:_TOP_TOKENS]
    own = np.isin(corpus.ids, top[weights[top] > 0])
    same = np.flatnonzero(silent & (np.add.reduceat(own, corpus.bounds[:-1]) > 0))
    chosen: dict[int, str] = dict.fromkeys(map(int, close), NEIGHBOUR)
    room = count // 2 - len(chosen)
    same = np.setdiff1d(same, close)
    chosen |= dict.fromkeys(map(int, draw.choice(same, min(max(room, 0), len(same)), replace=False)), SAME_TOKENS)
    others = np.setdiff1d(np.flatnonzero(silent), list(chosen))
    random = draw.choice(others, min(count - len(chosen), len(others)), replace=False)
    return [*((int(one), RANDOM) for one in random), *chosen.items()]


def _window(
    corpus: WindowedCorpus,
    values: Float[np.ndarray, "tokens"],
    number: int,
    *,
    kind: str = "",
    stratum: int | None = None,
) -> Window:
    inside = slice(int(corpus.bounds[number]), int(corpus.bounds[number + 1]))
    return Window(
        int(corpus.documents[inside.start]),
        int(corpus.positions[inside.start]),
        tuple(corpus.words[one] for one in corpus.ids[inside].tolist()),
        tuple(values[inside].tolist()),
        kind,
        stratum,
    )


@torch.no_grad()
def decoder_neighbours(dictionary: Dictionary, latents: Sequence[int], count: int = 5) -> dict[int, list[int]]:
    """The latents whose decoder rows have the largest cosine with each latent's, the nearest first.

    Memory: latents asked for x latents of the dictionary.
    """
    unit = torch.nn.functional.normalize(dictionary.W_dec.float(), dim=1)
    cosine = unit[list(latents)] @ unit.T
    cosine[torch.arange(len(latents)), torch.tensor(list(latents), dtype=torch.long)] = -torch.inf
    best = cosine.topk(min(count, dictionary.n_latents - 1), dim=1).indices.tolist()
    return dict(zip(latents, best, strict=True))
