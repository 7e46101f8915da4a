"""How information moved between positions: by which heads, from which tokens, and why a head attended there."""

from gossamer.attention.check import TraceCheck, check_trace
from gossamer.attention.direct import DirectAttribution, direct_attribution
from gossamer.attention.frozen import FrozenPass
from gossamer.attention.heads import HeadShares, head_shares
from gossamer.attention.qk import HeadMaps, LatentPair, ScoreAttribution, attribute_score, top_latent_pairs, top_pairs
from gossamer.attention.qk_edges import qk_edges
from gossamer.attention.source import Source
from gossamer.attention.trace import Root, Trace, TraceNode, TraceTree, latent_root, logit_root, trace
from gossamer.attention.tracing import TraceResult, trace_prompt, trace_task
from gossamer.attention.trust import Trust, TrustReport, trust_report

__all__ = [
    "DirectAttribution",
    "FrozenPass",
    "HeadMaps",
    "HeadShares",
    "LatentPair",
    "Root",
    "ScoreAttribution",
    "Source",
    "Trace",
    "TraceCheck",
    "TraceNode",
    "TraceResult",
    "TraceTree",
    "Trust",
    "TrustReport",
    "attribute_score",
    "check_trace",
    "direct_attribution",
    "head_shares",
    "latent_root",
    "logit_root",
    "qk_edges",
    "top_latent_pairs",
    "top_pairs",
    "trace",
    "trace_prompt",
    "trace_task",
    "trust_report",
]
