"""What relations add to cards: the latents that a feature is most often active with."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.features.feature_card import CardSource, FeatureCard
from gossamer.features.neighbours import Neighbour
from gossamer.model.site import Site
from gossamer.relations.measures import Ints
from gossamer.relations.relation import Relation


def related_neighbours(
    relations: Sequence[Relation], features: Iterable[Feature], *, measure: str = "pearson", count: int = 8
) -> dict[Feature, tuple[Neighbour, ...]]:
    """The latents that each feature is most related to, upstream and downstream, the largest value first.

    Only kept pairs are known (:class:`Keep` chose them); a feature without any has no neighbours.

    Args:
        relations: of dictionaries that are named by their sites alone.
        measure: by which.
        count: neighbours of each.

    Raises:
        UsageError: the measure is unknown or was not measured, or a dictionary's name is no site.
    """
    indexed = [_Indexed.of(one) for one in relations]
    found = {}
    for feature in features:
        near = [neighbour for one in indexed for neighbour in one.of_feature(feature, measure)]
        near.sort(key=lambda one: (-one.value, one.feature))
        found[feature] = tuple(near[:count])
    return found


@dataclass(frozen=True, eq=False)
class RelatedCards:
    """Cards of a source with the neighbours that relations say: :class:`CardSource`.

    Attributes:
        source: where the cards come from.
        relations: counted with the same dictionaries.
        measure: by which neighbours are chosen.
    """

    source: CardSource
    relations: Sequence[Relation]
    measure: str = "pearson"

    __repr__ = short_repr

    @property
    def text(self) -> str:
        """What text the cards are of."""
        return self.source.text

    def cards(self, features: Iterable[Feature]) -> Mapping[Feature, FeatureCard]:
        """The card of each feature. Errors: those of the source and of :func:`related_neighbours`."""
        cards = self.source.cards(features)
        near = related_neighbours(self.relations, cards, measure=self.measure)
        return {
            feature: replace(card, neighbours=(*card.neighbours, *near[feature])) for feature, card in cards.items()
        }


@dataclass(frozen=True, eq=False)
class _Indexed:
    """A relation with where each latent's kept pairs are: upstream they are sorted, downstream by `order`."""

    relation: Relation
    sites: tuple[Site, Site]
    order: Ints

    @classmethod
    def of(cls, relation: Relation) -> "_Indexed":
        if labelled := [name for name in relation.pair if "@" in name]:
            raise UsageError(f"neighbours: dictionaries named by their sites expected, found {labelled[0]}")
        upstream, downstream = (Site.parse(name) for name in relation.pair)
        return cls(relation, (upstream, downstream), np.argsort(relation.kept.j, kind="stable"))

    def of_feature(self, feature: Feature, measure: str) -> list[Neighbour]:
        kept = self.relation.kept
        sides = ((kept.i, np.arange(len(kept)), kept.j), (kept.j[self.order], self.order, kept.i))
        found = []
        for own, other, (numbers, order, partners) in zip(self.sites, self.sites[::-1], sides, strict=True):
            if feature.site == own:
                start, stop = np.searchsorted(numbers, [feature.latent, feature.latent + 1])
                chosen = order[start:stop]
                values = self.relation.values(measure, kept[chosen])
                found += [
                    Neighbour(Feature(other, latent), measure, value)
                    for latent, value in zip(partners[chosen].tolist(), values.tolist(), strict=True)
                ]
        return found
