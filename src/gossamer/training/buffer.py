"""Activations on the fly: a model runs over rows of a corpus, and what it has at the sites is shuffled by token.

A buffer is filled from rows of the corpus and handed out in random order, `reuse` times over, in another order each
time; then the next one is filled. Rows come in random order too, so neighbours in a batch come from all over the
corpus.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gossamer.activations.corpus import Corpus
from gossamer.activations.stream import ActivationStream
from gossamer.errors import UsageError
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.seeding import generator
from gossamer.tokens import Tokens
from gossamer.training.calibration import calibration_tokens
from gossamer.training.config import FitConfig
from gossamer.training.parallel import Processes
from gossamer.training.source import Activations, Turn, owned

# Rows that tell how many activations a row has, and how much more than the mean is captured to be sure.
_SAMPLED_ROWS, _SURELY = 4096, 1.02
_FEW = 8


class OnTheFly:
    """A source whose turn t is buffer t // reuse, captured when it is reached; a :class:`Source`.

    Of several processes each captures every so many-th row of a buffer and uses those of a batch that it has.
    Memory: buffer * width * 4 bytes for every site over the number of processes, twice for a moment while one is
    filled; the first process's first buffer is a whole one.
    """

    def __init__(
        self,
        model: LanguageModel,
        corpus: Corpus,
        sites: Sequence[Site],
        config: FitConfig,
        seed: int,
        processes: Processes | None = None,
        *,
        whole_buffers: bool = False,
    ) -> None:
        """No more is captured than the run learns from and calibrates on, unless `whole_buffers` are to serve other
        runs too, as those of a cache do.
        """
        self.model, self.corpus, self.sites, self.config, self.seed = model, corpus, list(sites), config, seed
        self.processes = processes or Processes()
        self.rows = max(1, config.buffer // corpus.training.ids.shape[1])
        if not whole_buffers:
            self.rows = max(min(self.rows, self._rows_for_all()), self.processes.count)
        self.model_name: str | None = model.name
        if self.rows < self.processes.count:
            raise UsageError(f"a buffer of {self.rows} rows is too small for {self.processes.count} processes")
        self._filled: tuple[int, Activations] = (-1, {})
        self._counted: tuple[int, Bool[Tensor, "rows pos"]] = (-1, torch.empty(0, 0, dtype=torch.bool))

    def _rows_for_all(self) -> int:
        """Rows of a buffer so that the last of a few buffers, too, is one that the run needs all of.

        Together they surely hold every activation that it needs, as the corpus's rows are on average.
        """
        config, some = self.config, self.corpus.training[slice(0, _SAMPLED_ROWS)]
        # How loud tokens are takes passes of the model; they are few.
        each = replace(self.corpus.mask, loud=None).counted(self.model, some).sum(dim=1).double().mean().item()
        needed = config.tokens / config.reuse + calibration_tokens(config.tokens) + config.batch
        rows = math.ceil(_SURELY * needed / max(each, 1.0))
        buffers = math.ceil(rows / self.rows)
        # Of many buffers a part of the last is little.
        return math.ceil(rows / buffers) if buffers <= _FEW else self.rows

    @property
    def facts(self) -> dict[str, Any]:
        """Model, weights, corpus and seed."""
        weights = weights_sha256(self.model.hf)
        return {
            "model": self.model.name,
            "weights_sha256": weights,
            "corpus": self.corpus.fingerprint,
            "seed": self.seed,
        }

    @property
    def device(self) -> torch.device:
        """The model's."""
        return self.model.device

    def first(self) -> Activations:
        """The first buffer, in the corpus's order; every process captures all of it."""
        if self.processes.count == 1:
            return self.buffer(0)
        return self.captured(0)

    def turn(self, index: int) -> Turn:
        """The buffer of the turn in the turn's order.

        Raises:
            NotFiniteError: an activation is not finite (the site is named).
        """
        buffer = index // self.config.reuse
        places = self._places(buffer)
        order = torch.randperm(len(places), generator=generator(self.seed, "turn", index))
        return owned(self.buffer(buffer), order, places)

    def tokens(self, index: int) -> Tokens:
        """The rows of buffer number `index`, those of all processes."""
        return self.corpus.rows(index * self.rows, self.rows, self.seed)

    def counted(self, index: int) -> Bool[Tensor, "rows pos"]:
        """Which tokens of buffer number `index` count. The last answer is kept: loud tokens take a pass."""
        if self._counted[0] != index:
            self._counted = (index, self.corpus.mask.counted(self.model, self.tokens(index)))
        return self._counted[1]

    def _places(self, index: int) -> Int[Tensor, "tokens"]:
        counted = self.counted(index)
        if self.processes.count == 1:
            return torch.arange(int(counted.sum()))
        mine = torch.zeros_like(counted)
        mine[self.processes.rank :: self.processes.count] = True
        own = mine[counted]
        return torch.where(own, own.cumsum(0) - 1, -1)

    def buffer(self, index: int) -> Activations:
        """This process's part of buffer number `index`, in the corpus's order. The last one asked for is kept."""
        if self._filled[0] != index:
            # Freed first: two buffers never stand in memory.
            self._filled = (-1, {})
            own = torch.arange(self.processes.rank, self.rows, self.processes.count)
            self._filled = (index, self.captured(index, own))
        return self._filled[1]

    def captured(self, index: int, rows: Int[Tensor, "rows"] | None = None) -> Activations:
        """Activations of buffer number `index`, or of some of its rows, at all sites in float32, of tokens that count.

        Raises:
            NotFiniteError: one is not finite (the site is named).
        """
        size, what = self.config.capture_rows, "capturing activations"
        tokens, mask = self.tokens(index), self.counted(index)
        tokens, mask = (tokens, mask) if rows is None else (tokens[rows], mask[rows])
        stream = ActivationStream(self.model, tokens, self.sites, mask=mask, batch_size=size, what=what, trimmed=True)
        return stream.collect(torch.float32)
