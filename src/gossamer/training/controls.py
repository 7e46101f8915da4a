"""Dictionaries that did not learn what dictionaries are for: what a claim about trained ones is held against.

Of the sanity checks of arXiv 2602.14111: the decoder stays at its random start ("frozen-decoder"), or each of its rows
within a cosine of .8 of its start ("soft-frozen"), or the encoder stays ("frozen-encoder"); everything else learns as
always. And of arXiv 2501.17727: the dictionary learns from a model of the same shape whose weights are random
("random-model").
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.model.language_model import LanguageModel
from gossamer.seeding import generator

NONE, SOFT, RANDOM_MODEL = "none", "soft-frozen", "random-model"
# What stays as it began.
FROZEN = {"frozen-decoder": "W_dec", "frozen-encoder": "W_enc"}
CONTROLS = (*FROZEN, SOFT, RANDOM_MODEL)
# Of a soft-frozen decoder's rows with their start, at least.
SOFT_COSINE = 0.8


def held_near(
    rows: Float[Tensor, "n d"], start: Float[Tensor, "n d"], cosine: float = SOFT_COSINE
) -> Float[Tensor, "n d"]:
    """`rows` with each turned towards its start, at its length, until it has the cosine with it; others as they are."""
    axis = start / start.norm(dim=1, keepdim=True)
    length = rows.norm(dim=1, keepdim=True)
    along = (rows * axis).sum(dim=1, keepdim=True)
    across = rows - along * axis
    turned = cosine * axis + (1 - cosine**2) ** 0.5 * across / across.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return torch.where(along < cosine * length, turned * length, rows)


def control_of(dictionary: Dictionary) -> str:
    """How a dictionary was kept from learning, as its file says; "none" where it was not, or the file says nothing."""
    training: Mapping[str, Any] = dictionary.provenance.get("training", {})
    plan = training.get("plan") or training.get("config") or {}
    return str(plan.get("trainer", {}).get("control", NONE))


def with_random_weights(model: LanguageModel, seed: int) -> LanguageModel:
    """A model of the same shape, tokenizer and name whose weights are as its architecture starts them, by seed.

    Memory: a second model.
    """
    hf = model.hf
    with torch.random.fork_rng():
        torch.manual_seed(generator(seed, "random weights").initial_seed())
        fresh = type(hf)(hf.config).to(device=model.device, dtype=model.dtype).eval().requires_grad_(False)
    return LanguageModel(fresh, model.tokenizer, model.name, model.family)
