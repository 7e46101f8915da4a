"""`gossamer view`: the workbench on a run folder."""

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from gossamer.app import page
from gossamer.app.ports import listen
from gossamer.cli import inputs, options
from gossamer.cli.printing import err, out, print_json
from gossamer.errors import GossamerError, UsageError
from gossamer.files import needed


def view(
    run: Annotated[Path, typer.Argument(help="The folder of a run: the --out of a command, or a folder of several.")],
    port: Annotated[
        int | None,
        typer.Option(help="Port on this machine; 0: any free one. Default: the first free one from 8231 on."),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="HOST:PORT under which a proxy, as JupyterHub's, shows the page; repeat."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model that the run names by its title alone: its folder, of that name; repeat."),
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="A server with OpenAI's API whose model plays the game, as explain has it.")
    ] = None,
    player: Annotated[str, typer.Option(help="That model's name at the server.")] = "",
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Write the page with its data instead, to open or send without a server; a folder where it is large.",
        ),
    ] = None,
    device: options.Device = None,
    as_json: options.AsJson = False,
) -> None:
    """Look at everything in a run folder, in a browser on this machine; nothing leaves it. Ctrl-C ends it.

    The page shows the files that commands wrote, and asks the model where a question needs it: what some nodes of a
    circuit keep by themselves, or what the model says when they are moved.

    Example: gossamer view gossamer-out/demo
    """
    if export is not None and export.suffix != ".html":
        raise UsageError(f"--export: a file NAME.html expected, found {export}")
    if port is not None and not 0 <= port <= 65535:
        raise UsageError(f"--port: a number from 0 to 65535 expected, found {port}")
    if (endpoint is None) != (not player):
        raise UsageError("view: --endpoint and --player, or none of them, expected; give the other one too")
    if export is None:
        listen(port).close()
    _require_run(run)
    for package in ("fastapi", "uvicorn"):
        needed(package, "gossamer view", "'gossamer[app]'")
    _require_page()
    if export is not None:
        _export(run, export, as_json=as_json)
        return

    from gossamer.app.server import Address, serve
    from gossamer.app.workbench import Workbench

    def ready(address: Address, bench: Workbench) -> None:
        if as_json:
            print_json({"url": address.url, "folder": str(bench.run.path), "read_only": bench.read_only})
            return
        out.print(f"{bench.run.name}: {address.url}", soft_wrap=True)
        if bench.read_only is not None:
            err.print(f"read only: {bench.read_only}", soft_wrap=True)
        err.print("Ctrl-C ends it")

    # Where a shell has the signal ignored, as in its background, the server ends on it and nothing is raised.
    with contextlib.suppress(KeyboardInterrupt):
        serve(
            run,
            port=port,
            allowed_hosts=allow_host or (),
            device=device,
            models=model or (),
            judge=_player(run, endpoint, player),
            browse=browser,
            ready=ready,
        )
    err.print("closed; what was kept stays in the run folder")


def _player(run: Path, endpoint: str | None, name: str) -> Any:
    """The language model that plays the game; its answers are kept, so that a round is asked for once."""
    if not name:
        return None

    from gossamer.explain import ChatJudge, Prices

    return ChatJudge(inputs.chat(endpoint, name, Prices(), None, run / "views" / "game" / "answers"))


def _export(run: Path, target: Path, *, as_json: bool) -> None:
    from gossamer.app.exported_page import export_page, said

    written = export_page(run, target)
    if as_json:
        print_json({"page": str(written.page), "bytes": written.bytes, "answers": written.answers})
    else:
        out.print(said(written), soft_wrap=True)


# What a run's results are written as.
_RESULTS = (".json", ".parquet", ".safetensors")


def _require_run(run: Path) -> None:
    """Refuse what is no folder before anything is imported."""
    if run.is_file():
        raise UsageError(f"{run}: the folder of a run expected, found a file; give the folder that it lies in")
    if not run.is_dir():
        raise UsageError(f"{run}: no such folder; give the --out of a command, such as gossamer-out/demo")
    if not any(path.suffix in _RESULTS for path in run.rglob("*")):
        err.print(
            f"{run}: no results of gossamer here yet, so the page will be empty; give the --out of a command",
            soft_wrap=True,
        )


def _require_page() -> None:
    """Build the page where this is a source tree that has none yet, or an older one."""
    if page.is_built():
        return
    if page.SOURCES.is_dir():
        err.print("building the page from its sources, once ...")
    try:
        page.build()
    except page.BuildError as error:
        raise GossamerError(str(error)) from error
