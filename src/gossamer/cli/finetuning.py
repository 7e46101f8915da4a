"""What `gossamer train` fine-tunes on beside text, and how it does that alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gossamer.cli import early, inputs
from gossamer.errors import UsageError

FinetuneTokens = Annotated[
    int | None,
    typer.Option(
        help="Tokens of the fine-tuning on the model's logits; 0 for none. Default: the recipe's, in proportion to "
        "--tokens."
    ),
]
EndToEnd = Annotated[
    bool,
    typer.Option(
        "--end-to-end",
        help="The fine-tuning's loss is KL, reconstruction and the logits' error, the latter two as large as the KL at "
        "the first step, and it takes 5 % of --tokens unless --finetune-tokens says otherwise.",
    ),
]
From = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        help="Fit nothing: fine-tune these finished dictionaries, a folder or hub:REPO/PATH; repeat for several sites.",
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        "-t",
        help="Fine-tune on the training prompts of this task too (see [bold]gossamer tasks[/bold], or a file of "
        "prompts), never on those held out; repeat.",
    ),
]
PromptShare = Annotated[
    float | None, typer.Option(help="Share of the fine-tuning that prompts of --task make up; default 0.25.")
]
SimilarWords = Annotated[
    int | None,
    typer.Option(
        help="Half of the prompts of --task say other words in place of their answers: so many, with embeddings like "
        "those of the answers, never an answer of a held-out prompt. For tasks whose prompts say their answers.",
        callback=early.from_least("--similar-words", 2),
    ),
]
FinetuneK = Annotated[
    str | None,
    typer.Option(help="Active latents a token from the fine-tuning on, as 48, or one a site as 64,48,48."),
]
FinetuneLearningRate = Annotated[
    float | None,
    typer.Option(
        help="Peak of Adam's learning rate in the fine-tuning; default 0.0003, with --end-to-end as many times less as "
        "the model is wider than 128."
    ),
]
Thresholds = Annotated[
    Literal["own", "spliced"] | None,
    typer.Option(
        help="Thresholds are set at the end on the model's own activations, or on what reaches each site behind the "
        "reconstructions before it; the default is own, with --end-to-end spliced.",
        show_default=False,
    ),
]

# Parameters of the command; the default of each is None, False or 1.
_OF_THE_FIT = (
    *("layers", "sites", "sites_out", "objective", "n_latents", "k", "penalty", "l0", "seeds", "tokens", "batch"),
    *("accumulate", "learning_rate", "encoder_scale", "autocast", "buffer", "sensitivity", "sensitivity_rows"),
    *("cache", "control", "formats", "metrics"),
)


@dataclass(frozen=True)
class Finetuning:
    """What the command line says of the fine-tuning; None where it says nothing."""

    end_to_end: bool
    tokens: int | None
    share: float | None
    k: str | None
    learning_rate: float | None
    thresholds: str | None
    prompts: int | None
    similar_words: int | None
    split_by: str | None


def require_sense(tasks: Sequence[str], asked: Finetuning) -> None:
    """Refuse prompts without a task or a fine-tuning, settings of one that is none, and tasks that are not there."""
    for task in tasks:
        early.require_task(task)
    given: dict[str, object] = {
        "--prompts": asked.prompts,
        "--prompt-share": asked.share,
        "--similar-words": asked.similar_words,
        "--split-by": asked.split_by,
    }
    for option, value in given.items():
        if value is not None and not tasks:
            raise UsageError(f"{option}: for prompts of --task; give one or leave it out")
    settings = {
        "--task": tasks or None,
        "--finetune-k": asked.k,
        "--finetune-learning-rate": asked.learning_rate,
        "--thresholds": asked.thresholds,
    }
    for option, value in settings.items():
        if value is not None and asked.tokens == 0:
            raise UsageError(f"{option}: it is for the fine-tuning; leave out --finetune-tokens 0")
    if asked.share is not None and not 0 < asked.share < 1:
        raise UsageError(f"--prompt-share: a share between 0 and 1 expected, found {asked.share}")


def require_nothing_fitted(given: Mapping[str, object]) -> None:
    """Refuse options of the fit beside `--from`, of all that were given."""
    for name in _OF_THE_FIT:
        if given[name] not in (None, False, 1):
            option = "format" if name == "formats" else name.replace("_", "-")
            raise UsageError(f"--{option}: nothing is fitted with --from; leave it out")


def with_finetuning(config: Any, asked: Finetuning, width: int) -> Any:
    """The settings with the loss and the length that were asked for, for a model of this width."""
    from gossamer.training.recipes import end_to_end as end_to_end_settings

    if asked.end_to_end:
        config = replace(config, finetune=end_to_end_settings(config, width))
    changes = {
        "tokens": asked.tokens,
        "prompt_share": asked.share,
        "learning_rate": asked.learning_rate,
        "thresholds": asked.thresholds,
        "k": None if asked.k is None else tuple(inputs.numbers("--finetune-k", asked.k)),
    }
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(config, finetune=replace(config.finetune, **given))


def task_prompts(names: Sequence[str], model: Any, asked: Finetuning, seed: int) -> Any:
    """The training prompts of tasks; None of none."""
    from gossamer.training import TaskPrompts
    from gossamer.training.task_prompts import similar_words

    if not names:
        return None
    sides: Any = {"seed": seed, "split_by": asked.split_by or "text"}
    tasks = [inputs.task(name, model.tokenizer, bos=None, prompts=asked.prompts, **sides) for name in names]
    found = TaskPrompts.of(tasks)
    return found if asked.similar_words is None else found.varied(similar_words(model, tasks, asked.similar_words))


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
