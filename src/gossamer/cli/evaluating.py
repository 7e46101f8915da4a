"""`gossamer evaluate`: how good dictionaries are on a model and a text, or a task."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from gossamer.cli import early, inputs, options
from gossamer.cli.keeping import keep
from gossamer.cli.printing import err, out, print_json
from gossamer.errors import UsageError

_CONTEXT = 128
COLUMNS = (
    ("L0", "l0", ".1f"),
    ("CE\nrec.", "loss_recovered", ".3f"),
    ("KL", "kl_spliced", ".3f"),
    ("EV", "explained_variance", ".3f"),
    ("EV\nlegacy", "explained_variance_legacy", ".3f"),
    ("cos", "cosine", ".3f"),
    ("norm", "norm_ratio", ".3f"),
    ("bias", "reconstruction_bias", ".3f"),
    ("dead", "dead", ".1%"),
    ("dense", "dense", ".1%"),
)


Context = Annotated[
    int | None,
    typer.Option(
        help="Tokens of a text that are read, from the first; default: 128, or fewer if dictionaries say that they "
        "learned from rows of fewer.",
        callback=early.from_least("--context", 2),
    ),
]
Bos = Annotated[
    bool | None,
    typer.Option("--bos/--no-bos", help="Begin with BOS; default: as in the training, if files say, or the tokenizer."),
]
IncludeBos = Annotated[
    bool, typer.Option("--include-bos", help="Measure and replace BOS too; else it passes through, uncounted.")
]
Task = Annotated[
    str | None,
    typer.Option(
        "--task", "-t", help="Instead of a text a task (see [bold]gossamer tasks[/bold]), or a file of prompts."
    ),
]


def evaluate(
    model: options.Model,
    text: Annotated[Path | None, typer.Option("--text", help=f"Ordinary {options.TEXT}.")] = None,
    task: Task = None,
    prompts: options.Prompts = None,
    split_by: options.TaskSplit = None,
    errors: options.Errors = "mean",
    text_key: options.TextKey = "text",
    dictionaries: options.Dictionaries = None,
    fact: options.Facts = None,
    allow_other_model: options.AllowOtherModel = False,
    rows: options.Rows = 256,
    context: Context = None,
    bos: Bos = None,
    include_bos: IncludeBos = False,
    leave_out_special: options.LeaveOutSpecial = False,
    leave_out_louder: options.LeaveOutLouder = None,
    positions: options.Positions = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    family: options.FamilyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure each dictionary alone on a text, or all of them together on a task.

    With --text: L0, cross-entropy recovered, KL, reconstruction, dead and dense latents. With --task: what each alone
    and all of them, nothing ablated, keep of the task on its held-out prompts, with KL and accuracy, and what exact
    errors at one role of one site bring back: where the rest is lost.

    Measured and replaced are the tokens on which the dictionaries learned, as far as their files say, or else all but
    BOS and attention sinks; with --leave-out-special, --leave-out-louder or --positions those that these leave.

    CE rec. says where the cross-entropy is between that with zeros at the site (0) and the model's own (1); EV is the
    explained variance as a ratio of sums, EV legacy as a mean of ratios; norm and bias say whether reconstructions are
    too short or too long.
    With --json one object a site, in the schema of SAEBench's core evaluation.

    Example: gossamer evaluate MODEL -d trained/dictionaries --text held_out.jsonl
    Example: gossamer evaluate bundled:spool --task ioi
    """
    early.require_dictionaries(dictionaries, model)
    facts = early.dictionary_facts(fact)
    _require_one(text, task, {"--prompts": prompts, "--split-by": split_by})
    if task is not None:
        early.require_task(task)
        network = inputs.language_model(model, device, dtype, family)
        chosen = inputs.dictionary_set(network, model, dictionaries, facts=facts, allow_other_model=allow_other_model)
        sides: Any = {"prompts": prompts, "split_by": split_by or "text"}
        keep(network, chosen, task, sides, errors=errors, as_json=as_json)
        return
    assert text is not None
    early.require_texts([text])

    from gossamer.activations import REAL_TOKENS, read_texts
    from gossamer.dictionary.training_tokens import TrainingTokens
    from gossamer.progress import progress_bars
    from gossamer.replacement.evaluate import evaluate as measured
    from gossamer.replacement.evaluate import to_saebench

    texts = read_texts(text, text_key)[:rows]
    network = inputs.language_model(model, device, dtype, family)
    chosen = inputs.dictionary_set(network, model, dictionaries, facts=facts, allow_other_model=allow_other_model)
    learned = [TrainingTokens.of(one) for one in chosen.values()]
    if context is None:
        context = min([_CONTEXT, *(one.context for one in learned if one.context is not None)])
    length = min(context, network.n_context)
    if bos is None and len({one.bos for one in learned}) == 1:
        bos = learned[0].bos
    mask = None
    if include_bos or leave_out_special or leave_out_louder is not None or positions is not None:
        mask = inputs.token_mask(leave_out_special, leave_out_louder, positions, list(chosen))
        mask = replace(mask, bos=REAL_TOKENS.bos, sinks=REAL_TOKENS.sinks) if include_bos else mask
    with progress_bars(err):
        found = measured(network, chosen, network.tokenize(texts, bos=bos).cut(length), mask=mask, saebench=as_json)
    if as_json:
        print_json({str(site): to_saebench(one, chosen[site], dataset=text.name) for site, one in found.items()})
        return
    out.print(_table(found))
    first = next(iter(found.values()))
    left_out = "BOS included" if first.includes_bos else "BOS left out"
    out.print(f"{first.tokens} tokens, {left_out}; CE of the model {first.ce_model:.3f} nats", soft_wrap=True)


def _require_one(text: Path | None, task: str | None, of_tasks: Mapping[str, object]) -> None:
    if (text is None) == (task is None):
        raise UsageError(f"evaluate: one of --text and --task expected, found {'none' if text is None else 'both'}")
    for option, value in of_tasks.items():
        if value is not None and task is None:
            raise UsageError(f"{option}: for --task; give one or leave it out")


def _table(found: Any) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    for title in ("site", *(title for title, _, _ in COLUMNS)):
        table.add_column(title, no_wrap=True)
    for site, one in found.items():
        table.add_row(str(site), *(format(getattr(one, name), style) for _, name, style in COLUMNS))
    return table
