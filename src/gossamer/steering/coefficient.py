"""How strong an intervention is, with its unit; and what a site has on a text, by which strengths can be compared."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.activations.stream import BATCH, ActivationBatch, ActivationStream
from gossamer.activations.token_mask import DEFAULT_MASK, TokenMask
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import plural, short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site, SiteLike
from gossamer.tokens import Tokens

Unit = Literal["raw", "max_activation", "residual_norm"]
UNITS: tuple[str, ...] = get_args(Unit)


@dataclass(frozen=True)
class Coefficient:
    """A strength in a unit that is kept with it: numbers without units were misread for months elsewhere.

    Attributes:
        value: how many units.
        unit: "raw"; "max_activation", of the feature on a text (for a vector: the largest x . v there); or
            "residual_norm", the mean length of the site's values on a text over the length of the vector.
        scale: one unit in raw terms, as it was measured; 1 for "raw".

    Raises:
        UsageError: an unknown unit, a value that is not finite, or a scale that is not positive.
    """

    value: float
    unit: str = "raw"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise UsageError(f"coefficient: a unit of {', '.join(UNITS)} expected, found {self.unit!r}")
        if not isfinite(self.value * self.scale) or not self.scale > 0 or (self.unit == "raw" and self.scale != 1):
            raise UsageError(
                f"coefficient: a finite value and a positive scale (1 for raw) expected, found {self.value} x "
                f"{self.scale} {self.unit}"
            )

    @property
    def raw(self) -> float:
        """The factor that formulas take."""
        return self.value * self.scale

    def times(self, factor: float) -> "Coefficient":
        """A multiple, in the same unit."""
        return Coefficient(self.value * factor, self.unit, self.scale)

    def __str__(self) -> str:
        return f"{self.value:g}" if self.unit == "raw" else f"{self.value:g} x {self.unit} ({self.raw:.4g})"


def coefficient(value: "float | Coefficient") -> Coefficient:
    """A plain number is raw."""
    return value if isinstance(value, Coefficient) else Coefficient(float(value))


@dataclass(frozen=True, eq=False)
class SiteScale:
    """What a model has at one site on a text.

    Attributes:
        site: the site.
        tokens: tokens that counted.
        norm: mean length of their values.
        maxima, density: of each latent of the dictionary there: largest activation, share of tokens where active; empty
            without a dictionary.
        values: some of the tokens' values, for the largest projection on a vector.
    """

    site: Site
    tokens: int
    norm: float
    maxima: Float[Tensor, "n"]
    density: Float[Tensor, "n"]
    values: Float[Tensor, "some d"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.site} on {plural(self.tokens, 'token')}"
        yield f"mean norm {self.norm:.4g}"

    def of_norm(self, value: float, vector: Float[Tensor, "*rows d"]) -> Coefficient:
        """`value` times the mean residual norm, for `vector` (of a matrix: for its longest row)."""
        length = float(vector.norm(dim=-1).max())
        if not length > 0:
            raise UsageError(f"coefficient: a vector of some length at {self.site} expected, found zeros")
        return Coefficient(value, "residual_norm", self.norm / length)

    def of_maximum(self, value: float, latent: int) -> Coefficient:
        """`value` times the latent's largest activation.

        Raises:
            UsageError: there is no such latent, or it was never active.
        """
        if not 0 <= latent < len(self.maxima):
            raise UsageError(f"{self.site}/{latent}: a latent from 0 to {len(self.maxima) - 1} expected")
        if not (largest := float(self.maxima[latent])) > 0:
            raise UsageError(
                f"{self.site}/{latent}: a feature that is active somewhere expected, found none of it on "
                f"{plural(self.tokens, 'token')}; it is dead or rare: take another, or more text"
            )
        return Coefficient(value, "max_activation", largest)

    def of_projection(self, value: float, vector: Float[Tensor, "d"]) -> Coefficient:
        """`value` times the largest x . v on the text (AxBench's scale of dense vectors; 50 where nothing is positive).

        Source: Wu et al. 2025 (arXiv 2501.17148).
        """
        largest = float((self.values @ vector.to(self.values)).max())
        return Coefficient(value, "max_activation", largest if largest > 0 else 50.0)


# Values of tokens that are kept for projections.
_KEPT = 4096


@torch.no_grad()
def measure_site(
    model: LanguageModel,
    site: SiteLike,
    tokens: Tokens,
    dictionary: Dictionary | None = None,
    *,
    mask: TokenMask = DEFAULT_MASK,
    batch_size: int = BATCH,
) -> SiteScale:
    """Measure a site on a text in one pass. Memory: the latents of one batch, and 4,096 tokens' values.

    Raises:
        UsageError: no token counts.
        NotFiniteError: a value is not finite.
    """
    place = Site.of(site)
    width = 0 if dictionary is None else dictionary.n_latents

    def work(batch: ActivationBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values = batch.counted(place)
        latents = values.new_zeros(len(values), 0) if dictionary is None else dictionary.encode_dense(values)
        largest = latents.amax(dim=0) if len(values) else latents.new_zeros(width)
        norms = values.double().norm(dim=1).sum()
        return norms.cpu(), largest.float().cpu(), (latents > 0).sum(dim=0).cpu(), values[:_KEPT].float().cpu()

    stream = ActivationStream(model, tokens, [place], mask=mask, batch_size=batch_size)
    parts = stream.map(work)
    if not (count := int(stream.counted.sum())):
        raise UsageError("steering: tokens besides BOS, padding and attention sinks expected, found none")
    norm = float(sum(part[0] for part in parts)) / count
    if not norm > 0:
        raise GossamerError(f"{place}: values of some length expected, found zeros")
    return SiteScale(
        place,
        count,
        norm,
        torch.stack([part[1] for part in parts]).amax(dim=0),
        torch.stack([part[2] for part in parts]).sum(dim=0).double().div(count).float(),
        torch.cat([part[3] for part in parts])[:_KEPT],
    )
