"""The feature stores of a run: opened once, asked one question at a time."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gossamer.app.run_folder import Part, RunFolder
from gossamer.app.saved_dictionaries import dictionary_folder
from gossamer.app.sets import FoundSet
from gossamer.circuits.circuit import Circuit
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import GossamerError
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.site import Site
from gossamer.store.feature_store import FeatureStore


class Stores:
    """Which store is of which dictionaries, and the stores, open.

    A store belongs to a dictionary by the SHA-256 of its weights. Those of a set that the run holds are hashed when
    they are first asked for (a second a gigabyte), and again only if the set was written again.

    Args:
        run: the run.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run, self._lock = run, threading.Lock()
        self._open: dict[str, tuple[float, FeatureStore]] = {}
        self._hashes: dict[tuple[str, float], Mapping[str, str | None]] = {}

    def of(self, found: FoundSet) -> dict[str, Part]:
        """The store of each site of a set that has one: the largest."""
        parts: dict[str, Part] = {}
        sizes: dict[str, int] = {}
        for part in self._run.parts().values():
            manifest = self._run.read(part).content if part.kind == "feature store" else None
            if manifest is None or not manifest.complete:
                continue
            for site, sha256 in self._weights(found).items():
                stored = manifest.dictionaries.get(site)
                same = stored is not None and sha256 is not None and stored.weights == sha256
                if same and manifest.tokens > sizes.get(site, -1):
                    parts[site], sizes[site] = part, manifest.tokens
        return parts

    @contextmanager
    def use(self, part: Part) -> Iterator[FeatureStore]:
        """A store, for this thread alone.

        Raises:
            GossamerError, UsageError: it is damaged, or the packages that read it are not there.
        """
        with self._lock:
            known = self._open.get(part.id)
            if known is None or known[0] != part.modified:
                if known is not None:
                    known[1].close()
                known = (part.modified, FeatureStore(part.path.parent))
                self._open[part.id] = known
            yield known[1]

    def _weights(self, found: FoundSet) -> Mapping[str, str | None]:
        """SHA-256 of each dictionary's weights, by site; None where it is not known."""
        if isinstance(found.content, Circuit):
            inputs = found.content.inputs
            return {} if inputs is None else {site: one.sha256 for site, one in inputs.dictionaries.items()}
        key = (str(found.part.path), found.part.modified)
        if key not in self._hashes:
            self._hashes[key] = {str(site): _hash(found, site) for site in found.shapes}
        return self._hashes[key]


def _hash(found: FoundSet, site: Site) -> str | None:
    try:
        return weights_sha256(Dictionary.load(dictionary_folder(found.part.path, site), device="cpu"))
    except GossamerError:
        return None  # damaged: what asks for its weights says so
