"""The application and the server: `gossamer view`."""

import webbrowser
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from gossamer import __version__
from gossamer.app.guard import Guard, loopback_hosts, new_token
from gossamer.app.live import BusyError, LiveModels
from gossamer.app.page import STATIC
from gossamer.app.ports import HOST, listen
from gossamer.app.routes.adversarial import adversarial_routes, exported_adversarial
from gossamer.app.routes.attention import attention_routes, exported_attention
from gossamer.app.routes.circuits import circuit_routes, exported_circuits, measured_circuit_routes
from gossamer.app.routes.compare import compare_routes
from gossamer.app.routes.dictionaries import dictionary_routes, exported_dictionaries
from gossamer.app.routes.explanations import explanation_routes, exported_explanations
from gossamer.app.routes.exports import export_routes
from gossamer.app.routes.game import game_routes
from gossamer.app.routes.jobs import job_routes
from gossamer.app.routes.latents import latent_routes
from gossamer.app.routes.prompts import prompt_routes
from gossamer.app.routes.relations import exported_relations, relation_routes
from gossamer.app.routes.runs import exported_runs, run_routes
from gossamer.app.routes.search import search_routes
from gossamer.app.routes.steering import exported_sweeps, steering_routes
from gossamer.app.routes.studies import exported_studies, study_routes
from gossamer.app.routes.views import exported_views, view_routes
from gossamer.app.run_folder import RunFolder
from gossamer.app.workbench import UnknownError, Workbench
from gossamer.errors import GossamerError
from gossamer.explain.judges import ChatJudge

# A file of routes for each view.
_ROUTES = (
    run_routes,
    circuit_routes,
    measured_circuit_routes,
    compare_routes,
    dictionary_routes,
    latent_routes,
    prompt_routes,
    search_routes,
    view_routes,
    export_routes,
    steering_routes,
    adversarial_routes,
    explanation_routes,
    game_routes,
    job_routes,
    relation_routes,
    attention_routes,
    study_routes,
)
# What a page without a server holds: for each file of routes whose answers need no model, what is asked there ...
_EXPORTED: tuple[Callable[[Workbench], Iterator[str]], ...] = (
    exported_runs,
    exported_circuits,
    exported_dictionaries,
    exported_views,
    exported_sweeps,
    exported_adversarial,
    exported_explanations,
    exported_relations,
    exported_attention,
    exported_studies,
)
# ... and of the kinds of files that one answer shows whole, that.
_WHOLE = {
    "steering sweep": "/steering/sweeps/{}",
    "adversarial prompts": "/adversarial/{}",
}
_TOO_LARGE = "not enough memory for this model here; close other programs, or view the run on a larger machine"


def api(bench: Workbench) -> FastAPI:
    """The routes, without what guards them."""
    app = FastAPI(title="gossamer workbench", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    for routes in _ROUTES:
        app.include_router(routes(bench), prefix="/api/v1")
    for refused, status in ((UnknownError, 404), (BusyError, 503), (GossamerError, 422)):
        app.add_exception_handler(refused, _said(status))
    for failed in (MemoryError, torch.OutOfMemoryError):
        app.add_exception_handler(failed, _said(503, _TOO_LARGE))
    app.add_exception_handler(RequestValidationError, _malformed)
    if STATIC.is_dir():
        app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app


def exported_paths(bench: Workbench) -> Iterator[str]:
    """What a page asks of a run when no model can be asked: the questions that an exported page holds answers to."""
    for exported in _EXPORTED:
        yield from (f"/api/v1{path}" for path in exported(bench))
    for part in bench.run.parts().values():
        if part.kind in _WHOLE:
            yield f"/api/v1{_WHOLE[part.kind].format(part.id)}"


def _malformed(_: Request, error: Exception) -> JSONResponse:
    """What is wrong with a request, without what was sent: that may be bytes that are no text."""
    assert isinstance(error, RequestValidationError)
    wrong = [{"loc": list(map(str, one["loc"])), "msg": one["msg"]} for one in error.errors()]
    return JSONResponse({"detail": wrong}, 422)


def _said(status: int, message: str | None = None) -> Callable[[Request, Exception], JSONResponse]:
    def answer(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": message or str(error)}, status)

    return answer


def create_app(bench: Workbench, token: str, hosts: Iterable[str]) -> ASGIApp:
    """The application as it is served.

    Args:
        bench: the run.
        token: what requests for data have to carry.
        hosts: what Host may be, with its port.
    """
    return Guard(api(bench), hosts, token)


class Address(NamedTuple):
    """Where the page is: `url` has the token in its fragment, which browsers send to nobody."""

    url: str
    port: int


def serve(
    folder: str | Path,
    *,
    port: int | None = None,
    allowed_hosts: Iterable[str] = (),
    device: str | None = None,
    models: Iterable[str] = (),
    judge: ChatJudge | None = None,
    browse: bool = True,
    ready: Callable[[Address, Workbench], AbstractContextManager[Any] | None] = lambda address, bench: None,
) -> None:
    """Serve the workbench for a run until it is stopped (Ctrl-C).

    Args:
        folder: of the run.
        port: see :func:`listen`.
        allowed_hosts: further values of Host that are meant, as behind a proxy; with ports.
        device: where models are loaded.
        models: that parts of the run name by their title alone; see :class:`gossamer.app.live.LiveModels`.
        judge: a language model that plays the game.
        browse: whether to open the page in a browser.
        ready: is told the address once the port is held.

    Raises:
        UsageError: no such folder, or no such port.
    """
    bench = Workbench(RunFolder(folder), LiveModels(device, tuple(models)), judge=judge)
    with closing(listen(port)) as found, bench.holding_views():
        token, number = new_token(), int(found.getsockname()[1])
        address = Address(f"http://{HOST}:{number}/#token={token}", number)
        app = create_app(bench, token, {*loopback_hosts(number), *allowed_hosts})
        config = uvicorn.Config(app, log_level="warning", lifespan="off", server_header=False, ws="none")
        with ready(address, bench) or nullcontext():
            if browse:
                webbrowser.open(address.url)
            uvicorn.Server(config).run(sockets=[found])
