"""A study of circuits of several tasks as tables, one page and a picture: claims counted over all of its rows."""

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path

from gossamer import files
from gossamer.circuits.curve import SizeComparison, best_baseline
from gossamer.circuits.results import Findings
from gossamer.circuits.shortfalls import UnseenTemplates
from gossamer.circuits.task_metrics import BEYOND, TaskMetrics
from gossamer.circuits.task_study import HALF, StudiedTask, TaskStudy, needed_nodes
from gossamer.display import plural
from gossamer.report import claims, html, style
from gossamer.report.coding import table
from gossamer.report.figures.task_study import task_study_figure
from gossamer.report.page import MAX_CASES
from gossamer.report.text import MISSING, number, percent
from gossamer.statistics import Interval

# A row of closeness is to be at least level with the best baseline in so many of all.
AHEAD = 0.95
KEPT, BESIDE = "What the circuits keep", "Beside the baselines, at every size"
RELIED_ON = "How stable the circuits are, and the scores of their graphs"
CASES = f"Each kind of prompts alone, of many the {MAX_CASES} most frequent"
EACH = "Every method in the mask's place"
UNSEEN = "On templates that no search saw"


def overview(study: TaskStudy) -> list[list[str]]:
    """What model, dictionaries and circuit do on the held-out prompts of each task; names of the columns first."""
    head = ["task", "held out", "model", "dictionaries", "their KL", "nodes", "circuit", "its KL", "per-prompt error",
            "accuracy", "empty", "KL of the empty"]  # fmt: skip
    return [head, *(_overview(task, study.findings[task.name]) for task in study.tasks if not task.refused)]


def _overview(task: StudiedTask, found: Findings) -> list[str]:
    full, dictionaries, circuit, empty = found.budget[0], *found.budget[-3:]
    return [
        task.name,
        str(task.held_out),
        f"{number(full.metric.value)}, {percent(full.accuracy)}",
        f"{dictionaries.faithfulness.value:.3f}",
        f"{dictionaries.kl:.2f}",
        f"{len(found.nodes):,} of {found.settings['candidates']}{_errors(found)}",
        _faithfulness(circuit),
        f"{circuit.kl:.2f}",
        f"{circuit.prompt_error.value:.2f}",
        percent(circuit.accuracy),
        f"{empty.faithfulness.value:.3f}",
        f"{empty.kl:.2f}",
    ]


def relied_on(study: TaskStudy) -> list[list[str]]:
    """How far each task's circuit can be relied on, as far as that was measured; names of the columns first."""
    return [
        ["task", "agreement", "of gradients", "core", "replacement", "completeness"],
        *(
            [
                name,
                _agreement(found, "bootstrap"),
                _agreement(found, "gradients"),
                MISSING if found.core is None else _core(found),
                *_explained(found),
            ]
            for name, found in study.findings.items()
        ),
    ]


def _explained(found: Findings) -> list[str]:
    """circuit-tracer's two scores of the circuit's graphs."""
    known = found.explained
    return [MISSING] * 2 if known is None else [_between(known.replacement), _between(known.completeness)]


def _between(found: Interval) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _agreement(found: Findings, kind: str) -> str:
    """What searches, or rankings, on samples of the prompts agree in."""
    sampled = next((one.agreement for one in found.stability if one.kind == kind), None)
    return MISSING if sampled is None else _between(sampled)


def _errors(found: Findings) -> str:
    """How many of the circuit's nodes are errors of dictionaries, where any is."""
    errors = sum(node.node.is_error for node in found.nodes)
    return f" ({plural(errors, 'error')})" if errors else ""


def _core(found: Findings) -> str:
    """How many nodes the core has, and what it keeps alone."""
    kept = 0.0 if found.core is None else found.core.faithfulness.value
    return f"{sum(node.in_core for node in found.nodes)} ({kept:.3f})"


def counted(study: TaskStudy) -> list[list[str]]:
    """In how many rows ours is further from the model than a baseline: by point value, and beyond the interval."""
    best = [row for _, row in study.rows]
    groups = {"the best at that size": best, **study.by_family}
    return [["beside", "rows", "behind by point value", "behind beyond the interval"],
            *([name, *_behind(rows)] for name, rows in groups.items())]  # fmt: skip


def _behind(rows: Sequence[SizeComparison]) -> list[str]:
    by_value, by_interval = sum(row.behind for row in rows), sum(row.significantly_behind for row in rows)
    return [str(len(rows)), _share(by_value, len(rows)), str(by_interval)]


def _share(count: int, rows: int) -> str:
    return f"{count} ({count / max(rows, 1):.0%})"


def each_method(study: TaskStudy) -> list[list[str]]:
    """Every method in the mask's place: in how many rows it is behind the best of all others, by point value."""
    return [["any one method", "rows", "behind the best of all others"],
            *([one.method, str(one.rows), _share(one.behind, one.rows)] for one in study.by_method)]  # fmt: skip


def needed(study: TaskStudy, share: float = 0.95) -> list[list[str]]:
    """Nodes at which circuits keep `share` of what the dictionaries keep."""
    rows = [["task", "mask", "integrated gradients", f"at most {HALF:.0%} of these"]]
    for name, found in study.findings.items():
        ours, theirs = needed_nodes(found, share)
        # Gradients that were not run, or never keep so much, have no half.
        holds = MISSING if theirs is None else "yes" if ours is not None and ours <= HALF * theirs else "no"
        rows.append([name, *(MISSING if one is None else f"{one:,}" for one in (ours, theirs)), holds])
    return rows


def by_size(found: Findings) -> list[list[str]]:
    """Ours beside the baseline that does best at each size, by falling size."""
    points = {point.size: point.task_metrics for point in found.curves[0].points}
    curves = {curve.method: {point.size: point.task_metrics for point in curve.points} for curve in found.curves[1:]}
    beside = ["KL", "per-prompt error", "accuracy"]
    rows = [["nodes", "mask", *beside, "best baseline", "its faithfulness", *beside, "difference in closeness"]]
    for row in best_baseline(found.comparisons):
        ours, theirs = points[row.nodes], curves[row.method][row.size]
        size = f"{row.size:,}" if row.size == row.nodes else f"{row.size:,} ({row.nodes:,})"
        gap = row.difference
        said = f"{gap.value:+.3f} [{gap.low:+.2f}, {gap.high:+.2f}]{' behind' if row.behind else ''}"
        rows.append([size, *_kept(ours), row.method, *_kept(theirs), said])
    return rows


def _kept(one: TaskMetrics) -> list[str]:
    return [_faithfulness(one), f"{one.kl:.2f}", f"{one.prompt_error.value:.2f}", percent(one.accuracy)]


def _faithfulness(one: TaskMetrics) -> str:
    share = one.faithfulness
    return f"{share.value:.3f} [{share.low:.2f}, {share.high:.2f}]{one.mark}"


def by_case(study: TaskStudy) -> list[list[str]]:
    """What the circuits keep of each kind of held-out prompts, of tasks that have several kinds."""
    rows = [["task", "case", "held out", "circuit", "KL", "per-prompt error", "accuracy", "accuracy of the model"]]
    for name, found in study.findings.items():
        for case in found.cases[:MAX_CASES] if len(found.cases) > 1 else ():
            kept = _kept(case.circuit)
            rows.append([name, case.name or MISSING, str(case.prompts), *kept, percent(case.full.accuracy)])
    return rows


def unseen(study: TaskStudy) -> list[list[str]]:
    """What is kept on templates that were set aside, of tasks that have some; names of the columns first."""
    rows = [["task", "unseen templates", "held out", "dictionaries, KL", "circuit, KL", "best baseline",
             "its faithfulness, KL", "empty, KL"]]  # fmt: skip
    for name, found in study.findings.items():
        if (here := found.unseen) is not None:
            dictionaries, circuit, empty = here.budget[-3:]
            best = here.best_other
            rival = [MISSING] * 2 if best is None else [best.name, _with_kl(best)]
            kept = [_with_kl(dictionaries), _with_kl(circuit), *rival, _with_kl(empty)]
            rows.append([name, ", ".join(here.templates), str(here.prompts), *kept])
    return rows


def _with_kl(one: TaskMetrics) -> str:
    return f"{_faithfulness(one)}, {one.kl:.2f}"


def headline(study: TaskStudy) -> str:
    """The count that decides, in one sentence."""
    rows = [row for _, row in study.rows]
    if not rows:
        return "No circuit was compared with a baseline."
    level = sum(not row.behind for row in rows)
    worse = sum(row.significantly_behind for row in rows)
    return (
        f"In {level} of {len(rows)} rows (a task and a size each) the mask is at least as close to the model as the "
        f"best baseline, by point value ({level / len(rows):.0%}; {AHEAD:.0%} are asked for); in {worse} it is behind "
        "beyond the interval."
    )


def notes(study: TaskStudy) -> list[str]:
    """What was refused or missed, and what a reader of each task's numbers must see, each with the task's name."""
    said = []
    for task in study.tasks:
        found = study.findings.get(task.name)
        said += [f"{task.name}: {one}" for one in (task.refused, task.missed) if one]
        said += [f"{task.name}: {warning}" for warning in (found.warnings if found else ())]
        if found and found.unseen:
            said += [f"{task.name}: {one}" for one in _unseen_notes(found.unseen)]
    return said


def _unseen_notes(found: UnseenTemplates) -> Iterator[str]:
    """How far what is said of unseen templates can be relied on."""
    here = f"{plural(found.prompts, 'held-out prompt')} of unseen templates"
    if few := claims.few_prompts(found.prompts):
        yield f"{here}: {few}"
    if found.lacking:
        yield f"{here}: nodes at roles that these templates lack, which do nothing there: {found.lacking:,}"


def sentences(study: TaskStudy) -> Iterator[str]:
    """The count that decides, then the notes."""
    yield headline(study)
    yield from notes(study)


def sections(study: TaskStudy) -> Iterator[tuple[str, list[list[str]]]]:
    """A title and a table, the first row its head, as far as something was found."""
    if study.findings:
        yield KEPT, overview(study)
        yield RELIED_ON, relied_on(study)
        if len(cases := by_case(study)) > 1:
            yield CASES, cases
        if len(apart := unseen(study)) > 1:
            yield UNSEEN, apart
        yield BESIDE, counted(study)
        yield EACH, each_method(study)
        yield "Nodes that keep 95 % of what the dictionaries keep", needed(study)
    for name, found in study.findings.items():
        yield f"{name}: every size", by_size(found)


def task_study_text(study: TaskStudy) -> str:
    """The tables as Markdown."""
    parts = [headline(study), table(overview(study)), f"{RELIED_ON}:", table(relied_on(study)), LEGEND]
    parts += [f"- {note}" for note in notes(study)]
    if len(cases := by_case(study)) > 1:
        parts += [f"{CASES}:", table(cases)]
    if len(apart := unseen(study)) > 1:
        parts += [f"{UNSEEN}:", table(apart), SET_ASIDE]
    parts += [table(counted(study)), table(each_method(study)), YARDSTICK, table(needed(study))]
    for name, found in study.findings.items():
        parts += [f"### {name}", table(by_size(found))]
    return "\n\n".join(parts) + "\n"


HELD_OUT = "Held-out prompts; intervals are of 95 %, over texts."
MARKED = f"{BEYOND} more than the dictionaries keep with all of their latents."
RELIED_ON_NOTE = (
    "Agreement: mean Jaccard index of searches on bootstrap samples of the training prompts; of gradients: as "
    "many nodes by attribution patching on the same samples; core: nodes that at least 80 % of the searches find, and "
    "what these keep alone; replacement and completeness: circuit-tracer's scores of the circuit's graphs."
)
LEGEND = f"{HELD_OUT} {MARKED} {RELIED_ON_NOTE}"

SET_ASIDE = (
    "Held-out prompts of templates that were set aside before any search. An ablated latent goes to its mean over the "
    "counterfactuals of the template's own training prompts: nothing else is read of them. Baselines have at most as "
    f"many nodes as the circuit; the best of them is chosen on these very prompts. {BEYOND} as in the circuits' table."
)

YARDSTICK = (
    "The best of all others is chosen, at each size, on the test prompts themselves. Where methods are equally good "
    "each is behind it in nearly all rows: the mask's share is to be read beside the others'."
)


COUNTED = (
    "A row is a task and a size. Closeness is 1 − |1 − faithfulness|; the interval is of the paired difference over "
    "texts."
)


def task_study_page(study: TaskStudy) -> str:
    """The page as HTML text, nothing fetched from anywhere; it links to the tasks' reports beside it."""
    chart = style.svg(style.settled(task_study_figure(study))).encode()
    return (
        html.environment()
        .get_template("task_study/page.html.j2")
        .render(
            study=study,
            headline=headline(study),
            overview=overview(study),
            relied_on=relied_on(study),
            relied_on_title=RELIED_ON,
            folders={task.name: task.folder for task in study.tasks},
            legend=LEGEND,
            counted=counted(study),
            counted_note=COUNTED,
            each_method=each_method(study),
            yardstick=YARDSTICK,
            needed=needed(study),
            notes=notes(study),
            cases=by_case(study),
            cases_title=CASES,
            unseen=unseen(study),
            unseen_title=UNSEEN,
            set_aside=SET_ASIDE,
            sizes={name: by_size(found) for name, found in study.findings.items()},
            chart="data:image/svg+xml;base64," + base64.b64encode(chart).decode(),
        )
    )


def write_task_study(study: TaskStudy, folder: str | Path) -> Path:
    """Write study.html, tables.md, study.png and study.svg beside study.json; each atomically. Returns the page's path.

    Raises:
        GossamerError: nothing was found for any task, or a folder that cannot be written.
    """
    target = Path(folder)
    figure = style.settled(task_study_figure(study))
    files.write_text(target / "tables.md", task_study_text(study))
    files.write_text(target / "study.svg", style.svg(figure))
    style.save_png(figure, target / "study.png")
    return files.write_text(target / "study.html", task_study_page(study))
