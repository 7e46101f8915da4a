"""Write a cache: shard by shard, each shuffled by token, and all to the same bytes however often it was stopped.

A shard is one safetensors file with the activations of every site and, as `tokens`, the ids of the tokens they stand
at. The format was chosen because it maps into memory as it lies (a site that is not asked for is not read), knows
bfloat16, which numpy does not, and is read by other tools.
"""

from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.dictionary.formats.weights import sha256
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.model.fingerprint import weights_sha256
from gossamer.progress import begin
from gossamer.results.lock import folder_lock
from gossamer.seeding import generator
from gossamer.tensor_files import require_space, write_tensors
from gossamer.training.buffer import OnTheFly
from gossamer.training.cache.manifest import DTYPES, FILE, Entry, Manifest, shard_name

TOKENS = "tokens"
# Header of a shard and manifest's line of it, generously.
_OVERHEAD = 4096


def write_cache(source: OnTheFly, shards: int, dtype: str, folder: str | Path) -> Manifest:
    """Write the first `shards` buffers of `source` to `folder`, a shard each, those that it does not hold yet.

    A folder that was being written when the process was killed, at whatever moment, is gone on with. At most one epoch
    of the corpus is written.

    Disk: tokens * (4 + sum over sites of width * bytes of `dtype`); 1.5 kB a token for one site of width 768 in
    bfloat16. It is compared with what is free before anything is computed. Memory: one buffer in float32 and a site of
    it in `dtype`.

    Args:
        dtype: float32 (training on it gives exactly what training on the fly gives), bfloat16 or float16.

    Raises:
        UsageError: an unknown dtype, the folder holds other activations, too little room on the disk, another run is
            writing there, or a process that is not alone: one process writes.
        NotFiniteError: an activation is not finite (the site is named), or too large for float16.
        GossamerError: writing failed; the shards that are complete stay.
    """
    target = Path(folder)
    found = _held(source, dtype, target)
    if len(found.shards) >= min(shards, epoch(source)):
        return found
    if source.processes.count > 1:
        raise UsageError(f"{target}: lacks shards; write the cache with one process first, then train with several")
    with folder_lock(target):
        # Once more: what another run wrote meanwhile is there now.
        return _completed(source, shards, dtype, target, _held(source, dtype, target))


def _held(source: OnTheFly, dtype: str, target: Path) -> Manifest:
    """The manifest of `target`, which must be of these activations; one without shards if there is none."""
    widths = {str(site): source.model.width(site) for site in source.sites}
    asked = Manifest(
        model=source.model.name,
        sites=widths,
        dtype=dtype,
        corpus=source.corpus.fingerprint,
        seed=source.seed,
        rows=source.rows,
        weights=weights_sha256(source.model.hf),
        model_dtype=str(source.model.dtype).removeprefix("torch."),
    )
    if not (target / FILE).is_file():
        return asked
    found = Manifest.load(target)
    found.require(asked, target)
    return found


def _completed(source: OnTheFly, shards: int, dtype: str, target: Path, found: Manifest) -> Manifest:
    missing = range(len(found.shards), min(shards, epoch(source)))
    if found.sites.keys() != set(map(str, source.sites)):
        raise UsageError(
            f"{target}: holds more sites ({', '.join(found.sites)}) and lacks shards; "
            "ask for all of them to add shards, or use another folder"
        )
    require_space(target, sum(_bytes(source, found, index) for index in missing), "the cache of activations")
    advance = begin("caching activations", len(missing))
    for index in missing:
        entry = _write_shard(source, index, dtype, target / shard_name(index))
        found = replace(found, shards=(*found.shards, entry))
        found.save(target)
        advance(1, f"{entry.tokens} tokens")
    return found


def epoch(source: OnTheFly) -> int:
    """Buffers after which every row of the corpus was used."""
    return -(-len(source.corpus.training) // source.rows)


def buffers_for(source: OnTheFly, steps: int, batch: int, reuse: int) -> int:
    """Buffers that `steps` batches come from, at most an epoch of them."""
    done = 0
    for index in range(epoch(source)):
        if done >= steps:
            return index
        done += reuse * (len(order(source, index)) // batch)
    return epoch(source)


def order(source: OnTheFly, index: int) -> Int[Tensor, "tokens"]:
    """Which activation of a buffer, in the corpus's order, stands where in its shard."""
    tokens = int(source.counted(index).sum())
    return torch.randperm(tokens, generator=generator(source.seed, "turn", index))


def _bytes(source: OnTheFly, asked: Manifest, index: int) -> int:
    token = 4 + DTYPES[asked.dtype].itemsize * sum(asked.sites.values())
    return int(source.tokens(index).mask.sum()) * token + _OVERHEAD


def _write_shard(source: OnTheFly, index: int, dtype: str, path: Path) -> Entry:
    places = order(source, index)
    buffer = dict(source.captured(index))
    ids = source.tokens(index).ids[source.counted(index)][places].int()
    # Site by site, each in place of the float32 it came from: two copies of one site at most.
    stored = {str(site): _shuffled(buffer.pop(site), places, dtype, str(site)) for site in list(buffer)}
    write_tensors(path, {**stored, TOKENS: ids}, {"dtype": dtype})
    return Entry(len(places), sha256(path), path.stat().st_size)


def _shuffled(values: Float[Tensor, "tokens d"], places: Tensor, dtype: str, site: str) -> Tensor:
    found = values[places.to(values.device)].to(DTYPES[dtype]).cpu()
    return require_finite(found, f"activations at {site} in {dtype}")
