"""Prompts of random tokens whose roles stand elsewhere in every row, on tiny models; and prompts of the bundled one."""

import torch
from random_dictionaries import random_dictionary
from tiny_families import VOCAB, shared_model

from gossamer import LanguageModel
from gossamer.attention.ioi.prompts import EncodedPrompts, IOIPrompt, draw_prompts, encode_prompts, single_token_names
from gossamer.attention.ioi.runs import CleanRun
from gossamer.tasks.prompt_tokenizer import PromptTokenizer
from gossamer.tokens import Tokens

# IO, connective, S1, S2 and END of each of three rows; the last row is shorter.
PLACES = {"IO": [1, 3, 3], "connective": [2, 2, 2], "S1": [3, 1, 1], "S2": [5, 7, 4], "END": [8, 8, 6]}


def random_prompts(seed=1):
    """Three prompts and their swaps, in which S2's token is another."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCAB, (3, 9), generator=draw)
    mask = torch.arange(9) < torch.tensor(PLACES["END"]).unsqueeze(1) + 1
    places = {role: torch.tensor(where) for role, where in PLACES.items()}
    answers = torch.randint(3, VOCAB, (3, 2), generator=draw)
    named = tuple(
        IOIPrompt("park_said", order, "Mary", "John", "John", ("Tom", "Anna")) for order in ("ABBA", "BABA", "BABA")
    )
    other = ids.clone()
    other[torch.arange(3), places["S2"]] = torch.randint(3, VOCAB, (3,), generator=draw)
    return tuple(EncodedPrompts(named, Tokens(one, mask), places, answers) for one in (ids, other))


def random_runs(name, dtype=torch.float64):
    """A tiny model's runs on random prompts and on their swaps."""
    model = shared_model(name, dtype=dtype)
    clean, other = (CleanRun.of(model, prompts) for prompts in random_prompts())
    return clean, other


def difference(model, prompts, row, edits):
    """The logit difference of one prompt alone, under edits of whole tensors."""
    one = Tokens.full(prompts.tokens.ids[row : row + 1, : int(prompts.tokens.lengths[row])])
    with torch.no_grad(), model.edit(edits):
        logits = model.logits(one)[0, -1]
    return float(logits[prompts.answers[row, 0]] - logits[prompts.answers[row, 1]])


def alone(prompts, row):
    """The tokens of one prompt without padding."""
    return Tokens.full(prompts.tokens.ids[row : row + 1, : int(prompts.tokens.lengths[row])])


def spool():
    """The bundled model and its speller."""
    model = LanguageModel.load("bundled:spool", device="cpu")
    return model, PromptTokenizer(model.tokenizer)


def spool_prompts(model, speller, n=8, templates=("park_said", "store_gave")):
    """Encoded prompts."""
    return encode_prompts(draw_prompts(single_token_names(speller), templates, n, 0), speller)


def z_dictionaries(model, tokens, layers, n=40):
    """Random dictionaries on z, in the model's type."""
    made = [random_dictionary(model, tokens, f"z.{layer}", seed=layer, n=n).to(model.dtype) for layer in layers]
    for one in made:
        # Sparse on other text than they were made on too.
        one.threshold.mul_(1.5)
    return {one.site: one for one in made}
