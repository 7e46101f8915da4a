"""The grid: the published "improvements to dictionary learning", and what is done about dead latents."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gossamer.display import short_repr
from gossamer.model.site import Site
from gossamer.training.checks import require, require_kinds
from gossamer.training.config import DictionarySpec, DictionaryTrainerConfig, OptimiserConfig
from gossamer.training.dead_latents import DeadLatentStrategy, Ghost, Resampling
from gossamer.training.objectives import L1, NormWeightedL1

IMPROVEMENTS, DEAD = "improvements", "dead latents"
BASELINE = "baseline"


@dataclass(frozen=True)
class RecipeComparisonConfig:
    """What all dictionaries of the grid share.

    Attributes:
        n_latents: latents of each dictionary.
        coefficients: weights of the L1 penalty.
        seeds: initial weights and orders of the data; those of a seed are the same for all variants.
        learning_rate: peak of Adam's learning rate.
        dead_after: a latent is dead when it has not fired for this many tokens.
        recovery: steps in which the learning rate returns after resampling.
        only: names of the variants to train beside the baseline; empty: all.
    """

    n_latents: int = 1024
    coefficients: tuple[float, ...] = (0.3, 1.0, 3.0)
    seeds: int = 3
    learning_rate: float = 1e-2
    dead_after: int = 20_000
    recovery: int = 200
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_kinds(self)
        distinct = len(set(self.coefficients)) == len(self.coefficients) > 0
        require(distinct, "one coefficient or more, each once", self.coefficients)
        require(self.seeds >= 1, "seeds of at least 1", self.seeds)


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Attributes:
        name: what it is called in tables.
        family: which question it belongs to; the baseline belongs to both.
        trainer: its settings, but for the coefficient.
    """

    name: str
    family: str
    trainer: DictionaryTrainerConfig

    __repr__ = short_repr

    def plan(self, site: Site, coefficient: float, seed: int) -> DictionarySpec:
        """The dictionary at one coefficient and seed."""
        objective = self.trainer.objective
        assert isinstance(objective, L1)
        trainer = replace(self.trainer, objective=replace(objective, coefficient=coefficient))
        return DictionarySpec(f"{self.name}, {coefficient:g}, seed {seed}", site, None, trainer, seed)


def variants(config: RecipeComparisonConfig) -> list[Variant]:
    """The baseline first, then every change to it that is asked for.

    The baseline: L1, unit decoder, pre-encoder bias, raw activations, Adam; learning rate and penalty rise over the
    first 5 % of the steps and stay; gradients are cut at norm 1.

    Raises:
        UsageError: a variant is asked for that there is not.
    """
    plain = OptimiserConfig(learning_rate=config.learning_rate, decay=0.0)
    base = DictionaryTrainerConfig(
        config.n_latents,
        L1(),
        optimiser=plain,
        scaling="none",
        pre_bias=True,
        sensitivity=0.0,
        dead_after=config.dead_after,
    )
    strategies = [
        Variant(name, DEAD, replace(base, dead_latents=strategy)) for name, strategy in _strategies(config).items()
    ]
    changes = [*_improved(base), *strategies]
    known = [one.name for one in changes]
    unknown = [name for name in config.only if name not in known]
    require(not unknown, f"variants among {', '.join(known)}", ", ".join(unknown))
    asked = config.only or known
    return [Variant(BASELINE, IMPROVEMENTS, base), *(one for one in changes if one.name in asked)]


def _improved(base: DictionaryTrainerConfig) -> Iterator[Variant]:
    plain = base.optimiser
    everything = replace(plain, beta1=0.0, decoder_norm="at_most_one", decay=0.2)
    changed = {
        "Adam beta1 = 0": replace(base, optimiser=replace(plain, beta1=0.0)),
        "decoder norm at most 1": replace(base, optimiser=replace(plain, decoder_norm="at_most_one")),
        "no pre-encoder bias": replace(base, pre_bias=False),
        "inputs scaled to sqrt(d)": replace(base, scaling="sqrt_d"),
        "learning rate to 0": replace(base, optimiser=replace(plain, decay=0.2)),
        "all together": replace(base, optimiser=everything, pre_bias=False, scaling="sqrt_d"),
        "April 2024 recipe": replace(
            base,
            objective=NormWeightedL1(),
            optimiser=replace(plain, decoder_norm="free", decay=0.2),
            pre_bias=False,
            scaling="sqrt_d",
            initial_norm=0.1,
        ),
    }
    return (Variant(name, IMPROVEMENTS, trainer) for name, trainer in changed.items())


def _strategies(config: RecipeComparisonConfig) -> dict[str, DeadLatentStrategy]:
    scaled = Ghost(dead_fraction_scale=True)
    return {
        "resampling": Resampling(recovery=config.recovery),
        "ghost": Ghost(),
        "ghost, scaled by dead share": scaled,
        "ghost, scaled, all at start": replace(scaled, all_at_start=True),
        "ghost, scaled, no norm match": replace(scaled, norm_match=False),
        "ghost, scaled, no loss match": replace(scaled, loss_match=False),
        "ghost, scaled, softplus": replace(scaled, activation="softplus"),
    }
