r"""How well a dictionary has found features that are known.

With unit true directions f_i, unit decoder rows d_l, true activations x and latents a on the same samples:

    cosine          C[i, l] = f_i . d_l
    live            latent l is above 0 on some sample; the others are dead, and take part in nothing below
    matched cosine  C[i, l(i)] of the one-to-one assignment that makes the sum of all C largest (Hungarian); 0 for a
                    feature that has none because there are too few latents
    best cosine     max_l C[i, l], dead latents counting 0
    correlation     Pearson's, of x_i and the matched a_l(i) over samples; 0 where one of them is constant
    aligned         C[i, l] >= threshold and i is the feature nearest to d_l
    overlap         |both fire| / |either fires| of two latents
    duplicate       a latent aligned with i that overlaps by 1/2 or more with one aligned better: it says the same twice
    split           a feature of which two aligned latents overlap less than that: it is told apart by context
    merged          a live latent aligned with no feature, yet within threshold of a sum of two features with positive
                    weights: it stands for both together (sums of more are not looked for)
    L0              mean number of active latents (features) a sample
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from torch import Tensor

from gossamer.dictionary import Dictionary
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError

_OVERLAP = 0.5
_LEAST = 1e-12


@dataclass(frozen=True)
class Recovery:
    """How well known features were found; see the module's definitions.

    Attributes:
        matched_cosine, best_cosine, correlation: of each feature.
        match: the latent matched with each feature; -1 for none.
        recovered: share of features with a matched cosine of at least the threshold.
        dead, duplicate, merged: numbers of latents.
        split: number of features.
        l0, true_l0: mean active latents and features a sample.
    """

    matched_cosine: Float[Tensor, "feature"]
    best_cosine: Float[Tensor, "feature"]
    correlation: Float[Tensor, "feature"]
    match: Int[Tensor, "feature"]
    recovered: float
    dead: int
    duplicate: int
    merged: int
    split: int
    l0: float
    true_l0: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.recovered:.1%} of {plural(len(self.match), 'feature')} recovered"
        yield f"matched cosine {self.matched_cosine.mean().item():.3g}"
        yield f"{self.dead} dead, {self.duplicate} duplicate, {self.merged} merged latents"


def measure_recovery(
    dictionary: Dictionary,
    directions: Float[Tensor, "feature d"],
    features: Float[Tensor, "sample feature"],
    activations: Float[Tensor, "sample d"],
    *,
    threshold: float = 0.9,
) -> Recovery:
    """Compare a dictionary with the features of the activations that it reads.

    Memory: samples x latents floats.

    Args:
        dictionary: trained on such activations.
        directions: true directions, of any positive length.
        features: true activations.
        activations: what the dictionary reads, sample by sample.
        threshold: cosine from which a latent counts as a feature's.

    Raises:
        UsageError: as :func:`compare`.
    """
    with torch.no_grad():
        latents = dictionary.encode_dense(activations)
        return compare(dictionary.W_dec, latents, directions, features, threshold=threshold)


def compare(
    decoder: Float[Tensor, "latent d"],
    latents: Float[Tensor, "_ latent"],
    directions: Float[Tensor, "feature d"],
    features: Float[Tensor, "sample feature"],
    *,
    threshold: float = 0.9,
) -> Recovery:
    """:func:`measure_recovery` from decoder rows and the latents of the same samples.

    Raises:
        UsageError: a direction of length 0, a threshold outside (0, 1], or samples that differ in number.
    """
    _check(latents, directions, features, threshold)
    cosine = unit_rows(directions) @ unit_rows(decoder).T
    fires = latents > 0
    live = fires.any(dim=0)
    cosine[:, ~live] = 0.0
    match = _assigned(cosine, live)
    matched = torch.where(match >= 0, cosine.cpu()[torch.arange(len(match)), match.clamp(min=0)], 0.0)
    nearest = torch.zeros_like(cosine, dtype=torch.bool).scatter_(0, cosine.argmax(dim=0, keepdim=True), True)
    aligned = nearest & (cosine >= threshold) & live
    duplicate, split = _repeats(cosine, aligned, fires)
    return Recovery(
        matched_cosine=matched,
        best_cosine=cosine.amax(dim=1).cpu(),
        correlation=_correlations(features.double(), latents.double(), match),
        match=match,
        recovered=(matched >= threshold).double().mean().item(),
        dead=int((~live).sum()),
        duplicate=duplicate,
        merged=_merged(cosine[:, live & ~aligned.any(dim=0)], unit_rows(directions), threshold),
        split=split,
        l0=fires.sum(dim=1).double().mean().item(),
        true_l0=(features > 0).sum(dim=1).double().mean().item(),
    )


def _check(latents: Tensor, directions: Tensor, features: Tensor, threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold: a cosine in (0, 1] expected, found {threshold}")
    if len(latents) != len(features) or len(latents) == 0:
        raise UsageError(f"the same samples expected, at least one, found {len(features)} and {len(latents)}")
    if not (directions.norm(dim=1) > _LEAST).all():
        raise UsageError("directions: a positive length expected of each; leave out features that are not represented")


def unit_rows(rows: Float[Tensor, "row d"]) -> Float[Tensor, "row d"]:
    """Rows brought to length 1, in float64; a row of zeros stays one."""
    rows = rows.double()
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=_LEAST)


def _assigned(cosine: Float[Tensor, "feature latent"], live: Bool[Tensor, "latent"]) -> Int[Tensor, "feature"]:
    match = torch.full((len(cosine),), -1)
    found, latents = linear_sum_assignment(cosine[:, live].cpu().numpy(), maximize=True)
    match[torch.as_tensor(found)] = torch.nonzero(live).squeeze(1).cpu()[torch.as_tensor(latents)]
    return match


def _repeats(cosine: Tensor, aligned: Tensor, fires: Bool[Tensor, "sample latent"]) -> tuple[int, int]:
    """Number of duplicate latents and of split features."""
    duplicate = split = 0
    for row, own in zip(cosine, aligned, strict=True):
        latents = torch.nonzero(own).squeeze(1)
        # Best first: a latent repeats one before it.
        latents = latents[torch.argsort(row[latents], descending=True, stable=True)]
        alike = _overlaps(fires[:, latents]).tril(-1) >= _OVERLAP
        below = torch.ones_like(alike).tril(-1)
        duplicate += int(alike.any(dim=1).sum())
        split += int((below & ~alike).any())
    return duplicate, split


def _overlaps(fires: Bool[Tensor, "sample latent"]) -> Float[Tensor, "latent latent"]:
    times = fires.double()
    both = times.T @ times
    counts = both.diagonal()
    return both / (counts[:, None] + counts[None, :] - both).clamp(min=1.0)


def _correlations(
    features: Float[Tensor, "sample feature"], latents: Float[Tensor, "sample latent"], match: Int[Tensor, "feature"]
) -> Float[Tensor, "feature"]:
    def centred(values: Tensor) -> Tensor:
        away = values - values.mean(dim=0)
        return away / away.norm(dim=0).clamp(min=_LEAST)

    found = (centred(features) * centred(latents)[:, match.clamp(min=0).to(latents.device)]).sum(dim=0).cpu()
    return torch.where(match >= 0, found, 0.0)


def _merged(cosine: Float[Tensor, "feature latent"], unit: Float[Tensor, "feature d"], threshold: float) -> int:
    """Latents near the plane of two features, with positive weights in it.

    For a unit row with cosines p and q to features of cosine c its length in their plane is
    sqrt((p^2 + q^2 - 2 c p q) / (1 - c^2)), with weights proportional to p - c q and q - c p.
    """
    merged = torch.zeros(cosine.shape[1], dtype=torch.bool, device=cosine.device)
    gram = unit @ unit.T
    for first, second in torch.combinations(torch.arange(len(unit))).tolist():
        c, p, q = gram[first, second], cosine[first], cosine[second]
        length = ((p * p + q * q - 2 * c * p * q) / (1 - c * c).clamp(min=_LEAST)).clamp(min=0).sqrt()
        merged |= (p > c * q) & (q > c * p) & (length >= threshold)
    return int(merged.sum())
