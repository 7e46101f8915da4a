"""Whether a model uses the first token of a row as an attention sink: a fact of the model, measured once.

Heads that have nothing to attend to attend to the first token, which carries no message but a huge norm (Xiao et al.
2023, arXiv 2309.17453; Sun et al. 2024, arXiv 2402.17762). Where rows begin with BOS that is BOS. Where they do not, it
is an ordinary word, in whose activations there is nothing of the word: at layer 18 of SmolLM2-135M the first token has
norm 22,309, the others 202. One such token makes every sum of squares.
"""

import contextvars
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.model.language_model import LanguageModel
from gossamer.model.tokenizing import special_ids
from gossamer.tokens import Tokens

# How many times the others' median norm, at any layer, makes a sink. Models without one stay below 3.
RATIO = 10.0
_ROWS, _LENGTH = 8, 16
_known: WeakKeyDictionary[LanguageModel, bool] = WeakKeyDictionary()


def first_token_is_sink(model: LanguageModel) -> bool:
    """Whether at any resid_post the first token of rows without BOS has more than `RATIO` times the others' norm.

    The first call for a model runs 8 rows of 16 random tokens; its answer is kept.
    """
    if model not in _known:
        # In a context of its own: edits that are in place now say nothing of the model.
        _known[model] = contextvars.Context().run(_measured, model)
    return _known[model]


@torch.no_grad()
def _measured(model: LanguageModel) -> bool:
    sites = model.sites("resid_post")
    ordinary = _ordinary_ids(model)
    length = min(_LENGTH, model.n_context)
    if length < 2 or not len(ordinary):
        return False
    drawn = torch.randint(len(ordinary), (_ROWS, length), generator=torch.Generator().manual_seed(0))
    streams = model.capture(Tokens.full(ordinary[drawn]), sites)
    norms = [stream.float().norm(dim=-1) for stream in streams.values()]
    return any(float(norm[:, 0].median()) > RATIO * float(norm[:, 1:].median()) for norm in norms)


def _ordinary_ids(model: LanguageModel) -> Int[Tensor, "ids"]:
    """The tokens of the vocabulary that are not special."""
    special = special_ids(model.tokenizer)
    return torch.tensor([token for token in range(model.d_vocab) if token not in special], dtype=torch.long)
