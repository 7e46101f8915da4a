"""A language model of transformers, in this process, as explainer and judge."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.chat.chat import ChatReply, ChatRequest, TokenChances
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.tokens import Tokens


class LocalChat:
    """Asks a model in memory, greedily, through its tokenizer's chat template; it can read prompts' chances as well.

    Attributes:
        model: its name.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model, self.model = model, model.title

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.model

    def ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """See :class:`gossamer.chat.chat.Chat`; a prompt that is too long for the model is an error of its own."""
        return [self._answer(one) for one in requests]

    def _answer(self, request: ChatRequest) -> ChatReply:
        tokens = self._model.tokenize([self._prompt(request)], bos=None)
        length = tokens.ids.shape[1]
        if length + request.max_tokens - 1 > self._model.n_context:
            return ChatReply(
                error=f"{length} tokens and {request.max_tokens} new ones, {self._model.n_context} at most"
            )
        steps = list(self._model.stream(tokens, max_new_tokens=request.max_tokens))
        ids = [int(step.ids[0]) for step in steps if bool(step.active[0])]
        text = self._model.decode(Tokens.full(torch.tensor([ids])))[0]
        chances = tuple(
            TokenChances(self._model.word(token), self._top(step.logits[0], request.top_logprobs))
            for token, step in zip(ids, steps, strict=False)
            if request.top_logprobs
        )
        ended = len(ids) < request.max_tokens or ids[-1] == self._model.tokenizer.eos_token_id
        return ChatReply(text, "", "stop" if ended else "length", self.model, chances, length, len(ids))

    def prompt_chances(self, prompt: str, top: int) -> list[TokenChances]:
        """See :class:`gossamer.chat.chat.PromptScorer`."""
        tokens = self._model.tokenize([prompt])
        if tokens.ids.shape[1] > self._model.n_context:
            raise UsageError(
                f"simulation: a prompt of at most {self._model.n_context} tokens expected, found "
                f"{tokens.ids.shape[1]}; use shorter windows"
            )
        with torch.no_grad():
            logits = self._model.logits(tokens)[0]
        words = [self._model.word(one) for one in tokens.ids[0].tolist()]
        first = [TokenChances(words[0], {})]
        return first + [TokenChances(word, self._top(row, top)) for word, row in zip(words[1:], logits, strict=False)]

    def _top(self, logits: Float[Tensor, "vocab"], count: int) -> dict[str, float]:
        best = logits.float().log_softmax(dim=-1).topk(min(count, logits.shape[-1]))
        return {
            self._model.word(token): value
            for token, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        }

    def _prompt(self, request: ChatRequest) -> str:
        tokenizer = self._model.tokenizer
        if getattr(tokenizer, "chat_template", None):
            messages = [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
            return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        return f"{request.system}\n\n{request.user}\n"
