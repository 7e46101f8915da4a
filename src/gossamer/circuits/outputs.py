"""What a network says at the answer position: logits of the answers, and of all tokens where they are asked for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from gossamer.display import plural, short_repr
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.metric import reads_answers_only
from gossamer.tasks.prompt_pairs import PromptPairs

Rows = Int[Tensor, "rows"] | slice
# Logits of the whole vocabulary that stand in memory at once: what is made of them takes a few times as much. Of a
# vocabulary of 262,144 they are 64 prompts; a product of few rows is at half its speed.
BLOCK_VALUES = 2**24


# From a stream to logits of all tokens, or of those of a second argument `ids` (rows, n) alone, in float32 at least.
Unembedding = Callable[..., Tensor]


@dataclass(frozen=True)
class Outputs:
    """What a network says of some prompts, as the stream that its head reads.

    A vocabulary can have hundreds of times as many entries as the stream, and half precision keeps a logit to an eighth
    only: the few logits that a metric compares are made from their own rows of the unembedding, in float32, and those
    of the whole vocabulary block by block. Memory: prompts x d_model, and one block.

    Attributes:
        stream: the residual stream after the last layer at the answer position.
        unembed: makes logits of it.
    """

    stream: Float[Tensor, "rows d"]
    unembed: Unembedding

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.stream), "prompt")

    def __len__(self) -> int:
        return len(self.stream)

    def __getitem__(self, rows: Rows) -> "Outputs":
        """Those of some of the prompts."""
        return Outputs(self.stream[rows], self.unembed)

    def logits(self) -> Float[Tensor, "rows vocab"]:
        """Of the whole vocabulary, all at once; differentiable."""
        return self.unembed(self.stream)

    def answer_logits(self, examples: PromptPairs, rows: Rows) -> Float[Tensor, "rows answers"]:
        """Of the prompts' own answers, in the order of :meth:`PromptPairs.answer_ids`; differentiable."""
        return self.unembed(self.stream, examples.answer_ids(rows).to(self.stream.device).clamp(min=0))

    def blocks(self) -> Iterator[slice]:
        """Rows whose logits of the whole vocabulary stand in memory at once."""
        size = max(1, BLOCK_VALUES // self[:1].logits().shape[-1])
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))


def last_stream(model: LanguageModel) -> Site:
    """The residual stream that the final norm reads."""
    return model.sites("resid_post")[-1]


def measured(
    outputs: Outputs, examples: PromptPairs, rows: Rows, reference: Float[Tensor, "rows vocab"] | None = None
) -> Float[Tensor, "rows"]:
    """The task's metric of the chosen prompts, whose `outputs` these are; differentiable, float32.

    `reference`: log-probabilities of the full model, for a metric that is a distance from it.
    """
    if not reads_answers_only(examples.metric):
        return examples.measure(outputs.logits(), rows, reference)
    right, wrong = (places.to(outputs.stream.device) for places in examples.answer_places(rows))
    return examples.metric(outputs.answer_logits(examples, rows), right, wrong, None)
