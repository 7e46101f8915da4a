"""What dictionaries keep of a task, before any circuit is searched for, and where they lose the rest."""

from collections.abc import Iterator
from dataclasses import dataclass

from gossamer.circuits.bootstrap import few_texts
from gossamer.circuits.candidates import every_node
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.evaluate.restored_errors import restored_errors
from gossamer.circuits.results import PromptCase
from gossamer.circuits.shortfalls import RestoredError
from gossamer.circuits.splice import Splice
from gossamer.circuits.study import Study
from gossamer.circuits.task_metrics import TaskMetrics
from gossamer.dictionary.training_prompts import seen_in_training
from gossamer.display import plural, short_repr


@dataclass(frozen=True)
class KeptTask:
    """A task done with dictionaries spliced in, nothing ablated, on held-out prompts.

    Attributes:
        budget: the full model, each dictionary alone (of several), all dictionaries.
        cases: all dictionaries (in the circuit's place) on the prompts of each case.
        restored: all dictionaries with exact errors at one role of one site at a time.
        prompts: how many.
        cautions: what limits the numbers, as sentences.
    """

    budget: tuple[TaskMetrics, ...]
    cases: tuple[PromptCase, ...]
    restored: tuple[RestoredError, ...]
    prompts: int
    cautions: tuple[str, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        found = self.budget[-1]
        yield f"all dictionaries keep {found.faithfulness}"
        yield f"KL {found.kl:.3g}"
        yield plural(self.prompts, "prompt")


def kept_task(study: Study) -> KeptTask:
    """Measure a study's dictionaries; its ablation values are only read for their mean errors.

    Cost: (sites + 2) x (roles + 1) passes over the held-out prompts, about.

    Raises:
        UsageError: as :func:`gossamer.dictionary.attach.attach`.
        GossamerError: the model itself cannot do the task.
    """
    study.require_one_device()
    study.require_ability()
    nothing = every_node(study.dictionaries, study.task.role_names, study.model.device).none()
    splice = Splice.of(
        study.model,
        study.dictionaries,
        study.task.test,
        study.ablation,
        nothing,
        batch_size=study.settings.batch_size,
    )
    evaluator = Evaluator(splice, study.settings.seed)
    attached = [f"{text[:1].upper()}{text[1:]}." for one in study.attachments for text in one.warnings]
    return KeptTask(
        budget=evaluator.budget_of_dictionaries(),
        cases=evaluator.cases_of("+ all dictionaries", lambda: evaluator.dictionaries),
        restored=restored_errors(evaluator),
        prompts=len(study.task.test),
        cautions=(*attached, *few_texts(study.task.test), *prompts_seen(study)),
    )


def prompts_seen(study: Study) -> tuple[str, ...]:
    """A sentence if dictionaries were fine-tuned on prompts that are held out here."""
    prompts = study.task.test.prompts
    count = seen_in_training(study.dictionaries.values(), (prompt.texts for prompt in prompts))
    if not count:
        return ()
    return (
        f"The dictionaries were fine-tuned on {count} of the {len(prompts)} held-out prompts: what they keep of the "
        "task is overstated; test them on prompts of another seed, or with names of their own.",
    )
