"""Results of a comparison of searches whose numbers are written down by hand."""

from gossamer.circuits.adversarial.results import (
    FORMAT,
    AdversarialResults,
    Arm,
    BrokenPrompt,
    Comparison,
    Detector,
    PromptRepair,
    Repair,
)
from gossamer.circuits.adversarial.worst import WorstCase
from gossamer.circuits.shortfalls import PromptTail, WorstPrompt
from gossamer.statistics import Interval

BROKEN = {"A": 1, "B": 2, "C": 0, "D": 3, "E": 1, "F": 2}

# Of the circuit, which mends the prompt, and of its detector, which does not; random latents do neither.
# The whole circuit, which is shown first, is last.
REPAIRS = (PromptRepair(0, 1.5, 0.25, -0.4, -1.3), PromptRepair(None, 1.75, -0.5, 1.25, -0.7))


def results(circuit="0" * 64, seed=0):
    """Arms that break as many of four prompts as `BROKEN` says."""
    half = Interval(0.5, 0.2, 0.8)
    arms = tuple(
        Arm(
            letter,
            ("name IO = Tom", "after S1: near\nthe <b>"),
            3,
            Interval(count / 4, count / 8, 0.9),
            tuple(place < count for place in range(4)),
            -0.5,
            count / 5,
            (half, Interval(count / 4, count / 8, 0.9)),
            20.0 + count,
            64,
            2,
        )
        for letter, count in BROKEN.items()
    )
    worst = WorstPrompt("The cats", " are", " is", 0.5, 2.0, 1.0), WorstPrompt("The dog", " is", " are", 0.9, 1.0, -1.0)
    return AdversarialResults(
        task="sva-simple",
        model="bundled:spool",
        circuit=circuit,
        nodes=12,
        settings={"budget": 32, "prompts": 4, "edits": 3, "choice": 24, "held_out": 4, "seed": seed},
        edits=70,
        searches=2,
        failed_before=1,
        refused=2,
        apart="names and templates",
        budgets=(16, 32),
        detectors=(Detector(("resid_post.1/3@S2", "resid_post.1/4@S2"), 1.5, {"S2": 0.9, "END": 0.05}, True),),
        arms=arms,
        comparisons=tuple(Comparison(one, 2, 1, 1.0, 1, 0, 0.5) for one in "ABCEF"),
        repairs=(Repair(0, 0.75, 0.1, 1, 0, 2, -1.25), Repair(None, 0.9, 0.1, 2, 0, 2, -2.0)),
        failures=(
            BrokenPrompt((" <i>", "a"), (" <i>", "b\u202e"), " Tom", " Sam", 2.0, -1.0, REPAIRS),
            BrokenPrompt((" c",), (" d",), " Sam", " Tom", 1.0, -0.5, ()),
            BrokenPrompt((" c",), (" e",), " Tom", " Sam", 1.5, -0.25),
        ),
        setup=160,
        unseen_words=True,
        worst=WorstCase(300, PromptTail(0.1, 0.3, 0.4, (worst[0],)), worst[1], ("name IO = Tom",), 640, "mean"),
    )


def write_adversarial(folder, circuit="0" * 64):
    """adversarial.json."""
    folder.mkdir(parents=True, exist_ok=True)
    return FORMAT.save(folder / "adversarial.json", results(circuit))
