"""Which features belong together: co-activation across layers, lifecycle, gates, communities, and what they cause."""

from gossamer.relations.causal import AblationCheck, CausalSettings, RankAgreement, ablation_check
from gossamer.relations.communities import (
    Communities,
    CommunitySettings,
    adjusted_rand,
    community_words,
    find_communities,
)
from gossamer.relations.counting import CoActivation, SitePair, maxima
from gossamer.relations.error_share import ErrorShare, error_share
from gossamer.relations.explanations import stored_explanations, tfidf_vectors, with_explanations
from gossamer.relations.gate_ablation import AblatedPattern, GateCheck, check_gates
from gossamer.relations.gates import Gate, GateSettings, find_gates, reversed_pair
from gossamer.relations.graph import RelationGraph
from gossamer.relations.graph_files import (
    read_graphml,
    read_node_link,
    read_parquet,
    write_graphml,
    write_node_link,
    write_parquet,
)
from gossamer.relations.latents import GivenLatents, LatentSource, LatentStream, ModelLatents, sources_of
from gossamer.relations.lifecycle import (
    Lifecycle,
    LifecycleSettings,
    SankeyData,
    ThresholdSweep,
    lifecycle,
    matched,
    sankey,
    threshold_sweep,
)
from gossamer.relations.measures import (
    DECODER_COSINE,
    EXPLANATION_COSINE,
    MEASURES,
    PairCounts,
    fisher_z,
    support_needed,
    wilson,
)
from gossamer.relations.relate import ActiveAbove, adjacent, relate
from gossamer.relations.relation import BestPartner, Keep, RelatedPairs, Relation
from gossamer.relations.saved import relate_in_folder
from gossamer.relations.storage import load_relation, save_relation
from gossamer.relations.truth_tables import TruthTable, truth_tables

__all__ = [
    "DECODER_COSINE",
    "EXPLANATION_COSINE",
    "MEASURES",
    "AblatedPattern",
    "AblationCheck",
    "ActiveAbove",
    "BestPartner",
    "CausalSettings",
    "CoActivation",
    "Communities",
    "CommunitySettings",
    "ErrorShare",
    "Gate",
    "GateCheck",
    "GateSettings",
    "GivenLatents",
    "Keep",
    "LatentSource",
    "LatentStream",
    "Lifecycle",
    "LifecycleSettings",
    "ModelLatents",
    "PairCounts",
    "RankAgreement",
    "RelatedPairs",
    "Relation",
    "RelationGraph",
    "SankeyData",
    "SitePair",
    "ThresholdSweep",
    "TruthTable",
    "ablation_check",
    "adjacent",
    "adjusted_rand",
    "check_gates",
    "community_words",
    "error_share",
    "find_communities",
    "find_gates",
    "fisher_z",
    "lifecycle",
    "load_relation",
    "matched",
    "maxima",
    "read_graphml",
    "read_node_link",
    "read_parquet",
    "relate",
    "relate_in_folder",
    "reversed_pair",
    "sankey",
    "save_relation",
    "sources_of",
    "stored_explanations",
    "support_needed",
    "tfidf_vectors",
    "threshold_sweep",
    "truth_tables",
    "wilson",
    "with_explanations",
    "write_graphml",
    "write_node_link",
    "write_parquet",
]
