"""Measures of a dictionary taken token by token and row by row, from the definitions."""

import torch

from gossamer.dictionary.config import Contents, DictionaryConfig
from gossamer.dictionary.dictionary import Dictionary

TEXTS = [" Mary went to the store", " John and Mary went", " the store", " Then John gave a drink to Mary and John"]


def random_dictionary(site, d, scale=0.3, architecture="relu", **conventions):
    generator = torch.Generator().manual_seed(site.layer)
    config = DictionaryConfig(architecture, d, 3 * d, site=site, **conventions)
    tensors = {name: scale * torch.randn(shape, generator=generator) for name, shape in config.shapes.items()}
    if "threshold" in tensors:
        tensors["threshold"] = tensors["threshold"].abs()
    return Dictionary.from_contents(Contents(config, tensors))


def by_token(model, dictionary, tokens):
    """x, x_hat and dense latents of every token that is neither BOS nor padding, in float64."""
    x = model.capture(tokens, [dictionary.site])[dictionary.site]
    kept = tokens.mask & (tokens.ids != model.tokenizer.bos_token_id)
    return x[kept].double(), dictionary(x)[kept].double(), dictionary.encode_dense(x)[kept].double(), kept


def losses(model, tokens, edits):
    """Mean next-token loss and log-probabilities, row by row without padding."""
    total, count, rows = 0.0, 0, []
    for row in range(len(tokens)):
        one = tokens[row : row + 1]
        length = int(one.mask.sum())
        with torch.no_grad(), model.edit(edits(one)):
            odds = model.logits(one)[0, : length - 1].double().log_softmax(dim=-1)
        total -= odds.gather(1, one.ids[0, 1:length, None]).sum().item()
        count += length - 1
        rows.append(odds)
    return total / count, torch.cat(rows)
