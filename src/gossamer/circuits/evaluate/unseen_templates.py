"""A circuit on templates that no search saw: whether it is of the task, or of the sentences it was found in."""

from collections.abc import Sequence

from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.find import CircuitResult
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.shortfalls import UnseenTemplates
from gossamer.circuits.splice import Splice
from gossamer.circuits.study import Study
from gossamer.errors import GossamerError
from gossamer.tasks.grouping import grouped
from gossamer.tasks.task import Task


def on_unseen_templates(found: CircuitResult, task: Task, others: Sequence[CircuitPath] = ()) -> UnseenTemplates:
    """Measure a circuit on other templates, whose ablation values are means over their own counterfactuals.

    Nothing else is fitted there. Cost: (sites + 3 + `others`) passes over the task's test prompts and one over its
    training prompts.

    Args:
        found: the circuit.
        task: prompts of the other templates.
        others: paths over the same latents, each measured at the circuit's size.

    Raises:
        GossamerError: the templates have no role of the circuit's task, or the model itself cannot do the task on them.
    """
    study = unseen_study(found.study, task)
    # A circuit with nodes at other roles alone is one that says nothing of these templates: an empty one.
    nodes = _here(study, found.nodes)
    splice = Splice.of(
        study.model,
        study.dictionaries,
        study.task.test,
        study.ablation,
        nodes,
        batch_size=study.settings.batch_size,
    )
    evaluator = Evaluator(splice, study.settings.seed)
    size = len(found.nodes)
    fitting = [path for path in others if path.circuits and path.sizes[-1] <= size]
    compared = [_here(study, path.nodes.select(path.of_size(size))) for path in fitting]
    return UnseenTemplates(
        task.templates,
        len(study.task.test),
        size - len(nodes),
        evaluator.budget(nodes),
        tuple(
            evaluator.task_metrics(path.method, evaluator.prompt_metrics(circuit))
            for path, circuit in zip(fitting, compared, strict=True)
        ),
    )


def require_unseen(mine: Study, task: Task) -> None:
    """Refuse what could not be measured afterwards, before any search. Cost: a pass of all prompts of both.

    Args:
        mine: what circuits are searched in.
        task: prompts of the other templates.

    Raises:
        GossamerError: the model itself cannot do the task, here or on the other templates, or these have no role of it.
    """
    mine.require_ability()
    unseen_study(mine, task)


def unseen_study(mine: Study, task: Task) -> Study:
    """The study that circuits of `mine` are measured in on other templates; all is the same but the prompts.

    Raises:
        GossamerError: they have no role of the task, or the model itself cannot do it on them; both are known before
            any search.
    """
    study = Study(mine.model, mine.dictionaries, grouped(task, mine.settings.masks), mine.settings)
    names, roles = ", ".join(task.templates), study.task.role_names
    if not set(roles) & set(mine.task.role_names):
        raise GossamerError(
            f"unseen templates {names}: a role of the others expected ({', '.join(mine.task.role_names)}), found "
            f"{', '.join(roles)} alone; set other templates aside"
        )
    try:
        study.require_ability()
    except GossamerError as error:
        raise GossamerError(f"unseen templates {names}: {error}, or set other templates aside") from error
    return study


def _here(study: Study, nodes: Nodes) -> Nodes:
    """The same nodes in another study, without those at roles that it does not have."""
    known, roles = nodes.keys(), study.task.role_names
    return Nodes.from_keys(nodes.sites, roles, [key for key in known if key.role in roles], study.model.device)
