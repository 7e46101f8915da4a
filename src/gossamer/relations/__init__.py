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
from gossamer.relations.gate_files import read_gates, write_gates
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
from gossamer.relations.measures import DECODER_COSINE, MEASURES, PairCounts, fisher_z, support_needed, wilson
from gossamer.relations.prompt_latents import PromptLatents, prompt_latents
from gossamer.relations.relate import ActiveAbove, adjacent, relate
from gossamer.relations.relation import BestPartner, Keep, RelatedPairs, Relation
from gossamer.relations.relations_data import LatentFacts, RelationLimits, RelationsData
from gossamer.relations.saved import relate_in_folder
from gossamer.relations.storage import load_relation, save_relation
from gossamer.relations.summary import Describe, described, from_cards, lifecycles_of, relations_data
from gossamer.relations.truth_tables import TruthTable, truth_tables

__all__ = [
    "DECODER_COSINE",
    "MEASURES",
    "AblationCheck",
    "ActiveAbove",
    "BestPartner",
    "CausalSettings",
    "CoActivation",
    "Communities",
    "CommunitySettings",
    "Describe",
    "ErrorShare",
    "Gate",
    "GateSettings",
    "GivenLatents",
    "Keep",
    "LatentFacts",
    "LatentSource",
    "LatentStream",
    "Lifecycle",
    "LifecycleSettings",
    "ModelLatents",
    "PairCounts",
    "PromptLatents",
    "RankAgreement",
    "RelatedPairs",
    "Relation",
    "RelationGraph",
    "RelationLimits",
    "RelationsData",
    "SankeyData",
    "SitePair",
    "ThresholdSweep",
    "TruthTable",
    "ablation_check",
    "adjacent",
    "adjusted_rand",
    "community_words",
    "described",
    "error_share",
    "find_communities",
    "find_gates",
    "fisher_z",
    "from_cards",
    "lifecycle",
    "lifecycles_of",
    "load_relation",
    "matched",
    "maxima",
    "prompt_latents",
    "read_gates",
    "read_graphml",
    "read_node_link",
    "read_parquet",
    "relate",
    "relate_in_folder",
    "relations_data",
    "reversed_pair",
    "sankey",
    "save_relation",
    "sources_of",
    "support_needed",
    "threshold_sweep",
    "truth_tables",
    "wilson",
    "write_gates",
    "write_graphml",
    "write_node_link",
    "write_parquet",
]
