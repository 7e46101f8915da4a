"""Whether dictionaries fit a model: site, width and model name are checked, measured quality is held against claims."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.activations.stream import BATCH, ActivationBatch, ActivationStream
from gossamer.activations.token_mask import TokenMask
from gossamer.dictionary.config import ReportedMetrics
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.training_tokens import counted_for
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.model.language_model import LanguageModel
from gossamer.model.names import same_model
from gossamer.model.site import BySite, Site, SiteMapping, by_site
from gossamer.tokens import Tokens

EXPLAINED_VARIANCE = "1 - sum ||x - x_hat||^2 / sum ||x - mean||^2"
_L0_FACTOR = 2.0
_VARIANCE_SLACK = 0.2


class DictionaryWarning(UserWarning):
    """A dictionary does not do on these activations what its file claims."""


@dataclass(frozen=True)
class Measurement:
    """What a dictionary does on a model's activations at the tokens that count; sums in float64.

    Attributes:
        l0: mean number of active latents per token.
        explained_variance: by `formula`, over all tokens together; 1 is perfect, 0 no better than the mean.
        tokens: number of tokens measured.
        formula: the formula of the explained variance, in words.
    """

    l0: float
    explained_variance: float
    tokens: int
    formula: str = EXPLAINED_VARIANCE

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"L0 {self.l0:.4g}, explained variance {self.explained_variance:.3g} on {plural(self.tokens, 'token')}"


@dataclass(frozen=True)
class Attachment:
    """The result of attaching one dictionary: `warnings` is empty when it does what its file claims."""

    site: Site
    measured: Measurement
    reported: ReportedMetrics
    warnings: tuple[str, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield str(self.site)
        yield f"L0 {self.measured.l0:.4g}, explained variance {self.measured.explained_variance:.3g}"
        if self.warnings:
            yield plural(len(self.warnings), "warning")


@dataclass(frozen=True)
class _Sums:
    """Moments of one batch at one site; `spread` is around the batch's own mean, so that joining does not cancel."""

    tokens: int
    active: float
    error: float
    mean: Float[Tensor, "d"]
    spread: float

    def joined(self, other: "_Sums") -> "_Sums":
        tokens = self.tokens + other.tokens
        apart = other.mean - self.mean
        between = float(apart.square().sum()) * self.tokens * other.tokens / max(tokens, 1)
        return _Sums(
            tokens,
            self.active + other.active,
            self.error + other.error,
            self.mean + apart * (other.tokens / max(tokens, 1)),
            self.spread + other.spread + between,
        )


def measure(
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    tokens: Tokens,
    *,
    mask: TokenMask | None = None,
    batch_size: int = BATCH,
) -> BySite[Measurement]:
    """L0 and explained variance of each dictionary on the model's own activations, each dictionary alone.

    What a transcoder explains is what stands at the site where it writes. Tokens that count are those of `mask`, by
    default those on which all of the dictionaries learned.

    Memory: the activations of one batch at all sites, and what :meth:`Dictionary.encode` needs.

    Raises:
        UsageError: fewer than two tokens count.
        NotFiniteError: activations or a reconstruction are not finite.
    """
    dictionaries = by_site(dictionaries)
    written = {site: dictionary.site_out or site for site, dictionary in dictionaries.items()}
    stream = ActivationStream(
        model,
        tokens,
        sorted({*written, *written.values()}),
        mask=counted_for(model, dictionaries.values(), tokens, mask),
        batch_size=batch_size,
        what="measuring dictionaries",
        trimmed=True,
    )
    if int(stream.counted.sum()) < 2:
        raise UsageError("measuring a dictionary needs at least two tokens besides BOS and padding; give more text")

    def summed(batch: ActivationBatch) -> dict[Site, _Sums]:
        return {
            site: _sums(dictionaries[site], batch.counted(site), batch.counted(out)) for site, out in written.items()
        }

    totals: dict[Site, _Sums] = {}
    for sums in stream.map(summed):
        totals = {site: totals[site].joined(part) if site in totals else part for site, part in sums.items()}
    return BySite((site, _measurement(total)) for site, total in totals.items())


def _sums(dictionary: Dictionary, x: Float[Tensor, "tokens d"], target: Float[Tensor, "tokens d_out"]) -> _Sums:
    x, target = x.to(dictionary.W_dec.device), target.to(dictionary.W_dec.device)
    if len(x) == 0:
        return _Sums(0, 0.0, 0.0, torch.zeros(target.shape[1], dtype=torch.float64, device=x.device), 0.0)
    latents = dictionary.encode(x)
    out = require_finite(dictionary.reconstruct(x, latents), f"reconstruction at {dictionary.site}")
    exact = target.double()
    error = (exact - out.double()).square().sum()
    mean = exact.mean(dim=0)
    spread = (exact - mean).square().sum()
    return _Sums(len(x), float(latents.l0.sum()), float(error), mean, float(spread))


def _measurement(sums: _Sums) -> Measurement:
    variance = 1 - sums.error / sums.spread if sums.spread > 0 else float("nan")
    return Measurement(sums.active / sums.tokens, variance, sums.tokens)


def attach(
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    tokens: Tokens,
    *,
    allow_other_model: bool = False,
) -> list[Attachment]:
    """Check that each dictionary belongs to the model and does there what its file claims.

    A measured L0 outside a factor 2 of the claim, an explained variance below 0 or more than 0.2 below the claim is
    warned of (:class:`DictionaryWarning`) and listed in the result.

    Args:
        tokens: some hundred tokens of ordinary text, with BOS if the dictionaries were trained with it.
        allow_other_model: accept dictionaries of another model (a fine-tune, say); the check becomes a warning.

    Raises:
        UsageError: a site that the model lacks, a width that differs, dictionaries of another model, a transcoder.
    """
    dictionaries = by_site(dictionaries)
    for site, dictionary in dictionaries.items():
        require_fit(model, site, dictionary)
    if not allow_other_model:
        require_model(model, dictionaries)
    measured = measure(model, dictionaries, tokens)
    attachments = [_attachment(model, site, dictionaries[site], measured[site]) for site in dictionaries]
    for attachment in attachments:
        for text in attachment.warnings:
            warnings.warn(text, DictionaryWarning, stacklevel=3)
    return attachments


def require_fit(model: LanguageModel, site: Site, dictionary: Dictionary) -> None:
    """Refuse a dictionary whose site or width the model does not have.

    Raises:
        UsageError: naming what was expected.
    """
    dictionary.require_reconstruction("attaching it")
    if dictionary.site != site:
        raise UsageError(f"expected a dictionary of {site}, found one of {dictionary.site}; attach it at its own site")
    if site.layer is not None and site.layer >= model.n_layers:
        raise UsageError(f"dictionary at {site}: {model.name} has layers 0 to {model.n_layers - 1}; use its own model")
    if dictionary.d_in != model.width(site):
        raise UsageError(
            f"dictionary at {site}: expected width {model.width(site)} as in {model.name}, found {dictionary.d_in}; "
            "use the dictionary's own site and model"
        )


def require_model(model: LanguageModel, dictionaries: SiteMapping[Dictionary]) -> None:
    """Refuse dictionaries whose files say that they were trained on another model, by name.

    Raises:
        UsageError: naming the site and both models.
    """
    for site, dictionary in by_site(dictionaries).items():
        if dictionary.model_name is not None and not same_model(dictionary.model_name, model.name):
            raise UsageError(
                f"dictionary at {site}: trained on {dictionary.model_name}, the model is {model.title}; load that "
                "model, or use it all the same with --allow-other-model (in Python, allow_other_model=True)"
            )


def _attachment(model: LanguageModel, site: Site, dictionary: Dictionary, measured: Measurement) -> Attachment:
    reported, texts, cause = dictionary.reported, [], _likely_cause(site)
    if dictionary.model_name is None:
        texts.append(f"dictionary at {site}: its file names no model; nothing says that it belongs to {model.name}")
    elif not same_model(dictionary.model_name, model.name):
        texts.append(f"dictionary at {site}: trained on {dictionary.model_name}, used on {model.title}")
    if reported.l0 is not None and not reported.l0 / _L0_FACTOR <= measured.l0 <= reported.l0 * _L0_FACTOR:
        texts.append(f"dictionary at {site}: L0 is {measured.l0:.4g}, its file claims {reported.l0:.4g}; {cause}")
    if (shortfall := _shortfall(measured.explained_variance, reported.explained_variance)) is not None:
        texts.append(f"dictionary at {site}: explained variance ({measured.formula}) is {shortfall}; {cause}")
    return Attachment(site, measured, reported, tuple(texts))


def _shortfall(measured: float, claimed: float | None) -> str | None:
    if claimed is not None and not measured >= claimed - _VARIANCE_SLACK:
        return f"{measured:.4g}, its file claims {claimed:.4g}"
    return None if measured >= 0 else f"{measured:.4g}, worse than the mean"


def _likely_cause(site: Site) -> str:
    return (
        f"it was probably trained on another tensor than {site} of this model (site, layer, processed weights), "
        "on scaled activations, or on other text"
    )
