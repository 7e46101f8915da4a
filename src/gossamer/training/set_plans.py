"""Several settings at once: every combination of objectives, sizes, sparsities and seeds."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gossamer.errors import UsageError
from gossamer.training import objectives
from gossamer.training.config import LearnerConfig

_KINDS: tuple[type[objectives.Objective], ...] = (
    objectives.BatchTopK,
    objectives.TopK,
    objectives.Matryoshka,
    objectives.L1,
    objectives.April,
    objectives.Gated,
    objectives.StepL0,
    objectives.TanhPenalty,
    objectives.QuadraticL0,
)
OBJECTIVES = {kind.name: kind for kind in _KINDS}


@dataclass(frozen=True)
class SetPlan:
    """The plan of a set: one way to train a dictionary at every site.

    Attributes:
        name: of the folder of its set; empty where there is one only.
        learner: what a dictionary is, and how it learns.
        seed: of initial weights.
    """

    name: str
    learner: LearnerConfig
    seed: int


def set_plans(
    base: LearnerConfig,
    *,
    objective: Sequence[str] = (),
    n_latents: Sequence[int] = (),
    k: Sequence[int] = (),
    penalty: Sequence[float] = (),
    seeds: Sequence[int] = (0,),
) -> list[SetPlan]:
    """Every combination of what is given, with `base` for everything else; one named "" if there is one only.

    Args:
        objective: keys of :data:`OBJECTIVES`; default that of `base`.
        n_latents: latents of a dictionary.
        k: active latents per token, for objectives that have a k.
        penalty: coefficient, for objectives that have one.

    Raises:
        UsageError: an unknown objective, settings that do not fit together, or a k or penalty that no objective takes.
    """
    if unknown := [name for name in objective if name not in OBJECTIVES]:
        raise UsageError(f"objective: expected one of {', '.join(OBJECTIVES)}, found {unknown[0]!r}")
    bases = [_with_objective(base, name) for name in objective] or [base]
    for what, given, field in (("k", k, "k"), ("penalty", penalty, "coefficient")):
        if given and not any(hasattr(one.objective, field) for one in bases):
            raise UsageError(f"{what}: none of the objectives asked for has one; leave it out")
    found = [
        SetPlan(_name(learner, seed), learner, seed)
        for one in bases
        for width, sparsity in itertools.product(n_latents or [one.n_latents], _sparsities(one, k, penalty))
        for learner in [replace(one, n_latents=width, objective=replace(one.objective, **sparsity))]
        for seed in seeds
    ]
    return found if len(found) > 1 else [replace(found[0], name="")]


def _with_objective(base: LearnerConfig, name: str) -> LearnerConfig:
    kind = OBJECTIVES[name]
    if type(base.objective) is kind:
        return base
    made = kind()
    if isinstance(base.objective, objectives.TopK) and isinstance(made, objectives.TopK):
        made = replace(made, k=base.objective.k)
    if name == "topk":
        return replace(base, objective=made, sensitivity=0.0)
    if name == "april":
        free = replace(base.optimiser, decoder_norm="free")
        return replace(base, objective=made, optimiser=free, scaling="sqrt_d", initial_norm=0.1)
    return replace(base, objective=made)


def _sparsities(one: LearnerConfig, k: Sequence[int], penalty: Sequence[float]) -> list[dict[str, Any]]:
    if k and hasattr(one.objective, "k"):
        return [{"k": value} for value in k]
    if penalty and hasattr(one.objective, "coefficient"):
        return [{"coefficient": value} for value in penalty]
    return [{}]


def _name(learner: LearnerConfig, seed: int) -> str:
    objective = learner.objective
    sparsity = f"k{objective.k}" if isinstance(objective, objectives.TopK) else ""
    if isinstance(objective, objectives.L1 | objectives.Gated | objectives.JumpReLU):
        sparsity = f"penalty{objective.coefficient:g}"
    return f"{objective.name}-{learner.n_latents}-{sparsity}-seed{seed}"
