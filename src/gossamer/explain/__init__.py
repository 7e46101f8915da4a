"""Words for features: rules without a language model, explanations with one, and scores that count their failures."""

from gossamer.explain.answers import Score
from gossamer.explain.chat import Chat, Reply, Request
from gossamer.explain.corpus import WindowedCorpus, WindowSettings
from gossamer.explain.endpoint import Endpoint, EndpointSettings, Prices
from gossamer.explain.explainers import Explanation
from gossamer.explain.judges import ChatJudge, RuleJudge
from gossamer.explain.local_chat import LocalChat
from gossamer.explain.rules import Rule, WeightedRule
from gossamer.explain.study import ExplainedFeatures, ExplainSettings, Study, choose_features
from gossamer.explain.windows import FeatureWindows, Window

__all__ = [
    "Chat",
    "ChatJudge",
    "Endpoint",
    "EndpointSettings",
    "ExplainSettings",
    "ExplainedFeatures",
    "Explanation",
    "FeatureWindows",
    "LocalChat",
    "Prices",
    "Reply",
    "Request",
    "Rule",
    "RuleJudge",
    "Score",
    "Study",
    "WeightedRule",
    "Window",
    "WindowSettings",
    "WindowedCorpus",
    "choose_features",
]
