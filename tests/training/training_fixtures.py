"""Small settings and texts for training on the tiny models."""

import random
from dataclasses import replace

from word_model import NAMES

from gossamer.training.config import (
    CorpusConfig,
    DictionarySpec,
    DictionaryTrainerConfig,
    FinetuneConfig,
    FitConfig,
    OptimiserConfig,
    TrainingConfig,
)
from gossamer.training.objectives import AuxK, BatchTopK

# Only words that the tokenizer knows: its unknown token is its BOS.
_TEMPLATES = (
    "When {a} and {b} went to the store , {a} gave a book to {b} . Then {a} was happy because {b} gave {a} a ball .",
    "One day {a} met {b} in the park . Then they played together . {b} found a dog near the shop and {b} was sad .",
    "Then {a} gave the girl a apple . Then girls like {b} . Then {a} are friends of the dog at school .",
)


def texts(count=60):
    """Stories of some twenty words."""
    draw = random.Random(0)
    return [draw.choice(_TEMPLATES).format(a=draw.choice(NAMES), b=draw.choice(NAMES)) for _ in range(count)]


CONFIG = TrainingConfig(
    corpus=CorpusConfig(context=16, bos=0.5, held_out=0.1),
    trainer=DictionaryTrainerConfig(
        n_latents=64,
        objective=BatchTopK(k=6, aux=AuxK(k=8)),
        optimiser=OptimiserConfig(learning_rate=5e-3),
        dead_after=64 * 8,
    ),
    fit=FitConfig(tokens=64 * 40, batch=64, buffer=256, checkpoint_every=7, log_every=5),
    finetune=FinetuneConfig(tokens=4 * 16 * 12, rows=4, learning_rate=2e-3, checkpoint_every=5, log_every=4),
)


def plans(sites, **changes):
    """CONFIG's dictionary at every site, with other settings."""
    return [DictionarySpec(str(site), site, None, replace(CONFIG.trainer, **changes), seed=0) for site in sites]


def with_fit(**changes):
    """The loop of CONFIG with other settings."""
    return replace(CONFIG.fit, **changes)
