"""A corpus through a model: which of its tokens count."""

from gossamer.activations.token_mask import attention_sink, counted_tokens

__all__ = ["attention_sink", "counted_tokens"]
