"""A transformer with relations between features planted in its weights, so that what is to be found is known.

Every feature has a direction of its own; directions are orthonormal, in a random basis. A token's embedding is the sum
of the features that its vocabulary entry has (drawn once, with lengths of .85 to 1.15), so that features of the first
stream are as good as independent but where it says otherwise. Each layer does all of this to features of its own, and
leaves those of other layers as they are:

    copy        stays (so do the inputs of all gates)
    gone        its neuron writes the feature's negative: it is not in the stream any more
    lost        stays, but dictionaries from there on lack it: it is in their error
    new         a feature of the token *before*, which a head with position codes moves here to a direction of its own
    AND, OR, XOR, AND NOT, AND and OR of three    two steep ReLUs a step; inputs stay, the output has length 1
    split       gone; instead two features, with and without a context that a head has moved here
    merge       two features that exclude each other: gone; instead one that is active with either

No token comes twice in a text, in which features are therefore drawn independently from token to token. That is the
easiest case for counts: natural text has topics and rare features, which this does not have.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.seeding import generator
from gossamer.tokens import Tokens
from gossamer.toys.compiler import SPECIAL, word_tokenizer
from gossamer.toys.transformer import TOY, ToyConfig, ToyShape, ToyTransformer

Bools = NDArray[np.bool_]
# Lengths of features in embeddings, and how far a step's two ReLUs are apart: sums that gates tell apart leave room.
_LENGTHS = (0.85, 1.15)
_RISE = 0.2
# Length of position codes, and by how much the score of the token before exceeds others.
_CODE, _SHARP = 0.1, 30.0
# How often a token has a feature, by what becomes of it.
_RATES = {"AND": 0.2, "AND of 3": 0.35, "XOR": 0.15, "AND NOT": 0.15, "context": 0.3, "split": 0.08}
_RATE = 0.06


class PlantedGate(NamedTuple):
    """An output that a layer computes from features before it.

    Attributes:
        kind: AND, OR, XOR or AND NOT, as :class:`gossamer.relations.Gate` has it.
        inputs, output: numbers of features, inputs in ascending order; `negated`: that one of the inputs, or None.
        merge: whether the inputs are gone afterwards (of an OR).
    """

    kind: str
    inputs: tuple[int, ...]
    output: int
    negated: int | None = None
    merge: bool = False


class PlantedSplit(NamedTuple):
    """A feature that is gone after a layer, and the two that stand for it."""

    whole: int
    parts: tuple[int, int]


@dataclass(frozen=True)
class PlantedSettings:
    """Size of the model.

    Attributes:
        each: relations of each kind in each layer (of three inputs: half as many, at least one).
        layers: that plant relations.
        vocabulary: tokens, each of which is used once at most.
        positions: tokens of a row, without BOS.
        seed: of all draws.
    """

    each: int = 2
    layers: int = 2
    vocabulary: int = 65_536
    positions: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.each, self.layers) < 1 or self.vocabulary < 100 or self.positions < 2:
            raise UsageError(
                "planted relations: each and layers of at least 1, a vocabulary of at least 100 and positions of at "
                f"least 2 expected, found {self}"
            )


@dataclass
class _PlantedLayer:
    """What one layer plants."""

    gates: list[PlantedGate] = field(default_factory=list)
    splits: list[PlantedSplit] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    # Feature of the token before, and what it becomes here.
    moved: list[tuple[int, int]] = field(default_factory=list)
    # Of each neuron pair: what it reads, the middle of its step, what it writes.
    steps: list[tuple[dict[int, float], float, int]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class PlantedModel:
    """The model and all that is planted in it.

    Attributes:
        settings: its size.
        language_model: the transformer.
        directions: unit rows, one a feature.
        labels: what each feature is there for.
        gates, splits: of each layer.
        present: features that are in the stream before the first layer and after each.
        lost: of each of these places, features in the stream that dictionaries there are to lack.
        groups: a number for each feature; features that one relation joins have the same.
    """

    settings: PlantedSettings
    language_model: LanguageModel
    directions: Float[Tensor, "feature d_model"]
    labels: tuple[str, ...]
    gates: tuple[tuple[PlantedGate, ...], ...]
    splits: tuple[tuple[PlantedSplit, ...], ...]
    present: tuple[frozenset[int], ...]
    lost: tuple[frozenset[int], ...]
    groups: tuple[int, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(len(self.directions), 'feature')}, {plural(len(self.gates), 'layer')}"
        yield plural(sum(map(len, self.gates)), "gate")

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Before the first layer, and after each."""
        return (Site("resid_pre", 0), *(Site("resid_post", layer) for layer in range(self.settings.layers)))

    def tokens(self, rows: int, seed: int = 0) -> Tokens:
        """Rows of tokens, none twice, each with BOS first.

        Raises:
            UsageError: more tokens than the vocabulary has.
        """
        count = rows * self.settings.positions
        if not 1 <= count <= self.settings.vocabulary:
            raise UsageError(
                f"planted relations: at most {self.settings.vocabulary:,} tokens expected, asked for {count:,}; plant "
                "them with a larger vocabulary"
            )
        drawn = torch.randperm(self.settings.vocabulary, generator=generator(seed, "planted relations", "tokens"))
        ids = len(SPECIAL) + drawn[:count].reshape(rows, self.settings.positions)
        bos = torch.full((rows, 1), self.language_model.tokenizer.bos_token_id)
        return Tokens.full(torch.cat([bos, ids], dim=1))


class _Planter:
    """Draws features for every layer, and what the vocabulary has of those that are in embeddings."""

    def __init__(self, settings: PlantedSettings) -> None:
        self.settings = settings
        self.draw = np.random.default_rng([settings.seed, 1])
        self.embedded: dict[int, Bools] = {}
        self.labels: list[str] = []
        self.joined: list[tuple[int, ...]] = []

    def layer(self) -> _PlantedLayer:
        """One layer's relations."""
        each, found = self.settings.each, _PlantedLayer()
        copies = self.features("copy", 2 * each)
        found.gone = self.features("gone", each)
        found.lost = self.features("lost", each)
        found.moved = [(source, self.output("new")) for source in copies[:each]]
        for kind, size, number in (
            *((kind, 2, each) for kind in ("AND", "OR", "XOR")),
            *((kind, 3, max(1, each // 2)) for kind in ("AND", "OR")),
        ):
            for _ in range(number):
                rate = kind if size == 2 else f"{kind} of {size}"
                inputs = tuple(self.features(rate, size))
                self.gate(found, PlantedGate(kind, inputs, self.output(f"{rate} output")))
        for _ in range(each):
            needed = self.features("AND NOT", 1)[0]
            often = self.embedded[needed] & self.drawn(0.5)
            other = self.feature("AND NOT negated", often | self.drawn(0.04))
            self.gate(found, PlantedGate("AND NOT", (needed, other), self.output("AND NOT output"), negated=other))
            one = self.features("merge", 1)[0]
            apart = self.feature("merge", self.drawn(_RATE) & ~self.embedded[one])
            self.gate(found, PlantedGate("OR", (one, apart), self.output("merged"), merge=True))
            found.gone += [one, apart]
        self.split(found)
        return found

    def split(self, found: _PlantedLayer) -> None:
        """Features that contexts, each moved from the token before, split in two."""
        for whole in self.features("split", self.settings.each):
            source, context = self.features("context", 1)[0], self.output("new context")
            found.moved.append((source, context))
            parts = (self.output("split part"), self.output("split part"))
            found.splits.append(PlantedSplit(whole, parts))
            found.gone.append(whole)
            found.steps.append(({whole: 1.0, context: 1.0}, _both(2), parts[0]))
            found.steps.append(({whole: 1.0, context: -2.0}, 0.5, parts[1]))
            self.joined.append((whole, context, *parts))

    def gate(self, found: _PlantedLayer, gate: PlantedGate) -> None:
        """Neurons of a gate: steps of the sum of its inputs."""
        read = {one: -2.0 if one == gate.negated else 1.0 for one in gate.inputs}
        found.gates.append(gate)
        found.steps.append((read, _both(len(gate.inputs)) if gate.kind == "AND" else 0.5, gate.output))
        if gate.kind == "XOR":
            # What the first step wrote, taken away again: written negatively.
            found.steps.append((read, _both(2), ~gate.output))
        self.joined.append((*gate.inputs, gate.output))

    def features(self, kind: str, count: int) -> list[int]:
        """Features of embeddings, at the rate of their kind."""
        return [self.feature(kind, self.drawn(_RATES.get(kind, _RATE))) for _ in range(count)]

    def drawn(self, rate: float) -> Bools:
        return self.draw.random(self.settings.vocabulary) < rate

    def feature(self, label: str, active: Bools) -> int:
        """A new feature that these tokens have."""
        self.embedded[len(self.labels)] = active
        return self.output(label)

    def output(self, label: str) -> int:
        """A new feature that no embedding has."""
        self.labels.append(label)
        return len(self.labels) - 1


def _both(inputs: int) -> float:
    """Between the largest sum of all inputs but one, and the smallest of all."""
    return ((inputs - 1) * _LENGTHS[1] + inputs * _LENGTHS[0]) / 2


def plant_relations(settings: PlantedSettings | None = None) -> PlantedModel:
    """The model for some settings. On the CPU; deterministic by seed; seconds.

    Memory: vocabulary x d_model floats, d_model being a few more than there are features, and as much once more while
    they are made.
    """
    settings = settings or PlantedSettings()
    planter = _Planter(settings)
    layers = [planter.layer() for _ in range(settings.layers)]
    width = len(planter.labels) + 3
    basis = torch.linalg.qr(torch.randn(width, width, generator=generator(settings.seed, "planted relations")))[0]
    present, lost = [frozenset(planter.embedded)], [frozenset[int]()]
    for layer in layers:
        made = {new for _, new in layer.moved} | {write for *_, write in layer.steps if write >= 0}
        present.append((present[-1] | made) - set(layer.gone))
        lost.append(lost[-1] | set(layer.lost))
    return PlantedModel(
        settings,
        _built(settings, planter, layers, basis),
        basis[: len(planter.labels)],
        tuple(planter.labels),
        tuple(tuple(layer.gates) for layer in layers),
        tuple(tuple(layer.splits) for layer in layers),
        tuple(present),
        tuple(lost),
        _groups(len(planter.labels), planter.joined),
    )


def _groups(count: int, joined: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    found = list(range(count))
    for members in joined:
        for one in members:
            found[one] = members[0]
    return tuple(found)


def _built(
    settings: PlantedSettings, planter: _Planter, layers: Sequence[_PlantedLayer], basis: Tensor
) -> LanguageModel:
    tokenizer = word_tokenizer([*SPECIAL, *(f"t{number}" for number in range(settings.vocabulary))])
    bos, first, second = basis[len(planter.labels) :]
    shape = ToyShape(
        vocab_size=len(tokenizer),
        hidden_size=len(basis),
        num_hidden_layers=len(layers),
        num_attention_heads=1,
        head_dim=max(2, *(len(layer.moved) for layer in layers)),
        intermediate_size=max(2 * len(layer.steps) + len(layer.gone) for layer in layers),
        max_position_embeddings=settings.positions + 1,
    )
    config = ToyConfig(**vars(shape), causal=True, name_or_path=f"planted-relations-{settings.seed}")
    hf = ToyTransformer(config).eval().requires_grad_(False)
    active = torch.from_numpy(np.stack(list(planter.embedded.values()), axis=1)).float()
    low, high = _LENGTHS
    lengths = low + (high - low) * torch.rand(active.shape, generator=generator(settings.seed, "planted lengths"))
    embedding = hf.model.embed_tokens.weight
    embedding[len(SPECIAL) :] = (active * lengths) @ basis[list(planter.embedded)]
    embedding[tokenizer.bos_token_id] = bos
    hf.lm_head.weight = hf.model.embed_tokens.weight
    turn = torch.pi / (settings.positions + 1)
    angles = turn * torch.arange(settings.positions + 1)
    hf.model.embed_positions.weight.copy_(_CODE * (angles.cos()[:, None] * first + angles.sin()[:, None] * second))
    for layer, planted in zip(hf.model.layers, layers, strict=True):
        _fill_attention(layer.attn, planted, basis, torch.stack([first, second]), turn)
        _fill_mlp(layer.mlp, planted, basis)
    return LanguageModel.load(hf, tokenizer=tokenizer, family=TOY)


def _fill_attention(attention: Any, layer: _PlantedLayer, basis: Tensor, codes: Tensor, turn: float) -> None:
    """A head that looks at the token before: keys are position codes turned by one position."""
    angle = torch.tensor(turn)
    turned = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]) @ codes
    sharpness = _SHARP / (1 - angle.cos()) / _CODE**2
    attention.q_proj.weight[:2] = sharpness * codes
    attention.k_proj.weight[:2] = turned
    for row, (source, target) in enumerate(layer.moved):
        attention.v_proj.weight[row] = basis[source]
        attention.o_proj.weight[:, row] = basis[target]


def _fill_mlp(mlp: Any, layer: _PlantedLayer, basis: Tensor) -> None:
    """Steps of two ReLUs each, then a ReLU for what goes."""
    for place, (read, middle, write) in enumerate(layer.steps):
        reading = sum((weight * basis[one] for one, weight in read.items()), torch.zeros(len(basis))) / _RISE
        writing = basis[write] if write >= 0 else -basis[~write]
        for row, side, sign in ((2 * place, -0.5, 1.0), (2 * place + 1, 0.5, -1.0)):
            mlp.up_proj.weight[row] = reading
            mlp.up_proj.bias[row] = -middle / _RISE - side
            mlp.down_proj.weight[:, row] = sign * writing
    for row, one in enumerate(layer.gone, start=2 * len(layer.steps)):
        mlp.up_proj.weight[row] = basis[one]
        mlp.down_proj.weight[:, row] = -basis[one]
