"""What relations add to cards, against all pairs of a relation one by one."""

import numpy as np
import pytest
from planted_relations import given, random_latents

from gossamer.errors import UsageError
from gossamer.features import Feature, FeatureCard, Histogram, Neighbour
from gossamer.features.feature_card import CardSource
from gossamer.model import Site
from gossamer.relations import Keep, RelatedCards, SitePair, relate, related_neighbours

FIRST, SECOND, THIRD = (Site("resid_post", layer) for layer in range(3))


@pytest.fixture(scope="module")
def relations():
    names = [str(site) for site in (FIRST, SECOND, THIRD)]
    stream = given({name: random_latents(9 + place, seed=place) for place, name in enumerate(names)})
    pairs = [SitePair(names[0], names[1]), SitePair(names[1], names[2]), SitePair(names[1], names[1])]
    return list(relate(stream, pairs, keep=Keep(top=3, least=1), null=False).values())


def one_by_one(relations, feature, measure):
    found = {}
    for relation in relations:
        values = relation.values(measure)
        for i, j, value in zip(relation.kept.i, relation.kept.j, values, strict=True):
            ends = [Feature(Site.parse(name), int(one)) for name, one in zip(relation.pair, (i, j), strict=True)]
            for own, other in (ends, ends[::-1]):
                if own == feature:
                    found.setdefault(other, []).append(value)
    return found


@pytest.mark.parametrize("measure", ["pearson", "jaccard"])
def test_neighbours_are_the_kept_partners_on_both_sides(relations, measure):
    features = [Feature(site, latent) for site in (FIRST, SECOND, THIRD) for latent in (0, 5, 8)]
    found = related_neighbours(relations, features, measure=measure, count=1000)
    for feature in features:
        expected = one_by_one(relations, feature, measure)
        assert expected
        several: dict[Feature, list[float]] = {}
        for one in found[feature]:
            assert one.measure == measure
            several.setdefault(one.feature, []).append(one.value)
        assert {other: sorted(values) for other, values in several.items()} == {
            other: pytest.approx(sorted(values)) for other, values in expected.items()
        }
        values = [one.value for one in found[feature]]
        assert values == sorted(values, reverse=True)
        assert related_neighbours(relations, [feature], measure=measure, count=2)[feature] == found[feature][:2]


class Cards:
    text = "some text"

    def cards(self, features):
        near = (Neighbour(Feature(THIRD, 1), "decoder_cosine", 0.5),)
        return {one: FeatureCard(one, "m", 9, 1, 1.0, 0.0, 1.0, Histogram((), ()), neighbours=near) for one in features}


def test_cards_of_any_source_get_them_beside_their_own(relations):
    source = RelatedCards(Cards(), relations, "jaccard")
    assert isinstance(source, CardSource)
    assert source.text == "some text"
    feature = Feature(SECOND, 4)
    near = source.cards([feature])[feature].neighbours
    assert near[0] == Neighbour(Feature(THIRD, 1), "decoder_cosine", 0.5)
    assert near[1:] == related_neighbours(relations, [feature], measure="jaccard")[feature]
    assert np.isfinite([one.value for one in near]).all()


def test_dictionaries_that_are_named_otherwise_and_measures_that_are_unknown_are_refused(relations):
    stream = given({"resid_post.0@a": random_latents(5), "resid_post.0@b": random_latents(5, seed=1)})
    labelled = relate(stream, [SitePair(*stream.widths)], keep=Keep(least=1), null=False)
    with pytest.raises(UsageError, match="named by their sites expected, found resid_post"):
        related_neighbours(list(labelled.values()), [Feature(FIRST, 0)])
    with pytest.raises(UsageError, match="found 'nonsense'"):
        related_neighbours(relations, [Feature(FIRST, 0)], measure="nonsense")
