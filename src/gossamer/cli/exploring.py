"""`gossamer explore`: a page to click through how information moved."""

from pathlib import Path
from typing import Annotated

import typer

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, out, print_json
from gossamer.cli.tracing import Answer, Latent, Position, Wrong, require_question
from gossamer.errors import UsageError

Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", "-p", help="A text; repeat for several.", callback=early.some_text("--prompt")),
]
TaskName = Annotated[str | None, typer.Option("--task", "-t", help="A task's name or file instead of prompts.")]
Number = Annotated[int, typer.Option("--prompts", "-n", help="Of a task: held-out prompts, at most.")]
Shown = Annotated[
    int, typer.Option("--latents", help="Of each dictionary at each token, so many of the most active can be opened.")
]
Output = Annotated[
    Path,
    typer.Option("--out", help="The page; what it draws goes beside it as .json.", callback=early.writable_file),
]


def explore(
    model: options.Model,
    dictionaries: options.Dictionaries = None,
    prompt: Prompts = None,
    answer: Answer = None,
    wrong: Wrong = None,
    latent: Latent = None,
    position: Position = -1,
    task: TaskName = None,
    prompts: Number = 4,
    latents: Shown = 8,
    output: Output = Path("gossamer-out/explore/explore.html"),
    store: options.CardsFrom = None,
    bos: options.Bos = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.Dtype = None,
    family: options.FamilyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a page to click through: active latents, what each came from, and why heads looked where they did.

    It is one HTML file that needs no model and no network. With --answer and --wrong, or --latent, it begins with
    those; else with a prompt's active latents. Attention patterns and norm scales are those of the prompt.

    Example: gossamer explore bundled:spool -p "The boys near the dog" --answer " are" --wrong " is"
    """
    require_question(bool(prompt), task, latent, answer, wrong)
    early.at_least("--latents", latents, 1)
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out: a name that ends in .html expected, found {output}")
    early.require_dictionaries(dictionaries, model)
    early.require_task(task)
    early.require_store(store)
    from gossamer.attention import Limits, Question, attribution_data, task_attribution
    from gossamer.features import Feature
    from gossamer.progress import progress_bars
    from gossamer.report import write_attribution_page

    feature = None if latent is None else Feature.parse(latent)
    network = inputs.language_model(model, device, dtype, family)
    chosen = inputs.dictionary_set(network, model, dictionaries)
    limits = Limits(latents=latents)
    with inputs.feature_store(store) as source, progress_bars(err):
        if source is not None:
            source.require(network, chosen)
        if task is not None:
            examples = inputs.task(task, network.tokenizer, bos=bos, prompts=None, seed=seed)
            found = task_attribution(network, chosen, examples, prompts=prompts, limits=limits, source=source)
        else:
            questions = [Question(text, answer, wrong, feature, position) for text in prompt or ()]
            found = attribution_data(network, chosen, questions, limits=limits, bos=bos, source=source)
    page, data = write_attribution_page(found, output), found.save(output.with_suffix(".json"))
    if as_json:
        print_json({"page": str(page), "data": str(data), "functions": [len(one.functions) for one in found.prompts]})
        return
    out.print(f"page: {page} ({page.stat().st_size / 1e6:.1f} MB), data: {data}", soft_wrap=True)
