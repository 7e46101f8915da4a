"""Asking language models: a server with OpenAI's API, or a model in this process; explanations and steering use it."""

from gossamer.chat.chat import Chat, ChatReply, ChatRequest, Failure, PromptScorer, TokenChances
from gossamer.chat.endpoint import Endpoint, EndpointSettings, Prices
from gossamer.chat.local_chat import LocalChat
from gossamer.chat.templates import Templates

__all__ = [
    "Chat",
    "ChatReply",
    "ChatRequest",
    "Endpoint",
    "EndpointSettings",
    "Failure",
    "LocalChat",
    "Prices",
    "PromptScorer",
    "Templates",
    "TokenChances",
]
