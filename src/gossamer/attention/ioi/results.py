"""What the IOI study measured, as one record on disk that grows part by part."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from gossamer.attention.ioi.patching import AttentionHead
from gossamer.display import listed, plural, short_repr
from gossamer.errors import GossamerError
from gossamer.results import Record, record_format

RESULTS, LATENTS = "ioi.json", "ioi_latents.json"
# In place of a latent's number: what its dictionary leaves unexplained, and all active latents at once.
ERROR, EVERY = -1, -2
# A name-moving head's least share of the change by its own path, and attention to the indirect object; most heads.
_CARRIES, _LOOKS, _MOVERS = 0.05, 0.2, 3


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts with its 95 % bootstrap interval (templates are drawn first, then their prompts)."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class TemplateAbility:
    """How a model does on one template: accuracy and mean logit difference; `side` is "" where it is not used."""

    template: str
    side: str
    prompts: int
    accuracy: float
    difference: float


@dataclass(frozen=True)
class LayerEffect:
    """By which share of the whole change the logit difference falls when a layer's heads are patched at a role.

    The whole change is that between a prompt and its swap. `chosen` is measured on the prompts on which choices are
    made, `reported` on the others.
    """

    layer: int
    role: str
    chosen: float
    reported: Estimate


@dataclass(frozen=True)
class HeadEffect:
    """One head, patched at a role: shares of the whole change, as of :class:`LayerEffect`.

    Attributes:
        direct: of the path straight to the logits (END only).
        to_io, to_s1: mean attention from END, on the choosing prompts.
    """

    head: AttentionHead
    role: str
    chosen: float
    reported: Estimate
    direct_chosen: float = math.nan
    direct: float = math.nan
    to_io: float = math.nan
    to_s1: float = math.nan


@dataclass(frozen=True)
class PathEffect:
    """A path between two heads: the fall of the logit difference as a share of the whole change."""

    sender: AttentionHead
    receiver: AttentionHead
    through: str
    effect: Estimate


@dataclass(frozen=True)
class Noised:
    """attn_out of some layers at the second mention from a changed prompt: what is kept of the logit difference.

    Attributes:
        change: what was changed: "connective or", "names", ...; "zero" for zeros.
        layers: of attn_out.
        kept: mean logit difference over the clean one.
        by_group: the same of each template, and of each order.
        chance: of a connective, the probability that the model gives it after the first name.
        per_million: of a connective, how often it occurs in a million words of the text; NaN without one.
    """

    change: str
    layers: tuple[int, ...]
    kept: Estimate
    by_group: Mapping[str, float]
    chance: float = math.nan
    per_million: float = math.nan


@dataclass(frozen=True)
class LayerTrust:
    """One dictionary alone in the model: see :class:`gossamer.attention.Trust`."""

    site: str
    kept: float
    kept_without: float
    kl: float
    kl_without: float
    l0: float = math.nan
    loss_recovered: float = math.nan
    dead: float = math.nan


@dataclass(frozen=True)
class LatentEffect:
    """A latent ablated at the second mention, alone: the fall of the logit difference as a share of the clean one.

    Attributes:
        site, latent: which; latent `ERROR`: the dictionary's error, `EVERY`: all active latents at once.
        chosen: on the prompts on which latents are ranked.
        reported: on the others; `by_order`: the same of ABBA and of BABA.
        active: share of prompts in which it is active, by order.
    """

    site: str
    latent: int
    chosen: float
    reported: Estimate
    by_order: Mapping[str, float]
    active: Mapping[str, float]


@dataclass(frozen=True)
class LatentSources:
    """Where a latent at the second mention came from.

    Attributes:
        order: of the prompts.
        prompts: in how many of them it is active.
        shares: of each role's tokens in what all tokens contribute to its pre-activation.
        bias: what biases contribute, over the same.
    """

    site: str
    latent: int
    order: str
    prompts: int
    shares: Mapping[str, float]
    bias: float


@dataclass(frozen=True)
class ScorePair:
    """One pair of parts in a head's score, chosen on some prompts.

    Attributes:
        query, key: the parts.
        chosen: its share of the score's variance over the prompts on which pairs are chosen.
        reported: over the others.
        mean: its mean in the score over those.
    """

    query: str
    key: str
    chosen: float
    reported: float
    mean: float


@dataclass(frozen=True)
class ScoreStudy:
    """A name-moving head's score from END, as a sum over pairs.

    Attributes:
        head: the head.
        target: "IO", or "IO - S1": its lead over the subject's first mention.
        mean, deviation: of the score over the reporting prompts.
        explained: 1 - var(score - pairs) / var(score) there by the k pairs of latents chosen elsewhere, by k.
        explained_by_any: the same by pairs of any parts.
        by_kind: share of the variance by the kinds of the parts, "query x key".
        pairs: the first of the chosen pairs of latents.
        interval: of what 8 pairs of latents explain.
    """

    head: AttentionHead
    target: str
    mean: float
    deviation: float
    explained: Mapping[str, float]
    explained_by_any: Mapping[str, float]
    by_kind: Mapping[str, float]
    pairs: tuple[ScorePair, ...]
    interval: Estimate


@dataclass(frozen=True)
class HeadAgreement:
    """Whether latents and exact patching name the same heads.

    Attributes:
        what: which heads are compared, and by what.
        heads: how many.
        rank_correlation: Spearman's, of the two measures over heads.
        overlap: how many of the three largest are the same; 0 where one of the two is the same for all heads.
    """

    what: str
    heads: int
    rank_correlation: float
    overlap: int


@dataclass(frozen=True)
class SurveyedHead:
    """One head in the survey: what its top latents, of those active on the text, do there.

    Attributes:
        head: the head.
        latents: its top 10, largest share first.
        share: the head's mean share in its top 10, and in its top 50.
        kind: what most of its top 10 do; "" where none does any one thing.
        purity: share of the top 10 that do the same, and of the top 50.
        monosemantic: whether it looks so by the rules, of the top 10 and of the top 50.
    """

    head: AttentionHead
    latents: tuple[int, ...]
    share: tuple[float, float]
    kind: str
    purity: tuple[float, float]
    monosemantic: tuple[bool, bool]


@dataclass(frozen=True)
class StudyPart:
    """What one part of the study measured: its name, and the one field that it fills (patching fills several)."""

    name: str
    ability: tuple[TemplateAbility, ...] = ()
    layers: tuple[LayerEffect, ...] = ()
    heads: tuple[HeadEffect, ...] = ()
    paths: tuple[PathEffect, ...] = ()
    noised: tuple[Noised, ...] = ()
    trust: tuple[LayerTrust, ...] = ()
    latents: tuple[LatentEffect, ...] = ()
    sources: tuple[LatentSources, ...] = ()
    scores: tuple[ScoreStudy, ...] = ()
    agreement: tuple[HeadAgreement, ...] = ()
    survey: tuple[SurveyedHead, ...] = ()

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.name

    @property
    def name_movers(self) -> list[AttentionHead]:
        """The name-moving heads, by the choosing prompts, the strongest first; at most three.

        Their own path from END carries at least 5 % of the whole change, and they attend from END to the indirect
        object, with a fifth of their attention or more, and more than to the subject.
        """
        looking = [one for one in self.heads if one.role == "END" and one.to_io >= _LOOKS and one.to_io > one.to_s1]
        ranked = sorted((one for one in looking if one.direct_chosen >= _CARRIES), key=lambda one: -one.direct_chosen)
        return [one.head for one in ranked[:_MOVERS]]


@dataclass(frozen=True)
class IOIStudy:
    """The study of one model.

    Attributes:
        settings: everything that the numbers depend on.
        parts: those that are done, by name.
    """

    settings: Mapping[str, Any]
    parts: Mapping[str, StudyPart] = field(default_factory=dict)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield str(self.settings.get("model"))
        yield plural(len(self.parts), "part") + f": {listed(self.parts, 12)}"

    @property
    def found(self) -> StudyPart:
        """The rows of all parts together."""
        names = [one.name for one in fields(StudyPart) if one.name != "name"]
        return StudyPart(
            "all", **{name: tuple(row for part in self.parts.values() for row in getattr(part, name)) for name in names}
        )

    @classmethod
    def of(cls, *records: Record[StudyPart]) -> "IOIStudy":
        """The study of the record without dictionaries, and of that with them if there is one."""
        parts = {part.name: part for record in records for part in record.rows}
        return cls(records[-1].settings, parts)

    @classmethod
    def load(cls, folder: str | Path) -> "IOIStudy":
        """The study in a folder, complete or not.

        Raises:
            UsageError: there is none.
            GossamerError: it is damaged, or its two files are of different studies.
        """
        target = Path(folder)
        records = [FORMAT.load(target / RESULTS)]
        if (target / LATENTS).is_file():
            records.append(FORMAT.load(target / LATENTS))
            if {**records[0].settings, "dictionaries": records[1].settings.get("dictionaries")} != records[1].settings:
                raise GossamerError(f"{target}: two files of one study expected, found {LATENTS} of another; remove it")
        return cls.of(*records)


FORMAT = record_format("gossamer.ioi", 1, StudyPart, "an IOI study")
