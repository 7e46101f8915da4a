r"""The world of SynthSAEBench, from its configuration (Chanin and Garriga-Alonso 2026, arXiv 2602.14687).

More features than dimensions, with what makes features of language models hard: frequencies of many sizes, a hierarchy,
siblings that exclude each other, correlations. For feature i of n (from 0), all of a world drawn from its seed:

    frequency   p_i falls as (i + 1)^-exponent, shifted and scaled to run from `most_frequent` to `least_frequent`
    hierarchy   trees, level by level in the order of the features: `roots`, then `branching` children each, to `depth`;
                the rest are alone. A child is active only with its parent, and of siblings at most one is (of several
                each is as likely). So that children still have about their p, they are drawn with
                min(1, p_i / p_parent * (1 + sum of the siblings' p / p_parent)).
    correlation feature i fires where F_i z + sqrt(1 - |F_i|^2) e_i exceeds a threshold, z and e standard normal, the
                `rank` loadings F_i normal with a deviation of `correlation`
    magnitude   max(0, N(m_i, s_i^2)), m_i from `first_magnitude` to `last_magnitude` in equal steps, and
                s_i = |N(.5, .5^2)|; a child's times its parent's over the parent's m
    activation  a D + bias: unit directions, pushed apart by steps of Adam on the squares of their cosines

Random numbers are torch's and not those of the published world, so that this is another draw from the same
distribution. Where frequencies are cut to 1, features are rarer than p_i: the published mean L0 of 34 (25 of the first
4,096 features) is what comes out here too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from scipy.stats import norm  # type: ignore[import-untyped]
from torch import Tensor

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.seeding import generator
from gossamer.training.parallel import Processes
from gossamer.training.source import Activations, Turn, ordered

# Samples are made in blocks of so many feature values: what a CPU has in its cache takes half the time.
_BLOCK_VALUES, _BLOCK_VALUES_ELSEWHERE = 2**20, 2**26
_FIRST = 16_384


@dataclass(frozen=True)
class WorldConfig:
    """Everything that a world depends on; the defaults are those of SynthSAEBench-16k.

    Attributes:
        features, d: how many features, in how many dimensions.
        most_frequent, least_frequent, exponent: of the frequencies.
        roots, branching, depth: of the trees; all of them must fit among the features.
        rank, correlation: of the loadings.
        first_magnitude, last_magnitude: mean magnitudes of the first and of the last feature.
        bias: length of what is added to every activation.
        orthogonal_steps, orthogonal_rate: how directions are pushed apart.
        seed: of everything random.
    """

    features: int = 16_384
    d: int = 768
    most_frequent: float = 0.4
    least_frequent: float = 5e-4
    exponent: float = 0.5
    roots: int = 128
    branching: int = 4
    depth: int = 3
    rank: int = 25
    correlation: float = 0.1
    first_magnitude: float = 5.0
    last_magnitude: float = 4.0
    bias: float = 0.5
    orthogonal_steps: int = 100
    orthogonal_rate: float = 3e-4
    seed: int = 42

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if min(self.features, self.d, self.rank) < 1 or min(self.roots, self.depth, self.orthogonal_steps) < 0:
            raise UsageError(
                f"world: features, d and rank from 1, roots, depth and steps from 0 expected, found {self}"
            )
        if not 0 < self.least_frequent < self.most_frequent <= 1 or self.exponent <= 0:
            raise UsageError(
                "world: 0 < least_frequent < most_frequent <= 1 and an exponent above 0 expected, found "
                f"{self.least_frequent}, {self.most_frequent} and {self.exponent}"
            )
        if self.depth and self.roots and self.branching < 1:
            raise UsageError(f"world: at least one child of each parent expected, found branching={self.branching}")
        if self.first_magnitude <= 0 or self.last_magnitude <= 0 or min(self.correlation, self.bias) < 0:
            raise UsageError(f"world: magnitudes above 0, correlation and bias from 0 expected, found {self}")
        if self.levels[-1].stop > self.features:
            raise UsageError(
                f"world: room for the trees' {self.levels[-1].stop} features expected, found {self.features}; "
                "give fewer roots, children or levels"
            )

    @property
    def levels(self) -> list[range]:
        """The features of each level of the trees, from the roots; children stand in the order of their parents."""
        found, start, size = [], 0, self.roots
        for _ in range(self.depth + 1):
            found.append(range(start, start + size))
            start, size = start + size, size * self.branching
        return found

    @property
    def frequencies(self) -> Float[Tensor, "feature"]:
        """p_i, in float64."""
        if self.features == 1:
            return torch.tensor([self.most_frequent], dtype=torch.float64)
        falling = torch.arange(1, self.features + 1, dtype=torch.float64) ** -self.exponent
        share = (falling - falling[-1]) / (falling[0] - falling[-1])
        return self.least_frequent + (self.most_frequent - self.least_frequent) * share

    @property
    def drawn(self) -> Float[Tensor, "feature"]:
        """With which frequency features are drawn, before the hierarchy takes some away."""
        p = self.frequencies
        drawn = p.clone()
        for parents, children in zip(self.levels, self.levels[1:], strict=False):
            above = p[_slice(parents), None]
            share = p[_slice(children)].reshape(len(parents), self.branching) / above
            drawn[_slice(children)] = (share * (1 + share.sum(dim=1, keepdim=True) - share)).flatten()
        return drawn.clamp(max=1)


# The published one, and one of a sixteenth of its features in an eighth of its dimensions, with the same trees.
WORLDS = {"synthsaebench-16k": WorldConfig(), "synthsaebench-1k": WorldConfig(features=1024, d=96, roots=8)}


@dataclass(frozen=True)
class World:
    """A world that samples can be drawn from; see the module.

    Memory: features * (d + rank) numbers; 52 MB for SynthSAEBench-16k.

    Attributes:
        directions: of the features, of length 1.
        bias: what is added to every activation.
        loadings, thresholds: when features fire.
        means, deviations: of their magnitudes.
    """

    config: WorldConfig
    directions: Float[Tensor, "feature d"]
    bias: Float[Tensor, "d"]
    loadings: Float[Tensor, "feature rank"]
    thresholds: Float[Tensor, "feature"]
    means: Float[Tensor, "feature"]
    deviations: Float[Tensor, "feature"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(self.config.features, 'feature')} in {self.config.d} dimensions"
        yield f"seed {self.config.seed}"

    @classmethod
    def of(cls, config: WorldConfig, device: torch.device | str = "cpu") -> "World":
        """Draw the world of a configuration: the same on every device, up to rounding."""
        draw = generator(config.seed, "world")
        directions = torch.randn(config.features, config.d, generator=draw)
        bias = torch.randn(config.d, generator=draw)
        loadings = config.correlation * torch.randn(config.features, config.rank, generator=draw)
        longest = loadings.square().sum(dim=1).max()
        if longest >= 1:
            loadings *= (0.99 / longest).sqrt()
        deviations = (0.5 + 0.5 * torch.randn(config.features, generator=draw)).abs()
        means = torch.linspace(config.first_magnitude, config.last_magnitude, config.features)
        thresholds = torch.from_numpy(norm.isf(config.drawn.numpy())).float()
        apart = pushed_apart(directions.to(device), config.orthogonal_steps, config.orthogonal_rate)
        rest = (config.bias * bias / bias.norm(), loadings, thresholds, means, deviations)
        return cls(config, apart, *(one.to(device) for one in rest))

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.directions.device

    def blocks(
        self, count: int, *purpose: str | int
    ) -> Iterator[tuple[Float[Tensor, "_ feature"], Float[Tensor, "_ d"]]]:
        """`count` samples, named by what they are for, in blocks: what features are, and the activations.

        Samples of another purpose are independent; those of one are the same whenever they are drawn (on one kind of
        device). Memory: a block of 2**20 feature values (2**26 on a GPU) a few times over.
        """
        values = _BLOCK_VALUES if self.device.type == "cpu" else _BLOCK_VALUES_ELSEWHERE
        size = max(1, values // self.config.features)
        for number, start in enumerate(range(0, count, size)):
            seed = generator(self.config.seed, "samples", *purpose, number).initial_seed()
            draw = torch.Generator(self.device).manual_seed(seed)
            features = self._features(min(size, count - start), draw)
            yield features, torch.addmm(self.bias, features, self.directions)

    def _features(self, count: int, draw: torch.Generator) -> Float[Tensor, "sample feature"]:
        config = self.config
        common = torch.randn(count, config.rank, generator=draw, device=self.device)
        own = torch.randn(count, config.features, generator=draw, device=self.device)
        own *= (1 - self.loadings.square().sum(dim=1)).sqrt()
        samples, firing = (torch.addmm(own, common, self.loadings.T) > self.thresholds).nonzero(as_tuple=True)
        magnitudes = torch.randn(len(firing), generator=draw, device=self.device)
        features = own.zero_()
        features[samples, firing] = (self.means[firing] + self.deviations[firing] * magnitudes).clamp(min=0)
        for parents, children in zip(config.levels, config.levels[1:], strict=False):
            above = features[:, _slice(parents)]
            below = features[:, _slice(children)].reshape(*above.shape, config.branching)
            _keep_one(below, above > 0, draw)
            scaled = below * (above / self.means[_slice(parents)])[..., None]
            features[:, _slice(children)] = scaled.flatten(start_dim=1)
        return features

    def stream(self, site: Site, buffer: int) -> "WorldStream":
        """Activations to learn from, without end."""
        return WorldStream(self, site, buffer)


def _slice(features: range) -> slice:
    return slice(features.start, features.stop)


def _keep_one(below: Float[Tensor, "sample parent child"], wanted: Tensor, draw: torch.Generator) -> None:
    """Of several active siblings leave one, each as likely, in place, where `wanted`."""
    places = (((below > 0).sum(dim=2) > 1) & wanted).nonzero(as_tuple=True)
    siblings = below[places]
    chances = torch.rand(siblings.shape, generator=draw, device=below.device).masked_fill(siblings <= 0, -1.0)
    kept = torch.zeros_like(siblings, dtype=torch.bool).scatter_(1, chances.argmax(dim=1, keepdim=True), True)
    below[places] = siblings * kept


def pushed_apart(
    directions: Float[Tensor, "feature d"], steps: int, learning_rate: float
) -> Float[Tensor, "feature d"]:
    """Unit vectors in these directions after some steps of Adam on :func:`closeness`."""
    rows = (directions / directions.norm(dim=1, keepdim=True)).requires_grad_()
    optimiser = torch.optim.Adam([rows], lr=learning_rate)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.autograd.backward(closeness(rows))
        optimiser.step()
    rows = rows.detach()
    return rows / rows.norm(dim=1, keepdim=True)


def closeness(rows: Float[Tensor, "feature d"]) -> Float[Tensor, ""]:
    """Sum of (r_i . r_j)^2 over all i != j, and n * sum of (|r_i|^2 - 1)^2.

    The sum over all pairs, i = j too, is |R^T R|^2: a matrix of d x d instead of one of n x n.
    """
    squares = rows.square().sum(dim=1)
    return (rows.T @ rows).square().sum() - squares.square().sum() + len(rows) * (squares - 1).square().sum()


class WorldStream:
    """A world as a source to train dictionaries from (:class:`gossamer.training.source.ActivationSource`): new samples
    for ever. Memory: a buffer of activations and the blocks of :meth:`World.blocks`.
    """

    model_name: str | None = None

    def __init__(self, world: World, site: Site, buffer: int) -> None:
        self.world, self.buffer, self.processes = world, buffer, Processes.current()
        self.sites: Sequence[Site] = [site]

    @property
    def facts(self) -> dict[str, Any]:
        """The world's configuration, and the size of the buffer."""
        return {"world": asdict(self.world.config), "buffer": self.buffer}

    @property
    def device(self) -> torch.device:
        """The world's."""
        return self.world.device

    def first(self) -> Activations:
        """Samples of their own."""
        return self._samples(_FIRST, "first")

    def turn(self, index: int) -> Turn:
        """A buffer of new samples, in the order in which they are drawn."""
        return ordered(self._samples(self.buffer, "training", index), None, self.processes)

    def _samples(self, count: int, *purpose: str | int) -> Activations:
        return {self.sites[0]: torch.cat([activations for _, activations in self.world.blocks(count, *purpose)])}


def of_seed(config: WorldConfig, seed: int) -> WorldConfig:
    """Another world of the same kind: the one of the configuration for seed 0."""
    return replace(config, seed=config.seed + seed)
