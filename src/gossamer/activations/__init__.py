"""One stream of text through a model: what it has at some sites, and which of its tokens count."""

from gossamer.activations.attention_sink import first_token_is_sink
from gossamer.activations.corpus import Corpus, DocumentRows, RowConfig
from gossamer.activations.loudness import LoudTokensWarning, carried_by_loudest
from gossamer.activations.stream import ActivationBatch, ActivationStream
from gossamer.activations.text import read_texts
from gossamer.activations.token_mask import DEFAULT_MASK, REAL_TOKENS, LoudTokens, TokenMask, counted_tokens

__all__ = [
    "DEFAULT_MASK",
    "REAL_TOKENS",
    "ActivationBatch",
    "ActivationStream",
    "Corpus",
    "DocumentRows",
    "LoudTokens",
    "LoudTokensWarning",
    "RowConfig",
    "TokenMask",
    "carried_by_loudest",
    "counted_tokens",
    "first_token_is_sink",
    "read_texts",
]
