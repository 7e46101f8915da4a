"""A model built by hand that has a shortcut and nothing else: its verb agrees with the nearest noun before it."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gossamer.circuits.circuit import Circuit
from gossamer.circuits.inputs import Inputs
from gossamer.circuits.nodes import Nodes
from gossamer.dictionary import Dictionary, DictionaryConfig, DictionarySet
from gossamer.model import LanguageModel, Site
from gossamer.tasks.lexicon import (
    ANSWER_VERBS,
    CLAUSE_NOUNS,
    OBJECT_NOUNS,
    SPARE_CLAUSE_NOUNS,
    SPARE_SUBJECTS,
    SUBJECTS,
)

SITE = Site("resid_post", 0)
# Directions of the stream, each a coordinate and its negative, so that layer norms leave means at 0.
NOUN, NUMBER, OTHER, PLACE, VERB = range(5)
_WIDTH, _LENGTH = 12, 64


def _write(row, direction, value):
    row[2 * direction] += value
    row[2 * direction + 1] -= value


def nearest_noun_model(tokenizer):
    """One head that looks at the last noun and writes its number, which the verbs read."""
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=_LENGTH,
        n_embd=_WIDTH,
        n_layer=1,
        n_head=1,
        n_inner=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    hf = GPT2LMHeadModel(config).eval()
    for parameter in hf.parameters():
        parameter.data.zero_()
    block, tokens = hf.transformer.h[0], hf.transformer.wte.weight.data
    for norm in (block.ln_1, block.ln_2, hf.transformer.ln_f):
        norm.weight.data.fill_(1.0)
    _write(tokens.T, OTHER, 1.0)
    pairs = {*SUBJECTS, *SPARE_SUBJECTS, *CLAUSE_NOUNS, *SPARE_CLAUSE_NOUNS, *OBJECT_NOUNS}
    for direction, several in ((NUMBER, pairs), (VERB, ANSWER_VERBS)):
        for pair in several:
            for number, word in enumerate(pair):
                for text in (word, f" {word}"):
                    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
                    if len(ids) == 1:
                        tokens[ids[0]] = 0
                        _write(tokens[ids[0]], direction, 1.0 if number else -1.0)
                        if direction == NUMBER:
                            _write(tokens[ids[0]], NOUN, 1.0)
    for place in range(_LENGTH):
        _write(hf.transformer.wpe.weight.data[place], PLACE, 0.01 * place)
    queries, keys, values = (slice(start, start + _WIDTH) for start in range(0, 3 * _WIDTH, _WIDTH))
    # Every token asks the same: for a noun, and of several for the last one.
    block.attn.c_attn.bias.data[queries][0] = 40.0
    block.attn.c_attn.weight.data[2 * NOUN, keys][0] = 4.0
    block.attn.c_attn.weight.data[2 * PLACE, keys][0] = 8.0
    block.attn.c_attn.weight.data[2 * NUMBER, values][0] = 1.0
    _write(block.attn.c_proj.weight.data[0], VERB, 2.0)
    return LanguageModel.load(hf, tokenizer=tokenizer)


def shortcut_dictionary():
    """Latents of what the stream holds: 0 and 1 the number that the head wrote, the others the token's own class."""
    made = Dictionary(DictionaryConfig("relu", _WIDTH, 8, site=SITE))
    for parameter in made.parameters():
        parameter.data.zero_()
    for latent, (direction, sign) in enumerate(
        ((VERB, 1), (VERB, -1), (NUMBER, 1), (NUMBER, -1), (NOUN, 1), (OTHER, 1), (PLACE, 1), (PLACE, -1))
    ):
        _write(made.W_enc.data[:, latent], direction, 0.5 * sign)
        _write(made.W_dec.data[latent], direction, 1.0 * sign)
    return made.requires_grad_(False)


def shortcut_circuit(model, dictionaries, task):
    """The number that the head wrote, where the verb is predicted."""
    ends = task.test.clean.roles[torch.arange(len(task.test)), task.test.clean.answer_position]
    (end,) = set(ends.tolist())
    places = torch.tensor([[0, end, 0], [0, end, 1]])
    nodes = Nodes(tuple(dictionaries), task.role_names, *places.unbind(1))
    inputs = Inputs.of(model, dictionaries, task)
    return Circuit.from_nodes(nodes, torch.arange(2), model=model.title, task=task.name, inputs=inputs)


def planted(tokenizer, task):
    """Model, dictionaries and circuit."""
    model, dictionaries = nearest_noun_model(tokenizer), DictionarySet([shortcut_dictionary()])
    return model, dictionaries, shortcut_circuit(model, dictionaries, task)
