"""What can be said of one latent of one dictionary: where it fires, what it writes, where it is described elsewhere."""

from gossamer.features.cards import feature_cards
from gossamer.features.examples import top_examples
from gossamer.features.feature import Feature, Node
from gossamer.features.feature_card import FeatureCard, FeatureExample, Histogram
from gossamer.features.lens import LensWords, logit_lens
from gossamer.features.links import neuronpedia_link, neuronpedia_set
from gossamer.features.neighbours import Neighbour, decoder_neighbours

__all__ = [
    "Feature",
    "FeatureCard",
    "FeatureExample",
    "Histogram",
    "LensWords",
    "Neighbour",
    "Node",
    "decoder_neighbours",
    "feature_cards",
    "logit_lens",
    "neuronpedia_link",
    "neuronpedia_set",
    "top_examples",
]
