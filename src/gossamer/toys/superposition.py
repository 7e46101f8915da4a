"""Toy models of superposition (Elhage et al. 2022, arXiv 2209.10652): more features than dimensions.

For a sparse vector x of n features, with m < n hidden dimensions:

    h = W x          x_hat = relu(W^T h + b)          loss = mean over samples and features of I_i (x_i - x_hat_i)^2

The columns of W are the directions of the features: what a dictionary of h should find is known.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError

GroupKind = Literal["correlated", "anticorrelated"]


@dataclass(frozen=True)
class FeatureGroup:
    """Features that do not come and go independently.

    Attributes:
        features: their numbers.
        kind: "correlated": all of them are active or none; "anticorrelated": at most one of them is.
    """

    features: tuple[int, ...]
    kind: GroupKind

    __repr__ = short_repr


@dataclass(frozen=True)
class SuperpositionConfig:
    """A toy model and the distribution of its features.

    Attributes:
        n_features: n.
        n_hidden: m, fewer.
        probability: with which each feature is active (1 - S in the paper); the size is then uniform in (0, 1).
        importance_decay: importance of feature i is this to the power i.
        groups: disjoint groups; every feature keeps its probability.

    Raises:
        UsageError: sizes, probabilities or groups that make no sense.
    """

    n_features: int
    n_hidden: int
    probability: float = 0.05
    importance_decay: float = 1.0
    groups: Sequence[FeatureGroup] = ()

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if not 1 <= self.n_hidden < self.n_features:
            raise UsageError(f"1 <= n_hidden < n_features expected, found {self.n_hidden} and {self.n_features}")
        if not 0 < self.probability <= 1 or not 0 < self.importance_decay <= 1:
            raise UsageError(
                f"a probability and an importance_decay in (0, 1] expected, found {self.probability} and "
                f"{self.importance_decay}"
            )
        members = [feature for group in self.groups for feature in group.features]
        if len(set(members)) < len(members) or not set(members) <= set(range(self.n_features)):
            raise UsageError(f"groups: each feature from 0 to {self.n_features - 1} at most once, found {members}")
        for group in self.groups:
            _check_group(group, self.probability)

    @property
    def importance(self) -> Float[Tensor, "feature"]:
        """I_i."""
        return self.importance_decay ** torch.arange(self.n_features, dtype=torch.float32)


def _check_group(group: FeatureGroup, probability: float) -> None:
    if group.kind not in get_args(GroupKind) or len(group.features) < 2:
        raise UsageError(f"a group of two or more features, {' or '.join(get_args(GroupKind))}, expected: {group}")
    if group.kind == "anticorrelated" and len(group.features) * probability > 1:
        raise UsageError(
            f"{len(group.features)} features that exclude each other cannot each have probability {probability}; "
            "lower it, or make the group smaller"
        )


def sample_features(config: SuperpositionConfig, n: int, generator: torch.Generator) -> Float[Tensor, "sample feature"]:
    """`n` feature vectors on the CPU, from `generator` alone."""
    active = torch.rand(n, config.n_features, generator=generator) < config.probability
    for group in config.groups:
        members = torch.tensor(group.features)
        draw = torch.rand(n, 1, generator=generator) / config.probability
        # One draw decides for the group: all if it is below 1, or the member in whose unit interval it lies.
        place = torch.zeros(len(members)) if group.kind == "correlated" else torch.arange(float(len(members)))
        active[:, members] = (draw >= place) & (draw < place + 1)
    return torch.rand(n, config.n_features, generator=generator) * active


@dataclass(frozen=True)
class SuperpositionModel:
    """A trained toy model.

    Attributes:
        config: what it was trained on.
        W: the weights; column i is the direction of feature i.
        b: the output bias.
        loss: on a fresh sample after training.
    """

    config: SuperpositionConfig
    W: Float[Tensor, "hidden feature"]
    b: Float[Tensor, "feature"]
    loss: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(self.config.n_features, 'feature')} in {self.config.n_hidden} dimensions"
        yield f"loss {self.loss:.3g}"

    @property
    def directions(self) -> Float[Tensor, "feature hidden"]:
        """The features' directions, not normalised: a feature that is not represented has length 0."""
        return self.W.T

    @property
    def dimensionality(self) -> Float[Tensor, "feature"]:
        """Share of a dimension that each feature has: |W_i|^2 / sum_j (W_i/|W_i| . W_j)^2, 0 for a zero direction.

        1 for a feature with a dimension of its own, 1/2 for one of an antipodal pair (section 3 of the paper).
        """
        lengths = self.W.norm(dim=0)
        unit = self.W / lengths.clamp(min=1e-12)
        return lengths.square() / (unit.T @ self.W).square().sum(dim=1).clamp(min=1e-12)

    def hidden(self, x: Float[Tensor, "sample feature"]) -> Float[Tensor, "sample hidden"]:
        """h = W x."""
        return x @ self.W.T

    def reconstruct(self, x: Float[Tensor, "sample feature"]) -> Float[Tensor, "sample feature"]:
        """x_hat."""
        return torch.relu(self.hidden(x) @ self.W + self.b)

    def sample(self, n: int, seed: int) -> tuple[Float[Tensor, "sample feature"], Float[Tensor, "sample hidden"]]:
        """`n` feature vectors and their hidden activations; the same for the same seed."""
        x = sample_features(self.config, n, torch.Generator().manual_seed(seed))
        return x, self.hidden(x)


def train_superposition(
    config: SuperpositionConfig,
    *,
    steps: int = 5000,
    batch_size: int = 1024,
    learning_rate: float = 1e-2,
    seed: int = 0,
) -> SuperpositionModel:
    """Train a toy model by Adam, the learning rate falling to 0 as a half cosine. On the CPU; deterministic by seed.

    Raises:
        UsageError: no steps or an empty batch.
    """
    if steps < 1 or batch_size < 1:
        raise UsageError(f"steps and batch_size of at least 1 expected, found {steps} and {batch_size}")
    generator = torch.Generator().manual_seed(seed)
    shape = (config.n_hidden, config.n_features)
    w = (torch.randn(shape, generator=generator) / config.n_hidden**0.5).requires_grad_()
    b = torch.zeros(config.n_features, requires_grad=True)
    optimiser = torch.optim.Adam([w, b], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        x = sample_features(config, batch_size, generator)
        optimiser.zero_grad()
        torch.autograd.backward(_loss(config, w, b, x))
        optimiser.step()
        schedule.step()
    w, b = w.detach(), b.detach()
    final = _loss(config, w, b, sample_features(config, 10 * batch_size, generator)).item()
    return SuperpositionModel(config, w, b, final)


def _loss(config: SuperpositionConfig, w: Tensor, b: Tensor, x: Tensor) -> Float[Tensor, ""]:
    error = x - torch.relu(x @ w.T @ w + b)
    return (config.importance * error.square()).mean()
