"""Faithfulness at every circuit size: our mask beside the reference recipe and every baseline, on held-out prompts.

    python benchmarks/circuit_quality.py [--model bundled|tinytalk|stories260k|all|FOLDER] [--task NAME] [--quick]
    python benchmarks/circuit_quality.py --model FOLDER -d DICTIONARIES -t PROMPTS.jsonl    # on your own ground
    python benchmarks/circuit_quality.py --model FOLDER -d DICTIONARIES -t ioi -t sva-rc -n 160 --compare random

For every task a table: circuits by size, faithfulness to the full model with its 95 % bootstrap interval, then KL in
nats and per-prompt error. Then rows: at each size (without --every, at the size where we are least ahead), closeness
1 - |1 - faithfulness| of ours beside theirs, and of a ranking by size and by sign (and by site) beside the better one;
a row holds when ours is at least theirs within the 95 % interval of the paired difference over prompts. Beside the best
baseline on the test prompts stands the one that validation prompts choose, which a reader could have had. Last, in how
many of these rows we are behind by point value, and in how many by the interval. Training and test prompts share no
words where a task allows it. Sizes of the reference recipe cannot be asked for: our one run is read at them too (where
it cannot be, ours is the largest circuit that is no larger). Dictionaries of real models come from the cache of
`gossamer train`, and are trained first if it is empty. `gossamer study-circuits` does the same with a report a task.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rows import Row, parser, row, say, show
from settings import own, settings

from gossamer.circuits.curve import Curve, SizeComparison, best_baseline
from gossamer.circuits.evaluate.comparison import CHOSEN, GRADIENTS, chosen_baseline, compared, family, nodes_needed
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.methods import METHODS
from gossamer.circuits.path import SIZES, CircuitPath
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import Study, StudySettings
from gossamer.circuits.task_metrics import TaskMetrics
from gossamer.errors import GossamerError

POINTS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
REFERENCE = "reference recipe"


def main() -> None:
    """Print the tables and the rows."""
    made = parser(__doc__, "96 training prompts, no reference recipe")
    made.add_argument(
        "--model", default="all", help="bundled, tinytalk, stories260k, all, or any model's name or folder"
    )
    made.add_argument(
        "-d", "--dictionaries", action="append", help="of a model of your own; repeat for several folders"
    )
    made.add_argument("-t", "--task", action="append", help="a task by name, or a file of prompts; repeat for several")
    made.add_argument("-n", type=int, help="prompts to generate of a named task on your own ground")
    made.add_argument("--compare", action="append", help="one method to stand beside ours; repeat. Default: all")
    made.add_argument("--errors", default="mean", choices=["mean", "drop", "keep"])
    made.add_argument("--prompts", type=int, default=400, help="training prompts at most")
    made.add_argument("--steps", type=int, default=100, help="gradient steps of the mask search")
    made.add_argument("--greedy", action="store_true", help="a greedy selection too, as a bound for small circuits")
    made.add_argument("--size", type=int, action="append", default=[], help="a size beside the usual ones; repeat")
    made.add_argument("--every", action="store_true", help="a row for every size, not only the least favourable")
    options = made.parse_args()
    warnings.simplefilter("ignore")
    measure = StudySettings(errors=options.errors, prompts=96 if options.quick else options.prompts)
    tasks = options.task or ["ioi" if options.dictionaries else None]
    given = [
        setting
        for task in tasks
        for setting in (
            [own(options.model, options.dictionaries, task, options.n)]
            if options.dictionaries
            else settings(options.model, task)
        )
    ]
    rows: dict[str, list[SizeComparison]] = {}
    more: list[Row] = []
    for setting in given:
        for name in setting.tasks:
            left_out = {"mask", *(() if options.greedy else ("greedy",)), *((REFERENCE,) if options.quick else ())}
            others = options.compare or [name for name in METHODS if name not in left_out]
            study = Study(setting.model, setting.dictionaries, setting.tasks[name], measure)
            title = f"{setting.name} {name}"
            try:
                paths = searched(study, others, options.steps, options.size)
            except GossamerError as error:
                say(f"{title}: refused: {error}", as_json=True)
                continue
            measured = [study.evaluator.measured(path) for path in paths]
            curves = [study.evaluator.curve(path) for path in measured]
            if not options.json:
                table(title, study, curves)
            chosen = chosen_baseline(study.choice, measured[1:])
            rows[title] = list(compared(study.evaluator, measured[0], [*measured[1:], *([chosen] if chosen else [])]))
            more += smaller(title, study.evaluator, curves)
    shown = [closer(title, one) for title, found in rows.items() for one in found]
    if not (options.json or options.every):
        shown = [found for title, every in rows.items() for found in nearest(title, every)]
    show([*shown, *more, *behind(rows)], options.json)


def behind(rows: dict[str, list[SizeComparison]]) -> list[Row]:
    """In how many rows of closeness ours is behind: by point value, and beyond the interval. A test must not choose."""
    every = [one for found in rows.values() for one in found if one.family != CHOSEN]
    could = [one for found in rows.values() for one in found if one.family == CHOSEN]
    best = [one for found in rows.values() for one in best_baseline(found)]
    made = []
    for beside, members in (
        ("every baseline", every),
        ("the best baseline at each size", best),
        ("the baseline that validation prompts choose", could),
    ):
        for how, count in (
            ("by point value", sum(one.behind for one in members)),
            ("by interval", sum(one.significantly_behind for one in members)),
        ):
            what = f"rows of closeness beside {beside} in which ours is behind {how}"
            made.append(row(what, count, len(members), "rows", "0", count == 0))
    return made


def searched(study: Study, others: list[str], steps: int, more: Sequence[int]) -> tuple[CircuitPath, ...]:
    """The methods' paths, ours first. The reference recipe goes before it: our one run is read at its sizes too."""
    search = SearchSettings(sizes=(*SIZES, *more), larger=True, steps=steps, seed=study.settings.seed)
    measured = study.paths(others, search)
    reached = [size for path in measured if path.method == REFERENCE for size in path.sizes]
    wanted = tuple({*search.sizes, *(size for size in reached if min(SIZES) <= size < len(study.nodes))})
    return (*study.paths(["mask"], replace(search, sizes=wanted)), *measured)


def closer(title: str, one: SizeComparison) -> Row:
    """Closeness to the full model, ours beside theirs."""
    what = f"{title}: {one.size} nodes, {one.method}"
    return row(what, one.ours, one.theirs, "closeness", "ours >= theirs (interval)", not one.significantly_behind)


def smaller(title: str, evaluator: Evaluator, curves: Sequence[Curve]) -> Iterator[Row]:
    """Nodes needed at each point, relative to the dictionaries: ours beside the fewest of integrated gradients."""
    if not any(family(curve.method) == GRADIENTS for curve in curves):
        return
    whole = evaluator.faithfulness(evaluator.dictionaries)
    for point in POINTS:
        own, other = nodes_needed(curves, point * whole)
        if own and other:
            good = point < POINTS[0] or other >= 2 * own
            target = "2x smaller" if point == POINTS[0] else "reported"
            what = f"{title}: nodes for {point:.0%} of the dictionaries, {GRADIENTS}"
            yield row(what, own, other, "nodes", target, good)
        else:
            needs = f"mask {own}, {GRADIENTS} {other} nodes"
            say(f"{title}: {point:.0%} of the dictionaries: {needs}", as_json=True)


def table(title: str, study: Study, curves: Sequence[Curve]) -> None:
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
    cells = [{point.size: cell(point.task_metrics) for point in curve.points} for curve in curves]
    say("| nodes | " + " | ".join(curve.method for curve in curves) + " |")
    say("|---|" + "---|" * len(curves))
    for size in sorted({size for found in cells for size in found}, reverse=True):
        say(f"| {size} | " + " | ".join(found.get(size, "") for found in cells) + " |")
    for what in ("cpr", "cmd", "seconds"):
        say(f"| {what} | " + " | ".join(f"{getattr(curve, what):.3g}" for curve in curves) + " |")
    say("")


def cell(found: TaskMetrics) -> str:
    """Faithfulness with its interval, KL and per-prompt error, short."""
    share = found.faithfulness
    return f"{share.value:.3f} [{share.low:.2f}, {share.high:.2f}] {found.kl:.2f} {found.prompt_error.value:.2f}"


def nearest(title: str, rows: Sequence[SizeComparison]) -> Iterator[Row]:
    """Of all rows about one baseline the one in which ours is least ahead, with how many hold."""
    groups: dict[str, list[SizeComparison]] = {}
    for one in rows:
        groups.setdefault(one.family, []).append(one)
    for name, members in groups.items():
        worst = min(members, key=lambda one: one.difference.value)
        holding = sum(not one.significantly_behind for one in members)
        what = f"{title}: {name} ({holding} of {len(members)} sizes hold; {worst.size} nodes)"
        yield {**closer(title, worst), "what": what, "holds": holding == len(members)}


if __name__ == "__main__":
    main()
