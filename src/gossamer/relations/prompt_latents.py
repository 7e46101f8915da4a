"""The latents that prompts light up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse  # type: ignore[import-untyped]

from gossamer.errors import UsageError
from gossamer.relations.latents import Csr, LatentBatch, LatentSource, ModelLatents


@dataclass(frozen=True, eq=False)
class PromptActivations:
    """One prompt.

    Attributes:
        text: the prompt.
        tokens: their texts; `counted`: at which of them dictionaries count.
        latents: of each dictionary, by its name: activations as scipy's CSR (tokens, n_latents), float64; nothing at
            tokens that do not count.
    """

    text: str
    tokens: tuple[str, ...]
    counted: tuple[bool, ...]
    latents: Mapping[str, Csr]


def prompt_latents(
    sources: Mapping[str, LatentSource], texts: Sequence[str], *, bos: bool | None = None
) -> list[PromptActivations]:
    """What each text lights up, a pass of each model for each text.

    Args:
        sources: dictionaries, of one model or of several with one tokenizer.
        texts: prompts.
        bos: whether BOS comes first; None: as the tokenizer does.

    Raises:
        UsageError: no source, models of different tokenizers, or a text of which no token counts.
    """
    found = []
    for text in texts:
        if not sources:
            raise UsageError("prompts: at least one dictionary expected, found none")
        model = next(iter(sources.values())).model
        tokens = model.tokenize([text], bos=bos)
        stream = ModelLatents(sources, tokens)
        if not stream.counted.any():
            raise UsageError(f"prompts: a text with a token at which dictionaries count expected, found {text!r}")
        batches: list[LatentBatch] = []
        stream.map(batches.append)
        ids = tokens.ids[0].tolist()
        # From the tokens that count to their places among all.
        places = batches[0].positions
        spread = sparse.csr_matrix((np.ones(len(places)), (places, np.arange(len(places)))), (len(ids), len(places)))
        latents = {name: (spread @ one).tocsr() for name, one in batches[0].latents.items()}
        words = tuple(model.word(one) for one in ids)
        found.append(PromptActivations(text, words, tuple(stream.counted[0].tolist()), latents))
    return found
