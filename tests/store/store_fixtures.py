"""What the tests of stores share: dictionaries of three architectures, some texts, and a loop that knows the truth."""

import random

import torch
from word_model import NAMES, WORDS

from gossamer.activations import DocumentRows, RowConfig
from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.features.examples import ExampleSettings
from gossamer.model import Site
from gossamer.store import StoreSettings
from gossamer.tokens import Tokens

SITES = (Site("resid_post", 0), Site("z", 1), Site("resid_post", 2))
SETTINGS = StoreSettings(
    context=16,
    bos=True,
    shard_tokens=60,
    words=3,
    examples=ExampleSettings(k=4, window=(3, 2), strata=3, per_stratum=2),
)


def texts(count=24):
    """Texts of 5 to 40 words, some of them longer than the context, and an empty one."""
    draw = random.Random(0)
    made = [
        "".join(f" {draw.choice((*NAMES, *WORDS))}" for _ in range(draw.choice((5, 9, 14, 22, 40))))
        for _ in range(count)
    ]
    return [*made, ""]


def dictionary(site, seed, architecture="relu", n_latents=40):
    generator = torch.Generator().manual_seed(seed)
    k = 6 if architecture == "topk" else None
    made = Dictionary(DictionaryConfig(architecture, 32, n_latents, site=site, k=k))
    for parameter in made.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    # Latents that never fire are part of every real dictionary.
    made.b_enc.data[5] = -1e4
    return made.requires_grad_(False)


def dictionaries():
    made = [dictionary(SITES[0], 0), dictionary(SITES[1], 1, "jumprelu"), dictionary(SITES[2], 2, "topk")]
    return dict(zip(SITES, made, strict=True))


def by_loop(model, dictionaries, texts, threshold=0.0):
    """{(site, latent, document, position): activation} at every token but BOS and padding, row by row."""
    rows = DocumentRows.of(model, texts, RowConfig(context=16, bos=1.0), shortest=1)
    found = {}
    for row in range(len(rows)):
        length = int(rows.mask[row].sum())
        one = Tokens.full(rows.ids[row : row + 1, :length])
        document, start = int(rows.documents[row]), int(rows.starts[row])
        for site, made in dictionaries.items():
            values = made.encode_dense(model.capture(one, [site])[site])[0]
            for position in range(1, length):
                for latent in range(made.n_latents):
                    if values[position, latent] > threshold:
                        key = (str(site), latent, document, start + position - 1)
                        found[key] = float(values[position, latent])
    return found
