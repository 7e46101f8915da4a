"""What dictionaries and pursuits are worth where all features are known: reconstruction beside features.

In a world of superposed features (:mod:`gossamer.toys.synthetic_world`) dictionaries of every objective are trained at
several L0, and read with their encoders and with pursuits of the same decoders at the same number of latents; beside
them a dictionary learned by pursuit, the true directions of the most frequent features ("truth"), and random ones
("random"). Each reading gets the scores of :mod:`gossamer.toys.feature_scores` on samples that nothing was chosen or
trained on. Where an objective has no L0 to set (L1) a ladder of penalties is trained, and the one that comes nearest
is chosen on samples of its own.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.dictionary import Dictionary
from gossamer.dictionary.pursuit import Pursuit
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.progress import begin
from gossamer.results import Recorder, record_format
from gossamer.seeding import generator
from gossamer.sparse.latents import SparseLatents
from gossamer.toys.feature_scores import FeatureScores, align, score_features
from gossamer.toys.pursuit_learning import learn_by_pursuit, of_rows
from gossamer.toys.recovery import unit_rows
from gossamer.toys.synthetic_world import WORLDS, World, WorldConfig, of_seed
from gossamer.training.config import DictionarySpec, DictionaryTrainerConfig, FitConfig, OptimiserConfig
from gossamer.training.fit import fit_source
from gossamer.training.objectives import L1, BatchTopK, Matryoshka, Objective, TopK
from gossamer.training.objectives.jumprelu import QuadraticL0

RESULTS = "results.json"
SITE = Site("resid_post", 0)
PURSUITS = ("matching", "gradient", "orthogonal")
TRAINED = ("l1", "topk", "batchtopk", "jumprelu", "matryoshka")
# These keep L0 within a hundredth of its target in a short training (seen on a world that is not reported).
_JUMPRELU = QuadraticL0(coefficient=10.0, bandwidth=0.5, initial_threshold=0.5)
LEARNED, TRUTH, RANDOM = "pursuit", "truth", "random"


@dataclass(frozen=True)
class FeaturesTruthSettings:
    """How much work a study is.

    Attributes:
        world: of seed 0; further seeds are other worlds of its kind.
        seeds: of worlds, dictionaries and samples, from 0.
        n_latents: of every dictionary.
        l0s: how many latents a sample are asked for.
        l1: penalties of the ladder that L1 is chosen from.
        samples, batch: that every dictionary learns from.
        learning_rate: peak, for activations of unit variance.
        chosen_on, scored_on: samples to choose on, and to report.
    """

    world: WorldConfig = field(default_factory=lambda: WORLDS["synthsaebench-1k"])
    seeds: int = 3
    n_latents: int = 256
    l0s: tuple[int, ...] = (5, 7, 10)
    l1: tuple[float, ...] = (3.4, 3.9, 4.5, 5.2)
    samples: int = 204_800
    batch: int = 512
    learning_rate: float = 1e-2
    chosen_on: int = 8192
    scored_on: int = 8192

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if min(self.seeds, self.n_latents, self.chosen_on, self.scored_on, len(self.l1), *self.l0s) < 1:
            raise UsageError(f"study of features: seeds, latents, L0s, samples from 1 expected, found {self}")
        if max(self.l0s) > self.n_latents or self.n_latents > self.world.features:
            raise UsageError(
                f"study of features: L0s up to n_latents, n_latents up to the world's {self.world.features} features "
                f"expected, found {self.l0s} and {self.n_latents}"
            )


def full_size() -> FeaturesTruthSettings:
    """The benchmark as published: 4,096 latents, 200 million samples. For a large GPU."""
    settings = FeaturesTruthSettings(WORLDS["synthsaebench-16k"], n_latents=4096, l0s=(20, 25), samples=200_000_000)
    return replace(settings, batch=1024, learning_rate=1e-3, chosen_on=100_000, scored_on=500_000)


def quick() -> FeaturesTruthSettings:
    """One seed, one L0 and less training: for a first look."""
    return FeaturesTruthSettings(seeds=1, l0s=(7,), samples=51_200)


@dataclass(frozen=True)
class ScoredReading:
    """One way of reading one dictionary.

    Attributes:
        dictionary: how it was trained: one of `TRAINED`, "pursuit", "truth" or "random".
        reading: "encoder" or one of `PURSUITS`.
        target: L0 that was asked for: what the dictionary was trained at, and the steps of the pursuit.
        seed: of the world, the dictionary and the samples.
    """

    dictionary: str
    reading: str
    target: int
    seed: int
    scores: FeatureScores

    __repr__ = short_repr


@dataclass(frozen=True)
class FeaturesTruth:
    """What was measured, seed by seed."""

    settings: Mapping[str, Any]
    scored: tuple[ScoredReading, ...]

    __repr__ = short_repr

    def at(self, target: int) -> dict[tuple[str, str], list[FeatureScores]]:
        """Of each dictionary and reading at one L0 the scores of all seeds."""
        groups: dict[tuple[str, str], list[FeatureScores]] = {}
        for one in self.scored:
            if one.target == target:
                groups.setdefault((one.dictionary, one.reading), []).append(one.scores)
        return groups

    @property
    def targets(self) -> list[int]:
        """The L0s asked for, ascending."""
        return sorted({one.target for one in self.scored})


def features_truth(
    settings: FeaturesTruthSettings | None = None,
    *,
    folder: str | Path | None = None,
    device: torch.device | str = "cpu",
) -> FeaturesTruth:
    """Train, read and score everything, seed by seed. Deterministic on one kind of device.

    With a `folder`, results.json there is written after each seed, checkpoints of the training lie beside it, and a
    study that was stopped goes on.

    Raises:
        UsageError: a folder that holds another study.
        GossamerError: results.json or a checkpoint is damaged.
    """
    settings = settings or FeaturesTruthSettings()
    recorder = Recorder(None if folder is None else Path(folder) / RESULTS, FORMAT, asdict(settings))
    known = {one.seed for one in recorder.rows}
    with TemporaryDirectory() if folder is None else nullcontext(folder) as place:
        for seed in range(settings.seeds):
            if seed not in known:
                recorder.add(*_of_seed(settings, seed, Path(place) / f"seed{seed}", device))
    return FeaturesTruth(recorder.settings, tuple(recorder.rows))


def _of_seed(
    settings: FeaturesTruthSettings, seed: int, folder: Path, device: torch.device | str
) -> Iterator[ScoredReading]:
    world = World.of(of_seed(settings.world, seed), device)
    dictionaries = dict(_dictionaries(settings, world, seed, folder))
    advance = begin("scoring dictionaries", len(dictionaries))
    for (name, target), dictionary in dictionaries.items():
        alignment = align(dictionary.W_dec, world.directions)
        for reading, encode in _readings(name, target, dictionary):
            scores = score_features(alignment, dictionary, encode, world.blocks(settings.scored_on, "scored"))
            yield ScoredReading(name, reading, target, seed, scores)
        advance(1, name)


def _readings(
    name: str, target: int, dictionary: Dictionary
) -> Iterator[tuple[str, Callable[[Float[Tensor, "sample d"]], SparseLatents]]]:
    if name in TRAINED:
        yield "encoder", dictionary.encode
    for method in PURSUITS:
        yield method, Pursuit(dictionary, target, method=method).encode


def _dictionaries(
    settings: FeaturesTruthSettings, world: World, seed: int, folder: Path
) -> Iterator[tuple[tuple[str, int], Dictionary]]:
    """By how they were trained and the L0 asked for."""
    fit = FitConfig(tokens=settings.samples, batch=settings.batch, buffer=min(settings.samples, 65_536))
    optimiser = OptimiserConfig(learning_rate=settings.learning_rate)
    stream = world.stream(SITE, fit.buffer)
    trained = fit_source(stream, list(_specs(settings, optimiser, seed)), fit, folder, facts={"seed": seed})
    ladder = [trained[f"l1 {value:g}"] for value in settings.l1]
    learned = learn_by_pursuit(stream, settings.n_latents, settings.l0s, fit, optimiser, seed)
    shape = settings.n_latents, world.config.d
    given = {
        TRUTH: world.directions[: settings.n_latents],
        RANDOM: unit_rows(torch.randn(*shape, generator=generator(seed, "random decoder"))).to(world.directions),
    }
    for target in settings.l0s:
        yield ("l1", target), nearest_in_l0(ladder, target, world.blocks(settings.chosen_on, "chosen"))
        for name in TRAINED[1:]:
            yield (name, target), trained[f"{name} {target}"]
        yield (LEARNED, target), learned[target]
        for name, rows in given.items():
            yield (name, target), of_rows(rows, world.bias, SITE, target)


def _specs(settings: FeaturesTruthSettings, optimiser: OptimiserConfig, seed: int) -> Iterator[DictionarySpec]:
    objectives: dict[str, Objective] = {f"l1 {value:g}": L1(coefficient=value) for value in settings.l1}
    for k in settings.l0s:
        objectives |= {
            f"topk {k}": TopK(k=k),
            f"batchtopk {k}": BatchTopK(k=k),
            f"jumprelu {k}": replace(_JUMPRELU, target=float(k)),
            f"matryoshka {k}": Matryoshka(k=k, prefixes=(1 / 32, 1 / 8, 1 / 2, 1.0)),
        }
    for name, objective in objectives.items():
        trainer = DictionaryTrainerConfig(
            settings.n_latents, objective, optimiser=optimiser, sensitivity=0.0, dead_after=50 * settings.batch
        )
        yield DictionarySpec(name, SITE, trainer=trainer, seed=seed)


def nearest_in_l0(
    ladder: Sequence[Dictionary],
    target: int,
    blocks: Iterable[tuple[Float[Tensor, "sample feature"], Float[Tensor, "sample d"]]],
) -> Dictionary:
    """The dictionary whose L0 on some samples is nearest to `target`, in logarithms."""
    active, count = [0] * len(ladder), 0
    for _, x in blocks:
        count += len(x)
        active = [so_far + int(one.encode(x).l0.sum()) for so_far, one in zip(active, ladder, strict=True)]
    away = [abs(math.log(max(found, 1) / count / target)) for found in active]
    return ladder[away.index(min(away))]


FORMAT = record_format("gossamer.features_truth", 1, ScoredReading, "a study of features that are known")
