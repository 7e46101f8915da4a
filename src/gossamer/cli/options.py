"""The arguments and options that commands share, each with its one help text."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from gossamer.cli import early

Model = Annotated[
    str,
    typer.Argument(help="A Hugging Face id, a local folder, or bundled:spool.", callback=early.known_model),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output instead of text.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; default: cuda if there is one, else cpu.")]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="float32, bfloat16, float16 or float64; default: the checkpoint's own, or float32 where half precision is "
        "slow (a CPU without instructions for it).",
        callback=early.one_of("--dtype", early.DTYPES),
    ),
]
FamilyFile = Annotated[
    Path | None,
    typer.Option(
        "--family",
        help="A YAML, JSON or TOML file that describes an architecture gossamer does not know (model.Family).",
    ),
]
_DICTIONARIES = (
    "A folder of dictionaries, hub:REPO/PATH, saelens:RELEASE/ID, gemma-scope-2b-pt-res/... or bundled:spool; repeat "
    "for several sites. Formats are recognised. "
)
Dictionaries = Annotated[
    list[str] | None,
    typer.Option("--dictionaries", "-d", help=f"{_DICTIONARIES}Default: those that come with a bundled model."),
]
CircuitDictionaries = Annotated[
    list[str] | None,
    typer.Option("--dictionaries", "-d", help=f"{_DICTIONARIES}Default: those that the circuit's file names."),
]
StoreDictionaries = Annotated[
    list[str] | None,
    typer.Option(
        "--dictionaries",
        "-d",
        help="The dictionaries of the store, for latents with near decoder rows, which make the test harder; a set may "
        "have more sites. Default: none.",
    ),
]
# What `--text` takes.
TEXT = "text, plain, JSON Lines or Parquet: a file, a folder, hub:DATA-SET/FILE, or datasets:NAME:SPLIT#ROWS, streamed"
TextKey = Annotated[str, typer.Option("--text-key", help="Where rows of JSON Lines or Parquet have their text.")]
Facts = Annotated[
    list[str] | None,
    typer.Option(
        "--fact",
        help="What the files of dictionaries lack: site=, model_name=, format= or norm_scaling_factor=; repeat.",
    ),
]
AllowOtherModel = Annotated[
    bool,
    typer.Option("--allow-other-model", help="Take dictionaries of another model, as of a fine-tune."),
]
Families = Annotated[
    str | None,
    typer.Option(
        help="A circuit for each family of prompts too, by template, case, roles (their order) or profile (clusters of "
        "prompts that use the latents alike); tested on its own held-out prompts and on the others'.",
        callback=early.one_of("--families", early.FAMILIES),
    ),
]
UnseenTemplates = Annotated[
    str | None,
    typer.Option(
        help="Templates that no search sees and that the circuit is tested on besides: names, separated by commas, or "
        "how many (those with the fewest prompts). With several tasks, each must have these templates and at least one "
        "other; otherwise nothing is searched.",
    ),
]
CircuitControls = Annotated[
    list[str] | None,
    typer.Option(
        "--control",
        help="shuffled-latents: the same search where each latent writes another one's direction; what is reported is "
        "held against it.",
        callback=early.one_of("--control", early.CIRCUIT_CONTROLS),
    ),
]
ControlDictionaries = Annotated[
    list[str] | None,
    typer.Option(
        help="A folder of dictionaries (as of gossamer train --control) to do the same search in, as a control; repeat."
    ),
]
Price = Annotated[str, typer.Option(help="INPUT,OUTPUT dollars of a million tokens.")]
MaxCost = Annotated[float | None, typer.Option("--max-cost", help="Dollars that may be spent.")]
Engine = Annotated[
    str | None,
    typer.Option(
        help="ray: parts of the text go to the workers of a Ray cluster on this machine; ray:HOST:PORT: to those of "
        "one that runs. Default: all is done in this process.",
    ),
]
Workers = Annotated[
    int | None, typer.Option(help="Workers of --engine ray, with a thread of torch each; default: one a CPU.")
]
TaskName = Annotated[
    str,
    typer.Option(
        "--task",
        "-t",
        help="A task's name (see [bold]gossamer tasks[/bold]), or a .json/.jsonl/.csv file of prompts.",
    ),
]
Bos = Annotated[
    bool | None,
    typer.Option("--bos/--no-bos", help="Begin with BOS; default: as the tokenizer does. A saved task keeps its own."),
]
LeaveOutSpecial = Annotated[
    bool,
    typer.Option(
        "--leave-out-special", help="The tokenizer's special tokens do not count (marks of a chat, end of text)."
    ),
]
LeaveOutLouder = Annotated[
    float | None,
    typer.Option(
        "--leave-out-louder",
        help="Tokens whose norm, at the deepest of the sites, is more than so many times the median do not count "
        "(10, say).",
    ),
]
Positions = Annotated[
    str | None,
    typer.Option(
        "--positions", help="Tokens of a row that count, as START:STOP of a slice: 1: is all but the first, :-5 ..."
    ),
]
CardsFrom = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="A feature store of the same model and dictionaries (gossamer store build): what is said of latents comes "
        "from there.",
    ),
]
Roles = Annotated[
    str | None,
    typer.Option(
        help="How a file's words get roles: given (in its rows), position, answers (their mentions) or diff (what "
        "differs from the counterfactual); default: by what the file holds.",
        callback=early.one_of("--roles", ("given", "position", "answers", "diff")),
    ),
]
Length = Annotated[int | None, typer.Option(help="Keep only a file's prompts of so many tokens, BOS included.")]
Rows = Annotated[int, typer.Option(help="Texts to measure on, from the first.", callback=early.from_least("--rows", 1))]
Prompts = Annotated[
    int | None,
    typer.Option(
        "--prompts", "-n", help="How many prompts to generate; default: as `gossamer tasks` says. Not for a file."
    ),
]
Seed = Annotated[int, typer.Option(help="Of everything random; a saved task keeps its own split.")]
Faithfulness = Annotated[
    float | None, typer.Option("--faithfulness", "-f", help="Share of the task's metric to keep (default 0.9).")
]
Size = Annotated[int | None, typer.Option("--size", "-s", help="Number of nodes wanted instead.")]
Recipe = Annotated[
    str,
    typer.Option(
        help="gossamer, or reference (the published recipe, for comparison).",
        callback=early.one_of("--recipe", ("gossamer", "reference")),
    ),
]
MetricName = Annotated[
    str | None,
    typer.Option(
        "--metric",
        help="What is measured: logit_diff, prob_diff, logit_margin or kl; default: the task's own.",
        callback=early.one_of("--metric", early.METRICS),
    ),
]
Loss = Annotated[
    str,
    typer.Option(
        help="What the search keeps of every prompt: the metric, or kl at the answer.",
        callback=early.one_of("--loss", ("metric", "kl")),
    ),
]
Steps = Annotated[
    int,
    typer.Option(
        help="Gradient steps of a mask search.",
        callback=early.from_least("--steps", 1),
    ),
]
Reruns = Annotated[
    int,
    typer.Option(
        help="Further searches on samples of the prompts, for stability; with any, on halves too. 0: none.",
        callback=early.from_least("--reruns", 0),
    ),
]
Edges = Annotated[
    bool,
    typer.Option(
        "--edges",
        help="Test edges too: faithfulness with the k strongest alone, beside random ones; a pass a node for each k.",
    ),
]
Pairs = Annotated[
    bool,
    typer.Option("--qk", help="Say which pairs of nodes made the heads attend that carried the circuit's edges."),
]
Ablation = Annotated[
    str,
    typer.Option(
        help="Where ablated latents go: mean, zero or resample.",
        callback=early.one_of("--ablation", ("mean", "zero", "resample")),
    ),
]
Errors = Annotated[
    str,
    typer.Option(
        help="Reconstruction errors: mean, drop or keep.", callback=early.one_of("--errors", ("mean", "drop", "keep"))
    ),
]
ErrorNodes = Annotated[
    bool,
    typer.Option("--error-nodes", help="Errors of dictionaries, by site and role, may be nodes of the circuit too."),
]
Masks = Annotated[
    str,
    typer.Option(
        help="One mask a latent by role, by position, or shared.",
        callback=early.one_of("--masks", ("role", "position", "shared")),
    ),
]
Compare = Annotated[
    list[str] | None,
    typer.Option(
        help="Methods to draw beside the circuit's own, by name; repeat. all: all but greedy and FAP-Synergy. "
        "Default: none.",
        callback=early.compared,
    ),
]
Others = Annotated[
    list[Path] | None,
    typer.Option(
        "--other",
        help="The circuit.json of another task: latents that it holds too are flagged as generic; repeat.",
    ),
]
MinimumAccuracy = Annotated[
    float,
    typer.Option(
        help="Refuse a task that the model does on fewer prompts.",
        callback=early.share("--minimum-accuracy", whole=True),
    ),
]
SplitBy = Annotated[
    Literal["text", "word"] | None,
    typer.Option(
        "--split-by",
        help="What training and test prompts do not share: a text, or a word (names, nouns) either; by default words "
        "where the prompts allow it.",
        show_default=False,
    ),
]
TaskSplit = Annotated[
    Literal["text", "word"] | None,
    typer.Option(
        "--split-by",
        help="What training and held-out prompts of --task do not share: a text (the default), or a word (names, "
        "nouns) either.",
        show_default=False,
    ),
]
Validation = Annotated[
    float,
    typer.Option(
        help="Share of the training prompts, with names or templates of their own, that choices are made on (how many "
        "nodes keep what is asked, which of them are exchanged); 0: choose on those that were fitted.",
        callback=early.share("--validation", whole=False),
    ),
]
BatchSize = Annotated[
    int, typer.Option(help="Prompts a pass; halved when memory runs out.", callback=early.from_least("--batch-size", 1))
]
Out = Annotated[
    Path,
    typer.Option("--out", help="Folder for the results; made if missing.", callback=early.writable_folder),
]
