"""Texts as vectors: of a server with OpenAI's API, or of a transformers model in this process."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from gossamer.chat.endpoint import Endpoint
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.fingerprint import weights_sha256


@runtime_checkable
class Embedder(Protocol):
    """Anything that turns texts into vectors."""

    def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, "texts d"]:
        """A vector a text."""


class EndpointEmbedder:
    """The embeddings of a server with OpenAI's API (/v1/embeddings); a text is asked for once."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._known: dict[str, Sequence[float]] = {}

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self._endpoint)

    def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, "texts d"]:
        """See :class:`Embedder`.

        Raises:
            UsageError: the server has no embeddings.
        """
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if new:
            self._known.update(zip(new, self._endpoint.embeddings(new), strict=True))
        return np.array([self._known[text] for text in texts])


class LocalEmbedder:
    """A transformers encoder: the mean of its last layer over a text's tokens, as sentence embedders mostly have it.

    Attributes:
        name: folder or id, with the beginning of the weights' hash.
    """

    def __init__(self, source: str, *, batch_size: int = 32) -> None:
        """Read it; weights come from safetensors files only, and no code of theirs runs.

        Raises:
            UsageError: there is no such model, or it has no such files.
        """
        from transformers import AutoModel, AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
            self._model: Any = AutoModel.from_pretrained(source, use_safetensors=True).eval().requires_grad_(False)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UsageError(f"--embedder {source}: a transformers model expected, found none ({reason})") from error
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self.name, self._batch_size = f"{source} ({(weights_sha256(self._model) or '')[:8]})", batch_size
        self._longest = int(getattr(self._model.config, "max_position_embeddings", 512))

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.name

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, "texts d"]:
        """See :class:`Embedder`; longer texts than the model takes are cut."""
        found = []
        for start in range(0, len(texts), self._batch_size):
            part = list(texts[start : start + self._batch_size])
            given = self._tokenizer(part, padding=True, truncation=True, max_length=self._longest, return_tensors="pt")
            mask = given["attention_mask"][..., None]
            states = self._model(**given).last_hidden_state.float()
            found.append(((states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)).numpy())
        return np.concatenate(found)
