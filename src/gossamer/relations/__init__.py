"""Which features belong together: co-activation across layers, lifecycle, gates, communities, and what they cause."""

from gossamer.relations.causal import (
    AblationCheck,
    Ablations,
    CausalSettings,
    RankAgreement,
    ablation_check,
    joint_agreement,
)
from gossamer.relations.communities import (
    Communities,
    CommunitySettings,
    adjusted_rand,
    community_words,
    find_communities,
    rewired,
    with_chance,
)
from gossamer.relations.community_facts import CommunityFacts
from gossamer.relations.counting import CoActivation, SitePair, maxima
from gossamer.relations.error_share import ErrorShare, error_share, error_shares
from gossamer.relations.explanations import stored_explanations, tfidf_vectors, with_explanations
from gossamer.relations.folder import folder_data
from gossamer.relations.gate_ablation import AblatedPattern, GateCheck, check_gates
from gossamer.relations.gate_files import read_gates, write_gates
from gossamer.relations.gates import (
    Gate,
    GateSearch,
    GateSettings,
    find_gates,
    recounted,
    reversed_pair,
    search_gates,
)
from gossamer.relations.graph import RelationGraph
from gossamer.relations.graph_files import (
    read_graphml,
    read_node_link,
    read_parquet,
    write_graphml,
    write_node_link,
    write_parquet,
)
from gossamer.relations.graph_layout import GraphLayout, layout_graph
from gossamer.relations.graph_view import DrawnGraph, GraphPart, GraphView
from gossamer.relations.latents import GivenLatents, LatentSource, LatentStream, ModelLatents, sources_of
from gossamer.relations.lifecycle import (
    Lifecycle,
    LifecycleCounts,
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
    pearson_interval,
    support_needed,
)
from gossamer.relations.neighbours import RelatedCards, related_neighbours
from gossamer.relations.pair_table import PairTable, pair_table
from gossamer.relations.prompt_latents import PromptActivations, prompt_latents
from gossamer.relations.relate import ActiveAbove, adjacent, relate
from gossamer.relations.relation import BestPartner, Keep, RelatedPairs, Relation
from gossamer.relations.relations_data import LatentFacts, RelationLimits, RelationsData
from gossamer.relations.saved import (
    load_error_share,
    load_folder,
    neighbours_of,
    relate_in_folder,
    save_error_share,
)
from gossamer.relations.storage import load_relation, save_relation
from gossamer.relations.study import relation_study
from gossamer.relations.study_data import RelationStudyOptions
from gossamer.relations.study_results import RelationStudy
from gossamer.relations.summary import (
    Describe,
    described,
    from_cards,
    from_words,
    lifecycles_of,
    of_study,
    relations_data,
)
from gossamer.relations.truth_tables import TruthTable, truth_tables
from gossamer.relations.words import fired_on
from gossamer.statistics import wilson

__all__ = [
    "DECODER_COSINE",
    "EXPLANATION_COSINE",
    "MEASURES",
    "AblatedPattern",
    "AblationCheck",
    "Ablations",
    "ActiveAbove",
    "BestPartner",
    "CausalSettings",
    "CoActivation",
    "Communities",
    "CommunityFacts",
    "CommunitySettings",
    "Describe",
    "DrawnGraph",
    "ErrorShare",
    "Gate",
    "GateCheck",
    "GateSearch",
    "GateSettings",
    "GivenLatents",
    "GraphLayout",
    "GraphPart",
    "GraphView",
    "Keep",
    "LatentFacts",
    "LatentSource",
    "LatentStream",
    "Lifecycle",
    "LifecycleCounts",
    "LifecycleSettings",
    "ModelLatents",
    "PairCounts",
    "PairTable",
    "PromptActivations",
    "RankAgreement",
    "RelatedCards",
    "RelatedPairs",
    "Relation",
    "RelationGraph",
    "RelationLimits",
    "RelationStudy",
    "RelationStudyOptions",
    "RelationsData",
    "SankeyData",
    "SitePair",
    "ThresholdSweep",
    "TruthTable",
    "ablation_check",
    "adjacent",
    "adjusted_rand",
    "check_gates",
    "community_words",
    "described",
    "error_share",
    "error_shares",
    "find_communities",
    "find_gates",
    "fired_on",
    "folder_data",
    "from_cards",
    "from_words",
    "joint_agreement",
    "layout_graph",
    "lifecycle",
    "lifecycles_of",
    "load_error_share",
    "load_folder",
    "load_relation",
    "matched",
    "maxima",
    "neighbours_of",
    "of_study",
    "pair_table",
    "pearson_interval",
    "prompt_latents",
    "read_gates",
    "read_graphml",
    "read_node_link",
    "read_parquet",
    "recounted",
    "relate",
    "relate_in_folder",
    "related_neighbours",
    "relation_study",
    "relations_data",
    "reversed_pair",
    "rewired",
    "sankey",
    "save_error_share",
    "save_relation",
    "search_gates",
    "sources_of",
    "stored_explanations",
    "support_needed",
    "tfidf_vectors",
    "threshold_sweep",
    "truth_tables",
    "wilson",
    "with_chance",
    "with_explanations",
    "write_gates",
    "write_graphml",
    "write_node_link",
    "write_parquet",
]
