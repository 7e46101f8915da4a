"""The view of adversarial prompts: recipes, arms at equal budget, what breaks, what repairs, and the worst prompts."""

from collections.abc import Iterator

from fastapi import APIRouter

from gossamer.app.schema.adversarial import (
    AdversarialPage,
    ArmShape,
    ComparisonShape,
    DetectorShape,
    FailureShape,
    MarkedToken,
    PromptRepairShape,
    RepairShape,
    WorstCaseShape,
    WorstShape,
)
from gossamer.app.schema.base import PartId
from gossamer.app.schema.curves import CurvesData
from gossamer.app.workbench import Workbench
from gossamer.circuits.adversarial.results import NAMES, AdversarialResults, Arm, BrokenPrompt, PromptRepair
from gossamer.circuits.adversarial.worst import WorstCase
from gossamer.report import text
from gossamer.report.adversarial import marked
from gossamer.report.curves_data import budget_data

KIND = "adversarial prompts"


def adversarial_routes(bench: Workbench) -> APIRouter:
    """GET of a comparison of searches."""
    routes = APIRouter(prefix="/adversarial")

    @routes.get("/{study}")
    def adversarial(study: PartId) -> AdversarialPage:
        """Arms, failures and repairs."""
        part, found = bench.content(study, KIND)
        return AdversarialPage(
            **bench.said(bench.run.digest(part)),
            id=part.id,
            file=str(part.path),
            circuit=_circuit(bench, found),
            settings=dict(found.settings),
            curves=CurvesData.model_validate(budget_data(found)),
            arms=[_arm(one) for one in found.arms],
            comparisons=[
                ComparisonShape(name=NAMES[one.letter], **{name: getattr(one, name) for name in _COMPARED})
                for one in found.comparisons
            ],
            detectors=[DetectorShape.model_validate(one) for one in found.detectors],
            repairs=[RepairShape.model_validate(one) for one in found.repairs],
            failures=[_failure(one) for one in found.failures],
            worst=None if found.worst is None else _worst(found.worst),
            **{name: getattr(found, name) for name in _PLAIN},
        )

    return routes


def exported_adversarial(bench: Workbench) -> Iterator[str]:
    """What a page without a server asks first of each of them."""
    for part in bench.run.parts().values():
        if part.kind == KIND and bench.run.read(part).content is not None:
            yield f"/adversarial/{part.id}"


_COMPARED = ("letter", "more", "fewer", "p", "searches_more", "searches_fewer", "searches_p", "ahead")
_PLAIN = (
    *("task", "model", "nodes", "verdict", "adds", "edits", "searches"),
    *("failed_before", "refused", "apart", "unseen_words", "setup"),
)


def _circuit(bench: Workbench, found: AdversarialResults) -> str | None:
    """The id of the circuit in this run, if it is there."""
    for part in bench.run.parts().values():
        if part.kind == "circuit":
            circuit = bench.run.read(part).content
            if circuit is not None and circuit.sha256 == found.circuit:
                return part.id
    return None


def _arm(one: Arm) -> ArmShape:
    return ArmShape(
        letter=one.letter,
        name=one.name,
        recipe=list(map(text.running, one.recipe)),
        broken=one.broken,  # type: ignore[arg-type]
        breaks=sum(one.held_out),
        of=len(one.held_out),
        margin=one.margin,
        share=one.share,
        first=one.first,
        spent=one.spent,
        recipes=one.recipes,
    )


def _failure(one: BrokenPrompt) -> FailureShape:
    sides = ((one.clean, one.edited), (one.edited, one.clean))
    clean, edited = (
        [MarkedToken(token=token, changed=changed) for token, changed in marked(own, other)] for own, other in sides
    )
    return FailureShape(
        clean=clean,
        edited=edited,
        answer=text.visible(one.answer),
        said=text.visible(one.said),
        before=one.before,
        after=one.after,
        repairs=None if one.repairs is None else [_repair(one, found) for found in one.by_movement()],
    )


def _repair(prompt: BrokenPrompt, found: PromptRepair) -> PromptRepairShape:
    return PromptRepairShape(
        detector=found.detector,
        before=found.before,
        after=found.after,
        patched=found.patched,
        share=prompt.restored(found.patched),
        random=found.random,
        random_share=prompt.restored(found.random),
    )


def _worst(found: WorstCase) -> WorstCaseShape:
    prompts = [("found", found.found), *(("drawn", one) for one in found.tail.worst)]
    shown = [
        WorstShape(
            how=how,
            text=text.running(one.text),
            answer=text.visible(one.answer),
            incorrect=text.visible(one.incorrect),
            kl=one.kl,
            full=one.full,
            circuit=one.circuit,
        )
        for how, one in prompts
    ]
    return WorstCaseShape(
        drawn=found.drawn,
        tried=found.tried,
        ablation=found.ablation,
        recipe=list(map(text.running, found.recipe)),
        mean=found.tail.mean,
        p95=found.tail.p95,
        p99=found.tail.p99,
        prompts=sorted(shown, key=lambda one: -(one.kl or 0.0)),
    )
