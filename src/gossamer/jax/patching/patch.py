"""`Patch`: tags in functions that somebody else wrote, without forking them."""

import threading
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from types import FunctionType, TracebackType

from gossamer.jax.patching import active
from gossamer.jax.patching.edits import Edit, shared_out
from gossamer.jax.patching.errors import MatchError, PatchError, PatchWarning
from gossamer.jax.patching.placed import Placed, patched_text, placed
from gossamer.jax.patching.prefix import Prefix
from gossamer.jax.patching.source import Target, functions_of


class Patch(active.Edits):
    """Edits of functions, applied by swapping their ``__code__``.

        PATCH = Patch({eqx.nn.MultiheadAttention.__call__: [tag_return("attn.out")]}, verified={"equinox": ["0.13.8"]})
        with PATCH:
            ...

    The function objects stay the same: aliases, subclasses, decorators, closures, bound methods and models that were
    built before all have the edits, tracebacks show the lines of the original file, and nothing is executed again.
    Patterns match the original source, whatever else is in force; patches come and go in any order. A patch is in force
    for the whole process, and part of the key of JAX's caches: jitted functions are neither stale nor compiled twice.

    Related work: mishax (Google DeepMind) patches the syntax tree too; it makes the patched class or function anew.
    """

    def __init__(
        self,
        edits: Mapping[Target, Sequence[Edit] | Edit],
        *,
        prefix: str = "",
        verified: Mapping[str, Sequence[str]] | None = None,
        source_hash: Mapping[str, str] | None = None,
    ) -> None:
        """Describe a patch; functions are looked up, and errors found, when it is first used.

        Args:
            edits: for each function what to do to it. A function is given as itself (however it is decorated), as a
                method of its class, or as the text "package.module:Class.method", imported on first use. A class (or
                the text "package.module:Class") stands for the methods written in it: each edit looks in all of them.
            prefix: Python that is run once in a copy of each module that is patched, such as imports and functions: the
                code of the edits can use the names that it defines, while the patch is in force.
            verified: for packages, by the names they are installed under, the versions that the patch was written for.
            source_hash: `hashes()` at that time, for some or all functions. A function whose source has changed since
                is patched if every edit still fits, with a PatchWarning.
        """
        self._given = {target: [edit] if isinstance(edit, Edit) else list(edit) for target, edit in edits.items()}
        self.prefix = Prefix(prefix) if prefix.strip() else None
        self._verified = dict(verified or {})
        self._source_hash = dict(source_hash or {})
        self._lock = threading.RLock()
        self._entered = 0
        self._installed = False

    @cached_property
    def edits(self) -> dict[FunctionType, list[Edit]]:
        """The functions to patch and their edits.

        Raises:
            SourceError: a target is no Python function.
            MatchError: an edit of a class fits in none of its methods, or in several.
        """
        found: dict[FunctionType, list[Edit]] = {}
        for target, edits in self._given.items():
            functions = functions_of(target)
            sources = [active.original(function) for function in functions] if len(functions) > 1 else []
            for edit in edits:
                parts = shared_out(edit, sources) if sources else [edit]
                for function, part in zip(functions, parts, strict=True):
                    found.setdefault(function, []).extend([part] if part else [])
        return {function: its_edits for function, its_edits in found.items() if its_edits}

    def __enter__(self) -> "Patch":
        """Put the patch in force, if it is not; it goes with the last `with` that it was entered in."""
        with self._lock:
            self._ensure()
            self._entered += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._entered -= 1
            self._release()

    def install(self) -> None:
        """Put the patch in force until `uninstall`.

        Raises:
            PatchError: an edit does not fit; nothing is changed.
        """
        with self._lock:
            self._ensure()
            self._installed = True

    def uninstall(self) -> None:
        """Take back `install`.

        Raises:
            PatchError: it was not installed.
        """
        with self._lock:
            if not self._installed:
                raise PatchError("uninstall: this patch was not installed")
            self._installed = False
            self._release()

    def is_installed(self) -> bool:
        """Whether `install` keeps it in force."""
        return self._installed

    def places(self) -> list[Placed]:
        """Where every edit lands in the original source, whether in force or not.

        Raises:
            PatchError: an edit does not fit.
        """
        return list(placed(self.edits))

    def hashes(self) -> dict[str, str]:
        """The hash of the source of every function, as `source_hash` takes it."""
        return {source.name: source.hash() for source in map(active.original, self.edits)}

    def sources(self) -> dict[str, str]:
        """What every function becomes by this patch alone, as Python to look at, by the names of `hashes`.

        Raises:
            PatchError: an edit does not fit.
        """
        originals = [(active.original(function), edits) for function, edits in self.edits.items()]
        return {source.name: patched_text(source, edits) for source, edits in originals}

    def _ensure(self) -> None:
        if self._entered or self._installed:
            return
        changed = self._changed()
        try:
            active.apply(self)
        except MatchError as error:
            raise (MatchError(f"{error}\n    {'; '.join(changed)}") if changed else error) from None
        for line in changed:
            warnings.warn(f"{line}; every edit still fits: look at places() and verify it", PatchWarning, stacklevel=3)

    def _release(self) -> None:
        if not self._entered and not self._installed:
            active.withdraw(self)

    def _changed(self) -> list[str]:
        """In what the present source differs from the one that the patch was written for."""
        found = []
        sources = {source.name: source for source in map(active.original, self.edits)}
        unknown = sorted(set(self._source_hash) - set(sources))
        if unknown:
            raise PatchError(f"source_hash names {unknown[0]}, which is not patched: expected {', '.join(sources)}")
        for name in sources.keys() & self._source_hash.keys():
            noted, present = self._source_hash[name], sources[name].hash()
            if noted != present:
                found.append(f"{name} is not the source this patch was written for (hash {noted}, now {present})")
        return sorted(found) + (self._unverified() if set(sources) - set(self._source_hash) else [])

    def _unverified(self) -> list[str]:
        """Packages of another version than the verified ones: they count where a function has no hash."""
        here = {package: _version(package) for package in self._verified}
        return [
            f"this patch was verified with {package} {', '.join(versions)}, here is {here[package]}"
            for package, versions in self._verified.items()
            if here[package] not in versions
        ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
