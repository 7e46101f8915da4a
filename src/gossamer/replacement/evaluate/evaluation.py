"""What is known of one dictionary on one text."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.dictionary.attach import EXPLAINED_VARIANCE
from gossamer.display import html_table, plural, short_repr
from gossamer.model.site import Site

# By name, because two formulas go by "explained variance" and papers were printed with either.
FORMULAS = {
    "explained_variance": EXPLAINED_VARIANCE,
    "explained_variance_legacy": "mean of 1 - ||x - x_hat||^2 / ||x - mean||^2 over tokens",
    "cosine": "mean of <x, x_hat> / (||x|| ||x_hat||)",
    "norm_ratio": "mean of ||x_hat|| / ||x||",
    "reconstruction_bias": "mean ||x_hat||^2 / mean <x, x_hat> (arXiv 2404.16014, equation 10)",
    "loss_recovered": "(CE zero - CE spliced) / (CE zero - CE of the model)",
    "kl_score": "(KL zero - KL spliced) / KL zero",
}
DENSE = 0.1


@dataclass(frozen=True)
class Position:
    """One position of the rows: tokens there, their mean L0, and their share of unexplained variance."""

    position: int
    tokens: int
    l0: float
    unexplained: float


@dataclass(frozen=True)
class SaeBenchMeasures:
    """What SAEBench's core evaluation defines otherwise, or measures besides.

    Attributes:
        dtype: of the model.
        rows, context: of the text: number of rows and most tokens of one.
        ce_zero, kl_zero: with the site set to zero at every token, BOS and attention sinks too.
        fired_rows: in how many rows each latent was active.
    """

    dtype: str
    rows: int
    context: int
    ce_zero: float
    kl_zero: float
    fired_rows: Int[Tensor, "n"]

    __repr__ = short_repr


@dataclass(frozen=True)
class Evaluation:
    """One dictionary alone on the model's own activations and, spliced in with its error dropped, in the model.

    Sums are taken in float64 over all measured tokens together. `FORMULAS` has the definitions.

    Attributes:
        site: where the dictionary reads.
        tokens: activations measured: of the tokens that count.
        predicted: next tokens predicted, for CE and KL, in nats a token.
        l0, l1: mean number and mean sum of active latents.
        mse: mean over tokens of ||x - x_hat||^2 / d.
        norm_in, norm_out: mean ||x|| and ||x_hat||.
        ce_model, ce_spliced, ce_zero: cross-entropy of the text: model, dictionary spliced in, site set to zero; tokens
            that do not count pass through.
        kl_spliced, kl_zero: KL(model || edited model).
        fired: on how many tokens each latent was active.
        positions: the same by position in the row.
        includes_bos: whether BOS was measured and replaced too.
        saebench: what :func:`to_saebench` needs besides, if it was asked for.
    """

    site: Site
    tokens: int
    predicted: int
    l0: float
    l1: float
    mse: float
    explained_variance: float
    explained_variance_legacy: float
    cosine: float
    norm_in: float
    norm_out: float
    norm_ratio: float
    reconstruction_bias: float
    ce_model: float
    ce_spliced: float
    ce_zero: float
    kl_spliced: float
    kl_zero: float
    fired: Int[Tensor, "n"]
    positions: tuple[Position, ...]
    includes_bos: bool = False
    saebench: SaeBenchMeasures | None = None

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield str(self.site)
        yield f"L0 {self.l0:.4g}, explained variance {self.explained_variance:.3g}"
        yield f"loss recovered {self.loss_recovered:.3g}, KL {self.kl_spliced:.3g}"
        yield f"dead {self.dead:.1%} on {plural(self.tokens, 'token')}"

    def _repr_html_(self) -> str:
        numbers = {name: getattr(self, name) for name in ("tokens", "l0", *FORMULAS, "kl_spliced", "dead", "dense")}
        rows = [(name, value, FORMULAS.get(name, "")) for name, value in numbers.items()]
        return html_table(("measure", "value", "formula"), rows, repr(self))

    @property
    def loss_recovered(self) -> float:
        """1 if the text is predicted as well as by the model itself, 0 if as badly as with the site at zero."""
        return (self.ce_zero - self.ce_spliced) / (self.ce_zero - self.ce_model)

    @property
    def kl_score(self) -> float:
        """The same for the model's predictions: 1 if nothing changes."""
        return (self.kl_zero - self.kl_spliced) / self.kl_zero

    @property
    def density(self) -> Float[Tensor, "n"]:
        """Share of the tokens on which each latent is active, float64."""
        return self.fired.double() / self.tokens

    @property
    def dead(self) -> float:
        """Share of the latents that were active on none of the tokens: an upper bound that falls with more text."""
        return (self.fired == 0).double().mean().item()

    @property
    def dense(self) -> float:
        """Share of the latents that were active on more than a tenth of the tokens."""
        return (self.density > DENSE).double().mean().item()

    def density_histogram(self, bins: int = 24) -> tuple[list[float], list[int]]:
        """See :func:`density_histogram`."""
        return density_histogram(self.fired, self.tokens, bins)


def density_histogram(fired: Int[Tensor, "n"], tokens: int, bins: int = 24) -> tuple[list[float], list[int]]:
    """Edges of log10(density), bins + 1 of them from one token to all, and the living latents in each bin.

    Args:
        fired: on how many of the tokens each latent was active.
    """
    edges = torch.linspace(-torch.log10(torch.tensor(float(tokens))).item(), 0.0, bins + 1)
    alive = (fired[fired > 0].double() / tokens).log10().float()
    inside = torch.bucketize(alive, edges[1:-1], right=True)
    return edges.tolist(), torch.bincount(inside, minlength=bins).tolist()
