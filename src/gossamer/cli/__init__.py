"""The command line: every command is one call into the library, with the same words."""

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gossamer import __version__
from gossamer.cli.adversarial import adversarial
from gossamer.cli.coding import pursuit
from gossamer.cli.comparing import compare_recipes
from gossamer.cli.dictionaries import check
from gossamer.cli.evaluating import evaluate
from gossamer.cli.explaining import explain, game
from gossamer.cli.exploring import explore
from gossamer.cli.exporting import export
from gossamer.cli.finding import circuit, demo
from gossamer.cli.help import Command
from gossamer.cli.ioi import ioi
from gossamer.cli.printing import err, fail, first_word, out, spoken_warnings
from gossamer.cli.prompts import tasks
from gossamer.cli.relating import lifecycle, relate
from gossamer.cli.relations_page import relations
from gossamer.cli.rerunning import evaluate_circuit, report
from gossamer.cli.steering import steer
from gossamer.cli.storing import store
from gossamer.cli.studying_circuits import study_circuits
from gossamer.cli.studying_relations import study_relations
from gossamer.cli.toys import features_truth, relations_truth, toys
from gossamer.cli.tracing import trace
from gossamer.cli.training import train
from gossamer.cli.uploading import upload
from gossamer.cli.viewing import view
from gossamer.errors import GossamerError, UsageError


class _Stopped(Exception):  # noqa: N818  (no error: the user asked for it)
    """Ctrl-C."""


class _Commands(TyperGroup):
    """Lets Ctrl-C through to `main`: Typer would make a silent exit of a KeyboardInterrupt."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise _Stopped from interrupt


_BEGIN = """Find, test and look at sparse feature circuits in language models. Begin with:

[bold]gossamer demo[/bold]                     a circuit in the bundled model, in minutes
[bold]gossamer view gossamer-out/demo[/bold]   all that was found, in a browser
[bold]gossamer tasks[/bold]                    what circuits can be found for
[bold]gossamer circuit MODEL -d FOLDER -t TASK[/bold]   the same for a model of yours
[bold]gossamer COMMAND --help[/bold]           its options, and an example to paste
"""

app = typer.Typer(
    cls=_Commands, help=_BEGIN, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich"
)


def _print_version(asked: bool) -> bool:
    if asked:
        out.print(f"gossamer {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Find, test and look at sparse feature circuits in language models."""


_COMMANDS = {
    "Circuits": (demo, circuit, study_circuits, evaluate_circuit, adversarial, report, view, export, upload, tasks),
    "How information moved": (trace, explore, ioi),
    "Dictionaries": (train, check, evaluate, compare_recipes, pursuit),
    "What features are": (relate, lifecycle, relations, study_relations, steer, explain, game),
    "Where the truth is known": (toys, features_truth, relations_truth),
}
for panel, commands in _COMMANDS.items():
    for command in commands:
        app.command(cls=Command, rich_help_panel=panel)(command)
app.add_typer(store, name="store", rich_help_panel="What features are")


def main() -> None:
    """The program `gossamer`: :func:`run`, with a word of what is going on where loading takes long."""
    # Large pages for large tensors, which torch asks Linux for if this is set before it is imported: logits of a wide
    # vocabulary are made a fifth faster, for no page of 4 KiB has to be fetched for every thousand of them.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # Without a network the hub's client would tell of each of its attempts; what they came to is said in one line.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    with first_word():
        run()


def run() -> None:
    """Run the command line: exit code 0 done, 1 failed, 2 wrong request, 130 stopped; a user's mistake is one line."""
    try:
        with spoken_warnings():
            app()
    except UsageError as error:
        fail(error, 2)
    except GossamerError as error:
        fail(error, 1)
    except (_Stopped, KeyboardInterrupt):
        err.print("stopped; nothing was left half-written")
        sys.exit(130)
