"""Which format a file or folder holds, and the one way in and out of all of them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gossamer.dictionary.config import Contents
from gossamer.dictionary.formats import (
    circuit_tracer,
    dictionary_learning,
    gemma_scope,
    gemma_scope_2,
    hook_z,
    hub,
    llama_scope,
    openai,
    saelens,
    sparsify,
)
from gossamer.dictionary.formats.facts import Origin, Request
from gossamer.errors import GossamerError, UsageError
from gossamer.files import replacing_all

__all__ = ["FORMATS", "DictionaryFormat", "Request", "read", "write"]

_SHOWN = 6


@dataclass(frozen=True)
class DictionaryFormat:
    """How one format is recognised, read and written.

    Attributes:
        weights: patterns of its weights file, relative to the dictionary's folder, in the order in which they count.
        read: makes a dictionary of a weights file.
        configs: files of which one must lie beside the weights (paths relative to their folder); "{stem}" is the
            weights' name without its ending. None are needed if it is empty.
        others: further files that are read if they exist.
        takes: optional facts of a request that it can use.
        write: writes into a folder; None if the format is only read.
    """

    weights: tuple[str, ...]
    read: Callable[[Path, Origin, Request], Contents]
    configs: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    write: Callable[[Path, Contents], None] | None = None

    def find(self, folder: Path) -> list[Path]:
        """Weights files in a folder: those of the first pattern that any file has."""
        for pattern in self.weights:
            if found := sorted(path for path in folder.glob(pattern) if path.is_file()):
                return found
        return []

    def configured(self, weights: Path) -> bool:
        """Whether the configuration lies beside a weights file, or none is needed."""
        names = [name.format(stem=weights.stem) for name in self.configs]
        return not names or any((weights.parent / name).is_file() for name in names)


FORMATS = {
    "saelens": DictionaryFormat(
        (saelens.WEIGHTS,),
        saelens.read,
        (saelens.CONFIG,),
        (saelens.SCALER,),
        ("norm_scaling_factor",),
        saelens.write,
    ),
    "gemma_scope": DictionaryFormat((gemma_scope.WEIGHTS,), gemma_scope.read, write=gemma_scope.write),
    "gemma_scope_2": DictionaryFormat(
        (gemma_scope_2.WEIGHTS,), gemma_scope_2.read, others=(gemma_scope_2.CONFIG,), write=gemma_scope_2.write
    ),
    "sparsify": DictionaryFormat(
        (sparsify.WEIGHTS,), sparsify.read, (sparsify.CONFIG,), sparsify.RUN_CONFIGS, write=sparsify.write
    ),
    "dictionary_learning": DictionaryFormat(
        dictionary_learning.WEIGHTS, dictionary_learning.read, dictionary_learning.CONFIGS
    ),
    "openai": DictionaryFormat(openai.WEIGHTS, openai.read),
    "hook_z": DictionaryFormat(hook_z.WEIGHTS, hook_z.read, hook_z.CONFIGS),
    "llama_scope": DictionaryFormat(
        llama_scope.WEIGHTS, llama_scope.read, llama_scope.CONFIGS, llama_scope.MODEL_CONFIGS, ("activations",)
    ),
    "circuit_tracer": DictionaryFormat(circuit_tracer.WEIGHTS, circuit_tracer.read, others=circuit_tracer.CONFIGS),
}


def read(source: str | Path, format: str | None, request: Request) -> Contents:
    """Read a dictionary from a local folder, a weights file, or a hub reference to either.

    Raises:
        UsageError: nothing there, nothing known there, several formats or several files there and none asked for, or a
            fact given that the format has no use for.
    """
    path, origin = _fetched(source)
    name, weights = _recognised(path, origin) if format is None else (format, _weights(path, format, origin))
    for fact in ("norm_scaling_factor", "activations"):
        if getattr(request, fact) is not None and fact not in _named(name).takes:
            raise UsageError(f"{origin.source}: {name} needs no {fact}; leave it out")
    try:
        return _named(name).read(weights, origin, request)
    except GossamerError as error:
        if origin.source in str(error) or str(weights.parent) in str(error):
            raise
        raise type(error)(f"{origin.source}: {error}") from error


def write(folder: Path, format: str, contents: Contents) -> Path:
    """Write a dictionary to a folder, which is returned; weights never lie under another dictionary's configuration.

    Raises:
        UsageError: the format is only read.
    """
    writer = _named(format).write
    if writer is None:
        known = ", ".join(name for name, each in FORMATS.items() if each.write is not None)
        raise UsageError(f"{format} can be read, not written; save as one of {known}")
    with replacing_all(folder) as made:
        writer(made, contents)
    return folder


def _named(format: str) -> DictionaryFormat:
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
    return FORMATS[format]


def _fetched(source: str | Path) -> tuple[Path, Origin]:
    if hub.is_reference(source):
        return hub.fetch(str(source), _names)
    path = Path(source)
    if not path.exists():
        raise UsageError(
            f"{path}: no such file or folder; give a dictionary's folder, hub:owner/repo/path, saelens:RELEASE/ID or "
            "gemma-scope-.../..."
        )
    return path, Origin(str(source))


def _names(file: str | None) -> list[str]:
    """Files to fetch, relative to a folder of unknown format or to that of one weights file: never patterns."""
    if file is None:
        sure = [(known, weights) for known in FORMATS.values() for weights in known.weights if not _is_pattern(weights)]
    else:
        sure = [(known, Path(file).name) for known in FORMATS.values() if _matches(known, Path(file))]
    names = [
        os.path.normpath(Path(weights).parent / name.format(stem=Path(weights).stem))
        for known, weights in sure
        for name in (Path(weights).name, *known.configs, *known.others)
    ]
    return list(dict.fromkeys(names))


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*[")


def _matches(known: DictionaryFormat, weights: Path) -> bool:
    return any(weights.match(pattern) for pattern in known.weights)


def _names_weights(path: Path) -> bool:
    return path.is_file() and path.suffix in hub.WEIGHTS_SUFFIXES


def _candidates(known: DictionaryFormat, path: Path) -> list[Path]:
    """The weights files of a format that `path` may mean: itself, or what its folder holds."""
    if _names_weights(path):
        return [path] if _matches(known, path) else []
    return known.find(path.parent if path.is_file() else path)


def _weights(path: Path, format: str, origin: Origin) -> Path:
    """The weights file of a format that was asked for by name."""
    known = _named(format)
    if _names_weights(path):
        return path
    if found := _candidates(known, path):
        return _only(found, format, origin)
    if _is_pattern(known.weights[0]):
        raise UsageError(f"{origin.source}: no {' or '.join(known.weights)} found; give the folder that holds it")
    return path / known.weights[0]


def _only(found: list[Path], format: str, origin: Origin) -> Path:
    if len(found) > 1:
        raise UsageError(f"{origin.source}: several files of {format} found ({_listed(found)}); give one of them")
    return found[0]


def _listed(paths: list[Path]) -> str:
    names = [path.name for path in paths[:_SHOWN]]
    return ", ".join([*names, f"{len(paths) - _SHOWN} more"] if len(paths) > _SHOWN else names)


def _recognised(path: Path, origin: Origin) -> tuple[str, Path]:
    claims = [(name, weights) for name, known in FORMATS.items() for weights in _candidates(known, path)]
    # A weights file whose name several formats use belongs to the one whose configuration lies beside it.
    claims = [(name, weights) for name, weights in claims if not _outdone(name, weights, claims)]
    complete = [(name, weights) for name, weights in claims if FORMATS[name].configured(weights)]
    formats = list(dict.fromkeys(name for name, _ in complete))
    if len(formats) > 1:
        raise UsageError(
            f"{origin.source}: several formats found ({', '.join(formats)}); give format= (--fact format=saelens)"
        )
    if formats:
        return formats[0], _only([weights for _, weights in complete], formats[0], origin)
    if claims:
        weights = claims[0][1]
        wanted = [f"{' or '.join(FORMATS[name].configs).format(stem=weights.stem)} ({name})" for name, _ in claims]
        raise UsageError(
            f"{weights}: its configuration is missing, no such file: {', '.join(wanted)}; fetch it as well"
        )
    raise _unknown(path, origin)


def _outdone(name: str, weights: Path, claims: list[tuple[str, Path]]) -> bool:
    rivals = [FORMATS[other] for other, theirs in claims if theirs == weights and other != name]
    return not FORMATS[name].configs and any(rival.configs and rival.configured(weights) for rival in rivals)


def _unknown(path: Path, origin: Origin) -> UsageError:
    folders = sorted(child for child in path.iterdir() if child.is_dir()) if path.is_dir() else []
    if holding := [folder for folder in folders if any(known.find(folder) for known in FORMATS.values())]:
        return UsageError(f"{origin.source}: dictionaries lie in its folders {_listed(holding)}; give one of them")
    expected = ", ".join(f"{' or '.join(known.weights)} ({name})" for name, known in FORMATS.items())
    return UsageError(f"{origin.source}: no dictionary found; expected one of {expected}")
