"""Words for features: rules without a language model, explanations with one, and scores that count their failures."""

from gossamer.chat.chat import Chat, ChatReply, ChatRequest
from gossamer.chat.endpoint import Endpoint, EndpointSettings, Prices
from gossamer.chat.local_chat import LocalChat
from gossamer.explain.answers import ExplanationScore
from gossamer.explain.corpus import WindowedCorpus, WindowSettings
from gossamer.explain.explainers import Explanation
from gossamer.explain.judges import ChatJudge, RuleJudge
from gossamer.explain.records import ExplainedFeatures, ExplainSettings
from gossamer.explain.rules import Rule, WeightedRule
from gossamer.explain.study import ExplanationStudy, choose_features
from gossamer.explain.windows import FeatureWindows, Window

__all__ = [
    "Chat",
    "ChatJudge",
    "ChatReply",
    "ChatRequest",
    "Endpoint",
    "EndpointSettings",
    "ExplainSettings",
    "ExplainedFeatures",
    "Explanation",
    "ExplanationScore",
    "ExplanationStudy",
    "FeatureWindows",
    "LocalChat",
    "Prices",
    "Rule",
    "RuleJudge",
    "WeightedRule",
    "Window",
    "WindowSettings",
    "WindowedCorpus",
    "choose_features",
]
