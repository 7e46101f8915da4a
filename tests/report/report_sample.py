"""Findings as a real run would give them, made up from a seed: no model is run."""

import math
import random
from dataclasses import replace

from gossamer.circuits.circuit_numbers import CircuitNumbers
from gossamer.circuits.controls import TREATED, ControlArm, ControlGap, Controls
from gossamer.circuits.curve import Curve, CurvePoint
from gossamer.circuits.edge import Edge, EdgePoint, EdgeTest, HeadShare
from gossamer.circuits.families.results import Families, PromptFamily
from gossamer.circuits.group import GroupPoint, GroupTest, NodeGroup
from gossamer.circuits.overlap import Overlap
from gossamer.circuits.results import Completeness, Findings, KnockoutPoint, NodeCard, PromptCase, PromptView
from gossamer.circuits.shortfalls import ExplainedInputs, PromptTail, RestoredError, UnseenTemplates, WorstPrompt
from gossamer.circuits.task_metrics import TaskMetrics
from gossamer.features import Feature, FeatureCard, FeatureExample, Histogram
from gossamer.model import Site
from gossamer.statistics import Interval

SITES = tuple(Site("resid_post", layer) for layer in (7, 14, 21, 40))
ROLES = ("gap1", "IO", "gap2", "S1", "gap3", "PLACE", "gap4", "S2", "gap5", "OBJECT", "END")
PROMPT = PromptView(
    tokens=(
        "<bos>", "Then", ",", " Mary", " and", " John", " had", " a", " lot", " of", " fun", " at", " the", " school",
        ".", " John", " gave", " a", " ring", " to",
    ),
    roles=(
        None, "gap1", "gap1", "IO", "gap2", "S1", *["gap3"] * 7, "PLACE", "gap4", "S2", "gap5", "gap5", "OBJECT", "END",
    ),
    counterfactual=(
        "<bos>", "Then", ",", " Peter", " and", " Alice", " had", " a", " lot", " of", " fun", " at", " the", " school",
        ".", " Robert", " gave", " a", " ring", " to",
    ),
    answer=" Mary",
    incorrect=" John",
)  # fmt: skip
METHODS = (
    ("gossamer mask", 42.0, 9.0, 1.6),
    ("reference recipe", 913.0, 14.0, 1.5),
    ("IG, 10 steps", 212.0, 34.0, 1.25),
    ("attribution patching", 21.0, 60.0, 1.1),
    ("activation difference", 4.1, 130.0, 1.0),
    ("random", 0.01, 900.0, 1.3),
)
SIZES = (500, 350, 250, 180, 130, 100, 75, 55, 40, 30, 20, 15, 10, 7, 5)
WORDS = (
    " Mary", " John", " she", " her", " to", " gave", "Mary", " recipient", " themselves", "\n", "  ", "\t", " §",
    "ing", "<script>alert(1)</script>", " &amp;", '"', "'", " 中文", "\u202eabc", "\ufffd", " $x_1$", "\x07", " naïve",
    "\u0301",
)  # fmt: skip
CEILING, EMPTY = 0.912, 0.021


def task_metrics(name: str, faithfulness: float, width: float = 0.03) -> TaskMetrics:
    """A network of the given faithfulness, everything else in keeping with it."""
    around = Interval(faithfulness, faithfulness - width, faithfulness + 0.9 * width)
    return TaskMetrics(
        name,
        Interval(3.9 * around.value, 3.9 * around.low, 3.9 * around.high),
        around,
        Interval(around.value / CEILING, around.low / CEILING, around.high / CEILING),
        accuracy=0.5 + 0.49 * max(0.0, min(1.0, faithfulness)) ** 0.4,
        top1=0.99 * max(0.0, min(1.0, faithfulness)) ** 0.6,
        kl=max(0.0, 1.9 * (1 - faithfulness) ** 2),
        answer_kl=max(0.0, 0.7 * (1 - faithfulness) ** 2),
        prompt_error=Interval(abs(1 - faithfulness) + 0.04, abs(1 - faithfulness), abs(1 - faithfulness) + 0.08),
    )


def curve(method: str, seconds: float, half: float, steepness: float, generator: random.Random) -> Curve:
    """A saturating curve that is half way up at `half` nodes."""
    points = []
    for size in SIZES:
        value = EMPTY + (CEILING - EMPTY) * size**steepness / (size**steepness + half**steepness)
        value += generator.uniform(-0.025, 0.025)
        points.append(CurvePoint(size, size - size // 9, task_metrics(method, value, 0.05)))
    cpr = sum(point.task_metrics.faithfulness.value for point in points) / len(points)
    return Curve(method, tuple(points), seconds, cpr, 1 - cpr)


def node(index: int, generator: random.Random, effect: float) -> NodeCard:
    """One node; late sites sit at the end of the prompt."""
    depth = min(3, int(generator.random() * 5))
    site = SITES[depth]
    role = (
        "END" if depth == 3 or generator.random() < 0.2 else generator.choice(("IO", "S1", "S2", "S2", "gap4", "PLACE"))
    )
    words = generator.sample(WORDS, 12)
    at = PROMPT.roles.index(role)
    examples = tuple(
        _example(PROMPT.tokens if k else (*PROMPT.tokens[:-1], "<script>alert(1)</script>\n"), at, 6.0 / (k + 1))
        for k in range(4)
    )
    card = FeatureCard(
        Feature(site, generator.randrange(16384)),
        "gemma-2-9b",
        tokens=4000,
        active=40,
        mean=2.0,
        std=1.0,
        maximum=6.0,
        histogram=Histogram((1.0, 2.0, 4.0, 8.0), (10, 20, 10)),
        promotes=tuple((word, 1.4 - 0.1 * k) for k, word in enumerate(words[:6])),
        suppresses=tuple((word, -1.2 + 0.1 * k) for k, word in enumerate(words[6:])),
        examples=examples,
        link=f"https://www.neuronpedia.org/gemma-2-9b/7-gemmascope-res-16k/{index}" if index % 2 else None,
    )
    return NodeCard(
        card,
        role,
        effect=effect,
        activation=generator.uniform(0.5, 9),
        ablated=generator.uniform(0, 0.9),
        direct=generator.uniform(-0.4, 1.2) if role == "END" else 0.0,
        generic=("subject_verb",) if index % 7 == 3 else (),
        recurrence=(1.0, 1.0, 2 / 3, 0.0)[index % 4],
    )


def _example(tokens: tuple[str, ...], at: int, activation: float) -> FeatureExample:
    return FeatureExample(tokens, tuple(activation if place == at else 0.0 for place in range(len(tokens))), at, 0)


def overlap(kind: str, labels: tuple[str, ...], sizes: tuple[int, ...], like: float) -> Overlap:
    """Agreement that falls with distance."""
    n = range(len(labels))
    jaccard = tuple(tuple(like ** abs(i - j) for j in n) for i in n)
    containment = tuple(tuple(1.0 if i == j else like ** (0.3 * abs(i - j)) for j in n) for i in n)
    return Overlap(kind, labels, sizes, jaccard, containment)


def edges(nodes: tuple[NodeCard, ...], generator: random.Random) -> tuple[Edge, ...]:
    """Up to four edges into each node from earlier sites, and six into the metric, with heads."""
    found = []
    targets: list[NodeCard | None] = [*nodes, None]
    for target in targets:
        earlier = [node for node in nodes if target is None or node.site < target.site]
        for source in generator.sample(earlier, min(len(earlier), 4 if target else 6)):
            direct, *carried = (generator.uniform(-0.3, 0.6) for _ in range(3))
            heads = tuple(HeadShare(source.site.layer + 1 + k, 3 - k, part) for k, part in enumerate(carried))
            end = "logit_diff" if target is None else target.node
            weight = direct + sum(carried)
            found.append(Edge(source.node, end, weight, 0.3 * weight, direct, heads))
    return tuple(found)


def edge_test() -> EdgeTest:
    """Strongest edges that keep nearly everything by half of them, random ones that keep next to nothing."""
    points = []
    for place, count in enumerate((1, 3, 7, 15, 31, 62)):
        strong, chance = 0.85 * min(1, (place + 1) / 5), 0.02 + 0.84 * (place / 5) ** 4
        drawn = (chance - 0.01, chance, chance + 0.01)
        points.append(EdgePoint(count, _around(strong), _around(chance), drawn))
    return EdgeTest(tuple(points), 32, 128, _around(EMPTY), _around(0.871))


def tail() -> PromptTail:
    """Two prompts that hold what a page must not take for markup."""
    worst = (
        WorstPrompt(
            "Then, Mary and <b>John</b> went to the & store.\n John gave a drink to", " Mary", " John", 2.31, 4.2, -0.8
        ),
        WorstPrompt("Then, Ann and Tim went to the park. Ann gave a ball to", " Tim", " Ann", 1.7, 3.1, 0.4),
    )
    return PromptTail(0.31, 1.52, 2.31, worst)


def groups(nodes: tuple[NodeCard, ...]) -> tuple[NodeGroup, ...]:
    """All nodes of a site as one group, where there are two or more; one of them with a hostile name."""
    at = {site: sorted((one for one in nodes if one.site == site), key=lambda one: -abs(one.effect)) for site in SITES}
    return tuple(
        NodeGroup(tuple(one.node for one in here), "<b>names\u202e" if site == SITES[0] else f"group of {site}", 0.25)
        for site, here in at.items()
        if len(here) > 1
    )


def group_test(n_nodes: int) -> GroupTest:
    """Tied groups that lose little, and random ones that lose much."""
    counts = (n_nodes, n_nodes // 2, n_nodes // 5)
    points = [
        GroupPoint(boxes, _around(0.871 - 0.01 * k), _around(0.871 - 0.2 * k), (0.87 - 0.2 * k,))
        for k, boxes in enumerate(counts)
    ]
    return GroupTest(_around(0.871), tuple(points), n_nodes // 5, n_nodes // 2, 0.02, 28, 64)


def restored() -> tuple[RestoredError, ...]:
    """Every site and role, and all of either; the model itself where errors are exact everywhere."""
    found = []
    for depth, site in enumerate((*SITES, None)):
        for place, role in enumerate((*ROLES, None)):
            value = 1.0 if site is None and role is None else CEILING + 0.004 * depth + 0.005 * place
            found.append(RestoredError(site, role, _around(value), 0.2 * (1 - value)))
    return tuple(found)


def families() -> Families:
    """Two families whose circuits share little, one of them of a name that could be markup."""

    def family(name: str, own: float, others: float) -> PromptFamily:
        one, two, whole = (
            CircuitNumbers(18, _around(value), _around(1 - value), 0.9, 0.1) for value in (own, others, 0.7)
        )
        return PromptFamily(name, 40, 20, (), 0.3, _around(0.82), one, two, whole, 0.93, 0.95)

    alike = overlap("family", ("all prompts", "ABBA", "<b>BABA</b>"), (18, 18, 18), 0.3)
    return Families("case", 18, (family("ABBA", 0.91, 0.42), family("<b>BABA</b>", 0.88, 0.37)), alike, ("odd",))


def controls() -> Controls:
    """Two controls: one that keeps nothing, one that comes as close in one number and not in another."""

    def arm(name: str, kept: float, circuit: float) -> ControlArm:
        def at(size: int, value: float) -> CircuitNumbers:
            return CircuitNumbers(size, _around(value), _around(abs(1 - value) + 0.04), 0.9, 0.2 * abs(1 - value))

        return ControlArm(name, at(6412, kept), at(18, circuit), (at(40, circuit + 0.02), at(18, circuit)))

    gaps = (
        ControlGap("distance of faithfulness from 1", 0.129, 0.12, "frozen-decoder", Interval(-0.009, -0.05, 0.03)),
        ControlGap("KL to the full model, nats", 0.03, 0.21, "frozen-decoder", Interval(0.18, 0.11, 0.24)),
    )
    others = (arm("shuffled-latents", 0.03, 0.1), arm("frozen-decoder", 0.8, 0.88))
    return Controls(18, arm(TREATED, CEILING, 0.871), others, gaps)


def unseen() -> UnseenTemplates:
    """Two templates, one of a name that could be markup; the circuit keeps less there."""
    budget = (
        task_metrics("full model", 1.0, 0.0),
        task_metrics("+ all dictionaries", CEILING, 0.02),
        task_metrics("circuit", 0.612, 0.05),
        task_metrics("empty circuit", EMPTY, 0.012),
    )
    return UnseenTemplates(("gave", "<b>met"), 44, 3, budget, (task_metrics("integrated gradients", 0.571, 0.04),))


def _around(value: float) -> Interval:
    return Interval(value, value - 0.03, value + 0.02)


def findings(n_nodes: int = 18, seed: int = 0) -> Findings:
    """Findings with `n_nodes` nodes and six methods."""
    generator = random.Random(seed)
    effects = [0.31 * math.exp(-3.0 * k / n_nodes) - (0.03 if k % 6 == 5 else 0.0) for k in range(n_nodes)]
    nodes = tuple(node(k, generator, effect) for k, effect in enumerate(effects))
    knockouts = [KnockoutPoint("none", 0, 0.871, CEILING)]
    for k in range(1, 13):
        left = 1 - k / 13
        knockouts.append(KnockoutPoint("random", k, 0.85 * left**2 + generator.uniform(-0.03, 0.03), 0.9 * left**1.4))
    knockouts.append(KnockoutPoint("whole circuit", n_nodes, EMPTY, 0.042))
    return Findings(
        task="ioi/baba",
        model="google/gemma-2-9b",
        sites=SITES,
        roles=ROLES,
        prompt=PROMPT,
        budget=(
            task_metrics("full model", 1.0, 0.0),
            *(task_metrics(f"+ {site} alone", 0.985 - 0.011 * k, 0.01) for k, site in enumerate(SITES)),
            task_metrics("+ all dictionaries", CEILING, 0.02),
            task_metrics("circuit", 0.871, 0.03),
            task_metrics("empty circuit", EMPTY, 0.012),
        ),
        curves=tuple(curve(*method, generator) for method in METHODS),
        completeness=Completeness(task_metrics("circuit knocked out", 0.042, 0.02), tuple(knockouts)),
        stability=(
            overlap("bootstrap", ("all prompts", "sample 1", "sample 2", "sample 3"), (20, 20, 20, 20), 0.84),
            overlap("split", ("half 1", "half 2"), (20, 20), 0.71),
            overlap("size", ("7", "10", "15", "20", "30", "40"), (7, 10, 15, 20, 30, 40), 0.66),
        ),
        nodes=nodes,
        cases=(
            PromptCase("ABBA", 70, task_metrics("full model", 1.0, 0.0), task_metrics("circuit", 0.961, 0.04)),
            PromptCase("BABA", 58, task_metrics("full model", 1.0, 0.0), task_metrics("circuit", 0.762, 0.05)),
        ),
        settings={
            "seed": "0",
            "dtype": "bfloat16",
            "ablation": "mean over counterfactual prompts by (template, role, offset)",
            "errors": "none",
            "candidates": "6412",
            "dictionaries": "google/gemma-scope-9b-pt-res, 16k latents: " + ", ".join(map(str, SITES)),
            "versions": "gossamer 0.1.0, torch 2.13.0, transformers 5.23.0",
        },
        edges=edges(nodes, random.Random(seed)),
        edge_test=edge_test(),
        groups=groups(nodes),
        group_test=group_test(n_nodes) if n_nodes > 9 else None,
        tail=tail(),
        restored=restored(),
        core=task_metrics("core", 0.604, 0.05),
        controls=controls(),
        families=families(),
        unseen=unseen(),
        explained=ExplainedInputs(_around(0.21), _around(0.61), 16),
        warnings=("resid_post.40: measured L0 131 is 2.3 times the claimed 57; is the input scaled as in training?",),
    )


def bare() -> Findings:
    """As little as a finding can hold, with every number that may be missing missing."""
    lost = replace(
        node(0, random.Random(1), math.nan), activation=math.nan, ablated=math.nan, direct=math.nan, recurrence=math.nan
    )
    gone = Interval(math.nan, math.nan, math.nan)
    unknown = TaskMetrics("circuit knocked out", gone, gone, gone, math.nan, math.nan, math.nan, gone)
    whole = findings(1)
    return replace(
        whole,
        budget=(),
        curves=(),
        completeness=Completeness(unknown, ()),
        stability=(),
        cases=(),
        nodes=(replace(lost, card=replace(lost.card, promotes=(), suppresses=(), examples=())),),
        edges=(),
        edge_test=None,
        groups=(),
        group_test=None,
        tail=None,
        restored=(),
        core=None,
        controls=None,
        families=None,
        unseen=None,
        explained=None,
        settings={},
        warnings=(),
    )
