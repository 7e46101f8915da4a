"""What `gossamer train` fine-tunes on beside text, and how it does that alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gossamer.cli import early, inputs
from gossamer.errors import UsageError

# Parameters of the command; the default of each is None, False or 1.
_OF_THE_FIT = (
    *("layers", "sites", "sites_out", "objective", "n_latents", "k", "penalty", "l0", "seeds", "tokens", "batch"),
    *("accumulate", "learning_rate", "encoder_scale", "autocast", "buffer", "sensitivity", "sensitivity_rows"),
    *("cache", "control", "formats", "metrics"),
)


def require_sense(tasks: Sequence[str], prompts: int | None, share: float | None, finetune_tokens: int | None) -> None:
    """Refuse prompts without a task or a fine-tuning, and tasks that are not there."""
    for task in tasks:
        early.require_task(task)
    given = {"--prompts": prompts, "--prompt-share": share}
    for option, value in given.items():
        if value is not None and not tasks:
            raise UsageError(f"{option}: for prompts of --task; give one or leave it out")
    if tasks and finetune_tokens == 0:
        raise UsageError("--task: its prompts are for the fine-tuning; leave out --finetune-tokens 0")
    if share is not None and not 0 < share < 1:
        raise UsageError(f"--prompt-share: a share between 0 and 1 expected, found {share}")


def require_nothing_fitted(given: Mapping[str, object]) -> None:
    """Refuse options of the fit beside `--from`, of all that were given."""
    for name in _OF_THE_FIT:
        if given[name] not in (None, False, 1):
            option = "format" if name == "formats" else name.replace("_", "-")
            raise UsageError(f"--{option}: nothing is fitted with --from; leave it out")


def with_finetuning(config: Any, *, end_to_end: bool, tokens: int | None, share: float | None) -> Any:
    """The settings with the loss and the length that were asked for."""
    from gossamer.training.recipes import end_to_end as end_to_end_settings

    if end_to_end:
        config = replace(config, finetune=end_to_end_settings(config))
    changes = {"tokens": tokens, "prompt_share": share}
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(config, finetune=replace(config.finetune, **given))


def task_prompts(names: Sequence[str], tokenizer: Any, prompts: int | None, seed: int) -> Any:
    """The training prompts of tasks; None of none."""
    from gossamer.training import TaskPrompts

    if not names:
        return None
    return TaskPrompts.of([inputs.task(name, tokenizer, bos=None, prompts=prompts, seed=seed) for name in names])


def finetuned(
    network: Any,
    model: str,
    source: Sequence[str],
    texts: Sequence[str],
    config: Any,
    rows: Any,
    prompts: Any,
    output: Path | None,
) -> Any:
    """Finished dictionaries, fine-tuned; `rows` is asked for rows of text, given those that they learned from."""
    from gossamer.training import finetune_dictionaries
    from gossamer.training.finished import rows_like

    dictionaries = inputs.dictionary_set(network, model, source)
    corpus = rows(rows_like(dictionaries, network, config.corpus), list(dictionaries))
    return finetune_dictionaries(network, dictionaries, texts, replace(config, corpus=corpus), output, prompts=prompts)
