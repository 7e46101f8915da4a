r"""How good the latents of a dictionary are where all features are known: the measures of SynthSAEBench.

With C = |cos| of decoder rows d_l and true directions f_i, and over samples of the world:

    MCC          mean of C over the one-to-one assignment of latents to features that makes it largest (Hungarian)
    nearest      of latent l: the feature of the largest C; signs do not count
    uniqueness   number of features that are nearest to some latent, a latent
    F1           of a latent that is above 0 as the detector of its nearest feature, 0 where it never finds it; mean
                 over all latents, dead ones too. Precision and recall likewise.
    explained    1 - sum |x - x_hat|^2 / sum |x - mean of x|^2
    shrinkage    mean of |x_hat| / |x|: below 1 reconstructions are too short
    dead         latents that are never above 0
    L0           mean number of latents (features) above 0

MCC and uniqueness are of the decoder alone, so that all ways of reading one decoder share them. As against
:mod:`gossamer.toys.recovery`, latents are asked and not features, since a dictionary here has fewer latents than there
are features.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from torch import Tensor

from gossamer.dictionary import Dictionary
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.sparse.latents import SparseLatents
from gossamer.toys.recovery import unit_rows


@dataclass(frozen=True)
class Alignment:
    """A decoder against true directions."""

    mcc: float
    uniqueness: float
    nearest: Int[Tensor, "latent"]

    __repr__ = short_repr


@dataclass(frozen=True)
class FeatureScores:
    """What one way of reading a dictionary is worth; see the module's definitions.

    Attributes:
        latents: how many there are; `dead` of them never fired.
    """

    mcc: float
    uniqueness: float
    f1: float
    precision: float
    recall: float
    explained_variance: float
    shrinkage: float
    l0: float
    true_l0: float
    dead: int
    latents: int

    __repr__ = short_repr


def align(decoder: Float[Tensor, "latent d"], directions: Float[Tensor, "feature _"]) -> Alignment:
    """Compare decoder rows with true directions, both of any length. Memory: latents * features float64 numbers.

    Raises:
        UsageError: other dimensions, or none of one.
    """
    if not len(decoder) or not len(directions) or decoder.shape[1] != directions.shape[1]:
        raise UsageError(
            f"decoder rows and directions of one width expected, found {tuple(decoder.shape)} and "
            f"{tuple(directions.shape)}"
        )
    cosines = (unit_rows(decoder.detach()) @ unit_rows(directions).T).abs()
    latents, features = linear_sum_assignment(cosines.cpu().numpy(), maximize=True)
    nearest = cosines.argmax(dim=1)
    return Alignment(
        float(cosines.cpu()[torch.as_tensor(latents), torch.as_tensor(features)].mean()),
        len(set(nearest.tolist())) / len(nearest),
        nearest,
    )


@torch.no_grad()
def score_features(
    alignment: Alignment,
    dictionary: Dictionary,
    encode: Callable[[Float[Tensor, "sample d"]], SparseLatents],
    blocks: Iterable[tuple[Float[Tensor, "sample feature"], Float[Tensor, "sample d"]]],
) -> FeatureScores:
    """Read activations with `encode`, decode with the dictionary, and compare with the features that are there.

    Args:
        alignment: of the dictionary's decoder (:func:`align`).
        encode: the dictionary's own, or a pursuit's.
        blocks: features and activations; sums are float64, so that the size of blocks does not matter.

    Memory: a block of samples * latents.

    Raises:
        UsageError: no sample.
    """
    nearest = alignment.nearest
    fired, present, both = (torch.zeros(len(nearest), dtype=torch.float64, device=nearest.device) for _ in range(3))
    count, true_active, ratio, missed, squares = 0, 0.0, 0.0, 0.0, 0.0
    total: Tensor | float = 0.0
    for features, x in blocks:
        codes = encode(x)
        x, written = x.double(), dictionary.reconstruct(x, codes).double()
        fires, there = codes.dense() > 0, features > 0
        real = there[:, nearest]
        fired += fires.sum(dim=0)
        present += real.sum(dim=0)
        both += (fires & real).sum(dim=0)
        count += len(x)
        true_active += int(there.sum())
        ratio += float((written.norm(dim=1) / x.norm(dim=1)).sum())
        missed += float((x - written).square().sum())
        squares += float(x.square().sum())
        total = total + x.sum(dim=0)
    if not isinstance(total, Tensor):
        raise UsageError("scores of features: at least one sample expected, found none")
    # A latent that never fires, or whose feature is never there, has both = 0 and so 0 everywhere.
    precision, recall = both / fired.clamp(min=1), both / present.clamp(min=1)
    f1 = 2 * both / (fired + present).clamp(min=1)
    return FeatureScores(
        mcc=alignment.mcc,
        uniqueness=alignment.uniqueness,
        f1=f1.mean().item(),
        precision=precision.mean().item(),
        recall=recall.mean().item(),
        explained_variance=1 - missed / (squares - float(total.square().sum()) / count),
        shrinkage=ratio / count,
        l0=fired.sum().item() / count,
        true_l0=true_active / count,
        dead=int((fired == 0).sum()),
        latents=len(nearest),
    )
