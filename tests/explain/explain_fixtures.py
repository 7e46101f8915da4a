"""What the tests of explanations share: a model whose latents are known tokens, its store, and scripted judges."""

import random

import torch
from word_model import NAMES, WORDS, tiny_gpt2_model, word_tokenizer

from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.explain import ChatReply, WindowSettings
from gossamer.explain.windows import Window
from gossamer.features import Feature
from gossamer.features.examples import ExampleSettings
from gossamer.model import LanguageModel, Site
from gossamer.store import StoreSettings, build_store

SITE = Site("resid_pre", 0)
# Tokens of each latent; latent 2 is dead.
PLANTED = ((" dog",), (" dog", " dogs"), (), (" school",), (" Mary", " John"), (" .",))
WINDOWS = WindowSettings(
    length=16, shortest=4, least=5, shown=10, positives=16, negatives=16, strata=4, split=(0.5, 0.2, 0.3)
)


def feature(latent):
    return Feature(SITE, latent)


def texts(count=120, words=40, seed=0):
    draw = random.Random(seed)
    pool = [*NAMES, *WORDS]
    return ["".join(f" {draw.choice(pool)}" for _ in range(words)) for _ in range(count)]


def planted_model():
    """A model whose positions have no vectors, so that a latent of its first stream knows the token alone."""
    tokenizer = word_tokenizer()
    hf = tiny_gpt2_model(tokenizer)
    hf.transformer.wpe.weight.data.zero_()
    return LanguageModel.load(hf, tokenizer=tokenizer)


def planted_dictionary(model):
    vectors = model.hf.transformer.wte.weight.data
    made = Dictionary(DictionaryConfig("relu", 32, len(PLANTED), site=SITE))
    made.W_enc.data.zero_()
    made.b_dec.data.zero_()
    made.b_enc.data.fill_(-1.0)
    # Solves W_enc so that every token's value is 2 on the latent's own tokens and as near to 0 as may be elsewhere.
    for latent, words in enumerate(PLANTED):
        wanted = torch.zeros(len(vectors))
        ids = [model.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words]
        weights = torch.ones(len(vectors))
        wanted[ids], weights[ids] = 2.0, 30.0
        solved = torch.linalg.lstsq(vectors * weights[:, None], wanted * weights).solution
        made.W_enc.data[:, latent] = solved
    made.W_dec.data = made.W_enc.data.T.clone()
    return made.requires_grad_(False)


def planted_store(folder, count=120):
    """Build the store; returns the model and its dictionary."""
    model = planted_model()
    dictionary = planted_dictionary(model)
    settings = StoreSettings(
        context=64, bos=True, words=3, examples=ExampleSettings(k=4, window=(4, 4), strata=3, per_stratum=2)
    )
    build_store(model, {SITE: dictionary}, texts(count), folder, settings=settings)
    return model, dictionary


def window(text, *active, kind="", stratum=None):
    """A window of words, active with 1.0 at some places."""
    tokens = tuple(f" {word}" for word in text.split())
    return Window(0, 0, tokens, tuple(float(place in active) for place in range(len(tokens))), kind, stratum)


class Script:
    """A language model that answers what it is told to, question after question; a function is given the question."""

    model = "script"

    def __init__(self, *answers):
        self.answers, self.requests = list(answers), []

    def ask(self, requests):
        found = []
        for request in requests:
            self.requests.append(request)
            answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
            answer = answer(request) if callable(answer) else answer
            found.append(answer if isinstance(answer, ChatReply) else ChatReply(answer))
        return found
