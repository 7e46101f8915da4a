"""Scores that need models: embeddings, surprise, what steering makes a model write, and texts written to order."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.activations.token_mask import DEFAULT_MASK
from gossamer.chat.chat import MOST_FAILURES, Chat, ChatRequest, Failure
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.explain.answers import ExplanationScore, ItemCounts, parse_texts
from gossamer.explain.corpus import TEST, WindowedCorpus
from gossamer.explain.embedders import Embedder
from gossamer.explain.judges import ChatJudge
from gossamer.explain.metrics import auroc, faithfulness
from gossamer.explain.prompts import messages, plain
from gossamer.explain.scorers import Trial, rating_counts
from gossamer.explain.windows import Window
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tokens import Tokens

_QUERY = "Find texts in which this occurs: "
_NEW_TOKENS = 20
# FADE's strengths of steering, in multiples of a feature's largest activation, and the rating that counts as found.
_FACTORS, _FOUND = (-50.0, -10.0, -1.0, 1.0, 10.0, 50.0), 2


def embedding(test: Trial, embed: Embedder) -> ExplanationScore:
    """AUROC of the cosine between explanation and window, active windows against silent ones."""
    windows = _of_both_kinds(test)
    return _ranked("embedding", windows, embedding_likeness(test.explanation, windows, embed))


def embedding_likeness(explanation: str, windows: Sequence[Window], embed: Embedder) -> list[float]:
    """Cosine of each window's vector with that of a question for the explanation."""
    vectors = np.asarray(embed([_QUERY + explanation, *(one.text for one in windows)]), dtype=np.float64)
    if vectors.shape[0] != len(windows) + 1 or not np.isfinite(vectors).all():
        raise UsageError(f"embedding: {len(windows) + 1} finite vectors expected, found an array of {vectors.shape}")
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    found: list[float] = (unit[1:] @ unit[0]).tolist()
    return found


def surprisal(test: Trial, model: LanguageModel, *, batch_size: int = 16) -> ExplanationScore:
    """AUROC of how much an explanation lowers a language model's loss on a window, against a neutral description."""
    windows = _of_both_kinds(test)
    return _ranked("surprisal", windows, loss_saved(test.explanation, windows, model, batch_size=batch_size))


def loss_saved(
    explanation: str, windows: Sequence[Window], model: LanguageModel, *, batch_size: int = 16
) -> list[float]:
    """By how many nats a token an explanation before a window makes it likelier than a neutral description does."""
    contexts = (plain("surprisal", explanation=explanation), plain("neutral"))
    losses = [_losses(model, context, [one.text for one in windows], batch_size) for context in contexts]
    return [other - one for one, other in zip(*losses, strict=True)]


def _of_both_kinds(test: Trial) -> list[Window]:
    return [*test.windows.positives, *test.windows.negatives]


def _ranked(name: str, windows: Sequence[Window], scores: Sequence[float]) -> ExplanationScore:
    kinds = [[score for one, score in zip(windows, scores, strict=True) if one.active == active] for active in (1, 0)]
    found = auroc(kinds[0], kinds[1])
    return ExplanationScore(name, found.value, found.low, found.high, auroc=found, items=ItemCounts(right=len(windows)))


@torch.no_grad()
def _losses(model: LanguageModel, context: str, texts: Sequence[str], batch_size: int) -> list[float]:
    """Mean loss of the tokens of each text behind a context."""
    found: list[float] = []
    start = int(model.tokenize([context]).lengths[0])
    for first in range(0, len(texts), batch_size):
        tokens = model.tokenize([context + text for text in texts[first : first + batch_size]])
        if tokens.ids.shape[1] > model.n_context:
            raise UsageError(
                f"surprisal: prompts of at most {model.n_context} tokens expected, found {tokens.ids.shape[1]}; use "
                "shorter windows"
            )
        logprobs = model.logits(tokens)[:, :-1].float().log_softmax(dim=-1).cpu()
        own = logprobs.gather(2, tokens.ids[:, 1:, None])[:, :, 0]
        counted = tokens.mask[:, 1:].clone()
        counted[:, : max(start - 1, 0)] = False
        # A text whose tokens melt into the context's last one has none of its own.
        found += (-(own * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)).tolist()
    return found


@torch.no_grad()
def intervention(
    test: Trial,
    model: LanguageModel,
    dictionary: Dictionary,
    judge: LanguageModel,
    *,
    prompts: Sequence[str],
    kl: float = 0.5,
) -> ExplanationScore:
    """How much likelier an explanation becomes, in nats, after texts that the model wrote while it was steered.

    The mean of log p(explanation | steered continuations) - log p(explanation | unsteered ones) under the judge, less
    the same of a random direction of equal KL. Both directions are scaled until the mean KL of the next token after the
    prompts is `kl`. Positive: the explanation describes what the feature does to the output. The interval is over
    prompts, so give ten or more. Source: Paulo et al. 2024 (intervention scoring).

    Args:
        test: the explanation.
        model, dictionary: whose feature it is.
        judge: which reads the texts; may be the model.
        prompts: beginnings of texts.
        kl: in nats a token.

    Raises:
        UsageError: a dictionary that does not write to the residual stream, or fewer than two prompts.
    """
    site = dictionary.site_out or dictionary.site
    if site is None or not site.facts.in_stream or len(prompts) < 2:
        raise UsageError(f"intervention: a residual dictionary and two prompts expected, found {site}, {len(prompts)}")
    row = dictionary.W_dec[test.windows.feature.latent].float()
    generator = torch.Generator().manual_seed(test.seed)
    random = torch.randn(row.shape, generator=generator).to(row)
    tokens = model.tokenize(list(prompts))
    gains = []
    unsteered = _continued(model, site, torch.zeros_like(row), tokens)
    before = _likelihood(judge, test.explanation, unsteered)
    for direction in (row, random):
        pushed = direction / direction.norm() * _strength(model, site, direction, tokens, kl)
        after = _likelihood(judge, test.explanation, _continued(model, site, pushed, tokens))
        gains.append(np.array(after) - np.array(before))
    difference = gains[0] - gains[1]
    error = 1.96 * float(difference.std(ddof=1)) / math.sqrt(len(difference))
    mean = float(difference.mean())
    beside = {"feature": float(gains[0].mean()), "random direction": float(gains[1].mean())}
    return ExplanationScore(
        "intervention", mean, mean - error, mean + error, items=ItemCounts(right=len(prompts)), beside=beside
    )


@torch.no_grad()
def clarity(
    test: Trial,
    writer: Chat,
    model: LanguageModel,
    dictionary: Dictionary,
    corpus: WindowedCorpus,
    *,
    calls: int = 15,
    texts: int = 5,
) -> ExplanationScore:
    """FADE's clarity: is the feature more active on texts that were written for the explanation than on natural ones?

    The Gini index, with its sign, of the feature's largest activation in each text: texts of a language model that is
    shown the explanation alone, against all windows of the test. Written texts are cut to the length of a window, so
    that longer ones have no better chance. A call whose answer is no list of texts is counted; above a fifth of them
    there is no score. Source: Puri et al. 2025.

    Args:
        test: the explanation.
        writer: the language model that writes.
        model, dictionary: whose feature it is.
        corpus: the natural texts, of a store of that model and dictionary.
        calls: questions to the writer; texts: that each asks for.

    Raises:
        UsageError: a dictionary that is not at the feature's site, or a model or dictionary that is not the store's.
    """
    feature = test.windows.feature
    if dictionary.site != feature.site:
        raise UsageError(f"clarity: a dictionary at {feature.site} expected, found one at {dictionary.site}")
    corpus.store.require(model=model, dictionaries={feature.site: dictionary})
    system, user = messages("write", explanation=test.explanation, count=texts, tokens=corpus.settings.length)
    most = (20 + 2 * corpus.settings.length) * texts
    asked = [ChatRequest(system, user, most, temperature=1.0, seed=test.seed + one) for one in range(calls)]
    replies = writer.ask(asked)
    read = [None if one.error else parse_texts(one.text) for one in replies]
    written = list(dict.fromkeys(text for several in read for text in several or ()))
    parsed, errors = sum(one is not None for one in read), sum(bool(one.error) for one in replies)
    counts = ItemCounts(right=parsed, unparsed=calls - parsed - errors, error=errors)
    if parsed < (1 - MOST_FAILURES) * calls:
        return ExplanationScore("clarity", None, reason=f"{counts.failures:.0%} of the calls failed", items=counts)
    maxima = np.maximum.reduceat(corpus.activations(feature), corpus.bounds[:-1])
    found = auroc(_maxima(model, dictionary, feature.latent, written, corpus), maxima[corpus.split == TEST].tolist())
    low, high = 2 * found.low - 1, 2 * found.high - 1
    beside = {"texts": float(len(written))}
    return ExplanationScore("clarity", 2 * found.value - 1, low, high, found, beside, items=counts)


@torch.no_grad()
def steered_faithfulness(
    test: Trial,
    judge: ChatJudge,
    model: LanguageModel,
    dictionary: Dictionary,
    *,
    prompts: Sequence[str],
    texts: int = 50,
    new_tokens: int = 30,
) -> ExplanationScore:
    """FADE's faithfulness: how much of what it could, steering along the feature raises the share of texts in which a
    language model finds the explanation (:func:`gossamer.explain.metrics.faithfulness`).

    The feature's decoder row is added at every token, -50, -10, -1, 1, 10 and 50 times as strongly as the feature ever
    is in the corpus; a text counts that is rated 2. Above a fifth of failed ratings at any strength there is no
    score. Source: Puri et al. 2025.

    Args:
        test: the explanation.
        judge: the language model that rates.
        model, dictionary: whose feature it is.
        prompts: beginnings of texts, in turn.
        texts: continuations at each strength; new_tokens: of each.

    Raises:
        UsageError: a dictionary that does not write to the residual stream, or no prompts.
    """
    site = dictionary.site_out or dictionary.site
    if site is None or not site.facts.in_stream or not prompts:
        raise UsageError(f"faithfulness: a residual dictionary and a prompt expected, found {site}, {len(prompts)}")
    row = dictionary.W_dec[test.windows.feature.latent].float() * test.windows.maximum
    tokens = model.tokenize(list(prompts))[torch.arange(texts) % len(prompts)]
    shares, every = dict[float, float](), list[int | Failure]()
    for factor in (0.0, *_FACTORS):
        written = _continued(model, site, factor * row, tokens, new_tokens)
        ratings = judge.rate_texts(test.explanation, written)
        every += ratings
        known = [one for one in ratings if not isinstance(one, Failure)]
        if len(known) < (1 - MOST_FAILURES) * texts:
            reason = f"{texts - len(known)} of {texts} ratings at {factor:g} times the maximum failed"
            return ExplanationScore("faithfulness", None, reason=reason, items=rating_counts(every))
        shares[factor] = known.count(_FOUND) / len(known)
    counts = rating_counts(every)
    plain_share = shares.pop(0.0)
    best = max(shares, key=shares.__getitem__)
    beside = {"unsteered": plain_share, "best factor": best, "at the best factor": shares[best]}
    if plain_share == 1:
        reason = "every text has it without steering"
        return ExplanationScore("faithfulness", None, reason=reason, beside=beside, items=counts)
    value = faithfulness(plain_share, list(shares.values()))
    return ExplanationScore("faithfulness", value, beside=beside, items=counts)


def _maxima(
    model: LanguageModel, dictionary: Dictionary, latent: int, texts: Sequence[str], corpus: WindowedCorpus
) -> list[float]:
    """A latent's largest activation in each text, cut to a window of the corpus; the same tokens count as there."""
    settings, length = corpus.store.manifest.settings, corpus.settings.length
    tokens = model.tokenize(texts, bos=settings.bos).cut(length + 1)
    counted = (settings.mask or DEFAULT_MASK).counted(model, tokens)
    counted &= counted.cumsum(dim=1) <= length
    assert dictionary.site is not None
    stream = model.capture(tokens, [dictionary.site])[dictionary.site]
    values = dictionary.encode_dense(stream, torch.tensor([latent], device=stream.device))[..., 0]
    return [float(x) for x in values.cpu().masked_fill(~counted, 0.0).amax(dim=1)]


@torch.no_grad()
def token_changes(
    model: LanguageModel, dictionary: Dictionary, latent: int, tokens: Tokens, *, factor: float, count: int = 20
) -> tuple[str, ...]:
    """The tokens whose probability rises most, on average over all positions, when a latent is made stronger.

    For `Evidence.changed` of an output-centric explanation. Source: Gur-Arieh et al. 2025 (TokenChange).

    Args:
        model, dictionary, latent: whose feature it is.
        tokens: texts to read.
        factor: of the decoder row, that is added to the stream at every token.
        count: how many.

    Raises:
        UsageError: a dictionary that does not write to the residual stream.
    """
    site = dictionary.site_out or dictionary.site
    if site is None or not site.facts.in_stream:
        raise UsageError(
            f"token changes: a dictionary that writes to the residual stream expected, found one at {site}"
        )
    means = []
    for strength in (0.0, factor):
        with model.edit({site: _adding(strength * dictionary.W_dec[latent].float())}):
            means.append(model.logits(tokens)[tokens.mask.to(model.device)].float().softmax(dim=-1).mean(dim=0))
    best = (means[1] - means[0]).topk(min(count, len(means[0]))).indices.tolist()
    return tuple(model.word(one) for one in best)


@torch.no_grad()
def mean_norm(model: LanguageModel, site: Site, tokens: Tokens) -> float:
    """Mean length of what stands at a site, over the tokens of a text."""
    return float(model.capture(tokens, [site])[site].float().norm(dim=-1)[tokens.mask.to(model.device)].mean())


def _adding(direction: Float[Tensor, "d"]) -> Callable[[Tensor], Tensor]:
    return lambda value: value + direction.to(value)


def _strength(
    model: LanguageModel, site: Site, direction: Float[Tensor, "d"], tokens: Tokens, kl: float, steps: int = 12
) -> float:
    """How long a direction must be for that KL of the next token; found by bisection on its logarithm."""
    unit, plain_logits = direction / direction.norm(), model.logits(tokens, at=tokens.last).float().log_softmax(-1)
    scale = mean_norm(model, site, tokens)
    low, high = scale * 1e-3, scale * 1e2
    for _ in range(steps):
        middle = math.sqrt(low * high)
        with model.edit({site: _adding(middle * unit)}):
            steered = model.logits(tokens, at=tokens.last).float().log_softmax(-1)
        found = float((plain_logits.exp() * (plain_logits - steered)).sum(dim=-1).mean())
        low, high = (middle, high) if found < kl else (low, middle)
    return math.sqrt(low * high)


def _continued(
    model: LanguageModel, site: Site, direction: Float[Tensor, "d"], tokens: Tokens, new_tokens: int = _NEW_TOKENS
) -> list[str]:
    with model.edit({site: _adding(direction)}):
        made = model.generate(tokens, max_new_tokens=new_tokens, temperature=1.0, seed=0)
    return model.decode(made.new)


def _likelihood(judge: LanguageModel, explanation: str, texts: Sequence[str]) -> list[float]:
    """log p(explanation) a token, after each text alone."""
    contexts = [plain("steered", texts=[text]).rstrip() for text in texts]
    return [-_losses(judge, context, [f" {explanation}"], 1)[0] for context in contexts]
