"""Templates of a task that are set aside, so that a circuit can be tried on sentences that nothing was fitted to."""

import re
from typing import Any

from gossamer.errors import UsageError
from gossamer.tasks.task import Task


def set_aside(task: Task, wanted: str, tokenizer: Any) -> tuple[Task, Task]:
    """A task without some of its templates, and those alone.

    Every prompt stays on the side that it has, so that words which the training prompts do not share with the test
    prompts are unseen in the other templates' test prompts too.

    Args:
        task: the task.
        wanted: names of templates, separated by commas; or how many: those with the fewest prompts.
        tokenizer: the one that it was made with.

    Raises:
        UsageError: no such templates, or none left.
    """
    known = task.templates
    number = int(wanted) if re.fullmatch(r"\s*[+-]?\d+\s*", wanted) else None
    if number is not None:
        names = list(known[len(known) - number :]) if number > 0 else []
    else:
        names = [name.strip() for name in wanted.split(",") if name.strip()]
    if len(known) == 1:
        raise UsageError(
            f"task {task.name}: several templates expected, of which some are set aside, found one ({known[0]}); set "
            "none aside, or give prompts of more templates"
        )
    rest = [name for name in known if name not in names]
    if not names or not rest or (number is not None and number >= len(known)):
        raise UsageError(
            f"task {task.name}: from 1 to {len(known) - 1} of its templates expected ({', '.join(known)}), found "
            f"{wanted!r}"
        )
    return task.of_templates(rest, tokenizer), task.of_templates(names, tokenizer)
