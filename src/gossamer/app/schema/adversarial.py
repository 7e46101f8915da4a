"""The view of prompts that a model fails on, sought with its circuit and without."""

from gossamer.app.schema.base import Answer, IntervalShape, Number, Shape
from gossamer.app.schema.curves import CurvesData


class ArmShape(Shape):
    """One way to search (see gossamer.circuits.adversarial.results.Arm)."""

    letter: str
    name: str
    recipe: list[str]
    broken: IntervalShape
    breaks: int
    of: int
    margin: Number
    share: Number
    first: Number
    spent: int
    recipes: int


class ComparisonShape(Shape):
    """The circuit's arm beside another, in pairs."""

    letter: str
    name: str
    more: int
    fewer: int
    p: Number
    searches_more: int
    searches_fewer: int
    searches_p: Number
    ahead: bool


class DetectorShape(Shape):
    """Nodes of a circuit that act together, and the shares of roles that they read."""

    nodes: list[str]
    effect: Number
    reads: dict[str, Number]
    shortcut: bool


class RepairShape(Shape):
    """A detector put back to what it is on the clean prompt; `detector` is null for the whole circuit."""

    detector: int | None
    share: Number
    random: Number
    mended: int
    random_mended: int
    prompts: int
    moved: Number


class MarkedToken(Shape):
    """A token, and whether the other text lacks it."""

    token: str
    changed: bool


class PromptRepairShape(Shape):
    """Nodes put back in one broken prompt; `detector` is null for the whole circuit.

    `before` and `after` are the nodes' value on the clean and the edited prompt; `patched` and `random` margins with
    the nodes and with as many random active latents put back, `share` and `random_share` how far that is from the
    margin of the edited prompt (0) to that of the clean one (1).
    """

    detector: int | None
    before: Number
    after: Number
    patched: Number
    share: Number
    random: Number
    random_share: Number


class FailureShape(Shape):
    """A held-out prompt that the circuit's recipe breaks.

    `repairs` is in the order that it is shown in; null in older files, empty where the edits change the right answer.
    """

    clean: list[MarkedToken]
    edited: list[MarkedToken]
    answer: str
    said: str
    before: Number
    after: Number
    repairs: list[PromptRepairShape] | None


class WorstShape(Shape):
    """A prompt on which the circuit is far from the model."""

    how: str
    text: str
    answer: str
    incorrect: str
    kl: Number
    full: Number
    circuit: Number


class WorstCaseShape(Shape):
    """Where the circuit is furthest from the model: KL(model || circuit) in nats at the answer."""

    drawn: int
    tried: int
    ablation: str
    recipe: list[str]
    mean: Number
    p95: Number
    p99: Number
    prompts: list[WorstShape]


class AdversarialPage(Answer):
    """Whether a circuit helps to find prompts that its model fails on."""

    id: str
    file: str
    task: str
    model: str
    nodes: int
    verdict: str
    adds: bool
    settings: dict[str, Number]
    edits: int
    searches: int
    failed_before: int
    refused: int
    apart: str
    unseen_words: bool
    setup: int
    circuit: str | None
    curves: CurvesData
    arms: list[ArmShape]
    comparisons: list[ComparisonShape]
    detectors: list[DetectorShape]
    repairs: list[RepairShape]
    failures: list[FailureShape]
    worst: WorstCaseShape | None
