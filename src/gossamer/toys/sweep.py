"""How well dictionaries find known features, as sparsity, width and penalty vary.

A :class:`Case` is a toy (a model of superposition or a compiled program), an objective and a width. For every case and
seed a dictionary is trained on the toy's activations and compared with the features that these are made of
(:mod:`gossamer.toys.recovery`). :func:`cases` is the grid of `gossamer toys`:

- independent features in superposition, more and less sparse, with penalties around the true L0;
- fewer, as many and more latents than features;
- features that come in pairs, or exclude each other in pairs;
- features of decaying importance: what the model does not represent no dictionary can find;
- streams of compiled programs: orthogonal directions, one of each categorical variable active, numbers of any size.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.progress import begin
from gossamer.results import Older, Record, Recorder, record_format
from gossamer.toys.compiler import compile_program
from gossamer.toys.programs import PROGRAMS
from gossamer.toys.recovery import measure_recovery
from gossamer.toys.samples import KnownSamples, program_samples, superposition_samples
from gossamer.toys.superposition import FeatureGroup, GroupKind, SuperpositionConfig, train_superposition
from gossamer.toys.task import all_inputs
from gossamer.training.config import DictionarySpec, DictionaryTrainerConfig, OptimiserConfig
from gossamer.training.dictionary_trainer import DictionaryTrainer
from gossamer.training.objectives import L1, BatchTopK, Objective

RESULTS = "results.json"
_FEATURES, _HIDDEN = 32, 16


@dataclass(frozen=True)
class SweepSettings:
    """How much work a sweep is.

    Attributes:
        seeds: of toys and dictionaries, from 0.
        steps, batch: of every dictionary.
        toy_steps: of every model of superposition.
        samples: to learn from, in superposition; a quarter as many to judge by.
        learning_rate: peak, for activations of unit variance.
    """

    seeds: int = 2
    steps: int = 1000
    batch: int = 256
    toy_steps: int = 2000
    samples: int = 65_536
    learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        if min(self.seeds, self.steps, self.batch, self.toy_steps, self.samples) < 1 or self.learning_rate <= 0:
            raise UsageError(f"sweep: seeds, steps, batch, samples and learning rate above 0 expected, found {self}")


@dataclass(frozen=True)
class ToyCase:
    """One dictionary to train.

    Attributes:
        toy: one of `TOYS`.
        objective: "l1" or "batchtopk".
        penalty: the coefficient of L1 (activations of unit variance), or k as a multiple of the true L0.
        width: latents as a multiple of the features.
    """

    toy: str
    objective: str
    penalty: float
    width: float


@dataclass(frozen=True)
class Recovered:
    """What a dictionary found; counts are of latents (dead, duplicate, merged) and features (split).

    Attributes:
        matched_cosine, best_cosine, correlation: means over features, as :class:`gossamer.toys.recovery.Recovery`.
        recovered: share of the features with a matched cosine of at least .9.
        unexplained: share of the variance of the activations.
    """

    case: ToyCase
    seed: int
    features: int
    latents: int
    l0: float
    true_l0: float
    matched_cosine: float
    best_cosine: float
    correlation: float
    recovered: float
    dead: int
    duplicate: int
    merged: int
    split: int
    unexplained: float


@dataclass(frozen=True)
class Sweep:
    """What a sweep found, in the order of cases and seeds."""

    settings: Mapping[str, Any]
    found: tuple[Recovered, ...]

    __repr__ = short_repr

    def of(self, **wanted: Any) -> list[tuple[ToyCase, list[Recovered]]]:
        """Cases whose fields are as wanted, each with its seeds."""
        groups: dict[ToyCase, list[Recovered]] = {}
        for one in self.found:
            if all(getattr(one.case, name) == value for name, value in wanted.items()):
                groups.setdefault(one.case, []).append(one)
        return list(groups.items())


SUPERPOSITION = ("superposition 0.02", "superposition 0.05", "superposition 0.15")
PAIRS = ("correlated pairs", "exclusive pairs")
PROGRAM_TOYS = ("histogram", "sort", "pair_balance")
USUAL = {"l1": 1.0, "batchtopk": 1.0}


def cases() -> list[ToyCase]:
    """The grid, each case once."""
    penalties = {"l1": (0.1, 0.3, 1.0, 3.0), "batchtopk": (0.5, 1.0, 2.0)}
    swept = [(objective, value) for objective, values in penalties.items() for value in values]
    found = [
        ToyCase(toy, objective, value, 1.0) for toy in (*SUPERPOSITION, *PROGRAM_TOYS) for objective, value in swept
    ]
    found += [case for width in (0.5, 1.0, 2.0, 4.0) for case in _usual(SUPERPOSITION[1], width)]
    found += [case for toy in PAIRS for width in (0.5, 1.0) for case in _usual(toy, width)]
    found += _usual("decaying importance", 1.0)
    found += [case for toy in PROGRAM_TOYS for width in (0.5, 2.0) for case in _usual(toy, width)]
    return list(dict.fromkeys(found))


def _usual(toy: str, width: float) -> list[ToyCase]:
    return [ToyCase(toy, objective, penalty, width) for objective, penalty in USUAL.items()]


def _superposed(settings: SweepSettings, seed: int, **options: Any) -> KnownSamples:
    config = SuperpositionConfig(_FEATURES, _HIDDEN, **options)
    model = train_superposition(config, steps=settings.toy_steps, seed=seed)
    return superposition_samples(model, settings.samples, max(1, settings.samples // 4), seed=1000 + seed)


def _pairs(kind: GroupKind) -> tuple[FeatureGroup, ...]:
    """All features in pairs."""
    return tuple(FeatureGroup((place, place + 1), kind) for place in range(0, _FEATURES, 2))


def _program(settings: SweepSettings, seed: int, name: str, length: int = 4) -> KnownSamples:
    """The last stream of a program on all inputs of up to `length` tokens; the same for every seed."""
    program = PROGRAMS[name]
    compiled = compile_program(program.build(), program.vocabulary, max_length=length, name=name)
    inputs = [tokens for n in range(1, length + 1) for tokens in all_inputs(program.vocabulary, n)]
    return program_samples(compiled, Site("resid_post", compiled.layout.n_layers - 1), inputs)


TOYS: dict[str, Callable[[SweepSettings, int], KnownSamples]] = {
    **{name: partial(_superposed, probability=float(name.split()[1])) for name in SUPERPOSITION},
    "correlated pairs": partial(_superposed, groups=_pairs("correlated")),
    "exclusive pairs": partial(_superposed, groups=_pairs("anticorrelated")),
    "decaying importance": partial(_superposed, importance_decay=0.8),
    **{name: partial(_program, name=name) for name in PROGRAM_TOYS},
}


@lru_cache(maxsize=1)
def _samples(toy: str, settings: SweepSettings, seed: int) -> KnownSamples:
    if toy not in TOYS:
        raise UsageError(f"toy: one of {', '.join(TOYS)} expected, found {toy!r}")
    return TOYS[toy](settings, seed)


def sweep(
    settings: SweepSettings | None = None,
    grid: Sequence[ToyCase] | None = None,
    *,
    folder: str | Path | None = None,
) -> Sweep:
    """Train and judge a dictionary for every case and seed. On the CPU; deterministic.

    With a `folder`, results.json there is written after each dictionary, and a sweep that was stopped goes on.

    Raises:
        UsageError: an unknown toy or objective, or a folder that holds another sweep.
        GossamerError: results.json is damaged.
    """
    settings, chosen = settings or SweepSettings(), list(cases() if grid is None else grid)
    facts = {**asdict(settings), "cases": [asdict(case) for case in chosen]}
    recorder = Recorder(None if folder is None else Path(folder) / RESULTS, FORMAT, facts)
    known = {(one.case, one.seed) for one in recorder.rows}
    advance = begin("dictionaries", len(chosen) * settings.seeds)
    advance(len(known), "")
    for case, seed in _order(chosen, settings.seeds):
        if (case, seed) not in known:
            recorder.add(recover(case, _samples(case.toy, settings, seed), settings, seed))
            advance(1, case.toy)
    return _sweep_of(recorder.record)


def _order(chosen: Sequence[ToyCase], seeds: int) -> Iterator[tuple[ToyCase, int]]:
    """Toy by toy, so that each is made once."""
    for toy in dict.fromkeys(case.toy for case in chosen):
        for seed in range(seeds):
            yield from ((case, seed) for case in chosen if case.toy == toy)


def _sweep_of(record: Record[Recovered]) -> Sweep:
    """The rows, which are measured toy by toy, in the order of the grid."""
    grid = [tuple(case.values()) for case in record.settings["cases"]]
    return Sweep(record.settings, tuple(sorted(record.rows, key=lambda one: (grid.index(astuple(one.case)), one.seed))))


def recover(case: ToyCase, samples: KnownSamples, settings: SweepSettings, seed: int) -> Recovered:
    """Train one dictionary and compare it with what is known."""
    dictionary = train_on(case, samples, settings, seed)
    found = measure_recovery(dictionary, samples.directions, samples.features, samples.activations)
    with torch.no_grad():
        error = samples.activations - dictionary(samples.activations)
    spread = samples.activations - samples.activations.mean(dim=0)
    return Recovered(
        case=case,
        seed=seed,
        features=len(samples.labels),
        latents=dictionary.n_latents,
        l0=found.l0,
        true_l0=samples.true_l0,
        matched_cosine=found.matched_cosine.mean().item(),
        best_cosine=found.best_cosine.mean().item(),
        correlation=found.correlation.mean().item(),
        recovered=found.recovered,
        dead=found.dead,
        duplicate=found.duplicate,
        merged=found.merged,
        split=found.split,
        unexplained=(error.square().sum() / spread.square().sum()).item(),
    )


def train_on(case: ToyCase, samples: KnownSamples, settings: SweepSettings, seed: int) -> Dictionary:
    """A dictionary of the case, learned from batches drawn with replacement."""
    n_latents = max(1, round(case.width * len(samples.labels)))
    config = DictionaryTrainerConfig(
        n_latents=n_latents,
        objective=_objective(case, samples, n_latents),
        optimiser=OptimiserConfig(learning_rate=settings.learning_rate),
        sensitivity=0.0,
        dead_after=50 * settings.batch,
    )
    plan = DictionarySpec("toy", samples.site, trainer=config, seed=seed)
    trainer = DictionaryTrainer.begin(plan, settings.steps, samples.training)
    generator = torch.Generator().manual_seed(seed)
    for step in range(settings.steps):
        rows = torch.randint(len(samples.training), (settings.batch,), generator=generator)
        trainer.step(samples.training[rows], None, step)
    return trainer.dictionary(None, {"toy": asdict(case), "seed": seed})


def _objective(case: ToyCase, samples: KnownSamples, n_latents: int) -> Objective:
    if case.objective == "l1":
        return L1(coefficient=case.penalty)
    if case.objective == "batchtopk":
        return BatchTopK(k=min(n_latents, max(1, round(case.penalty * samples.true_l0))))
    raise UsageError(f"objective: l1 or batchtopk expected, found {case.objective!r}")


def quick() -> SweepSettings:
    """One seed and less training: for a first look."""
    return replace(SweepSettings(), seeds=1, steps=300, toy_steps=1000, samples=16_384)


def load_sweep(folder: str | Path) -> Sweep:
    """The sweep in a folder, complete or not.

    Raises:
        UsageError: there is none.
        GossamerError: it is damaged.
    """
    return _sweep_of(FORMAT.load(Path(folder) / RESULTS))


def _of_version_1(body: dict[str, Any]) -> dict[str, Any]:
    return {"settings": body["settings"], "rows": body["found"]}


FORMAT = record_format(
    "gossamer.toys", 2, Recovered, "a sweep of toys", {"gossamer.toys.1": Older(_of_version_1, checksum=False)}
)
