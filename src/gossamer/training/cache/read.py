"""Read a cache: shards are mapped into memory and read from front to back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gossamer.dictionary.formats.weights import sha256
from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import Site, SiteLike
from gossamer.seeding import generator
from gossamer.training.cache.manifest import Manifest, shard_name
from gossamer.training.cache.write import TOKENS
from gossamer.training.parallel import Processes
from gossamer.training.source import Activations, Turn, ordered


class Cached:
    """A source whose turns are the shards of a cache; a :class:`gossamer.training.source.Source`.

    A shard is read in the order in which it lies, which is a random one; `reuse` turns follow each other on the same
    shard, each in another order after the first. After the last shard they come again, in another order and each in
    another order of its tokens. With `reuse` 1 and float32 the batches of the first epoch are, bit for bit, those of
    the source that the cache was written from.

    Memory: a batch; shards are mapped, so that the system keeps of them what it has room for. Every shard is compared
    with its SHA-256 when it is first opened, which reads it once.
    """

    def __init__(
        self,
        folder: str | Path,
        sites: Sequence[SiteLike] | None = None,
        *,
        shards: int | None = None,
        reuse: int = 1,
        device: torch.device | str = "cpu",
        processes: Processes | None = None,
    ) -> None:
        """Use the first `shards` (default: all) of a folder, and of its sites those given (default: all).

        Raises:
            UsageError: no cache there, a site that it lacks, or fewer shards than asked for.
            GossamerError: the manifest is damaged, or a shard missing or truncated (it is named).
        """
        self.folder, self.reuse = Path(folder), reuse
        self._device = torch.device(device)
        self.manifest = Manifest.load(self.folder)
        stored = [Site.parse(site) for site in self.manifest.sites]
        self.sites = stored if sites is None else list(map(Site.of, sites))
        self.count = len(self.manifest.shards) if shards is None else shards
        self.model_name: str | None = self.manifest.model
        self.processes = processes or Processes()
        if missing := [str(site) for site in self.sites if site not in stored]:
            raise UsageError(f"{folder}: holds {', '.join(map(str, stored))}, asked for {', '.join(missing)}")
        if not 1 <= self.count <= len(self.manifest.shards):
            raise UsageError(f"{folder}: holds {len(self.manifest.shards)} shards, asked for {self.count}")
        for index in range(self.count):
            self._require_size(index)
        self._verified: set[int] = set()
        self._opened: tuple[int, Activations] = (-1, {})

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest says of the shards that are used."""
        settings = {name: value for name, value in self.manifest.settings.items() if name != "sites"}
        return {**settings, "cached_shards": self.count}

    @property
    def device(self) -> torch.device:
        """Where batches are put."""
        return self._device

    def first(self) -> Activations:
        """The first shard in the order of the corpus, as :class:`OnTheFly` has it."""
        order = self._order("turn", 0, self.manifest.shards[0].tokens)
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        return {site: values[back].to(self._device).float() for site, values in self.shard(0).items()}

    def turn(self, index: int) -> Turn:
        """A shard in the turn's order.

        Raises:
            GossamerError: the shard is damaged (it is named).
        """
        number, again = divmod(index, self.reuse)
        epoch, place = divmod(number, self.count)
        chosen = place if epoch == 0 else int(self._order("shards", epoch, self.count)[place])
        values = self.shard(chosen)
        tokens = self.manifest.shards[chosen].tokens
        as_it_lies = epoch == 0 and again == 0
        turn = ordered(values, None if as_it_lies else self._order("again", index, tokens), self.processes)
        return Turn(turn.tokens, lambda start, stop: self._moved(turn.take(start, stop)))

    def _moved(self, values: Activations) -> Activations:
        return {site: value.to(self._device).float() for site, value in values.items()}

    def _order(self, purpose: str, index: int, length: int) -> Int[Tensor, "length"]:
        return torch.randperm(length, generator=generator(self.manifest.seed, purpose, index))

    def shard(self, index: int) -> Activations:
        """Shard number `index` as it lies, mapped into memory. The last one asked for stays open.

        Raises:
            GossamerError: its file differs from its SHA-256, or is no such file (it is named).
        """
        if self._opened[0] != index:
            found = self._mapped(index)
            self._opened = (index, {site: found[str(site)] for site in self.sites})
        return self._opened[1]

    def tokens(self, index: int) -> Int[Tensor, "tokens"]:
        """Ids of the tokens at which the activations of shard `index` stand."""
        return self._mapped(index)[TOKENS]

    def _mapped(self, index: int) -> dict[str, Tensor]:
        path = self.folder / shard_name(index)
        if index not in self._verified:
            self._require_size(index)
            if sha256(path) != self.manifest.shards[index].sha256:
                raise _damaged(path, "its SHA-256 differs from the manifest's")
            self._verified.add(index)
        try:
            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in [*map(str, self.sites), TOKENS]}
        except (SafetensorError, OSError, ValueError) as error:
            raise _damaged(path, str(error)) from error

    def _require_size(self, index: int) -> None:
        path, expected = self.folder / shard_name(index), self.manifest.shards[index].size
        found = path.stat().st_size if path.is_file() else None
        if found != expected:
            raise _damaged(path, "no such file" if found is None else f"{found} bytes instead of {expected}")


def _damaged(path: Path, found: str) -> GossamerError:
    return GossamerError(f"{path}: expected a shard of activations as written, found damage ({found}); {_REMEDY}")


_REMEDY = "delete the cache's folder and write it again"
