"""Faithfulness at every circuit size: our mask beside the reference recipe and every baseline, on held-out prompts.

    python benchmarks/circuit_quality.py [--model bundled|tinytalk|stories260k|all] [--task NAME] [--quick] [--json]
    python benchmarks/circuit_quality.py --model FOLDER -d DICTIONARIES -t PROMPTS.jsonl [--no-bos]    # your own ground
    python benchmarks/circuit_quality.py --model FOLDER -d DICTIONARIES -t ioi -t sva-rc -n 160 --compare random

For every task a table: circuits by size, faithfulness to the full model with its 95 % bootstrap interval, then KL in
nats, accuracy and per-prompt error; a dagger marks a circuit that keeps more than the dictionaries do with all of their
latents. Then rows: at each size (without --every, at the size where we are least ahead), closeness
1 - |1 - faithfulness| of ours beside theirs, and of a ranking by size and by sign (and by site) beside the better one;
a row holds when ours is at least theirs within the 95 % interval of the paired difference over prompts. Beside the best
baseline on the test prompts stands the one that validation prompts choose, which a reader could have had. Last, in how
many of these rows we are behind by point value, and in how many by the interval. Where a task has fewer than ten
held-out texts intervals say nothing: its rows, and those that count them, have a caution and do not say that they hold.

Training and test prompts share no words where a task allows it. Sizes of the reference recipe cannot be asked for: our
one run is read at them too (where it cannot be, ours is the largest circuit that is no larger). Methods that take
minutes (FAP-Synergy, greedy) are compared when they are asked for. Dictionaries of real models come from the cache of
`gossamer train`, and are trained first if it is empty. `gossamer study-circuits` does the same with a report a task.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rows import Row, cautioned, parser, row, say, show
from settings import add_setting, cautions, errors_in_one_line, refused_in_one_line, settings

from gossamer.circuits.curve import Curve, SizeComparison, best_baseline
from gossamer.circuits.evaluate.comparison import CHOSEN, GRADIENTS, chosen_baseline, compared, family, nodes_needed
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.methods import ASKED_FOR, METHODS
from gossamer.circuits.path import SIZES, CircuitPath
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import Study, StudySettings
from gossamer.circuits.task_metrics import BEYOND, TaskMetrics
from gossamer.report.text import percent

POINTS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
REFERENCE = "reference recipe"
LEGEND = (
    "Each cell: faithfulness [95 % interval over texts], KL in nats, accuracy, per-prompt error in units of "
    f"faithfulness. {BEYOND} more than the dictionaries keep with all of their latents."
)


def main() -> None:
    """Print the tables and the rows."""
    made = parser(__doc__, "96 training prompts, no reference recipe")
    add_setting(made, "all")
    made.add_argument(
        "--compare",
        action="append",
        choices=[name for name in METHODS if name != "mask"],
        metavar="METHOD",
        help=f"one to stand beside ours; repeat. Default: all but those that take minutes ({', '.join(ASKED_FOR)})",
    )
    made.add_argument("--errors", default="mean", choices=["mean", "drop", "keep"])
    made.add_argument("--prompts", type=int, default=400, help="training prompts at most")
    made.add_argument("--steps", type=int, default=100, help="gradient steps of the mask search")
    made.add_argument(
        "--greedy", action="store_true", help="a greedy selection beside them, as a bound for small circuits"
    )
    made.add_argument("--size", type=int, action="append", default=[], help="a size beside the usual ones; repeat")
    made.add_argument("--every", action="store_true", help="a row for every size, not only the least favourable")
    options = made.parse_args()
    measure = StudySettings(errors=options.errors, prompts=96 if options.quick else options.prompts)
    rows: dict[str, list[SizeComparison]] = {}
    more: list[Row] = []
    warned: dict[str, list[str]] = {}
    with errors_in_one_line():
        for setting in settings(options):
            for name, task in setting.tasks.items():
                title = f"{setting.name} {name}"
                with refused_in_one_line(title):
                    study = Study(setting.model, setting.dictionaries, task, measure)
                    paths = searched(study, others(study, options), options.steps, options.size)
                    warned[title] = cautions(title, task)
                    rows[title], curves = compared_paths(study, paths)
                    if not options.json:
                        table(title, study, curves)
                    more += cautioned(smaller(title, study.evaluator, curves), warned[title])
    shown: list[Row] = []
    for title, found in rows.items():
        every = options.json or options.every
        closeness = (closer(title, one) for one in found) if every else nearest(title, found, bool(warned[title]))
        shown += cautioned(closeness, warned[title])
    counted = cautioned(behind(rows), [text for title in rows for text in warned[title]])
    show([*shown, *more, *counted], options.json)


def others(study: Study, options: argparse.Namespace) -> list[str]:
    """The methods to stand beside ours: those that are asked for, else all that these prompts allow but the dear."""
    left_out = {"mask", REFERENCE} if options.quick else {"mask"}
    found = options.compare or [name for name in study.methods if name not in left_out]
    return list(dict.fromkeys([*found, *(["greedy"] if options.greedy else [])]))


def compared_paths(study: Study, paths: Sequence[CircuitPath]) -> tuple[list[SizeComparison], list[Curve]]:
    """Our path, the first, beside the others at each size, and the curves of all."""
    measured = [study.evaluator.measured(path) for path in paths]
    chosen = chosen_baseline(study.choice, measured[1:])
    rows = compared(study.evaluator, measured[0], [*measured[1:], *([chosen] if chosen else [])])
    return list(rows), [study.evaluator.curve(path) for path in measured]


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
            # No rows are no finding.
            made.append(row(what, count, len(members), "rows", "0", count == 0 if members else None))
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
    say(f"\n{LEGEND}\n")


def cell(found: TaskMetrics) -> str:
    """Faithfulness with its interval and, if it is beyond the dictionaries, a mark; KL, accuracy, per-prompt error."""
    share = found.faithfulness
    kept = f"{share.value:.3f} [{share.low:.2f}, {share.high:.2f}]{found.mark}"
    return f"{kept}, {found.kl:.2f}, {percent(found.accuracy)}, {found.prompt_error.value:.2f}"


def nearest(title: str, rows: Sequence[SizeComparison], warned: bool) -> Iterator[Row]:
    """Of all rows about one baseline the one in which ours is least ahead; how many hold where that is a finding."""
    groups: dict[str, list[SizeComparison]] = {}
    for one in rows:
        groups.setdefault(one.family, []).append(one)
    for name, members in groups.items():
        worst = min(members, key=lambda one: one.difference.value)
        holding = sum(not one.significantly_behind for one in members)
        count = f"{len(members)} sizes" if warned else f"{holding} of {len(members)} sizes hold"
        what = f"{title}: {name} ({count}; {worst.size} nodes)"
        yield {**closer(title, worst), "what": what, "holds": holding == len(members)}


if __name__ == "__main__":
    main()
