"""Faithfulness at every circuit size: our mask beside the reference recipe and every baseline, on held-out prompts.

    python benchmarks/circuit_quality.py [--model bundled|tinytalk|stories260k|all] [--task NAME] [--quick] [--every]

For every task a table: circuits by size, faithfulness to the full model with its 95 % bootstrap interval, then KL in
nats and per-prompt error. Then rows: at each size (without --every, at the size where we are least ahead), closeness
1 - |1 - faithfulness| of ours beside theirs, and of a ranking by size and by sign (and by site) beside the better one;
a row holds when ours is at least theirs within the 95 % interval of the paired difference over prompts. Last, in how
many of these rows we are behind by point value, and in how many by the interval. Sizes of the reference recipe cannot
be asked for: our one run is read at them too (where it cannot be, ours is the largest circuit that is no larger).
Dictionaries of real models come from the cache of `gossamer train`, and are trained first if it is empty.
"""

import warnings
from collections.abc import Iterator, Sequence

import torch
from rows import Row, parser, row, say, show
from settings import Setting, settings
from torch import Tensor

from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.methods import METHODS
from gossamer.circuits.path import SIZES, CircuitPath
from gossamer.circuits.results import TaskMetrics
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import Study, StudySettings
from gossamer.errors import GossamerError

POINTS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)


def main() -> None:
    """Print the tables and the rows."""
    made = parser(__doc__, "96 training prompts, no reference recipe")
    made.add_argument("--model", default="all", choices=["bundled", "tinytalk", "stories260k", "all"])
    made.add_argument("--task", help="one task by name")
    made.add_argument("--errors", default="mean", choices=["mean", "drop", "keep"])
    made.add_argument("--prompts", type=int, default=400, help="training prompts at most")
    made.add_argument("--every", action="store_true", help="a row for every size, not only the least favourable")
    options = made.parse_args()
    warnings.simplefilter("ignore")
    chosen = StudySettings(errors=options.errors, prompts=96 if options.quick else options.prompts)
    rows: list[Row] = []
    for setting in settings(options.model, options.task):
        for name in setting.tasks:
            methods = [method for method in METHODS if not (options.quick and method == "reference recipe")]
            rows += list(compared(setting, name, methods, chosen, quiet=options.json))
    counted = [*rows, *behind(rows)]
    show(counted if options.json or options.every else [*nearest(rows), *behind(rows)], options.json)


def behind(rows: list[Row]) -> list[Row]:
    """In how many rows of closeness ours is behind: by point value, and beyond the interval. A test must not choose."""
    close = [found for found in rows if found["unit"] == "closeness"]
    counts = {
        "by point value": sum(found["ours"] < found["theirs"] for found in close),
        "by interval": sum(not found["holds"] for found in close),
    }
    return [
        row(f"rows of closeness in which ours is behind {how}", count, len(close), "rows", "0", count == 0)
        for how, count in counts.items()
    ]


def compared(setting: Setting, name: str, methods: list[str], chosen: StudySettings, quiet: bool) -> Iterator[Row]:
    """Table and rows of one task."""
    study = Study(setting.model, setting.dictionaries, setting.tasks[name], chosen)
    try:
        paths = searched(study, methods)
    except GossamerError as error:
        say(f"{setting.name} {name}: refused: {error}", as_json=True)
        return
    evaluator = study.evaluator
    drawn = {path.method: differences(evaluator, path) for path in paths}
    if not quiet:
        table(f"{setting.name} {name}", study, paths)
    ours, full = paths[0], evaluator.full.prompt_metrics.metric
    for family in families(paths[1:]):
        for size in sorted({size for path in family for size in path.sizes}, reverse=True):
            if min(SIZES) <= size <= max(SIZES) and any(own <= size for own in ours.sizes):
                mine = next(index for index, own in enumerate(ours.sizes) if own <= size)
                theirs = [
                    (path.method, drawn[path.method][path.sizes.index(size)]) for path in family if size in path.sizes
                ]
                name_of, best = max(theirs, key=lambda one: closeness_of(one[1], full))
                yield closer(
                    f"{setting.name} {name}: {size} nodes, {name_of}",
                    drawn["mask"][mine],
                    best,
                    full,
                    evaluator.weights,
                )
    yield from smaller(f"{setting.name} {name}", evaluator, paths)


def families(paths: Sequence[CircuitPath]) -> list[list[CircuitPath]]:
    """Paths that rank by one score, by size or by sign, for all sites or by site: ours is held against the best."""
    found: dict[str, list[CircuitPath]] = {}
    for path in paths:
        found.setdefault(path.method.removesuffix(", signed").removesuffix(" by site"), []).append(path)
    return list(found.values())


def closeness_of(found: Tensor, full: Tensor) -> float:
    """1 - |1 - faithfulness|."""
    return 1 - abs(1 - float(found.double().mean() / full.double().mean()))


def searched(study: Study, methods: list[str]) -> tuple[CircuitPath, ...]:
    """The methods' paths, ours first. The reference recipe goes before it: our one run is read at its sizes too."""
    others = study.paths([method for method in methods if method != "mask"])
    reached = [size for path in others if path.method == "reference recipe" for size in path.sizes]
    wanted = {*SIZES, *(size for size in reached if min(SIZES) <= size <= max(SIZES))}
    return (*study.paths(["mask"], SearchSettings(sizes=tuple(wanted), seed=study.settings.seed)), *others)


def differences(evaluator: Evaluator, path: CircuitPath) -> list[Tensor]:
    """Logit differences of every held-out prompt for every circuit of a path."""
    return [evaluator.prompt_metrics(path.nodes.select(circuit)).metric for circuit in path.circuits]


def closer(what: str, ours: Tensor, theirs: Tensor, full: Tensor, weights: Tensor) -> Row:
    """Closeness to the full model, ours beside theirs, with the bench's bootstrap samples."""

    def closeness(found: Tensor) -> Tensor:
        return 1 - (1 - (weights @ found.cpu().double()) / (weights @ full.cpu().double())).abs()

    upper = torch.quantile(closeness(ours) - closeness(theirs), 0.975).item()
    values = [closeness_of(found, full) for found in (ours, theirs)]
    return row(what, values[0], values[1], "closeness", "ours >= theirs (interval)", upper >= 0)


def smaller(what: str, evaluator: Evaluator, paths: tuple[CircuitPath, ...]) -> Iterator[Row]:
    """Nodes needed at each point, relative to the dictionaries: ours beside the fewest of integrated gradients."""
    others = [path for path in paths if path.method.startswith("integrated gradients")]
    if not others:
        return
    whole = evaluator.faithfulness(evaluator.dictionaries)
    for point in POINTS:
        own = first(evaluator, paths[0], point * whole)
        other = min(filter(None, (first(evaluator, path, point * whole) for path in others)), default=None)
        if own and other:
            good = point < POINTS[0] or other >= 2 * own
            target = "2x smaller" if point == POINTS[0] else "reported"
            yield row(f"{what}: nodes for {point:.0%} of the dictionaries, integrated gradients", own, other,
                      "nodes", target, good)  # fmt: skip
        else:
            needs = f"mask {own}, integrated gradients {other} nodes"
            say(f"{what}: {point:.0%} of the dictionaries: {needs}", as_json=True)


def first(evaluator: Evaluator, path: CircuitPath, wanted: float) -> int | None:
    """Size of the smallest circuit from which on all larger ones reach `wanted`."""
    reached = None
    for circuit in path.circuits:
        if evaluator.kept(path.nodes.select(circuit)) < wanted:
            break
        reached = len(circuit)
    return reached


def table(title: str, study: Study, paths: tuple[CircuitPath, ...]) -> None:
    """Faithfulness with intervals as a Markdown table, one line a size; the reference recipe's sizes are its own."""
    evaluator = study.evaluator
    empty, spliced = evaluator.kept(study.nodes.none()), evaluator.faithfulness(evaluator.dictionaries)
    full = evaluator.full.prompt_metrics
    say(
        f"\n{title}: {len(study.examples)} training and {len(study.task.test)} held-out prompts, "
        f"{len(study.nodes)} candidates"
    )
    say(
        f"full model: {study.task.metric.label} {full.metric.mean():.3f}, accuracy {full.correct.double().mean():.3f}; "
        f"all dictionaries {spliced:.3f}, empty circuit {empty:.3f}\n"
    )
    curves = [evaluator.curve(path) for path in paths]
    cells = [{point.size: cell(point.task_metrics) for point in curve.points} for curve in curves]
    say("| nodes | " + " | ".join(path.method for path in paths) + " |")
    say("|---|" + "---|" * len(paths))
    for size in sorted({size for found in cells for size in found}, reverse=True):
        say(f"| {size} | " + " | ".join(found.get(size, "") for found in cells) + " |")
    for what in ("cpr", "cmd", "seconds"):
        say(f"| {what} | " + " | ".join(f"{getattr(curve, what):.3g}" for curve in curves) + " |")
    say("")


def cell(found: TaskMetrics) -> str:
    """Faithfulness with its interval, KL and per-prompt error, short."""
    share = found.faithfulness
    return f"{share.value:.3f} [{share.low:.2f}, {share.high:.2f}] {found.kl:.2f} {found.prompt_error.value:.2f}"


def nearest(rows: list[Row]) -> list[Row]:
    """Of all rows about one baseline (and one task) the one in which ours is least ahead, with how many hold."""
    groups: dict[str, list[Row]] = {}
    for found in rows:
        task, _, rest = found["what"].partition(": ")
        family = rest.partition(", ")[2].removesuffix(", signed").removesuffix(" by site")
        groups.setdefault(f"{task}: {family}" if " nodes, " in rest else found["what"], []).append(found)
    result = []
    for name, members in groups.items():
        worst = min(members, key=lambda found: found["ours"] - found["theirs"])
        holding = sum(found["holds"] for found in members)
        count = f"{holding} of {len(members)} sizes hold; {worst['what'].partition(': ')[2].partition(',')[0]}"
        result.append({**worst, "what": f"{name} ({count})" if len(members) > 1 else name,
                       "holds": holding == len(members)})  # fmt: skip
    return result


if __name__ == "__main__":
    main()
