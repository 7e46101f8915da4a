"""Tiny tokenizers, trained on what the generators say."""

import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from gossamer.tasks import code_output, ioi, lexicon, subject_verb


def byte_level(texts, size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )


def generated_texts():
    """Prompts with their answers, every word of the lexicon among them in each of its places."""
    rng = random.Random(0)
    prompts = ioi.sample(rng, 300) + code_output.sample_index(rng, 200) + code_output.sample_key(rng, 300)
    for structure in subject_verb.PATTERNS:
        prompts += subject_verb.sample(rng, 120, structure=structure)
    texts = [prompt.clean_text + prompt.answer for prompt in prompts]
    names = [f"One {name} and '{name}': [\"{name}\"]" for name in lexicon.NAMES]
    pairs = (
        *lexicon.SUBJECTS,
        *lexicon.CLAUSE_NOUNS,
        *lexicon.OBJECT_NOUNS,
        *lexicon.CLAUSE_VERBS,
        *lexicon.ANSWER_VERBS,
    )
    nouns = [f"The {word}" for pair in pairs for word in pair]
    return texts + 20 * (names + nouns)


@pytest.fixture(scope="session")
def texts():
    return generated_texts()


@pytest.fixture(scope="session")
def train_tokenizer():
    """Makes a byte-level tokenizer of some texts and of a size."""
    return byte_level


@pytest.fixture(scope="session")
def tokenizer(texts):
    """Every word of the lexicon is one token; no BOS by default."""
    return byte_level(texts, 3000)


@pytest.fixture(scope="session")
def with_bos(texts):
    """The same tokens, with a BOS token by default."""
    made = byte_level(texts, 3000)
    single = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", made.bos_token_id)]
    )
    made.backend_tokenizer.post_processor = single
    return made


@pytest.fixture(scope="session")
def coarse():
    """A few short words and names are one token, everything else is spelled in bytes."""
    return byte_level(
        ["The cat is here and The dog are there, said Tim to Ben"] * 5 + [" Tim Ben Sam Tom Max Dan Sue Amy"] * 9, 330
    )
