"""What a comparison of recipes found, and its summary over seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.display import plural, short_repr
from gossamer.results import Older, Record, record_format, versions
from gossamer.statistics import student_half
from gossamer.training.recipe_comparison.grid import BASELINE

RESULTS = "results.json"
MEASURES = ("l0", "loss_recovered", "explained_variance", "dead")
MARGINS = ("loss_recovered", "explained_variance")


@dataclass(frozen=True)
class Trained:
    """One dictionary.

    Attributes:
        variant, family: see :class:`gossamer.training.recipe_comparison.grid.Variant`.
        coefficient, seed: of its penalty; of its weights and the order of the data.
        l0: mean number of active latents, on held-out text, as all but `dead`.
        loss_recovered: share of cross-entropy recovered between the site at zero and the model.
        explained_variance: ratio of sums.
        dead: share of the latents that had not fired for `dead_after` tokens when training ended.
        dead_curve: the same in training, as (tokens seen, share).
    """

    variant: str
    family: str
    coefficient: float
    seed: int
    l0: float
    loss_recovered: float
    explained_variance: float
    dead: float
    dead_curve: tuple[tuple[int, float], ...]

    __repr__ = short_repr


@dataclass(frozen=True)
class Summary:
    """One variant at one coefficient, over seeds: mean and half the width of its 95 % interval, by name.

    The interval is Student's over seeds (other weights, other order of the data); None with one seed.

    Attributes:
        margin: what there is of loss recovered and explained variance beyond the baseline of the same seed at the same
            L0, linear in log L0 between the baseline's coefficients; empty where the baseline of a seed does not reach.
        margin_half: half of its interval.
    """

    variant: str
    family: str
    coefficient: float
    mean: dict[str, float]
    half: dict[str, float | None]
    dead_curve: tuple[tuple[int, float], ...]
    margin: dict[str, float] = field(default_factory=dict)
    margin_half: dict[str, float | None] = field(default_factory=dict)

    __repr__ = short_repr


@dataclass(frozen=True)
class RecipeComparison:
    """The whole grid.

    Attributes:
        model, site: what was trained on.
        settings: of the grid and the loop.
        trained: every dictionary.
    """

    model: str
    site: str
    settings: dict[str, Any]
    trained: tuple[Trained, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.model} at {self.site}"
        yield plural(len(self.trained), "dictionary", "dictionaries")

    def summaries(self, families: Sequence[str]) -> list[Summary]:
        """In the order of the grid."""
        found: dict[tuple[str, float], list[Trained]] = {}
        for one in self.trained:
            if one.family in families:
                found.setdefault((one.variant, one.coefficient), []).append(one)
        lines: dict[int, list[Trained]] = {}
        for one in self.trained:
            if one.variant == BASELINE:
                lines.setdefault(one.seed, []).append(one)
        return [_summary(seeds, lines) for seeds in found.values()]

    def save(self, path: str | Path) -> Path:
        """Write results.json, atomically. Returns the path."""
        settings = {"model": self.model, "site": self.site, **self.settings}
        return FORMAT.save(path, Record(settings, self.trained, {"versions": versions()}))

    @classmethod
    def load(cls, path: str | Path) -> "RecipeComparison":
        """Read results.json.

        Raises:
            UsageError: no such file, or not the results of a comparison of recipes.
            GossamerError: it is damaged.
        """
        found = FORMAT.load(path)
        settings = dict(found.settings)
        return cls(settings.pop("model"), settings.pop("site"), settings, found.rows)


def _of_version_0(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "settings": {"model": body["model"], "site": body["site"], **body["settings"]},
        "rows": body["trained"],
    }


FORMAT = record_format(
    "gossamer.ablation", 1, Trained, "results of a comparison of recipes", {"": Older(_of_version_0, checksum=False)}
)


def _summary(seeds: Sequence[Trained], lines: Mapping[int, Sequence[Trained]]) -> Summary:
    """`lines` are the baseline's dictionaries of each seed."""
    values = {name: np.array([getattr(one, name) for one in seeds]) for name in MEASURES}
    margins = {name: np.array([_margin(one, lines.get(one.seed, ()), name) for one in seeds]) for name in MARGINS}
    if seeds[0].variant == BASELINE or any(np.isnan(found).any() for found in margins.values()):
        margins = {}
    curves = np.array([[share for _, share in one.dead_curve] for one in seeds]).mean(axis=0)
    first = seeds[0]
    return Summary(
        first.variant,
        first.family,
        first.coefficient,
        {name: float(found.mean()) for name, found in values.items()},
        {name: student_half(found) for name, found in values.items()},
        tuple(zip((seen for seen, _ in first.dead_curve), curves.tolist(), strict=True)),
        {name: float(found.mean()) for name, found in margins.items()},
        {name: student_half(found) for name, found in margins.items()},
    )


def _margin(one: Trained, line: Sequence[Trained], name: str) -> float:
    """What a dictionary has beyond the baseline at its L0; NaN outside of the baseline's line."""
    points = sorted((other.l0, getattr(other, name)) for other in line)
    if not points or not 0 < points[0][0] <= one.l0 <= points[-1][0]:
        return float("nan")
    places, values = zip(*points, strict=True)
    return float(getattr(one, name) - np.interp(np.log(one.l0), np.log(places), values))
