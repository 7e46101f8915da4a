"""What a model has at some sites on some text, and which of its tokens count."""

from gossamer.activations.attention_sink import first_token_is_sink
from gossamer.activations.token_mask import counted_tokens

__all__ = ["counted_tokens", "first_token_is_sink"]
