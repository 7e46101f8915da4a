"""Examples of a feature as pages show them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.features.feature_card import FeatureExample

BEFORE, AFTER = 22, 8  # tokens of an example shown around the firing one


@dataclass(frozen=True)
class Snippet:
    """An example cut around its firing token; `shade` is its activation over the node's largest."""

    before: tuple[str, ...]
    token: str
    after: tuple[str, ...]
    cut_left: bool
    cut_right: bool
    activation: float
    shade: float


def snippets(examples: Sequence[FeatureExample]) -> tuple[Snippet, ...]:
    """Examples of one feature, each cut around the token it was chosen for."""
    largest = max((example.activation for example in examples), default=0.0) or 1.0
    cut = []
    for example in examples:
        tokens, at = example.tokens, example.position
        first, last = max(0, at - BEFORE), at + 1 + AFTER
        shade = example.activation / largest if math.isfinite(example.activation) else 0.0
        cut.append(
            Snippet(
                tokens[first:at],
                tokens[at],
                tokens[at + 1 : last],
                first > 0,
                last < len(tokens),
                example.activation,
                round(max(0.0, min(1.0, shade)), 3),
            )
        )
    return tuple(cut)
