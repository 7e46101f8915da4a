"""Which tokens count: all others pass through dictionaries, and are left out of every average."""

from jaxtyping import Bool
from torch import Tensor

from gossamer.activations.attention_sink import first_token_is_sink
from gossamer.model.language_model import LanguageModel
from gossamer.tokens import Tokens


def counted_tokens(model: LanguageModel, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
    """True at the tokens that count: neither padding nor BOS, nor a first token that is an attention sink.

    Whether first tokens are sinks is a fact of the model, which is measured (:func:`first_token_is_sink`).
    """
    bos = getattr(model.tokenizer, "bos_token_id", None)
    counted = tokens.mask if bos is None else tokens.mask & (tokens.ids != bos)
    return counted & ~tokens.first if first_token_is_sink(model) else counted
