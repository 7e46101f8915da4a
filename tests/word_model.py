"""A tiny random GPT-2 and a real tokenizer with one token a word, made in the process."""

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

NAMES = ("Mary", "John", "Tom", "James", "Dan", "Sid", "Martin", "Amy", "Lily", "Ben", "Sue", "Max", "Kate", "Paul")
SENTENCES = """
When Mary and John went to the store , John gave a drink bottle of milk ball . Then said friends One day found in at
park boy boys girl girls dog dogs author authors near that like likes is are was were he she they his her sad happy
because met them played together school shop book apple
"""
WORDS = [word for word in dict.fromkeys(SENTENCES.split()) if word not in NAMES]


def word_tokenizer():
    """One token a word, with GPT-2's mark for the space before it; no BOS unless asked for."""
    tokens = ["<|endoftext|>", *(mark + word for mark in ("", "Ġ") for word in (*NAMES, *WORDS))]
    tokenizer = Tokenizer(WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<|endoftext|>"))
    # Bytes to GPT-2's letters (a space becomes Ġ), split before every space and around punctuation.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )


def tiny_gpt2_model(tokenizer, *, n_layer=3, seed=0):
    """A random GPT-2 of width 32 whose layers do enough to be told apart."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=64,
        n_embd=32,
        n_layer=n_layer,
        n_head=4,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    hf = GPT2LMHeadModel(config).eval()
    return hf.requires_grad_(False)
