"""Annotated shapes and types of gossamer are checked at every call of its functions while tests run.

The modules are those of the tree, so that a new room is never forgotten. Left out are the JAX room, since the checker's
stack of calls knows nothing of greenlets, and the kernels, which Triton compiles from their source.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from jaxtyping import install_import_hook

UNCHECKED = ("gossamer.jax", "gossamer.sparse.kernels")


def source() -> Path:
    """The folder of the package's source, which is not imported for it."""
    spec = find_spec("gossamer")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def modules(folder: Path, package: str) -> Iterator[str]:
    """The names of all modules below a package; a package stands for all that is in it where nothing is left out."""
    for path in sorted(folder.iterdir()):
        name = f"{package}.{path.stem}"
        is_package = (path / "__init__.py").exists()
        if name in UNCHECKED or not (is_package or path.suffix == ".py"):
            continue
        if is_package and any(left_out.startswith(f"{name}.") for left_out in UNCHECKED):
            yield from modules(path, name)
        else:
            yield name


def install() -> None:
    """Check what is imported from now on: to be called before anything of gossamer is imported."""
    install_import_hook(list(modules(source(), "gossamer")), "beartype.beartype")
