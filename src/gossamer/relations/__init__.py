"""Which features belong together: co-activation across layers, lifecycle, gates, communities, and what they cause."""

from gossamer.relations.counting import CoActivation, SitePair, maxima
from gossamer.relations.latents import GivenLatents, LatentSource, LatentStream, ModelLatents, sources_of
from gossamer.relations.measures import DECODER_COSINE, MEASURES, PairCounts, fisher_z, support_needed, wilson
from gossamer.relations.relate import ActiveAbove, adjacent, relate
from gossamer.relations.relation import BestPartner, Keep, RelatedPairs, Relation

__all__ = [
    "DECODER_COSINE",
    "MEASURES",
    "ActiveAbove",
    "BestPartner",
    "CoActivation",
    "GivenLatents",
    "Keep",
    "LatentSource",
    "LatentStream",
    "ModelLatents",
    "PairCounts",
    "RelatedPairs",
    "Relation",
    "SitePair",
    "adjacent",
    "fisher_z",
    "maxima",
    "relate",
    "sources_of",
    "support_needed",
    "wilson",
]
