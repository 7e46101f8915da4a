"""One run for all tests of the workbench, made once; the page, built once."""

import shutil

import pytest
from kinds_run import write_kinds
from workbench_run import TOKEN, bench_of, client_of, serving, write_run, write_store

from gossamer.app import page


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The run's folder, what was found, and its findings. Nothing may be written there: copy it (`run`)."""
    folder = tmp_path_factory.mktemp("made") / "run"
    folder.mkdir()
    return folder, *write_run(folder)


@pytest.fixture(scope="session")
def stored(made, tmp_path_factory):
    """A run of a circuit, the dictionaries and a feature store. Nothing may be written there."""
    folder = shutil.copytree(made[0], tmp_path_factory.mktemp("stored") / "run")
    write_store(folder)
    return folder


@pytest.fixture(scope="session")
def kinds(made, tmp_path_factory):
    """A run with a file of every kind. Nothing may be written there."""
    return write_kinds(tmp_path_factory.mktemp("kinds") / "run", *made[1:])


@pytest.fixture
def run(made, tmp_path):
    """A copy of the run, to be damaged at will."""
    return shutil.copytree(made[0], tmp_path / "run")


@pytest.fixture(scope="session")
def bench(made):
    """A workbench of the run, whose model is loaded once."""
    return bench_of(made[0])


@pytest.fixture(scope="session")
def ask(bench):
    return client_of(bench)


@pytest.fixture(scope="session")
def built():
    """The folder of the built page; skips only where the packages that it is made of cannot be reached."""
    try:
        page.build()
    except page.NoRegistryError as error:
        pytest.skip(str(error))
    return page.STATIC


@pytest.fixture(scope="module")
def address(built, made, tmp_path_factory):
    """A server of the run in this process, as `gossamer view` starts one."""
    with serving(shutil.copytree(made[0], tmp_path_factory.mktemp("served") / "run")) as found:
        yield found


@pytest.fixture
def harmless():
    """What a console may say without a test failing."""
    return ()


@pytest.fixture
def visit(browser, address, harmless):
    """Open a view of the server at `address`; an error in the console or a request that leaves it fails the test."""
    wrong, opened = [], []

    def visit(where="/", width=1400, scheme="light", token=TOKEN):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if _grave(message, harmless) else None)
        page.on("request", lambda request: wrong.append(request.url) if _leaves(request.url, address) else None)
        page.goto(f"{address}/#token={token}&{where}")
        return page

    yield visit
    for context in opened:
        context.close()
    assert wrong == []


def _grave(message, harmless):
    return message.type in ("error", "warning") and not any(text in message.text for text in harmless)


def _leaves(url, address):
    return not url.startswith((f"{address}/", "blob:", "data:"))
