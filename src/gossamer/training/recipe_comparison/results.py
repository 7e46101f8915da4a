"""What a comparison of recipes found, and its summary over seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped]

from gossamer.display import plural, short_repr
from gossamer.results import Older, Record, record_format, versions

RESULTS = "results.json"
MEASURES = ("l0", "loss_recovered", "explained_variance", "dead")


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
    """

    variant: str
    family: str
    coefficient: float
    mean: dict[str, float]
    half: dict[str, float | None]
    dead_curve: tuple[tuple[int, float], ...]

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
        return [_summary(seeds) for seeds in found.values()]

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


def _summary(seeds: Sequence[Trained]) -> Summary:
    values = {name: np.array([getattr(one, name) for one in seeds]) for name in MEASURES}
    factor = float(student.ppf(0.975, len(seeds) - 1)) / len(seeds) ** 0.5 if len(seeds) > 1 else None
    half = {name: None if factor is None else factor * float(found.std(ddof=1)) for name, found in values.items()}
    curves = np.array([[share for _, share in one.dead_curve] for one in seeds]).mean(axis=0)
    tokens = [seen for seen, _ in seeds[0].dead_curve]
    first = seeds[0]
    mean = {name: float(found.mean()) for name, found in values.items()}
    curve = tuple(zip(tokens, curves.tolist(), strict=True))
    return Summary(first.variant, first.family, first.coefficient, mean, half, curve)
