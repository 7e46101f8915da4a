"""A comparison of searches for failures as one HTML page: what was broken, by what, and what the circuit was worth."""

from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path

from gossamer import files
from gossamer.circuits.adversarial.results import CIRCUIT, NAMES, AdversarialResults, Arm, BrokenPrompt, Detector
from gossamer.circuits.adversarial.seeds import SeedStudy
from gossamer.display import plural
from gossamer.report import html, text
from gossamer.report.curves_data import budget_data

# Detectors that the page lists even where nothing names them.
_DETECTORS = 12
_COLUMNS = (
    *("arm", "held-out broken", "95 %", "strictly", "mean of searches", "passes to success", "with the circuit's cost"),
    *("tokens changed", "nats a token", "recipe"),
)
# Of the failures' closer look: names of the columns, and the fields of an acceptance.
_LOOKS = {
    "broken": "broken",
    "margin < -1": "below",
    "in float32": "in_float32",
    "wrong in the continuation": "continued",
    "with dictionaries": "with_dictionaries",
    "all of these": "stand",
    "circuit lowered": "lowered",
}


def arm_rows(found: AdversarialResults) -> list[tuple[str, ...]]:
    """The arms side by side, with the names of the columns first."""
    return [_COLUMNS, *(_row(found, one) for one in found.arms)]


def _row(found: AdversarialResults, arm: Arm) -> tuple[str, ...]:
    charged = found.first_charged(arm.letter)
    return (
        f"{arm.letter} {arm.name}",
        f"{sum(arm.held_out)} of {len(arm.held_out)}",
        f"{arm.broken.low:.0%} to {arm.broken.high:.0%}",
        "" if arm.accepted is None else str(arm.accepted.stand),
        f"{arm.share:.0%}",
        f"{arm.first:.0f}",
        "" if charged is None else f"{charged:,.0f}",
        "" if arm.distance is None else f"{arm.distance:.1f}",
        "" if arm.cross_entropy is None else f"{arm.cross_entropy:+.2f}",
        " + ".join(map(text.visible, arm.recipe)) or "no edit",
    )


def look_rows(found: AdversarialResults) -> list[tuple[str, ...]]:
    """What becomes of every arm's broken prompts at a closer look, with the names of the columns first; none in older
    results."""
    known = [(arm, arm.accepted) for arm in found.arms if arm.accepted is not None]
    rows = [
        (f"{arm.letter} {arm.name}", *(str(getattr(looks, name)) for name in _LOOKS.values())) for arm, looks in known
    ]
    return [("arm", *_LOOKS), *rows] if rows else []


def cluster_rows(found: AdversarialResults) -> list[tuple[str, ...]]:
    """Kinds of recipes that the searches of every arm come to, with the names of the columns first."""
    rows = [
        (
            f"{arm.letter} {arm.name}",
            ", ".join(map(text.visible, one.kinds)) or "no edit",
            "none" if one.detector is None else str(one.detector + 1),
            str(one.recipes),
            str(one.searches),
        )
        for arm in found.arms
        for one in arm.clusters
    ]
    return [("arm", "kinds of edits", "detector moved most", "recipes", "searches"), *rows] if rows else []


def repair_rows(found: AdversarialResults, one: BrokenPrompt) -> list[tuple[str, ...]]:
    """What putting nodes back does to a broken prompt, with the names of the columns first; none where it has none."""
    rows = [
        (
            "the whole circuit" if own.detector is None else f"detector {own.detector + 1}",
            str(found.nodes if own.detector is None else len(found.detectors[own.detector].nodes)),
            f"{own.before:+.2f}",
            f"{own.after:+.2f}",
            f"{own.patched:+.2f}",
            text.percent(one.restored(own.patched), whole=True),
            f"{own.random:+.2f}",
            text.percent(one.restored(own.random), whole=True),
        )
        for own in one.by_movement()
    ]
    head = ("put back", "nodes", "value before", "after", "margin", "restored", "margin, random latents", "restored")
    return [head, *rows] if rows else []


def listed_detectors(found: AdversarialResults) -> list[tuple[int, Detector]]:
    """The first detectors and all others that the page names, by their numbers in the results."""
    named = {one.detector for one in found.repairs}
    named |= {one.detector for failure in found.failures for one in failure.repairs or ()}
    named |= {one.detector for arm in found.arms for one in arm.clusters}
    return [(number, one) for number, one in enumerate(found.detectors) if number < _DETECTORS or number in named]


def seed_sentences(found: SeedStudy) -> Iterator[str]:
    """In how many seeds the circuit helped; nothing before the first is done."""
    if found.results:
        yield found.verdict


def seed_sections(found: SeedStudy) -> Iterator[tuple[str, list[list[str]]]]:
    """A title and a table, the first row its head: all seeds, then the arms of each."""
    if found.results:
        yield "Held-out prompts that each arm's recipe breaks", [[*row] for row in found.rows()]
    for one in found.results:
        yield f"Seed {one.settings['seed']}", [[*row] for row in arm_rows(one)]


def adversarial_page(found: AdversarialResults, seeds: SeedStudy | None = None) -> str:
    """The page as HTML text, nothing fetched from anywhere; where there are several seeds, with all of them."""
    failures = [
        {
            "clean": marked(one.clean, one.edited),
            "edited": marked(one.edited, one.clean),
            "one": one,
            "repairs": repair_rows(found, one),
        }
        for one in found.failures
    ]
    own = found.arm(CIRCUIT)
    largest = max((max(abs(one.before), abs(one.after)) for one in found.failures), default=1.0)
    return (
        html.environment()
        .get_template("adversarial/page.html.j2")
        .render(
            found=found,
            own=own,
            rows=arm_rows(found),
            looks=look_rows(found),
            clusters=cluster_rows(found),
            seeds=seeds,
            names=NAMES,
            failures=failures,
            broken=plural(sum(own.held_out), "prompt"),
            detectors=listed_detectors(found),
            largest=largest or 1.0,
            curves=html.inline(budget_data(found)),
            component=html.component("curves.js"),
            visible=text.visible,
            percent=text.percent,
        )
    )


def write_adversarial_page(found: AdversarialResults, path: str | Path, seeds: SeedStudy | None = None) -> Path:
    """Write the page, atomically. Returns the path.

    Raises:
        GossamerError: it cannot be written.
    """
    return files.write_text(path, adversarial_page(found, seeds))


def marked(tokens: tuple[str, ...], other: tuple[str, ...]) -> list[tuple[str, bool]]:
    """Tokens as shown, and whether each is in none of the stretches that the other text has too."""
    same = [False] * len(tokens)
    for block in SequenceMatcher(None, tokens, other, autojunk=False).get_matching_blocks():
        same[block.a : block.a + block.size] = [True] * block.size
    return [(text.visible(token), not kept) for token, kept in zip(tokens, same, strict=True)]
