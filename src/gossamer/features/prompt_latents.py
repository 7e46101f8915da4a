"""What the latents of several dictionaries do on one text, and what they add to a token that the model may say next."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.training_tokens import counted_for
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site, SiteMapping, by_site
from gossamer.tokens import Tokens

# Of one text: all latents of all sites at all of its tokens stand in memory at once.
MOST_TOKENS = 512


@dataclass(frozen=True)
class LatentsAtSite:
    """One site's dictionary on a text.

    Attributes:
        activations: of every latent at every token.
        attributions: activation times the derivative of the target's log-probability by it, in nats: what the latent
            adds to it, to first order, through everything that reads the stream after it. The model itself is run, with
            no dictionary in its stream.
        error_share: norm of the reconstruction error over the norm of the value, at every token.
    """

    activations: Float[Tensor, "pos latent"]
    attributions: Float[Tensor, "pos latent"]
    error_share: Float[Tensor, "pos"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(self.activations.shape[0], "token")
        yield f"{(self.activations > 0).sum(dim=1).float().mean().item():.3g} latents active on average"


@dataclass(frozen=True)
class PromptLatents:
    """A text as the dictionaries see it.

    Attributes:
        tokens: of the text, one row.
        counted: tokens on which all of the dictionaries learned; at the others (BOS, attention sinks) what they say
            means nothing.
        at: the token after which the target may come.
        target: the token that latents are attributed to.
        log_probs: the model's, of the token after `at`.
        sites: what each dictionary says.
    """

    tokens: Tokens
    counted: Bool[Tensor, "pos"]
    at: int
    target: int
    log_probs: Float[Tensor, "vocab"]
    sites: Mapping[Site, LatentsAtSite]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.counted), "token")
        yield f"target {self.target} after token {self.at}, log-probability {self.log_probs[self.target].item():.3g}"


def prompt_latents(
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    text: str,
    *,
    bos: bool | None = None,
    at: int = -1,
    target: int | None = None,
) -> PromptLatents:
    """Encode a text at every site, and attribute one next token to all latents by one backward pass.

    Source of the measure: activation times gradient, as attribution patching to zero (Nanda 2023).
    Memory: tokens x latents of every site, twice.

    Args:
        model: the language model.
        dictionaries: of any of its sites.
        text: at most `MOST_TOKENS` tokens.
        bos: see :meth:`LanguageModel.tokenize`.
        at: the token after which the target may come; from the end where negative.
        target: a token's number; None for the one that the model finds most likely.

    Raises:
        UsageError: a text that is too long, no such token, or a transcoder.
    """
    dictionaries = by_site(dictionaries)
    tokens = prompt_tokens(model, text, bos)
    length = tokens.ids.shape[1]
    if not -length <= at < length:
        raise UsageError(f"at: a token from 0 to {length - 1} expected, found {at}")
    if target is not None and not 0 <= target < model.d_vocab:
        raise UsageError(f"target: a token from 0 to {model.d_vocab - 1} expected, found {target}")
    place = at % length
    values, gradients, log_probs, chosen = _gradients(model, list(dictionaries), tokens, place, target)
    counted = counted_for(model, dictionaries.values(), tokens)[0]
    found = {site: _at_site(one, values[site], gradients[site]) for site, one in dictionaries.items()}
    return PromptLatents(tokens, counted, place, chosen, log_probs, found)


def prompt_tokens(model: LanguageModel, text: str, bos: bool | None = None) -> Tokens:
    """The tokens of one text, on the model's device.

    Raises:
        UsageError: no text, or too long a one.
    """
    tokens = model.tokenize([text], bos=bos).to(model.device)
    if tokens.ids.shape[1] > MOST_TOKENS:
        raise UsageError(f"text: at most {MOST_TOKENS} tokens expected, found {tokens.ids.shape[1]}; give a part of it")
    return tokens


def _gradients(
    model: LanguageModel, sites: Sequence[Site], tokens: Tokens, at: int, target: int | None
) -> tuple[dict[Site, Tensor], dict[Site, Tensor], Tensor, int]:
    """Values (1 pos d) of the sites, their gradients, log-probabilities after `at`, and which token they are of."""
    with torch.no_grad():
        values = model.capture(tokens, sites)
    # Added to what stands at a site: the derivative by these zeros is that by the value.
    leaves = {site: torch.zeros_like(values[site]).requires_grad_() for site in sites}
    where = torch.tensor([at], device=model.device)
    with torch.enable_grad(), model.edit({site: leaves[site].add for site in sites}):
        logits = require_finite(model.logits(tokens, at=where), "the model's logits")
        log_probs = logits[0].float().log_softmax(dim=0)
        chosen = int(log_probs.argmax()) if target is None else target
        found = torch.autograd.grad(log_probs[chosen], list(leaves.values()))
    return dict(values), dict(zip(sites, found, strict=True)), log_probs.detach(), chosen


@torch.no_grad()
def _at_site(dictionary: Dictionary, x: Float[Tensor, "1 pos d"], gradient: Float[Tensor, "1 pos d"]) -> LatentsAtSite:
    dictionary.require_reconstruction("attribution")
    latents = dictionary.encode_dense(x)
    error = (x - dictionary.reconstruct(x, latents)).float().norm(dim=-1) / x.float().norm(dim=-1)
    by_latent = (gradient * _scale(dictionary, x)).to(dictionary.W_dec.dtype) @ dictionary.W_dec.T
    return LatentsAtSite(latents[0].float(), (latents * by_latent)[0].float(), error[0])


def _scale(dictionary: Dictionary, x: Float[Tensor, "*tokens d"]) -> Float[Tensor, "*tokens one"]:
    """What one unit of the decoder's output is in the stream, at each token."""
    _, statistics = dictionary.normalise(x)
    return torch.ones_like(x[..., :1]) if statistics is None else statistics.scale


@torch.no_grad()
def without_each(
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    found: PromptLatents,
    site: Site,
    position: int,
    latents: Int[Tensor, "latent"],
) -> Float[Tensor, "latent"]:
    """Change of the target's log-probability, in nats, when each latent alone goes to zero at one token: exact.

    Every reconstruction error stays. Memory: a row of the text for each latent.

    Raises:
        UsageError: a token or a latent that is not there.
    """
    dictionary = by_site(dictionaries)[site]
    length, rows = found.tokens.ids.shape[1], len(latents)
    if not 0 <= position < length:
        raise UsageError(f"position: a token from 0 to {length - 1} expected, found {position}")
    if rows and not (latents.min() >= 0 and latents.max() < dictionary.n_latents):
        raise UsageError(f"latents: from 0 to {dictionary.n_latents - 1} expected at {site}, found others")
    if not rows:
        return torch.zeros(0)
    activations = found.sites[site].activations[position, latents].to(dictionary.W_dec.dtype)
    change = -activations[:, None] * dictionary.W_dec[latents]

    def remove(x: Tensor) -> Tensor:
        edited = x.clone()
        edited[:, position] += (change * _scale(dictionary, x[:, position])).to(x.dtype)
        return edited

    tokens = Tokens(found.tokens.ids.expand(rows, -1), found.tokens.mask.expand(rows, -1))
    at = torch.full((rows,), found.at, device=model.device)
    with model.edit({site: remove}):
        log_probs = model.logits(tokens, at=at).float().log_softmax(dim=-1)
    return require_finite(log_probs, "logits without a latent")[:, found.target] - found.log_probs[found.target]
