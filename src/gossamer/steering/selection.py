"""Which features can steer, before any sweep: input score, output scores, and what they do to the model's confidence.

Arad et al. 2025 (arXiv 2505.20063): features that fire on words are not those that produce them; filtering by the
output score makes steering by features two to three times better. Two versions of that score are in use, and printed
numbers do not say which: both are here, by name. Interpretability says little of steering (Wang et al. 2025, arXiv
2510.03659), and random features break a model as fast: :func:`random_latents` belongs into every table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.features.examples import ExampleSettings, Text, top_examples
from gossamer.features.feature import Feature
from gossamer.features.feature_card import FeatureExample
from gossamer.finite import require_finite
from gossamer.model.language_model import LanguageModel
from gossamer.seeding import generator
from gossamer.steering.coefficient import SiteScale
from gossamer.steering.intervention import feature_add
from gossamer.steering.steered import Steering

PROMPT = "From my experience,"
_LENS, _CONTEXTS, _FEWEST = 20, 100, 10
# Tokens that are shown before and after the one on which a feature is strongest.
_WINDOW = (8, 8)
# Features that are pushed in one batch.
_BATCH = 512

Contexts = Mapping[Feature, Sequence[FeatureExample]]


@dataclass(frozen=True)
class SelectionScores:
    """One feature's scores.

    Attributes:
        feature: the feature.
        input_score: share of its strongest contexts whose token is among the 20 of its logit lens; None with fewer
            than 10 contexts.
        output_score: (1 - r / |V|) p after adding 10 times the largest activation of any feature at the last position:
            p the largest probability among the lens's 20 tokens, r the smallest rank among them from 0 (the code).
        output_score_top1: the same for the lens's first token alone, with 10 times the feature's largest activation on
            a text, and ranks from 1.
        confidence_change: rise of the mean of -log p over the 10 likeliest tokens, under the push of `output_score`;
            positive where the model becomes surer of few tokens.
        lens: the first words of its logit lens.
    """

    feature: Feature
    input_score: float | None
    output_score: float
    output_score_top1: float
    confidence_change: float
    lens: tuple[str, ...]

    __repr__ = short_repr


def strongest_contexts(model: LanguageModel, dictionary: Dictionary, latents: Sequence[int], text: Text) -> Contexts:
    """Up to 100 places of a text where each latent is most active, the strongest first, with 8 tokens on either side.

    Raises:
        UsageError: the dictionary does not say which site it reads, or a latent that is none.
    """
    site = dictionary.site
    if site is None:
        raise UsageError("contexts: a dictionary that says which site it reads expected; load it with site=")
    features = [Feature(site, latent) for latent in latents]
    settings = ExampleSettings(k=_CONTEXTS, window=_WINDOW)
    return top_examples(model, {site: dictionary}, features, text, settings=settings)


@torch.no_grad()
def selection_scores(
    model: LanguageModel,
    dictionary: Dictionary,
    latents: Sequence[int],
    scale: SiteScale,
    text: Text,
    *,
    prompt: str = PROMPT,
    strength: float = 10.0,
    contexts: Contexts | None = None,
) -> list[SelectionScores]:
    """Score features before sweeping: one pass over a text for contexts, and from the site on one prompt a feature.

    Args:
        latents: which.
        scale: of the dictionary's site, for the largest activations.
        text: for the strongest contexts.
        prompt: neutral words, after which features are pushed at the last position.
        contexts: of these latents in the text (:func:`strongest_contexts`), where they are known already.

    Raises:
        UsageError: the dictionary writes to no residual stream, a latent that is none, or one that is never active in
            the text of `scale`.
    """
    site = dictionary.site
    if site is None or not site.facts.residual:
        raise UsageError(f"output score: a dictionary of the residual stream expected, found one at {site}; give one")
    dictionary.require_reconstruction("steering a feature")
    lens = lens_tokens(model, dictionary, latents)
    tokens = model.tokenize([prompt])
    x = model.capture(tokens, [site])[site]
    clean = _probabilities(model.resume(site, x, tokens, at=tokens.last))
    largest = float(dictionary.encode_dense(x[:, -1]).max())
    tops = [scale.of_maximum(strength, latent).raw for latent in latents]
    found = []
    places = strongest_contexts(model, dictionary, latents, text) if contexts is None else contexts
    pushed = pushed_probabilities(model, dictionary, latents, prompt, [strength * largest] * len(latents))
    alone = pushed_probabilities(model, dictionary, latents, prompt, tops)
    scores = output_score(pushed, lens)
    first = output_score_top1(alone, lens[:, 0])
    surer = confidence(pushed) - confidence(clean)
    for place, latent in enumerate(latents):
        feature = Feature(site, latent)
        words = [model.word(token) for token in lens[place].tolist()]
        peaks = [one.tokens[one.position] for one in places[feature]]
        own = None if len(peaks) < _FEWEST else sum(peak in words for peak in peaks) / len(peaks)
        numbers = (float(scores[place]), float(first[place]), float(surer[place]))
        found.append(SelectionScores(feature, own, *numbers, lens=tuple(words[:5])))
    return found


def lens_tokens(
    model: LanguageModel, dictionary: Dictionary, latents: Sequence[int], count: int = _LENS
) -> Int[Tensor, "latent count"]:
    """The tokens with the largest logits when decoder rows go through final norm and head, the largest first."""
    wrong = [latent for latent in latents if not 0 <= latent < dictionary.n_latents]
    if wrong or not latents:
        found = wrong[0] if wrong else "none"
        raise UsageError(f"features: latents from 0 to {dictionary.n_latents - 1} expected, found {found}")
    parts = torch.split(dictionary.W_dec[list(latents)].detach(), _BATCH)
    return torch.cat([model.unembed(rows).topk(min(count, model.d_vocab), dim=1).indices for rows in parts])


@torch.no_grad()
def pushed_probabilities(
    model: LanguageModel, dictionary: Dictionary, latents: Sequence[int], prompt: str, strengths: Sequence[float]
) -> Float[Tensor, "latent vocab"]:
    """Next-token probabilities when each latent gets `strengths` more at the last position; the error stays."""
    tokens = model.tokenize([prompt])
    site, last = dictionary.site, tokens.ids.shape[1] - 1
    assert site is not None
    x = model.capture(tokens, [site])[site]
    found = []
    for part in torch.split(torch.arange(len(latents)), _BATCH):
        cells = [[feature_add(dictionary, latents[place], strengths[place])] for place in part.tolist()]
        rows = tokens[torch.zeros(len(part), dtype=torch.long)]
        push = Steering(cells, torch.arange(len(part)))
        end = push.apply(site, x[:, -1:].expand(len(part), -1, -1), torch.full((len(part), 1), last), {})
        stream = torch.cat([x[:, :-1].expand(len(part), -1, -1), end], dim=1)
        found.append(_probabilities(model.resume(site, stream, rows, at=rows.last)))
    return torch.cat(found)


def _probabilities(logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows vocab"]:
    return require_finite(logits, "logits of a pushed feature (take a smaller strength)").float().softmax(dim=-1)


def _ranks(p: Float[Tensor, "rows vocab"], tokens: Int[Tensor, "rows count"]) -> Int[Tensor, "rows count"]:
    """How many tokens are likelier."""
    return (p[:, None, :] > p.gather(1, tokens)[:, :, None]).sum(dim=-1)


def output_score(p: Float[Tensor, "rows vocab"], tokens: Int[Tensor, "rows count"]) -> Float[Tensor, "rows"]:
    """(1 - r / |V|) p over the tokens of a logit lens: the best rank from 0, and the largest probability."""
    best = torch.stack([_ranks(row[None], these[None]).amin() for row, these in zip(p, tokens, strict=True)])
    return (1 - best / p.shape[-1]) * p.gather(1, tokens).amax(dim=1)


def output_score_top1(p: Float[Tensor, "rows vocab"], token: Int[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """(1 - r / |V|) p of one token, whose rank counts from 1."""
    rank = torch.cat([_ranks(row[None], one.reshape(1, 1)) for row, one in zip(p, token, strict=True)])[:, 0] + 1
    return (1 - rank / p.shape[-1]) * p.gather(1, token[:, None])[:, 0]


def confidence(p: Float[Tensor, "rows vocab"], k: int = 10) -> Float[Tensor, "rows"]:
    """Mean of -log p over the k likeliest tokens: it rises when probability gathers on few of them. The published
    formula of token confidence is not known to us; this is our definition of it."""
    return -p.topk(min(k, p.shape[-1]), dim=1).values.clamp(min=torch.finfo(p.dtype).tiny).log().mean(dim=1)


def random_latents(scale: SiteScale, count: int, seed: int, exclude: Sequence[int] = ()) -> list[int]:
    """Latents drawn from those that are active on a text: the control of every table.

    Raises:
        UsageError: fewer are active.
    """
    alive = [latent for latent in (scale.density > 0).nonzero()[:, 0].tolist() if latent not in set(exclude)]
    if len(alive) < count:
        raise UsageError(f"{scale.site}: {count} active features besides those chosen expected, found {len(alive)}")
    order = torch.randperm(len(alive), generator=generator(seed, "steering features"))
    return [alive[place] for place in order[:count].tolist()]
