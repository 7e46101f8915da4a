"""What the tests of explanations share: a model whose latents are known tokens, its store, and scripted judges."""

import random

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
# Tokens that have a direction of their own.
_OWN = (" dog", " dogs", " school", " Mary", " John", " .")
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
    """A model whose first stream has a direction of its own for each planted token, and none for positions."""
    tokenizer = word_tokenizer()
    hf = tiny_gpt2_model(tokenizer)
    hf.transformer.wpe.weight.data.zero_()
    vectors = hf.transformer.wte.weight.data
    vectors[:, : len(_OWN)] = 0
    for direction, word in enumerate(_OWN):
        vectors[tokenizer(word, add_special_tokens=False)["input_ids"][0], direction] = 4.0
    return LanguageModel.load(hf, tokenizer=tokenizer)


def planted_dictionary(model):
    made = Dictionary(DictionaryConfig("relu", model.d_model, len(PLANTED), site=SITE))
    for parameter in made.parameters():
        parameter.data.zero_()
    made.b_enc.data.fill_(-1.0)
    for latent, words in enumerate(PLANTED):
        made.W_enc.data[[_OWN.index(word) for word in words], latent] = 1.0
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
