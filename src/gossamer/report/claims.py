"""Sentences that say what was found, made only of numbers that are in the findings."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from gossamer.circuits.bootstrap import FEW_TEXTS
from gossamer.circuits.curve import Curve, CurvePoint
from gossamer.circuits.overlap import CORE, STABLE
from gossamer.circuits.results import Findings, NodeCard
from gossamer.circuits.task_metrics import BEYOND, TaskMetrics, budget_marks
from gossamer.display import plural
from gossamer.errors import GossamerError
from gossamer.report.text import interval, number, percent, ratio
from gossamer.statistics import Interval

LEVELS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class Landmarks:
    """The four networks every figure refers to."""

    full: TaskMetrics
    dictionaries: TaskMetrics
    circuit: TaskMetrics
    empty: TaskMetrics


def landmarks(findings: Findings) -> Landmarks | None:
    """The landmarks of the error budget, which ends in all dictionaries, circuit, empty circuit; None without a budget.

    Raises:
        GossamerError: the budget has fewer than these four rows.
    """
    if not findings.budget:
        return None
    if len(findings.budget) < 4:
        names = ", ".join(row.name for row in findings.budget)
        raise GossamerError(
            f"error budget: expected full model, ..., all dictionaries, circuit and empty circuit, found {names}; "
            "give all rows, or none"
        )
    return Landmarks(findings.budget[0], *findings.budget[-3:])


def circuit_size(findings: Findings) -> str:
    """`18 of 6,412 candidate nodes` where settings name "candidates", else `18 nodes`; of error nodes, how many."""
    candidates = findings.settings.get("candidates", "").replace(",", "")
    errors = sum(node.node.is_error for node in findings.nodes)
    among = f" ({plural(errors, 'error')})" if errors else ""
    if candidates.isdecimal():
        return f"{len(findings.nodes):,} of {int(candidates):,} candidate nodes{among}"
    return plural(len(findings.nodes), "node") + among


def shares(interval: Interval) -> str:
    """`95 % [93 %, 97 %]`."""
    return f"{percent(interval.value)} [{percent(interval.low)}, {percent(interval.high)}]"


# What the mark says of a circuit.
EXCEEDS = "more faithful than the dictionaries with all of their latents"


def mark_note(marks: Iterable[str], errors: bool) -> str | None:
    """What the mark says, where any of `marks` is one; `errors`: whether error nodes are in these circuits."""
    if not any(marks):
        return None
    others = " or from error nodes" if errors else ""
    return (
        f"{BEYOND} {EXCEEDS}: what is beyond them comes from ablating the others{others}, not from what the circuit's "
        f"{'latents' if others else 'nodes'} say"
    )


def marks(findings: Findings) -> dict[str, list[str]]:
    """What stands beside each faithfulness of the findings, by the part of the report that it stands in."""
    core, unseen = findings.core, findings.unseen
    arms = () if findings.controls is None else findings.controls.arms
    families = () if findings.families is None else findings.families.families
    return {
        "budget": [*budget_marks(findings.budget), *(case.circuit.mark for case in findings.cases)],
        "curves": [point.task_metrics.mark for curve in findings.curves for point in curve.points],
        "core": [] if core is None else [core.mark],
        "unseen": [] if unseen is None else [*budget_marks(unseen.budget), *(row.mark for row in unseen.others)],
        "families": [mark for family in families for mark in family.marks],
        "controls": [arm.mark(one) for arm in arms for one in (arm.circuit, *arm.points)],
    }


def beyond(findings: Findings) -> dict[str, str | None]:
    """What the mark says, by part of the report; None where no circuit has it there."""
    return {part: mark_note(own, has_errors(findings)) for part, own in marks(findings).items()}


def has_errors(findings: Findings) -> bool:
    """Whether nodes of the circuit are errors of dictionaries."""
    return any(node.node.is_error for node in findings.nodes)


def headline(findings: Findings) -> str:
    """What the circuit does, in one clause: the title of its drawing."""
    known, keep = landmarks(findings), "keeps" if len(findings.nodes) == 1 else "keep"
    if known is None:
        return f"{circuit_size(findings)} make up the circuit"
    kept = percent(known.circuit.faithfulness.value) + known.circuit.mark
    return f"{circuit_size(findings)} {keep} {kept} of the {findings.kept}"


def summary(findings: Findings) -> str:
    """One sentence with the interval and both ends of the scale."""
    known, keep = landmarks(findings), "keeps" if len(findings.nodes) == 1 else "keep"
    if known is None:
        return f"The circuit has {circuit_size(findings)}; how faithful it is was not measured."
    return (
        f"{circuit_size(findings)} {keep} {shares(known.circuit.faithfulness)}{known.circuit.mark} of the full "
        f"model's {findings.kept} on held-out prompts, against {percent(known.dictionaries.faithfulness.value)} with "
        f"every latent of the dictionaries and {percent(known.empty.faithfulness.value)} with none."
    )


def axis(findings: Findings) -> str:
    """The name of an axis of faithfulness."""
    if findings.distance:
        return f"faithfulness (1 - {findings.metric} / empty circuit)"
    return f"faithfulness ({findings.metric} / full model)"


def budget(findings: Findings) -> str | None:
    """What dictionaries and circuit cost in turn."""
    known = landmarks(findings)
    if known is None:
        return None
    kept, circuit = known.dictionaries.faithfulness.value, known.circuit.faithfulness.value
    first = f"The dictionaries {'cost' if kept <= 1 else 'add'} {percent(abs(1 - kept))} of the {findings.kept}"
    verb = "costs another" if circuit <= kept else "gives back"
    return f"{first}; keeping only the circuit {verb} {percent(abs(kept - circuit))}"


def level(findings: Findings) -> float | None:
    """The round faithfulness at which methods are compared: the highest that the circuit (else our curve) reaches."""
    known = landmarks(findings)
    ours = [point.task_metrics.faithfulness.value for point in findings.curves[0].points] if findings.curves else []
    best = max(ours, default=0.0)
    reached = min(best, known.circuit.faithfulness.value) if known else best
    # A circuit below all levels was chosen for its size: the curve is still compared where it is faithful.
    reached = best if reached < LEVELS[-1] else reached
    return next((value for value in LEVELS if value <= reached), None)


def smallest(curve: Curve, at_least: float) -> CurvePoint | None:
    """The smallest measured circuit of a method that is at least so faithful."""
    fitting = [point for point in curve.points if point.task_metrics.faithfulness.value >= at_least]
    return min(fitting, key=lambda point: point.size, default=None)


def curves(findings: Findings) -> str | None:
    """Who needs how many nodes for the same faithfulness, among the circuits that were measured."""
    target = level(findings)
    if target is None or not findings.curves:
        return f"No circuit of our curve reaches 10 % of the {findings.kept}" if findings.curves else None
    ours, *others = findings.curves
    own = smallest(ours, target)
    reaching = [(point.size, other.method) for other in others if (point := smallest(other, target))]
    if own is None:
        return None
    name = ours.method[:1].upper() + ours.method[1:]
    said = f"{name} keeps {percent(target)} of the {findings.kept} with {plural(own.size, 'node')}"
    if not others:
        return said
    if not reaching:
        return f"{said}; no baseline reaches it"
    size = min(needed for needed, _ in reaching)
    best = [method for needed, method in reaching if needed == size]
    several = len(best) > 1
    # Names hold commas.
    named = f'{len(best)} of {len(others)} baselines (one is "{best[0]}")' if several else f'"{best[0]}"'
    need = "need" if several else "needs"
    if size < own.size:
        return f"{said}; {named} {need} only {size:,}"
    best_named = f"the best {named}" if several else f"the best baseline, {named},"
    return f"{said}; {best_named} {need} {'as many' if size == own.size else f'{size:,}'}"


def completeness(findings: Findings) -> str | None:
    """Which of the two falls further when random parts of the circuit are removed from both, and by how much."""
    gaps = [point.model - point.circuit for point in findings.completeness.points if point.kind == "random"]
    if not gaps:
        return None
    gap = sum(gaps) / len(gaps)
    said = f"{ratio(abs(gap))} {'below' if gap > 0 else 'above'}" if ratio(abs(gap)) != "0.00" else "level with"
    return f"With random parts removed from both, the circuit ends {said} the model on average"


# Of what the circuit keeps beyond the empty one: so many edges are named as keep this share of it.
EDGE_SHARE = 0.8


def edges(findings: Findings) -> str | None:
    """How many edges keep most of what the circuit keeps, and what as many random ones keep."""
    test = findings.edge_test
    if test is None or not test.points:
        return None
    total = test.points[-1].edges
    aim = test.none.value + EDGE_SHARE * (test.every.value - test.none.value)
    enough = next((point for point in test.points if point.strongest.value >= aim), None)
    if enough is None or enough.edges == total:
        kept = test.points[-1].strongest.value
        return f"All {plural(total, 'measured edge')} keep {percent(kept)} of the {findings.kept}"
    return (
        f"The strongest {enough.edges:,} of {plural(total, 'edge')} keep {percent(enough.strongest.value)} of the "
        f"{findings.kept}, as many random ones {percent(enough.random.value)}"
    )


def groups(findings: Findings) -> str | None:
    """What the circuit keeps in fewer boxes that each move as one, beside random ones, and how few lose little."""
    test = findings.group_test
    if test is None:
        return None
    known = {point.boxes: point for point in test.points}
    shown, least = known[test.shown], known[test.within]
    fewest = plural(test.within, "box", "boxes")
    made = "" if test.made_by == "profiles" else ", made for what one number each can say,"
    return (
        f"In {plural(test.shown, 'box', 'boxes')}{made} in place of {plural(len(findings.nodes), 'node')}, each "
        f"moving as one, it keeps {percent(shown.tied.value)} in place of {percent(test.circuit.value)} of the "
        f"{findings.kept} (random groups of the same sizes {percent(shown.random.value)}); the fewest that lose at "
        f"most {percent(test.points_lost)} where they were chosen, {fewest}, keep {percent(least.tied.value)}"
    )


def core_nodes(findings: Findings) -> list[NodeCard]:
    """Nodes that at least 80 % of the searches on samples of the prompts find again."""
    return [node for node in findings.nodes if node.in_core]


def core(findings: Findings) -> str | None:
    """How many nodes most searches on samples of the prompts find again; what these keep where searches disagree."""
    sampled = next((overlap for overlap in findings.stability if overlap.kind == "bootstrap"), None)
    known = [node for node in findings.nodes if math.isfinite(node.recurrence)]
    if sampled is None or not known:
        return None
    nodes = f"{len(core_nodes(findings))} of {plural(len(known), 'node')}"
    samples = plural(len(sampled.labels) - 1, "sample")
    said = f"{nodes} are in the circuits of at least {percent(CORE)} of {samples} and make up the core"
    if findings.core is not None:
        alone = findings.core
        said += (
            f", which alone keeps {shares(alone.faithfulness)}{alone.mark} of the {findings.kept} (accuracy "
            f"{percent(alone.accuracy)}, KL {number(alone.kl)} nats, per-prompt error "
            f"{ratio(alone.prompt_error.value)})"
        )
    mean = sampled.agreement
    if mean is not None and mean.value < STABLE:
        said += (
            f"; circuits agree less than the {ratio(STABLE)} of a stable one, so that only the core should be relied on"
            + ("" if findings.families else " (--families searches families of the prompts apart)")
        )
    return said


def stability(findings: Findings) -> str | None:
    """Mean agreement of searches that could have come out differently, with its jackknife interval.

    The sizes of one path nest and do not count.
    """
    # The first of the circuits that samples are compared with is that of all prompts.
    between = {
        "bootstrap": lambda circuits: f"all prompts and {plural(circuits - 1, 'sample')} of them",
        "split": lambda circuits: f"{circuits} halves of the training prompts",
    }
    said = [
        f"{interval(mean)} between {between[overlap.kind](len(overlap.labels))}"
        for overlap in findings.stability
        if overlap.kind in between and (mean := overlap.agreement) is not None
    ]
    if not said:
        return None
    ranked = next((one.agreement for one in findings.stability if one.kind == "gradients"), None)
    beside = (
        "" if ranked is None else f"; as many nodes by attribution patching on the same samples, {interval(ranked)}"
    )
    return "Searches agree with a mean Jaccard index of " + ", ".join(said) + beside


def against_controls(findings: Findings) -> str | None:
    """By how much the circuit does better than the best control, claim by claim, and where it does not."""
    found = findings.controls
    if found is None:
        return None
    shown, level = (
        [f"{gap.claim} by {_gap(gap.gap)} over {gap.best}" for gap in found.gaps if gap.shown == above]
        for above in (True, False)
    )
    names = ", ".join(arm.name for arm in found.controls)
    said = f"Against the same search in {plural(len(found.controls), 'control')} ({names}) the circuit is "
    if shown:
        said += f"better: {'; '.join(shown)}"
    if level:
        said += f"{'; it is ' if shown else ''}not shown to be better: {'; '.join(level)}"
    return said


def explained(findings: Findings) -> str | None:
    """circuit-tracer's two scores of the circuit's attribution graphs."""
    found = findings.explained
    if found is None:
        return None
    return (
        f"In attribution graphs of {plural(found.prompts, 'held-out prompt')} the replacement score is "
        f"{interval(found.replacement)}, the completeness score {interval(found.completeness)}"
    )


def unseen(findings: Findings) -> str | None:
    """What the circuit, its dictionaries and the other methods keep on templates that no search saw."""
    found = findings.unseen
    if found is None:
        return None
    rows, names = found.budget, f"{plural(len(found.templates), 'template')} that no search saw"
    lacking = f"; {plural(found.lacking, 'node')} of it at roles that they lack" if found.lacking else ""
    others = "".join(f", {row.name} {percent(row.faithfulness.value)}" for row in found.others)
    return (
        f"On {plural(found.prompts, 'held-out prompt')} of {names} "
        f"({', '.join(found.templates)}) the circuit keeps {shares(rows[-2].faithfulness)}{rows[-2].mark} "
        f"(KL {number(rows[-2].kl)}{lacking}), all latents {percent(rows[-3].faithfulness.value)}, no node "
        f"{percent(rows[-1].faithfulness.value)}"
        + (f"; of its size{others[1:]}" if others else "")
        + _few(found.prompts)
    )


def families(findings: Findings) -> str | None:
    """What each family's circuit keeps of its own prompts and of the others', and how alike the circuits are."""
    found = findings.families
    if found is None:
        return None
    each = [
        f"{family.name!r} ({plural(len(family.nodes), 'node')}): {shares(family.own.faithfulness)}{own}, "
        f"of the others' {percent(family.others.faithfulness.value)}{others}; the circuit of all prompts "
        f"{percent(family.whole.faithfulness.value)}{whole}; searches on its samples agree "
        f"{'unknown' if family.agreement is None else interval(family.agreement)}"
        for family in found.families
        for own, others, whole in [family.marks]
    ]
    fewest = min(family.held_out for family in found.families)
    return (
        f"By {found.by} {len(found.families)} families; of its own held-out prompts each keeps: "
        f"{' | '.join(each)}{_few(fewest)}"
    )


def few_prompts(prompts: int) -> str:
    """What is to be said of intervals over so few prompts; nothing where they are enough."""
    return f"intervals over fewer than {FEW_TEXTS} prompts say little" if prompts < FEW_TEXTS else ""


def _few(prompts: int) -> str:
    said = few_prompts(prompts)
    return f"; {said}" if said else ""


def _gap(gap: Interval) -> str:
    return f"{number(gap.value, signed=True)} [{number(gap.low, signed=True)}, {number(gap.high, signed=True)}]"
