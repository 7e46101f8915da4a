"""The command line: every command is one call into the library, with the same words."""

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from gossamer.errors import GossamerError, UsageError

app = typer.Typer(
    help="Find, test and look at sparse feature circuits in language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Start with [bold]gossamer demo[/bold]: a circuit in the bundled model, with a report, in a few minutes.",
)
out, err = Console(), Console(stderr=True)

Model = Annotated[str, typer.Argument(help="A Hugging Face id, a local folder, or bundled:spool.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output instead of text.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps ...; default: the best there is.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 ...; default: the checkpoint's own.")]
Dictionaries = Annotated[
    list[str] | None,
    typer.Option(
        "--dictionaries",
        "-d",
        help="A folder of dictionaries, or hub:REPO/PATH; repeat for several sites. SAELens and Gemma Scope files are "
        "recognised. Default: those that come with a bundled model.",
    ),
]
TaskName = Annotated[
    str,
    typer.Option(
        "--task", "-t", help="A task's name (see [bold]gossamer tasks[/bold]), or a .json/.jsonl file of prompts."
    ),
]
Bos = Annotated[bool | None, typer.Option("--bos/--no-bos", help="Begin with BOS; default: as the tokenizer does.")]
Prompts = Annotated[int | None, typer.Option("--prompts", "-n", help="How many prompts to generate.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
Faithfulness = Annotated[
    float | None, typer.Option("--faithfulness", "-f", help="Share of the logit difference to keep (default 0.9).")
]
Size = Annotated[int | None, typer.Option("--size", "-s", help="Number of nodes wanted instead.")]
Recipe = Annotated[str, typer.Option(help="gossamer, or reference (the published recipe, for comparison).")]
Loss = Annotated[str, typer.Option(help="What the search keeps of every prompt: logit_diff, or kl at the answer.")]
Ablation = Annotated[str, typer.Option(help="Where ablated latents go: mean, zero or resample.")]
Errors = Annotated[str, typer.Option(help="Reconstruction errors: mean, drop or keep.")]
Masks = Annotated[str, typer.Option(help="One mask a latent by role, by position, or shared.")]
Compare = Annotated[
    list[str] | None, typer.Option(help="Methods to draw beside the mask; repeat. Default: all. 'none' for none.")
]
MinimumAccuracy = Annotated[float, typer.Option(help="Refuse a task that the model does on fewer prompts.")]
BatchSize = Annotated[int, typer.Option(help="Prompts a pass; halved when memory runs out.")]
Out = Annotated[Path, typer.Option(help="Folder for the results; made if missing.")]


def main() -> None:
    """Run the command line: exit code 0 done, 1 failed, 2 wrong request; a user's mistake is one line."""
    try:
        with _spoken_warnings():
            app(standalone_mode=True)
    except UsageError as error:
        _fail(error, 2)
    except GossamerError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        err.print("stopped; nothing was left half-written")
        sys.exit(130)


def _fail(error: Exception, code: int) -> None:
    err.print("[bold red]error:[/bold red]", str(error), markup=True, highlight=False, soft_wrap=True)
    sys.exit(code)


@contextmanager
def _spoken_warnings() -> Iterator[None]:
    """Print warnings as one line each."""

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if "gossamer" in category.__module__:
            err.print("[bold yellow]warning:[/bold yellow]", str(message), highlight=False, soft_wrap=True)

    original, warnings.showwarning = warnings.showwarning, show
    try:
        yield
    finally:
        warnings.showwarning = original


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--out", help="Folder for the report.")] = Path("gossamer-out/demo"),
    seed: Seed = 0,
) -> None:
    """Find, test and draw the circuit for subject-verb agreement in the bundled model (minutes on a laptop)."""
    from gossamer.demo import run_demo
    from gossamer.progress import shown

    with shown(err):
        result = run_demo(output, seed)
    _summary(result.found, result.report)


@app.command()
def circuit(
    model: Model,
    task: TaskName,
    dictionaries: Dictionaries = None,
    faithfulness: Faithfulness = None,
    size: Size = None,
    recipe: Recipe = "gossamer",
    loss: Loss = "logit_diff",
    ablation: Ablation = "mean",
    errors: Errors = "mean",
    masks: Masks = "role",
    compare: Compare = None,
    minimum_accuracy: MinimumAccuracy = 0.75,
    prompts: Prompts = None,
    bos: Bos = None,
    batch_size: BatchSize = 64,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = None,
    output: Out = Path("gossamer-out/circuit"),
    as_json: AsJson = False,
) -> None:
    """Find the smallest circuit for a task, test it on held-out prompts, and write what was found.

    The folder gets report.html with its figures, circuit.json (nodes, edges and all that is needed to rerun), and
    graph.json (the attribution graph that Neuronpedia and circuit-tracer read).

    Example: gossamer circuit bundled:spool --task sva-rc --faithfulness 0.9
    """
    from gossamer.circuits.findings import findings
    from gossamer.circuits.methods import METHODS
    from gossamer.circuits.search import SearchSettings
    from gossamer.circuits.study import StudySettings, find_circuit
    from gossamer.demo import write_results
    from gossamer.progress import shown

    methods = [] if compare == ["none"] else compare or list(METHODS)[1:]
    settings = StudySettings(*_policies(ablation, errors, masks), minimum_accuracy, batch_size, seed=seed)
    with shown(err):
        language_model = _model(model, device, dtype)
        chosen = _dictionaries(language_model, model, dictionaries)
        found = find_circuit(
            language_model,
            chosen,
            _task(task, language_model.tokenizer, bos, prompts, seed),
            faithfulness=faithfulness,
            size=size,
            recipe=_choice("--recipe", recipe, ("gossamer", "reference")),
            settings=settings,
            search=SearchSettings(_choice("--loss", loss, ("logit_diff", "kl")), seed=seed),
        )
        report = write_results(found, findings(found, methods=methods), output)
    if as_json:
        facts = {"nodes": len(found.circuit.nodes), **found.circuit.measured}
        _print_json({"circuit": str(output / "circuit.json"), "report": str(report), **facts})
    else:
        _summary(found, report)


@app.command()
def tasks(
    name: Annotated[
        str | None, typer.Argument(help="A task's name or a file of prompts; without it, the list.")
    ] = None,
    model: Annotated[str, typer.Option(help="Whose tokenizer to use.")] = "bundled:spool",
    prompts: Prompts = None,
    bos: Bos = None,
    seed: Seed = 0,
    save: Annotated[Path | None, typer.Option(help="Also write the prompts to this file.")] = None,
) -> None:
    """List the tasks, or show one: its prompts token by token with their roles."""
    from gossamer.tasks import GENERATORS

    if name is None:
        table = Table("name", "prompts", "what it asks", box=None)
        for key, generator in GENERATORS.items():
            table.add_row(key, str(generator.n), generator.about)
        out.print(table)
        return
    tokenizer = _model(model, "cpu", None).tokenizer
    task = _task(name, tokenizer, bos, prompts, seed)
    out.print(task.describe(), highlight=False)
    for shown_row in (task.preview(tokenizer, row) for row in range(min(3, len(task.train)))):
        line = Table(box=None, show_header=False)
        for text, role in shown_row.clean:
            line.add_row(repr(text), role or "passed through")
        line.add_row(f"answer {shown_row.answer!r}", f"wrong {shown_row.wrong!r}")
        out.print(line)
    if save is not None:
        out.print(f"wrote {task.save(save)}", highlight=False)


@app.command()
def train(
    model: Model,
    text: Annotated[list[Path], typer.Option("--text", help="A .txt or .jsonl file of ordinary text; repeat.")],
    layers: Annotated[
        str | None, typer.Option(help="Residual streams after these layers, as 2,4,6; default: the model's recipe.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--out", help="Working folder; default: in $GOSSAMER_CACHE or ~/.cache/gossamer.")
    ] = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Train dictionaries for a model from text: sample, train, fine-tune together. Stops and resumes at any moment."""
    from gossamer.model import Site
    from gossamer.progress import shown
    from gossamer.training import read_texts, recipe_for, train_dictionaries

    with shown(err):
        language_model = _model(model, device, dtype)
        recipe = recipe_for(language_model)
        sites = (
            recipe.sites if layers is None else [Site("resid_post", layer) for layer in _numbers("--layers", layers)]
        )
        texts = [line for file in text for line in read_texts(file)]
        found = train_dictionaries(language_model, texts, sites, replace(recipe.config, seed=seed), output)
    folder = str(Path(next(iter(found.values())).provenance["source"]).parent)
    if as_json:
        _print_json({"folder": folder, "sites": {str(site): asdict(one.claims) for site, one in found.items()}})
        return
    table = Table("site", "latents", "L0", "explained variance", box=None)
    for site, one in found.items():
        claims = one.claims
        table.add_row(str(site), str(one.n_latents), _number(claims.l0, 1), _number(claims.explained_variance, 3))
    out.print(table)
    out.print(f"dictionaries in {folder}", highlight=False, soft_wrap=True)


@app.command()
def check(
    model: Model,
    dictionaries: Dictionaries = None,
    text: Annotated[Path | None, typer.Option(help="Text to measure on; default: the IOI prompts.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Check that dictionaries belong to a model and do there what their files claim (L0, explained variance)."""
    from gossamer.dictionary import attach

    language_model = _model(model, device, dtype)
    chosen = _dictionaries(language_model, model, dictionaries)
    lines = text.read_text(encoding="utf-8").splitlines()[:256] if text else _ioi_texts()
    found = attach.attach(language_model, chosen, language_model.tokenize([line for line in lines if line.strip()]))
    if as_json:
        _print_json([{"site": str(one.site), **asdict(one.measured), "warnings": one.warnings} for one in found])
        return
    table = Table("site", "L0", "claimed", "explained variance", "claimed", "verdict", box=None)
    for one in found:
        verdict = "[green]as claimed[/green]" if not one.warnings else f"[red]{len(one.warnings)} warning(s)[/red]"
        table.add_row(
            str(one.site),
            f"{one.measured.l0:.1f}",
            _number(one.claims.l0, 1),
            f"{one.measured.explained_variance:.3f}",
            _number(one.claims.explained_variance, 3),
            verdict,
        )
    out.print(table)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _summary(found: Any, report: Path) -> None:
    measured = found.circuit.measured
    out.print(
        f"[bold]{len(found.circuit.nodes)} nodes[/bold] of {len(found.path.nodes)} candidates keep "
        f"[bold]{measured['faithfulness']:.1%}[/bold] of the logit difference of {found.circuit.task} in "
        f"{found.circuit.model}, held-out prompts (accuracy {measured['accuracy']:.1%}, KL {measured['kl']:.3f} nats)",
        highlight=False,
    )
    out.print(f"report: {report}", highlight=False, soft_wrap=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


def _choice(option: str, value: str, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise UsageError(f"{option}: expected one of {', '.join(allowed)}, found {value!r}")
    return value


def _policies(ablation: str, errors: str, masks: str) -> tuple[Any, Any, Any]:
    return (
        _choice("--ablation", ablation, ("mean", "zero", "resample")),
        _choice("--errors", errors, ("mean", "drop", "keep")),
        _choice("--masks", masks, ("role", "position", "shared")),
    )


def _numbers(option: str, text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise UsageError(f"{option}: expected numbers as 2,4,6, found {text!r}")
    return [int(part) for part in parts]


def _model(source: str, device: str | None, dtype: str | None) -> Any:
    import torch

    from gossamer.model import LanguageModel

    kind = getattr(torch, dtype, None) if dtype else None
    if dtype and not isinstance(kind, torch.dtype):
        raise UsageError(f"--dtype: expected a torch type such as float32 or bfloat16, found {dtype!r}")
    return LanguageModel.load(source, device=device, dtype=kind)


def _dictionaries(model: Any, source: str, given: list[str] | None) -> Any:
    from gossamer import bundled
    from gossamer.dictionary import DictionarySet

    if given:
        return DictionarySet.load(given[0] if len(given) == 1 else given).to(model.device)
    if source.startswith("bundled:"):
        return DictionarySet.load(bundled.path(source.removeprefix("bundled:")) / "dictionaries").to(model.device)
    raise UsageError("--dictionaries: expected a folder or hub:REPO/PATH; train some with 'gossamer train'")


def _task(name: str, tokenizer: Any, bos: bool | None, n: int | None, seed: int) -> Any:
    from gossamer.tasks import get, open_task

    if Path(name).suffix in (".json", ".jsonl"):
        return open_task(name, tokenizer, bos=bos, seed=seed)
    return get(name).generate(tokenizer, n=n, bos=bos, seed=seed)


def _ioi_texts() -> list[str]:
    import random

    from gossamer.tasks import ioi

    return [prompt.clean_text for prompt in ioi.sample(random.Random(0), 64)]
