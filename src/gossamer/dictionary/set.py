"""Several dictionaries of one model, ordered by the depth of their sites."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gossamer import bundled
from gossamer.dictionary.attach import Attachment, attach
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.formats import hub
from gossamer.dictionary.formats.weights import sha256
from gossamer.display import html_table, listed, plural, short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.files import read_json, write_json
from gossamer.locating import BUNDLED
from gossamer.model.language_model import LanguageModel
from gossamer.model.names import same_model
from gossamer.model.site import BySite, Site, SiteLike
from gossamer.tokens import Tokens

INDEX = "dictionaries.json"
_FORMAT = "gossamer.dictionaries.1"


class DictionarySet(Mapping[Site, Dictionary]):
    """An immutable mapping from sites to dictionaries, in the order in which the model computes the sites.

    A name of a site will do as well: `dictionaries["resid_post.7"]`.

    Raises:
        UsageError: none at all, a dictionary without a site, two at one site, dictionaries of different models, or a
            transcoder.
    """

    def __init__(self, dictionaries: Iterable[Dictionary]) -> None:
        found: dict[Site, Dictionary] = {}
        for dictionary in dictionaries:
            dictionary.require_reconstruction("a set")
            if dictionary.site is None:
                raise UsageError(
                    "a dictionary does not say which site it reads; load it with site= (--fact site=resid_post.3)"
                )
            if dictionary.site in found:
                raise UsageError(f"two dictionaries at {dictionary.site}; give one for each site")
            found[dictionary.site] = dictionary
        if not found:
            raise UsageError("expected at least one dictionary, found none")
        names = sorted({dictionary.model_name for dictionary in found.values() if dictionary.model_name is not None})
        if any(not same_model(names[0], name) for name in names[1:]):
            raise UsageError(f"dictionaries of different models in one set: {', '.join(names)}")
        self.model_name = names[0] if names else None
        self._dictionaries = BySite((site, found[site]) for site in sorted(found))

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.model_name or 'no model'}"
        yield f"{plural(len(self), 'dictionary', 'dictionaries')} at {listed(self)}"
        yield f"{listed(sorted({one.architecture for one in self.values()}))}"

    def _repr_html_(self) -> str:
        head = ("site", "architecture", "latents", "d_in", "k", "claimed L0", "claimed explained variance")
        rows = [
            (
                site,
                one.architecture,
                one.n_latents,
                one.d_in,
                *map(_shown, (one.k, one.reported.l0, one.reported.explained_variance)),
            )
            for site, one in self.items()
        ]
        return html_table(head, rows, repr(self))

    def __getitem__(self, site: SiteLike) -> Dictionary:
        return self._dictionaries[site]

    def __iter__(self) -> Iterator[Site]:
        return iter(self._dictionaries)

    def __len__(self) -> int:
        return len(self._dictionaries)

    @property
    def nbytes(self) -> int:
        """Memory of all parameters in bytes."""
        return sum(dictionary.nbytes for dictionary in self.values())

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "DictionarySet":
        """Move every dictionary, in place as torch modules do; returns the set."""
        for dictionary in self.values():
            dictionary.to(device=device, dtype=dtype)
        return self

    def save(self, folder: str | Path) -> Path:
        """Write one SAELens folder a site, named by it, then `dictionaries.json` with hashes; returns the folder."""
        target = Path(folder)
        entries = []
        for site, dictionary in self.items():
            written = dictionary.save(target / str(site))
            hashes = {file.name: sha256(file) for file in sorted(written.iterdir()) if file.name in _FILES}
            entries.append({"site": str(site), "folder": str(site), "sha256": hashes})
        write_json(target / INDEX, {"format": _FORMAT, "model": self.model_name, "dictionaries": entries})
        return target

    def attach(self, model: LanguageModel, tokens: Tokens, *, allow_other_model: bool = False) -> list[Attachment]:
        """Check that every dictionary fits `model`; see :func:`gossamer.dictionary.attach.attach`."""
        return attach(model, self, tokens, allow_other_model=allow_other_model)

    @classmethod
    def load(
        cls,
        source: str | Path | Sequence[str | Path],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **facts: Any,
    ) -> "DictionarySet":
        """Load a saved set, a single dictionary, or a list of either; `facts` are those of :meth:`Dictionary.load`.

        The folder of a training run means the set in its `dictionaries`, which is the finished one; `bundled:NAME` the
        set of a bundled model. On the device "meta" nothing but shapes and facts is read, and of local files only those
        of facts are held against their hash.

        Raises:
            UsageError: nothing known there, or facts given for a saved set, which holds them.
            GossamerError: a file differs from the hash that the index holds, or is damaged.
        """
        sources = [source] if isinstance(source, str | Path) else list(source)
        loaded: list[Dictionary] = []
        weights = device is None or torch.device(device).type != "meta"
        for one in sources:
            saved = _on_hub(one) if hub.is_reference(one) else _saved(one, weights)
            if saved is not None:
                if facts:
                    raise UsageError(f"{one}: a saved set holds its facts; leave out {', '.join(facts)}")
                loaded += [Dictionary.load(place, device=device, dtype=dtype) for place in saved]
            else:
                loaded.append(_single(one, device=device, dtype=dtype, **facts))
        return cls(loaded)


def _saved(source: str | Path, weights: bool) -> list[Path] | None:
    """The dictionaries of the saved set that a source means: itself, or that of a training run or a bundled model."""
    if str(source).startswith(BUNDLED):
        source = bundled.path(str(source).removeprefix(BUNDLED))
    folders = (Path(source), Path(source) / "dictionaries")
    found = next((one for one in folders if (one / INDEX).is_file()), None)
    return None if found is None else [found / name for name in _verified(found, _entries(found), weights)]


def _on_hub(source: str | Path) -> list[str] | None:
    """References to the dictionaries of a saved set that was uploaded, all of one commit."""
    reference = str(source)
    if reference.partition("@")[0].endswith(hub.WEIGHTS_SUFFIXES):
        return None
    folder, origin = hub.fetch(reference, lambda _: [INDEX])
    if not (folder / INDEX).is_file():
        return None
    entries, at = _entries(folder), f"@{origin.revision}"
    hub.fetch(f"{origin.source}{at}", lambda _: [f"{entry['folder']}/{name}" for entry in entries for name in _FILES])
    return [f"{origin.source}/{name}{at}" for name in _verified(folder, entries)]


def _single(source: str | Path, **options: Any) -> Dictionary:
    try:
        return Dictionary.load(source, **options)
    except UsageError:
        # What a training run wrote beside its sets is the user's own folder too.
        below = (
            [] if hub.is_reference(source) else [*Path(source).glob(f"*/{INDEX}"), *Path(source).glob(f"*/*/{INDEX}")]
        )
        sets = sorted(index.parent for index in below)
        if not sets:
            raise
        more = f" and {len(sets) - _SAID} more" if len(sets) > _SAID else ""
        listed = ", ".join(map(str, sets[:_SAID])) + more
        raise UsageError(f"{source}: sets of dictionaries lie in its folders {listed}; give one of them") from None


def _shown(value: float | None) -> float | str:
    return "" if value is None else value


# Folders named in an error.
_SAID = 4
_CONFIG = "cfg.json"
_FILES = (_CONFIG, "sae_weights.safetensors")


def _entries(folder: Path) -> list[dict[str, Any]]:
    """What an index lists. A folder is named by its site, so nothing outside can be reached whatever the index says."""
    index = read_json(folder / INDEX)
    if not isinstance(index, dict) or index.get("format") != _FORMAT or not isinstance(index.get("dictionaries"), list):
        raise GossamerError(f"{folder / INDEX}: expected format {_FORMAT!r}, found something else; save the set again")
    for entry in index["dictionaries"]:
        hashes = entry.get("sha256") if isinstance(entry, dict) else None
        if not isinstance(hashes, dict) or sorted(hashes) != sorted(_FILES):
            raise GossamerError(
                f"{folder / INDEX}: expected site, folder and two hashes, found {entry!r}; save the set again"
            )
        site = Site.parse(str(entry.get("site")))
        if entry.get("folder") != str(site):
            raise GossamerError(
                f"{folder / INDEX}: expected folder {site}, found {entry.get('folder')!r}; save the set again"
            )
    return index["dictionaries"]


def _verified(folder: Path, entries: Sequence[Mapping[str, Any]], weights: bool = True) -> list[str]:
    """The folders that an index lists, after every file's hash was compared; those of weights if asked for."""
    for entry in entries:
        for name, expected in entry["sha256"].items():
            path = folder / entry["folder"] / name
            if not weights and name != _CONFIG and path.is_file():
                continue
            found = sha256(path) if path.is_file() else "no such file"
            if found != expected:
                raise GossamerError(
                    f"{path}: expected SHA-256 {expected}, found {found}; the file was changed after saving"
                )
    return [entry["folder"] for entry in entries]
