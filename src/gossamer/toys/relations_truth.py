"""How precision and recall of relations depend on the number of tokens and on how good the dictionaries are.

A :class:`TruthCase` is a number of tokens and dictionaries of a model with planted relations: the true ones, true ones
whose latents lean (others leak in), or trained ones after so many steps. For every case and seed all findings are
compared with what is planted (:mod:`gossamer.toys.relation_scores`). :func:`truth_cases` is the grid of
`gossamer relations-truth`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.progress import begin
from gossamer.results import Recorder, record_format
from gossamer.tokens import Tokens
from gossamer.toys.planted_dictionaries import KnownDictionary, recovered, trained_dictionaries, true_dictionaries
from gossamer.toys.planted_relations import PlantedModel, PlantedSettings, plant_relations
from gossamer.toys.relation_scores import RelationScores, score_relations, summed

RESULTS = "results.json"
DICTIONARIES = ("true", "leaning", "trained")
_TOKENS = 16_384


@dataclass(frozen=True)
class TruthCase:
    """What is measured.

    Attributes:
        dictionaries: "true", "leaning" or "trained".
        quality: of leaning ones the cosine of each latent with its feature, of trained ones the steps; true ones: 1.
        tokens: that are counted.
    """

    dictionaries: str
    quality: float
    tokens: int

    def __post_init__(self) -> None:
        if self.dictionaries not in DICTIONARIES or self.quality <= 0 or self.tokens < 1:
            raise UsageError(
                f"case: {', '.join(DICTIONARIES)}, a quality above 0 and at least a token expected, found {self}"
            )

    @property
    def label(self) -> str:
        """For tables."""
        said = {"true": "true", "leaning": f"cosine {self.quality:g}", "trained": f"{self.quality:g} steps"}
        return said[self.dictionaries]


@dataclass(frozen=True)
class TruthSettings:
    """How much work a study of the truth is.

    Attributes:
        seeds: of models, tokens and dictionaries, from 0.
        planted: size of the models; its seed is not used.
        training: tokens that dictionaries learn from.
        batch: tokens of a step.
        causal_rows: rows in which the inputs of gates are ablated.
    """

    seeds: int = 3
    planted: PlantedSettings = field(default_factory=PlantedSettings)
    training: int = 32_768
    batch: int = 512
    causal_rows: int = 64

    def __post_init__(self) -> None:
        if min(self.seeds, self.training, self.batch, self.causal_rows) < 1:
            raise UsageError(f"truth: seeds, training, batch and rows of at least 1 expected, found {self}")


@dataclass(frozen=True)
class ScoredCase:
    """One case with one seed.

    Attributes:
        recovered: share of the features for which the dictionaries have a latent.
        scores: of all findings.
    """

    case: TruthCase
    seed: int
    recovered: float
    scores: RelationScores


@dataclass(frozen=True)
class RelationsTruth:
    """What was measured, in the order of cases and seeds."""

    settings: Mapping[str, Any]
    scored: tuple[ScoredCase, ...]

    __repr__ = short_repr

    @property
    def cases(self) -> dict[TruthCase, tuple[float, RelationScores]]:
        """Of each case the share of features recovered (mean) and the scores of all seeds together."""
        groups: dict[TruthCase, list[ScoredCase]] = {}
        for one in self.scored:
            groups.setdefault(one.case, []).append(one)
        return {
            case: (sum(one.recovered for one in found) / len(found), summed([one.scores for one in found]))
            for case, found in groups.items()
        }


def truth_cases() -> list[TruthCase]:
    """The grid: tokens with true dictionaries, then dictionaries that lean, then trained ones."""
    tokens = [TruthCase("true", 1.0, count) for count in (256, 1024, 4096, _TOKENS)]
    leaning = [TruthCase("leaning", cosine, _TOKENS) for cosine in (0.95, 0.9, 0.8)]
    return [*tokens, *leaning, *(TruthCase("trained", steps, _TOKENS) for steps in (300.0, 1000.0))]


def quick_truth() -> tuple[TruthSettings, list[TruthCase]]:
    """One small model and three cases: for a first look."""
    settings = TruthSettings(1, PlantedSettings(each=1, vocabulary=16_384), training=16_384)
    return settings, [TruthCase("true", 1.0, 8192), TruthCase("leaning", 0.9, 8192), TruthCase("trained", 300.0, 8192)]


def relations_truth(
    settings: TruthSettings | None = None,
    grid: Sequence[TruthCase] | None = None,
    *,
    folder: str | Path | None = None,
) -> RelationsTruth:
    """Score every case with every seed. On the CPU; deterministic.

    With a `folder`, results.json there is written after each case, and a study that was stopped goes on.

    Raises:
        UsageError: more tokens than the vocabulary has, or a folder that holds another study.
        GossamerError: results.json is damaged.
    """
    settings, chosen = settings or TruthSettings(), list(truth_cases() if grid is None else grid)
    facts = {**asdict(settings), "cases": [asdict(case) for case in chosen]}
    recorder = Recorder(None if folder is None else Path(folder) / RESULTS, FORMAT, facts)
    known = {(one.case, one.seed) for one in recorder.rows}
    advance = begin("models with planted relations", len(chosen) * settings.seeds)
    advance(len(known), "")
    for case, seed in _order(chosen, settings.seeds):
        if (case, seed) not in known:
            recorder.add(score_case(case, settings, seed))
            advance(1, case.label)
    order = {case: place for place, case in enumerate(chosen)}
    return RelationsTruth(recorder.settings, tuple(sorted(recorder.rows, key=lambda one: (order[one.case], one.seed))))


def _order(chosen: Sequence[TruthCase], seeds: int) -> Iterator[tuple[TruthCase, int]]:
    """Seed by seed, so that each model is made once."""
    for seed in range(seeds):
        yield from ((case, seed) for case in chosen)


def score_case(case: TruthCase, settings: TruthSettings, seed: int) -> ScoredCase:
    """Plant a model, make the case's dictionaries, and score what is found."""
    planted = _model(replace(settings.planted, seed=seed))
    known = _dictionaries(case, settings, planted, seed)
    tokens = _rows(planted, case.tokens, seed)
    scores = score_relations(planted, known, tokens, causal_rows=settings.causal_rows, seed=seed)
    return ScoredCase(case, seed, recovered(planted, known), scores)


@lru_cache(maxsize=1)
def _model(settings: PlantedSettings) -> PlantedModel:
    return plant_relations(settings)


def _rows(planted: PlantedModel, tokens: int, seed: int) -> Tokens:
    return planted.tokens(-(-tokens // planted.settings.positions), seed)


def _dictionaries(
    case: TruthCase, settings: TruthSettings, planted: PlantedModel, seed: int
) -> dict[Site, KnownDictionary]:
    if case.dictionaries != "trained":
        return true_dictionaries(planted, cosine=case.quality, seed=seed)
    learned = _rows(planted, settings.training, 1000 + seed)
    return trained_dictionaries(planted, learned, steps=round(case.quality), batch=settings.batch, seed=seed)


FORMAT = record_format("gossamer.relations_truth", 1, ScoredCase, "a study of relations that are known")
