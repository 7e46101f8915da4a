"""What the parts of a study of relations work on: its options, its streams, and what was counted of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gossamer.activations.corpus import DocumentRows, RowConfig
from gossamer.activations.text import bos_id
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import SiteMapping, by_site
from gossamer.relations.counting import SitePair
from gossamer.relations.error_share import ErrorShare, error_shares
from gossamer.relations.latents import ModelLatents, sources_of
from gossamer.relations.measures import DECODER_COSINE, MEASURES
from gossamer.relations.relate import ActiveAbove, adjacent, relate
from gossamer.relations.relation import Keep, Relation
from gossamer.relations.saved import ERROR_TAIL, load_error_share, pair_path, relate_in_folder, save_error_share
from gossamer.relations.storage import load_relation
from gossamer.relations.study_results import RelationsPart
from gossamer.relations.sums import LatentSums
from gossamer.relations.words import WORDS, fired_on, read_words, write_words


@dataclass(frozen=True)
class RelationStudyOptions:
    """How the study is made.

    Attributes:
        context: tokens of a row of text, BOS included.
        absolute, relative: when a latent is active, as of :class:`gossamer.relations.ActiveAbove`.
        top, least: partners kept of each latent by each measure, and activations below which one is too rare to judge.
        skip: also pairs with up to so many dictionaries between: for features that vanish and reappear.
        measures: by which lifecycles are told; the first is the study's own.
        thresholds: at which; `threshold`: the study's own, for pictures and for what a feature's going means.
        graphs: measure and threshold of each graph whose communities are found.
        error_rows: rows on which it is measured what errors hold; a latent that is not well active there is not lost.
        gate_rows: rows of the text on which candidates of gates are counted, and of the held-out text for the gates.
        word_rows: rows whose tokens give latents their words.
        causal_rows: rows of the held-out text on which latents are ablated.
        causal_bins, per_bin: of each measure's values, and pairs drawn from each, for each pair of dictionaries.
        resamples: bootstrap samples of the intervals of Spearman's correlation.
        seed: of all draws.
    """

    context: int = 128
    absolute: float = 0.0
    relative: float = 0.0
    top: int = 8
    least: int = 10
    skip: int = 1
    measures: tuple[str, ...] = ("pearson", "jaccard", "decoder_cosine")
    thresholds: tuple[float, ...] = (0.4, 0.5, 0.7, 0.9, 0.95)
    threshold: float = 0.5
    graphs: tuple[tuple[str, float], ...] = (
        ("pearson", 0.1),
        ("pearson", 0.5),
        ("pearson", 0.9),
        ("jaccard", 0.1),
    )
    error_rows: int = 512
    gate_rows: int = 384
    word_rows: int = 512
    causal_rows: int = 32
    causal_bins: int = 10
    per_bin: int = 3
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            *(("context", 8), ("skip", 0), ("gate_rows", 2), ("error_rows", 1), ("word_rows", 1)),
            *(("causal_rows", 1), ("causal_bins", 1), ("per_bin", 1), ("resamples", 1)),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"{name}: at least {least} expected, found {getattr(self, name)}")
        known = (*MEASURES, DECODER_COSINE)
        named = (*self.measures, *(measure for measure, _ in self.graphs))
        if not self.measures or (unknown := [name for name in named if name not in known]):
            raise UsageError(f"measures: of {', '.join(known)} expected, found {unknown[0] if named else 'none'!r}")
        if bad := [one for one in (*self.thresholds, self.threshold) if not 0 < one < 1]:
            raise UsageError(f"thresholds: between 0 and 1 expected, found {bad[0]}")

    @property
    def active(self) -> ActiveAbove:
        """When a latent is active."""
        return ActiveAbove(self.absolute, self.relative)

    @property
    def keep(self) -> Keep:
        """Which pairs are kept."""
        by = dict.fromkeys((*Keep().by, "pearson", *(one for one in self.measures if one in MEASURES)))
        return Keep(tuple(by), top=self.top, least=self.least)


class StudyData:
    """What the parts of a study work on; each thing is made, or read, once it is needed.

    Attributes:
        options: how the study is made.
        folder: where its files lie; None: nowhere.
        found: the parts that are done, by name; their files there are of this study.
    """

    def __init__(
        self,
        model: LanguageModel,
        dictionaries: SiteMapping[Dictionary],
        texts: tuple[Sequence[str], Sequence[str]],
        options: RelationStudyOptions,
        folder: Path | None = None,
        found: Mapping[str, RelationsPart] | None = None,
    ) -> None:
        self.model, self.options, self._texts = model, options, texts
        self.folder, self.found = folder, dict(found or {})
        self.sources = sources_of(model, dict(sorted(by_site(dictionaries).items())))

    def _stream(self, texts: Sequence[str]) -> ModelLatents:
        context = min(self.options.context, self.model.n_context)
        config = RowConfig(context=context, bos=0.0 if bos_id(self.model) is None else 1.0)
        return ModelLatents(self.sources, DocumentRows.of(self.model, texts, config), seed=self.options.seed)

    @cached_property
    def stream(self) -> ModelLatents:
        """The counted text."""
        return self._stream(self._texts[0])

    @cached_property
    def held_out(self) -> ModelLatents:
        """The other text."""
        return self._stream(self._texts[1])

    @property
    def neighbours(self) -> list[SitePair]:
        """Each dictionary with the next one."""
        return adjacent(self.sources)

    @property
    def pairs(self) -> list[SitePair]:
        """Each dictionary with the next ones, up to the number that may be skipped."""
        return [pair for skip in range(self.options.skip + 1) for pair in adjacent(self.sources, skip)]

    @cached_property
    def relations(self) -> dict[SitePair, Relation]:
        """Of all pairs: read where the part "relations" is done, else counted in one pass, which goes on if stopped."""
        if "relations" in self.found and self.folder is not None:
            return {pair: load_relation(pair_path(self.folder, pair)) for pair in self.pairs}
        active, keep = self.options.active, self.options.keep
        if self.folder is None:
            return relate(self.stream, self.pairs, activity=active, keep=keep)
        return relate_in_folder(self.stream, self.pairs, self.folder, activity=active, keep=keep)

    @property
    def sums(self) -> dict[str, LatentSums]:
        """What each latent of every dictionary did."""
        found: dict[str, LatentSums] = {}
        for pair, relation in self.relations.items():
            found |= {pair.upstream: relation.upstream, pair.downstream: relation.downstream}
        return found

    @cached_property
    def errors(self) -> dict[SitePair, ErrorShare]:
        """What each next dictionary's error holds: read once "lifecycle" is done, before that measured and saved."""
        if "lifecycle" in self.found and self.folder is not None:
            return {pair: load_error_share(pair_path(self.folder, pair, ERROR_TAIL)) for pair in self.neighbours}
        tops = {name: one.maximum for name, one in self.sums.items()}
        found = error_shares(first_rows(self.stream, self.options.error_rows), self.neighbours, tops=tops)
        if self.folder is not None:
            for pair, share in found.items():
                save_error_share(share, pair_path(self.folder, pair, ERROR_TAIL))
        return found

    @cached_property
    def words(self) -> dict[str, list[tuple[str, ...]]]:
        """What the latents of each dictionary fire on: read where a part that needs them is done, else saved."""
        path = None if self.folder is None else self.folder / WORDS
        if path is not None and {"gates", "communities"} & set(self.found) and path.is_file():
            return read_words(path)
        found = fired_on(first_rows(self.stream, self.options.word_rows))
        if path is not None:
            write_words(found, path)
        return found


def first_rows(stream: ModelLatents, rows: int) -> ModelLatents:
    """At most so many rows of a stream."""
    return stream.part(slice(0, min(rows, stream.rows)))
