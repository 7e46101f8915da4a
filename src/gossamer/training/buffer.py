"""Shuffled activations of several sites from one pass of the model.

A buffer is filled from rows of the corpus and handed out in batches in random order, `reuse` times over, in another
order each time; then the next one is filled. Rows come in random order too, so neighbours in a batch come from all over
the corpus. Everything follows from the index of the turn: a run that resumes fills the buffer it stopped in again
instead of keeping gigabytes of activations in its checkpoints. What is left at the end of a turn, less than a batch, is
dropped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.dictionary.attach import counted_tokens
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.training.config import FitConfig
from gossamer.training.corpus import Corpus
from gossamer.training.seeding import generator


@dataclass(frozen=True)
class Place:
    """Where a run stands: the next batch to use is number `batch` of turn number `turn` (`reuse` turns a buffer)."""

    turn: int = 0
    batch: int = 0


class Activations:
    """Batches of raw activations, the same sequence for the same corpus, model, settings and seed.

    Memory: buffer * width * 4 bytes for every site, twice for a moment while one is filled.
    """

    def __init__(
        self, model: LanguageModel, corpus: Corpus, sites: Sequence[Site], config: FitConfig, seed: int
    ) -> None:
        self.model, self.corpus, self.sites, self.config, self.seed = model, corpus, list(sites), config, seed
        self.rows = max(1, config.buffer // corpus.training.ids.shape[1])
        self._filled: tuple[int, dict[Site, Tensor]] = (-1, {})

    def batches(self, place: Place) -> Iterator[tuple[Place, dict[Site, Float[Tensor, "tokens d"]]]]:
        """Batches from `place` on, without end, each with the place of the one after it.

        Raises:
            UsageError: a whole buffer has less than one batch.
            NotFiniteError: an activation is not finite (the site is named).
        """
        while True:
            buffer = self.buffer(place.turn // self.config.reuse)
            tokens = len(buffer[self.sites[0]])
            whole = tokens // self.config.batch
            if whole == 0:
                raise UsageError(
                    f"a buffer of {self.rows} rows holds {tokens} tokens, less than a batch of "
                    f"{self.config.batch}: give more text, a larger buffer or a smaller batch"
                )
            order = torch.randperm(tokens, generator=generator(self.seed, "turn", place.turn))
            for batch in range(place.batch, whole):
                chosen = order[batch * self.config.batch : (batch + 1) * self.config.batch]
                after = Place(place.turn, batch + 1) if batch + 1 < whole else Place(place.turn + 1)
                yield after, {site: values[chosen.to(values.device)] for site, values in buffer.items()}
            place = Place(place.turn + 1)

    def buffer(self, index: int) -> dict[Site, Float[Tensor, "tokens d"]]:
        """Buffer number `index`, in the corpus's order; without BOS and padding. The last one asked for is kept."""
        if self._filled[0] != index:
            # Freed first: two buffers never stand in memory.
            self._filled = (-1, {})
            self._filled = (index, self._fill(index))
        return self._filled[1]

    def _fill(self, index: int) -> dict[Site, Tensor]:
        tokens = self.corpus.rows(index * self.rows, self.rows, self.seed)
        counted = counted_tokens(self.model, tokens)

        def capture(rows: slice) -> dict[Site, Tensor]:
            with torch.no_grad():
                captured = self.model.capture(tokens[rows], self.sites)
            kept = {site: values[counted[rows].to(values.device)] for site, values in captured.items()}
            return {site: require_finite(values, f"activations at {site}").float() for site, values in kept.items()}

        parts = in_batches(len(tokens), self.config.capture_rows, capture)
        return {site: torch.cat([part[site] for part in parts]) for site in self.sites}
