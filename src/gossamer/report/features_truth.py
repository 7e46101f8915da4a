"""What dictionaries and pursuits are worth where features are known, as sentences, tables and a folder."""

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

from gossamer import files
from gossamer.report.coding import table
from gossamer.statistics import student_half
from gossamer.toys.feature_scores import FeatureScores
from gossamer.toys.features_truth import LEARNED, RANDOM, TRUTH, FeaturesTruth

Group = tuple[str, str]

NAMES = {
    "l1": "L1",
    "topk": "TopK",
    "batchtopk": "BatchTopK",
    "jumprelu": "JumpReLU",
    "matryoshka": "Matryoshka",
    LEARNED: "pursuit-learned",
    TRUTH: "true directions",
    RANDOM: "random directions",
}
READINGS = {"encoder": "encoder", **{name: f"{name} pursuit" for name in ("matching", "gradient", "orthogonal")}}
# What was not learned: bounds, and no rivals.
GIVEN = (TRUTH, RANDOM)
_COLUMNS: dict[str, tuple[str, Callable[[FeatureScores], float]]] = {
    "L0": (".2f", lambda one: one.l0),
    "variance explained": (".3f", lambda one: one.explained_variance),
    "F1": (".3f", lambda one: one.f1),
    "MCC": (".3f", lambda one: one.mcc),
    "uniqueness": (".3f", lambda one: one.uniqueness),
    "precision": (".3f", lambda one: one.precision),
    "recall": (".3f", lambda one: one.recall),
    "shrinkage": (".3f", lambda one: one.shrinkage),
    "dead": (".1f", lambda one: float(one.dead)),
}


def headline(truth: FeaturesTruth, target: int) -> str:
    """At one L0: which learned reading reconstructs best, which has the best features, and how often the two agree."""
    groups = {group: found for group, found in truth.at(target).items() if group[0] not in GIVEN}
    if len(groups) < 2:
        return ""
    by_variance = _ranked(groups, lambda one: one.explained_variance)
    by_f1 = _ranked(groups, lambda one: one.f1)
    best, other = by_variance[0], by_f1[0]
    said = f"At an L0 of {target} "
    if best == other:
        return f"{said}{called(best)} has both the most variance explained and the best F1."
    seeds = list(zip(groups[best], groups[other], strict=True))
    more = _number([one.explained_variance - two.explained_variance for one, two in seeds], ".3f")
    less = _number([two.f1 - one.f1 for one, two in seeds], ".3f")
    pairs = list(combinations(groups, 2))
    orders = [[ranked.index(one) < ranked.index(two) for one, two in pairs] for ranked in (by_variance, by_f1)]
    agreeing = sum(one == two for one, two in zip(*orders, strict=True))
    return (
        f"{said}{called(best)} explains the most variance ({more} more than {called(other)}) and is number "
        f"{by_f1.index(best) + 1} of {len(groups)} by F1; {called(other)} has the best F1 ({less} more) and is number "
        f"{by_variance.index(other) + 1} by variance. In {agreeing} of {len(pairs)} pairs of readings the one that "
        f"reconstructs better has the better F1."
    )


def called(group: Group) -> str:
    """A dictionary and its reading in words."""
    dictionary, reading = group
    if reading == "encoder":
        return f"the {NAMES[dictionary]} encoder"
    return f"{READINGS[reading]} on the {NAMES[dictionary]} decoder"


def _ranked(groups: dict[Group, list[FeatureScores]], value: Callable[[FeatureScores], float]) -> list[Group]:
    return sorted(groups, key=lambda group: -sum(map(value, groups[group])) / len(groups[group]))


def features_truth_text(truth: FeaturesTruth) -> str:
    """For each L0 asked for a sentence and a table: means over seeds with half of Student's 95 % interval."""
    parts = []
    for target in truth.targets:
        groups = truth.at(target)
        actual = [one.true_l0 for found in groups.values() for one in found]
        head = f"## L0 {target} (features active in a sample: {sum(actual) / len(actual):.1f})"
        parts += [head, *filter(None, [headline(truth, target)]), scores_table(groups)]
    return "\n\n".join(parts) + "\n"


def scores_table(groups: dict[Group, list[FeatureScores]]) -> str:
    """A line for each dictionary and reading."""
    rows = [["dictionary", "read by", *_COLUMNS]]
    for (dictionary, reading), found in groups.items():
        cells = [_number([value(one) for one in found], form) for form, value in _COLUMNS.values()]
        rows.append([NAMES[dictionary], READINGS[reading], *cells])
    return table(rows)


def _number(values: Sequence[float], form: str) -> str:
    half = student_half(values)
    mean = format(sum(values) / len(values), form)
    return mean if half is None else f"{mean} ± {half:{form}}"


def write_features_truth(truth: FeaturesTruth, folder: str | Path) -> Path:
    """Write tables.md, features.png and features.svg beside results.json; each atomically. Returns the picture's path.

    Raises:
        GossamerError: nothing was measured, or a folder that cannot be written.
    """
    from gossamer.report import style
    from gossamer.report.figures.features_truth import features_figure

    target = Path(folder)
    figure = style.settled(features_figure(truth))
    files.write_text(target / "tables.md", features_truth_text(truth))
    files.write_text(target / "features.svg", style.svg(figure))
    style.save_png(figure, target / "features.png")
    return target / "features.png"
