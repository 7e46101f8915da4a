"""Several settings at once: every combination of objectives, sizes, sparsities and seeds."""

import itertools
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.training import objectives
from gossamer.training.checks import require, require_kinds
from gossamer.training.config import DictionaryTrainerConfig

_KINDS: tuple[type[objectives.Objective], ...] = (
    objectives.BatchTopK,
    objectives.TopK,
    objectives.Matryoshka,
    objectives.L1,
    objectives.NormWeightedL1,
    objectives.Gated,
    objectives.StepL0,
    objectives.TanhPenalty,
    objectives.QuadraticL0,
)
# Of a folder on any system, and nothing that leads out of the one it is in.
_IN_NAMES = set(string.ascii_letters + string.digits + "._+=-")
OBJECTIVES = {kind.name: kind for kind in _KINDS}


@dataclass(frozen=True)
class SweepSpec:
    """The plan of a set: one way to train a dictionary at every site.

    Attributes:
        name: of the folder of its set; empty where there is one only.
        trainer: what a dictionary is, and how it learns.
        seed: of initial weights.
    """

    name: str
    trainer: DictionaryTrainerConfig
    seed: int

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_kinds(self)
        plain = self.name == "" or (set(self.name) <= _IN_NAMES and not self.name.startswith("."))
        require(plain, "a set's name of letters, digits and ._+=-, as it names a folder", repr(self.name))


def sweep_specs(
    base: DictionaryTrainerConfig,
    *,
    objective: Sequence[str] = (),
    n_latents: Sequence[int] = (),
    k: Sequence[int] = (),
    penalty: Sequence[float] = (),
    l0: Sequence[float] = (),
    seeds: Sequence[int] = (0,),
) -> list[SweepSpec]:
    """Every combination of what is given, with `base` for everything else; one named "" if there is one only.

    Args:
        objective: keys of :data:`OBJECTIVES`; default that of `base`.
        n_latents: latents of a dictionary.
        k: active latents per token, for objectives that have a k.
        penalty: coefficient, for objectives that have one.
        l0: target of L0, for objectives that have one (jumprelu_quadratic).

    Raises:
        UsageError: an unknown objective, settings that do not fit together, a k, penalty or l0 that no objective takes,
            or two sets that would have one name.
    """
    if unknown := [name for name in objective if name not in OBJECTIVES]:
        raise UsageError(f"objective: expected one of {', '.join(OBJECTIVES)}, found {unknown[0]!r}")
    bases = [_with_objective(base, name) for name in objective] or [base]
    fields: dict[str, Sequence[Any]] = {"k": k, "coefficient": penalty, "target": l0}
    for what, field in (("k", "k"), ("penalty", "coefficient"), ("l0", "target")):
        if fields[field] and not any(hasattr(one.objective, field) for one in bases):
            raise UsageError(f"{what}: none of the objectives asked for has one; leave it out")
    found = [
        SweepSpec(_name(trainer, seed), trainer, seed)
        for one in bases
        for width, sparsity in itertools.product(n_latents or [one.n_latents], _sparsities(one, fields))
        for trainer in [replace(one, n_latents=width, objective=replace(one.objective, **sparsity))]
        for seed in seeds
    ]
    names = [plan.name for plan in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"dictionaries: expected each setting once, found {twice[0]} twice; leave one of them out")
    return found if len(found) > 1 else [replace(found[0], name="")]


def _with_objective(base: DictionaryTrainerConfig, name: str) -> DictionaryTrainerConfig:
    kind = OBJECTIVES[name]
    if type(base.objective) is kind:
        return base
    made = kind()
    if isinstance(base.objective, objectives.TopK) and isinstance(made, objectives.TopK):
        made = replace(made, k=base.objective.k)
    if name == "topk":
        return replace(base, objective=made, sensitivity=0.0)
    if name == "norm_weighted_l1":
        free = replace(base.optimiser, decoder_norm="free")
        return replace(base, objective=made, optimiser=free, scaling="sqrt_d", initial_norm=0.1)
    return replace(base, objective=made)


def _sparsities(one: DictionaryTrainerConfig, given: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    own = {field: values for field, values in given.items() if values and hasattr(one.objective, field)}
    return [dict(zip(own, chosen, strict=True)) for chosen in itertools.product(*own.values())]


def _name(trainer: DictionaryTrainerConfig, seed: int) -> str:
    objective = trainer.objective
    sparsity = f"k{objective.k}" if isinstance(objective, objectives.TopK) else ""
    if isinstance(objective, objectives.L1 | objectives.Gated | objectives.JumpReLU):
        sparsity = f"penalty{objective.coefficient:g}"
    if isinstance(objective, objectives.QuadraticL0):
        sparsity = f"l0_{objective.target:g}-{sparsity}"
    return f"{objective.name}-{trainer.n_latents}-{sparsity}-seed{seed}"
