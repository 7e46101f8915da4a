"""What a training run was asked for, and the folder that belongs to it."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gossamer.errors import UsageError
from gossamer.files import require_folder
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.results import Older, Record, folder_lock, record_format, versions
from gossamer.results.difference import difference
from gossamer.training.config import TrainingConfig
from gossamer.training.metrics import FILE as METRICS
from gossamer.training.older import with_present_names
from gossamer.training.parallel import Processes
from gossamer.training.sweep_specs import SweepSpec

SETTINGS = "settings.json"
# What earlier versions had in place of a hash of all weights.
_PARTIAL_HASH = "model_sha256"
FORMAT = record_format(
    "gossamer.training",
    2,
    dict,
    "the settings of a training run",
    {
        "": Older(lambda body: {"settings": with_present_names(body)}, checksum=False),
        "gossamer.training.1": Older(with_present_names),
    },
)


def default_folder(model_name: str, request: dict[str, Any]) -> Path:
    """$GOSSAMER_CACHE, or ~/.cache/gossamer, then dictionaries/<model>-<hash of the request>."""
    root = Path(os.environ.get("GOSSAMER_CACHE") or Path.home() / ".cache" / "gossamer")
    # The hash of the weights is one of their dtypes too; so folders are where earlier versions had them.
    request = {name: value for name, value in request.items() if name != "dtype" or request["weights_sha256"] is None}
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:12]
    return root / "dictionaries" / f"{Path(model_name).name}-{digest}"


@contextlib.contextmanager
def at_work(
    model: LanguageModel, request: dict[str, Any], folder: str | Path | None, cache: str | Path | None
) -> Iterator[Path]:
    """The folder of this request, held and claimed for it by the first of several processes while all work in it.

    Raises:
        UsageError: the folder belongs to another request or to another process, or `cache` can be no folder.
    """
    target = default_folder(model.name, request) if folder is None else Path(folder)
    if cache is not None:
        require_folder(cache)
    processes = Processes.current()
    with folder_lock(target) if processes.writes else contextlib.nullcontext():
        if processes.writes:
            claim(target, request, model=model.name)
        processes.wait()
        yield target


def request_of(
    model: LanguageModel,
    texts: Sequence[str],
    sites: Sequence[Site],
    config: TrainingConfig,
    plans: Sequence[SweepSpec],
    cache: str | Path | None,
) -> dict[str, Any]:
    """Everything the result depends on."""
    plain = list(plans) == [SweepSpec("", config.trainer, config.seed)]
    several = {} if plain else {"plans": [{**asdict(one), "trainer": one.trainer.facts} for one in plans]}
    # Where a cache lies changes nothing; whether there is one, does.
    cached = {} if cache is None else {"cache": config.fit.cache_dtype}
    text_hash = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    return {
        # Its short name: the same model may be named by another path.
        "model": model.title,
        "weights_sha256": weights_sha256(model.hf),
        "dtype": str(model.dtype).removeprefix("torch."),
        "texts": len(texts),
        "texts_sha256": text_hash,
        "sites": [str(site) for site in sites],
        **json.loads(json.dumps({**config.facts, **several, **cached})),
    }


def claim(folder: Path, request: dict[str, Any], **where: str) -> None:
    """Make `folder` that of a request, if nothing was made there for another one; `where` its inputs lie is kept too.

    Raises:
        UsageError: something was, or its settings are of another program.
        GossamerError: its settings are damaged.
    """
    path = folder / SETTINGS
    own: Record[dict[str, Any]] = Record(request, provenance={"versions": versions(), **where})
    if not path.is_file():
        FORMAT.save(path, own)
        return
    # Earlier versions did not write the dtype, which their hash of the weights knows.
    stored = {"dtype": request["dtype"], **FORMAT.load(path).settings}
    if stored == request:
        return
    if not _holds_work(folder):
        # A run that was refused or stopped before it made anything must not keep a mended one out.
        FORMAT.save(path, own)
        return
    if _PARTIAL_HASH in stored and "weights_sha256" not in stored:
        raise UsageError(
            f"{folder}: begun by an earlier version, which did not look at all of the model's weights; use another "
            "folder (dictionaries that are finished there can be used as they are)"
        )
    names = sorted(name for name in {*stored, *request} if stored.get(name) != request.get(name))
    both = [name for name in names if name in stored and name in request]
    said = [difference({name: stored[name]}, {name: request[name]}) for name in both]
    said += [f"other {name}" for name in names if name not in both]
    raise UsageError(
        f"{folder}: belongs to another training run ({', '.join(said)}); use the same settings or another folder"
    )


def _holds_work(folder: Path) -> bool:
    """Whether anything but settings and metrics is there: samples, a checkpoint, dictionaries."""
    no_work = (SETTINGS, METRICS)
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return any(path.name not in no_work for path in found)
