"""From a RASP program to a transformer with known weights, in the manner of Tracr (Lindner et al. 2023).

Every variable has its own directions in the residual stream; attention and MLP sublayers write each variable once, in
the first place after what it reads. The head reads the program's output: for a categorical one the logit of a value is
LOGIT times the length along its direction; for a numerical one x the logit of v is LOGIT * (2 v x - v^2), which is
largest at the value nearest to x.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from gossamer.display import listed, short_repr
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.tokens import Tokens
from gossamer.toys.layout import BOS, Direction, Layout
from gossamer.toys.parts import SHARP, Neurons, RaspHead, Sharpness, head, neurons
from gossamer.toys.rasp import Aggregate, BosShare, Expression, Value, evaluate
from gossamer.toys.rasp import indices as indices_variable
from gossamer.toys.rasp import tokens as tokens_variable
from gossamer.toys.transformer import TOY, ToyConfig, ToyShape, ToyTransformer

LOGIT = 10.0
_PAD, _UNKNOWN = "<pad>", "<unk>"
SPECIAL = (BOS, _PAD, _UNKNOWN)


@dataclass(frozen=True, eq=False)
class Compiled:
    """A program and the transformer that computes it.

    Attributes:
        layout: variables, directions and sublayers.
        vocabulary: tokens that an input may have.
        max_length: longest input, without BOS.
        causal: whether positions see themselves and earlier ones only, in the model and in the program.
        hf: the transformer.
        projection: residual vector of each labelled direction; the identity unless compressed.
        heads: the variable that each head of each layer computes; heads beyond them are zero.
    """

    layout: Layout
    vocabulary: tuple[Value, ...]
    max_length: int
    causal: bool
    hf: ToyTransformer
    tokenizer: PreTrainedTokenizerFast
    projection: Float[Tensor, "direction d_model"]
    heads: tuple[tuple[str, ...], ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.language_model)
        yield f"inputs of up to {self.max_length} of {listed(self.vocabulary)}"

    @property
    def program(self) -> Expression:
        """The output's expression."""
        return self.layout.program

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Labels of the rows of `projection`."""
        return self.layout.directions

    @cached_property
    def language_model(self) -> LanguageModel:
        """The transformer as gossamer reads and edits it; its facts are checked once."""
        return LanguageModel.load(self.hf, tokenizer=self.tokenizer, family=TOY)

    def encode(self, inputs: Sequence[Sequence[Value]]) -> Tokens:
        """Inputs as token ids with BOS first, padded on the right.

        Raises:
            UsageError: no inputs, an empty or too long one, or a token outside the vocabulary.
        """
        for tokens in inputs:
            if not 1 <= len(tokens) <= self.max_length:
                raise UsageError(f"inputs of 1 to {self.max_length} tokens expected, found {len(tokens)}")
            for token in tokens:
                if token not in self.vocabulary:
                    raise UsageError(f"tokens {', '.join(map(str, self.vocabulary))} expected, found {token}")
        return self.language_model.tokenize([" ".join(map(str, tokens)) for tokens in inputs])

    def run(self, inputs: Sequence[Sequence[Value]]) -> list[list[Value]]:
        """What the transformer puts out at every position of every input (BOS left out).

        A categorical output of which no direction reaches half its length is None.
        """
        with torch.no_grad():
            logits = self.language_model.logits(self.encode(inputs)).cpu()
        return [self._decoded(row[1 : len(tokens) + 1]) for row, tokens in zip(logits, inputs, strict=True)]

    def expected(self, inputs: Sequence[Sequence[Value]]) -> list[list[Value]]:
        """What the interpreter says of the same inputs."""
        return [evaluate(self.program, tokens, causal=self.causal) for tokens in inputs]

    def _decoded(self, logits: Float[Tensor, "pos vocab"]) -> list[Value]:
        values = self.layout.values[self.program]
        ids = self.tokenizer.convert_tokens_to_ids([str(value) for value in values])
        best = logits[:, ids].max(dim=-1)
        present = (best.values > LOGIT / 2).tolist()
        numerical = self.program.numerical
        return [
            values[place] if numerical or found else None
            for place, found in zip(best.indices.tolist(), present, strict=True)
        ]


def compile_program(
    program: Expression,
    vocabulary: Sequence[Value],
    *,
    max_length: int,
    causal: bool = False,
    sharpness: Sharpness = SHARP,
    name: str = "program",
) -> Compiled:
    """Compile `program` for inputs of 1 to `max_length` tokens of `vocabulary`.

    Args:
        program: its output.
        vocabulary: distinct values whose text has no spaces.
        max_length: longest input, BOS not counted.
        causal: attention to earlier positions only, as in a language model; Tracr's default is without.
        sharpness: SMOOTH for a model that has gradients.
        name: of the model.

    Raises:
        UsageError: two values that read the same, a variable with too many values or of the wrong kind.
    """
    if not vocabulary or max_length < 1:
        raise UsageError(
            f"a vocabulary and max_length of at least 1 expected, found {len(vocabulary)} and {max_length}"
        )
    layout = Layout.plan(program, vocabulary, max_length)
    tokenizer = word_tokenizer(_words(vocabulary, layout.values[program]))
    heads, hidden = _sublayers(layout, sharpness)
    shape = ToyShape(
        vocab_size=len(tokenizer),
        hidden_size=len(layout.directions),
        num_hidden_layers=layout.n_layers,
        num_attention_heads=max(1, *map(len, heads)),
        head_dim=max((max(len(part.q), len(part.v)) for layer in heads for part in layer), default=1),
        intermediate_size=max(1, *(sum(len(part.read) for part in layer) for layer in hidden)),
        max_position_embeddings=max_length + 1,
    )
    hf = ToyTransformer(ToyConfig(**vars(shape), causal=causal, name_or_path=name)).eval().requires_grad_(False)
    _fill_ends(hf, layout, tokenizer, vocabulary, max_length)
    for layer, parts in enumerate(heads):
        _fill_attention(hf.model.layers[layer].attn, parts)
    for layer, groups in enumerate(hidden):
        _fill_mlp(hf.model.layers[layer].mlp, groups)
    labels = tuple(tuple(part.name for part in parts) for parts in heads)
    identity = torch.eye(len(layout.directions))
    return Compiled(layout, tuple(vocabulary), max_length, causal, hf, tokenizer, identity, labels)


def _sublayers(layout: Layout, sharpness: Sharpness) -> tuple[list[list[RaspHead]], list[list[Neurons]]]:
    """The heads and the neurons of every layer."""
    heads, hidden = [], []
    for layer in range(layout.n_layers):
        attending = [node for node in layout.at(2 * layer) if isinstance(node, Aggregate | BosShare)]
        heads.append([head(layout, node, sharpness.coldness) for node in attending])
        hidden.append([neurons(layout, node, sharpness.ramp) for node in layout.at(2 * layer + 1)])
    return heads, hidden


def _words(vocabulary: Sequence[Value], outputs: Sequence[Value]) -> list[str]:
    """The words of the tokenizer: special ones, inputs, outputs."""
    words: dict[str, Any] = {}
    for value in (*vocabulary, *outputs):
        word = str(value)
        if word in SPECIAL or word.split() != [word] or words.setdefault(word, value) != value:
            raise UsageError(f"{value!r} as a token: a text without spaces expected that no other value has")
    return [*SPECIAL, *words]


def word_tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    """One token a word, BOS first; the words begin with :data:`SPECIAL`."""
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(words)}, unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        pad_token=_PAD,
        unk_token=_UNKNOWN,
        clean_up_tokenization_spaces=False,
    )


def _fill_ends(
    hf: ToyTransformer,
    layout: Layout,
    tokenizer: PreTrainedTokenizerFast,
    vocabulary: Sequence[Value],
    max_length: int,
) -> None:
    """Embeddings and head. The position of BOS has no index; words that are no output have logit -LOGIT."""
    program, place = layout.program, layout.place
    with torch.no_grad():
        hf.model.embed_tokens.weight[tokenizer.bos_token_id, 0] = 1.0
        for value in vocabulary if tokens_variable in layout.names else ():
            word = tokenizer.convert_tokens_to_ids(str(value))
            hf.model.embed_tokens.weight[word, place(tokens_variable, value)] = 1.0
        for index in range(max_length) if indices_variable in layout.names else ():
            hf.model.embed_positions.weight[index + 1, place(indices_variable, index)] = 1.0
        hf.lm_head.bias.fill_(-LOGIT)
        for value in layout.values[program]:
            word = tokenizer.convert_tokens_to_ids(str(value))
            weight, bias = (2 * float(value), -(float(value) ** 2)) if program.numerical else (1.0, 0.0)
            hf.lm_head.weight[word, place(program, value)] = LOGIT * weight
            hf.lm_head.bias[word] = LOGIT * bias


def _fill_attention(attention: Any, parts: Sequence[RaspHead]) -> None:
    width = attention.head_dim
    with torch.no_grad():
        for number, part in enumerate(parts):
            start = number * width
            asked, carried = slice(start, start + len(part.q)), slice(start, start + len(part.v))
            attention.q_proj.weight[asked], attention.q_proj.bias[asked] = part.q, part.q_bias
            attention.k_proj.weight[asked] = part.k
            attention.v_proj.weight[carried] = part.v
            attention.o_proj.weight[:, carried] = part.o


def _fill_mlp(mlp: Any, groups: Sequence[Neurons]) -> None:
    start = 0
    with torch.no_grad():
        for group in groups:
            own = slice(start, start + len(group.read))
            mlp.up_proj.weight[own], mlp.up_proj.bias[own] = group.read, group.bias
            mlp.down_proj.weight[:, own] = group.write
            start = own.stop
