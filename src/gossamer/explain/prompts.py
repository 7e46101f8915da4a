"""What language models are asked about features, one template a file, in words of our own."""

from gossamer.chat.templates import Templates

_TEMPLATES = Templates("gossamer.explain")
messages, plain = _TEMPLATES.messages, _TEMPLATES.plain
