"""Features and nodes print, parse, sort and compare as their parts do."""

import pytest

from gossamer.errors import UsageError
from gossamer.features import Feature, Node
from gossamer.features.feature import ERROR
from gossamer.model import Site

FEATURE = Feature(Site("resid_post", 7), 123)


def test_they_print_and_parse():
    for feature in (FEATURE, Feature(Site("embed"), 0), Feature(Site("z", 11), 9)):
        assert Feature.parse(str(feature)) == feature
        for role in (None, "S2", "END"):
            assert Node.parse(str(Node(feature, role))) == Node(feature, role)
    assert str(Node(FEATURE, "S2")) == "resid_post.7/123@S2"
    assert Feature.parse("blocks.7.hook_resid_post/123") == FEATURE
    assert (Node(FEATURE, "S2").site, Node(FEATURE, "S2").latent) == FEATURE


def test_the_error_of_a_dictionary_has_a_name_that_no_latent_has():
    error = Feature(FEATURE.site, ERROR)
    assert str(Node(error, "S2")) == "resid_post.7/error@S2"
    assert Node.parse("resid_post.7/error@S2") == Node(error, "S2")
    assert Node(error, "S2").is_error
    assert not Node(FEATURE, "S2").is_error
    assert len({str(error), *(str(Feature(FEATURE.site, latent)) for latent in range(3))}) == 4


def test_they_sort_in_execution_order_and_are_hashable():
    later = [Feature(Site("resid_post", 7), 5), Feature(Site("z", 7), 900), Feature(Site("resid_post", 0), 7)]
    assert sorted(later) == [later[2], later[1], later[0]]
    assert len({FEATURE, Feature(Site.parse("resid_post.7"), 123), Node(FEATURE, "a"), Node(FEATURE, "b")}) == 3


@pytest.mark.parametrize("text", ["resid_post.7", "resid_post.7/", "resid_post.7/-1", "nowhere.7/3", "/3", ""])
def test_what_is_no_feature_is_refused(text):
    with pytest.raises(UsageError, match="expected"):
        Feature.parse(text)
