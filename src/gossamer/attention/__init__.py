"""How information moved between positions: by which heads, from which tokens, and why a head attended there."""

from gossamer.attention.check import TraceCheck, check_trace
from gossamer.attention.direct import DirectAttribution, direct_attribution
from gossamer.attention.frozen import FrozenPass
from gossamer.attention.qk import HeadMaps, ScoreAttribution, attribute_score, top_pairs
from gossamer.attention.source import Source
from gossamer.attention.trace import Root, Trace, TraceNode, latent_root, logit_root, trace
from gossamer.attention.tracing import TraceResult, trace_prompt, trace_task

__all__ = [
    "DirectAttribution",
    "FrozenPass",
    "HeadMaps",
    "Root",
    "ScoreAttribution",
    "Source",
    "Trace",
    "TraceCheck",
    "TraceNode",
    "TraceResult",
    "attribute_score",
    "check_trace",
    "direct_attribution",
    "latent_root",
    "logit_root",
    "top_pairs",
    "trace",
    "trace_prompt",
    "trace_task",
]
