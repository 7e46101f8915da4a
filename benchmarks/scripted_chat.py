"""The language model of `explanations.py`: the same answers to the same texts, for gossamer and for delphi."""

import hashlib


def probability(words: list[str], text: str) -> float:
    """That a text is active: likely if one of the words is in it, but not always right."""
    text = " ".join(text.split())
    return min(max(0.3 + 0.4 * any(word in text for word in words) + 0.8 * (_draw(text) - 0.5), 0.01), 0.99)


def refuses(prompt: str) -> bool:
    """Whether it answers a prompt with nothing that can be read, as one of five."""
    return _draw(" ".join(prompt.split())) < 0.2


def _draw(text: str) -> float:
    """A number in [0, 1) that the text alone decides."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32
