"""Relations of any pairs of dictionaries, from one counting pass over a text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.engine import Engine, ThisProcess
from gossamer.errors import UsageError
from gossamer.features.lens import writes_to_stream
from gossamer.relations.blocks import BLOCK_ROWS, BlockCounter, BlockFiles
from gossamer.relations.counting import ENTRIES, CoActivation, SitePair, maxima
from gossamer.relations.latents import LatentSource, LatentStream, ModelLatents
from gossamer.relations.relation import Keep, Relation


@dataclass(frozen=True)
class ActiveAbove:
    """When a latent counts as active: above the larger of two thresholds.

    Attributes:
        absolute: the same activation for all latents.
        relative: share of each latent's own largest activation on the text, which costs a pass of its own first.
    """

    absolute: float = 0.0
    relative: float = 0.0

    def __post_init__(self) -> None:
        if not (self.absolute >= 0 and 0 <= self.relative < 1):
            raise UsageError(
                f"activity: an absolute threshold of at least 0 and a relative one from 0 to below 1 expected, found "
                f"{self.absolute} and {self.relative}"
            )

    def of(self, tops: NDArray[np.float64]) -> NDArray[np.float64]:
        """The threshold of each latent, from its largest activation."""
        return np.maximum(self.absolute, self.relative * tops)

    def thresholds(self, stream: LatentStream) -> dict[str, NDArray[np.float64]]:
        """Of every latent of every dictionary."""
        if not self.relative:
            return {name: np.full(width, self.absolute) for name, width in stream.widths.items()}
        return {name: self.of(top) for name, top in maxima(stream).items()}


def adjacent(names: Iterable[str], skip: int = 0) -> list[SitePair]:
    """Each dictionary with the next one in order, or with the one `skip` further."""
    listed = list(names)
    return [SitePair(one, other) for one, other in zip(listed, listed[1 + skip :], strict=False)]


def relate(
    stream: LatentStream,
    pairs: Sequence[SitePair],
    *,
    activity: ActiveAbove | None = None,
    keep: Keep | None = None,
    products: bool = True,
    null: bool = True,
    entries: int = ENTRIES,
    block_rows: int = BLOCK_ROWS,
    engine: Engine | None = None,
    folder: str | Path | None = None,
) -> dict[SitePair, Relation]:
    """Relate all asked pairs of dictionaries in one counting pass, exactly.

    Rows are counted in blocks, and blocks added up in order: numbers are the same to the last bit whoever counted them,
    with as many threads of torch.

    A pair of a dictionary with itself leaves its diagonal out. Where dictionaries and model are known and both decoders
    write into the same space, decoder cosines are measured as well.

    Memory: see :class:`gossamer.relations.counting.CoActivation` and :class:`Relation`.

    Args:
        stream: where latents come from.
        pairs: names of dictionaries, upstream first: adjacent, skipping, same layer, any kind of site.
        activity: when a latent counts as active.
        keep: which pairs of latents are kept.
        products: whether cosine and pearson are measured.
        null: whether shuffled documents are counted beside, which doubles the counting.
        entries: of all sums that stay in memory; more lie in a temporary folder.
        block_rows: rows of a block.
        engine: who counts blocks; None: this process.
        folder: where what blocks amount to is written as soon as it is known, so that counting that was stopped goes
            on; at most 20 bytes for each pair of latents that a block has active together (40 with the null), which
            stay there. None: nowhere.

    Raises:
        UsageError: no pairs, unknown dictionaries, no token counts, or the folder holds counts of another request.
        GossamerError: what the engine raises, or writing failed; blocks that are complete stay.
    """
    keep, activity = keep or Keep(), activity or ActiveAbove()
    with _block_files(folder, engine) as place:
        files = None
        if place is not None:
            settings = {**count_settings(stream, pairs, activity, products=products, null=null)}
            files = BlockFiles(place, {**settings, "entries": entries, "block_rows": block_rows})
        counter = BlockCounter(stream, block_rows, engine or ThisProcess(), files)
        if activity.relative:
            thresholds = {name: activity.of(top) for name, top in counter.maxima().items()}
        else:
            thresholds = activity.thresholds(stream)
        with counter.counted(pairs, thresholds, entries=entries, products=products, null=null) as counted:
            found = relations_of(counted, keep)
    if isinstance(stream, ModelLatents):
        found = {pair: _with_decoders(stream.sources, relation) for pair, relation in found.items()}
    return found


@contextmanager
def _block_files(folder: str | Path | None, engine: Engine | None) -> Iterator[Path | None]:
    """Where blocks are written: what comes from other processes is, so that it need not all be in memory."""
    if folder is not None:
        yield Path(folder)
    elif engine is None or isinstance(engine, ThisProcess):
        yield None
    else:
        with TemporaryDirectory(prefix="gossamer-relations-", ignore_cleanup_errors=True) as temporary:
            yield Path(temporary)


def count_settings(
    stream: LatentStream, pairs: Sequence[SitePair], activity: ActiveAbove, **options: bool
) -> dict[str, Any]:
    """All that counts depend on, in values that JSON has."""
    return {**stream.facts, "pairs": [str(pair) for pair in pairs], **asdict(activity), **options}


def relations_of(counted: CoActivation, keep: Keep) -> dict[SitePair, Relation]:
    """The relations that finished counts amount to.

    Raises:
        UsageError: no token was counted.
    """
    found = {}
    for pair, sums in counted.pairs.items():
        if not sums.tokens:
            raise UsageError("relations: tokens that count expected, found none; give more text")
        null = None
        if counted.null is not None:
            sides = (counted.null.upstream[pair.upstream], counted.null.downstream[pair.downstream])
            null = Relation.of(pair, counted.null.pairs[pair], *sides, keep, only_best=True)
        sides = (counted.latents[pair.upstream], counted.latents[pair.downstream])
        found[pair] = Relation.of(pair, sums, *sides, keep, null=null)
    return found


def _with_decoders(sources: Mapping[str, LatentSource], relation: Relation) -> Relation:
    ends = [sources[name] for name in relation.pair]
    written = [one.dictionary.site_out or one.site for one in ends]
    if ends[0].model is not ends[1].model or not (all(map(writes_to_stream, written)) or written[0] == written[1]):
        return relation
    rows = [one.dictionary.W_dec.detach().double().cpu().numpy() for one in ends]
    return relation.with_decoders(rows[0], rows[1])
