"""Which tokens count: what stands at all others passes through dictionaries and is left out of every average.

A BOS token, and in many models whatever token comes first, is an attention sink: its residual stream is tens to
hundreds of times as long as any other, the same for every text, and holds nothing of the text (Xiao et al. 2023, Sun et
al. 2024, "massive activations"). One such token makes every average, and no dictionary is trained on it.
"""

from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool
from torch import Tensor

from gossamer.model.language_model import LanguageModel
from gossamer.tokens import Tokens

# A first token whose stream is so many times as long as the median of the others is a sink. SmolLM2: 110 times.
SINK_NORM = 10.0
_ROWS, _LENGTH = 4, 16

_known: WeakKeyDictionary[LanguageModel, bool] = WeakKeyDictionary()


def counted_tokens(model: LanguageModel, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
    """True at the tokens that count: no padding, no BOS, and not the first token of a row where that is a sink."""
    bos = getattr(model.tokenizer, "bos_token_id", None)
    counted = tokens.mask if bos is None else tokens.mask & (tokens.ids != bos)
    return counted & ~first_tokens(tokens) if attention_sink(model) else counted


def first_tokens(tokens: Tokens) -> Bool[Tensor, "batch pos"]:
    """True at the first real token of each row."""
    return tokens.mask & (tokens.mask.cumsum(dim=1) == 1)


def attention_sink(model: LanguageModel) -> bool:
    """Whether the model makes an attention sink of a row's first token, whatever it is; measured once for each model.

    A few rows of tokens drawn at random, without a BOS token: a sink is there if after any layer the streams at the
    first position are more than `SINK_NORM` times as long as the median of all others.
    """
    if model not in _known:
        _known[model] = _measured(model)
    return _known[model]


@torch.no_grad()
def _measured(model: LanguageModel) -> bool:
    length = min(_LENGTH, model.n_context)
    special = {int(token) for token in getattr(model.tokenizer, "all_special_ids", ())}
    ordinary = torch.tensor([token for token in range(model.d_vocab) if token not in special] or [0])
    drawn = torch.randint(len(ordinary), (_ROWS, length), generator=torch.Generator().manual_seed(0))
    with model.unedited():
        streams = model.capture(Tokens.full(ordinary[drawn]), model.sites("resid_post"))
    for stream in streams.values():
        norms = stream.float().norm(dim=-1)
        if length > 1 and float(norms[:, 0].median()) > SINK_NORM * float(norms[:, 1:].median()):
            return True
    return False
