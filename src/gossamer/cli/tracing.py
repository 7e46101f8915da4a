"""`gossamer trace`: where a logit difference or a latent came from."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from rich.tree import Tree

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, out, print_json
from gossamer.errors import UsageError

Prompt = Annotated[
    str | None,
    typer.Option("--prompt", "-p", help="The text to explain the end of.", callback=early.some_text("--prompt")),
]
Answer = Annotated[str | None, typer.Option(help="What the model should go on with, such as ' Mary'.")]
Wrong = Annotated[str | None, typer.Option(help="What it is compared with, such as ' John'.")]
Latent = Annotated[
    str | None, typer.Option(help="A latent to explain instead, as SITE/LATENT: z.5/123, resid_post.3/7.")
]
Position = Annotated[int, typer.Option(help="The latent's token, from 0, or from the end where negative.")]
TaskName = Annotated[
    str | None, typer.Option("--task", "-t", help="A task's name or file instead of a prompt: sums by role.")
]
Prompts = Annotated[int, typer.Option("--prompts", "-n", help="Of a task: held-out prompts, at most.")]
Nodes = Annotated[int, typer.Option(help="Nodes of the tree, the largest contributions first.")]
Check = Annotated[
    bool, typer.Option("--check", help="Remove each contribution from the model and measure what it does.")
]
Picture = Annotated[
    Path | None,
    typer.Option(
        "--figure",
        help="With --check: a .png or .svg of what was predicted and measured.",
        callback=early.writable_file,
    ),
]
Output = Annotated[
    Path | None, typer.Option("--out", help="A file for the trace, as JSON.", callback=early.writable_file)
]


def trace(
    model: options.Model,
    dictionaries: options.Dictionaries = None,
    prompt: Prompt = None,
    answer: Answer = None,
    wrong: Wrong = None,
    latent: Latent = None,
    position: Position = -1,
    task: TaskName = None,
    prompts: Prompts = 64,
    nodes: Nodes = 40,
    check: Check = False,
    picture: Picture = None,
    output: Output = None,
    bos: options.Bos = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.Dtype = None,
    family: options.FamilyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Take a logit difference, or a latent, apart: by latents, layers, heads and tokens, again and again.

    Attention patterns and norm scales stay as they are on the prompt, so that contributions add up. Each line has what
    a part adds to the whole, its share of the line above, the head that moved it most, and in brackets what biases and
    the parts that are not shown make up of it. With --check every edge is tested on the model itself, of a task on
    all of the prompts.

    Example: gossamer trace bundled:spool -p "The boys near the dog" --answer " are" --wrong " is"
    """
    require_question(prompt is not None, task, latent, answer, wrong)
    if picture is not None and (not check or picture.suffix.lower() not in (".png", ".svg")):
        raise UsageError(f"--figure: a .png or .svg beside --check expected, found {picture}; give both")
    early.at_least("--nodes", nodes, 1)
    early.require_dictionaries(dictionaries, model)
    early.require_task(task)
    from gossamer.attention import tracing
    from gossamer.features import Feature
    from gossamer.progress import progress_bars

    feature = None if latent is None else Feature.parse(latent)
    network = inputs.language_model(model, device, dtype, family)
    chosen = inputs.dictionary_set(network, model, dictionaries)
    with progress_bars(err):
        if task is not None:
            examples = inputs.task(task, network.tokenizer, bos=bos, prompts=None, seed=seed)
            found = tracing.trace_task(network, chosen, examples, prompts=prompts, nodes=nodes, check=check)
        else:
            assert prompt is not None
            found = tracing.trace_prompt(
                network,
                chosen,
                prompt,
                answer=answer,
                wrong=wrong,
                feature=feature,
                position=position,
                nodes=nodes,
                bos=bos,
                check=check,
            )
    if picture is not None:
        from gossamer.report import style, trace_check

        style.save(trace_check(found), picture)
    _tell(found, None if output is None else found.save(output), as_json)


def require_question(
    has_prompt: bool, task: str | None, latent: str | None, answer: str | None, wrong: str | None
) -> None:
    """Refuse a text and a task at once, or neither, and what is asked of a text beside a task."""
    if has_prompt == (task is not None):
        raise UsageError("--prompt, --task: one of the two expected; give a text or a task")
    if task is not None and (latent is not None or answer is not None or wrong is not None):
        raise UsageError("--latent, --answer, --wrong: for prompts; a task has answers of its own")


def _tell(found: Any, saved: Path | None, as_json: bool) -> None:
    if as_json:
        tree = [{**asdict(node), "source": str(node.source)} for node in found.trace.nodes]
        checked = None if found.check is None else asdict(found.check)
        print_json({"target": found.trace.target, "prompt": list(found.prompt), "nodes": tree, "check": checked})
        return
    out.print(_tree(found))
    if found.check is not None:
        for name, one in (("frozen", found.check.frozen), ("live", found.check.live)):
            out.print(
                f"predicted against measured, patterns {name}: rank correlation {one.value:.2f} "
                f"[{one.low:.2f}, {one.high:.2f}] over {one.edges} edges"
                f"{f', interval over {one.texts} different prompts' if one.texts > 1 else ''}",
                soft_wrap=True,
            )
    if saved is not None:
        out.print(f"trace: {saved}", soft_wrap=True)


def _tree(found: Any) -> Tree:
    root = Tree(_line(found, 0), guide_style="dim")
    branches = {0: root}
    for number in range(len(found.trace.nodes)):
        for child in found.trace.children(number):
            branches[child] = branches[number].add(_line(found, child))
    return root


def _line(found: Any, number: int) -> Text:
    node = found.trace.nodes[number]
    name = found.trace.target if node.parent is None else str(node.source)
    line = Text(f"{name} ")
    if word := found.token(number):
        line.append(f"{word!r} ", style="cyan")
    line.append(f"{node.contribution:+.3f}", style="bold")
    if node.parent is not None:
        line.append(f" ({node.share:.0%})")
    if node.heads:
        strongest = max(range(len(node.heads)), key=lambda head: abs(node.heads[head]))
        line.append(f" head {strongest} {node.heads[strongest]:+.3f}", style="magenta")
    if node.expanded and abs(node.remainder) + abs(node.bias) > 0:
        line.append(f" [biases {node.bias:+.2f}, rest {node.remainder:+.2f}]", style="dim")
    return line
