"""The transformer that programs are compiled into: attention and ReLU MLPs on a residual stream, no norms.

    stream = embedding[token] + position_embedding[position]
    stream += concat_h(softmax(q_h k_h^T) v_h) W_O        q with a bias, scores unscaled, causal mask or none
    stream += relu(stream W_in + b_in) W_out
    logits = stream W_U + b_U

It is a Hugging Face model, so that :class:`gossamer.model.LanguageModel` can read and edit it everywhere. Norms are
identities: they exist because sites are found by them. Weights come from the compiler; nothing is random.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from gossamer.model.family import Family

TOY = Family(
    name="compiled program",
    model_types=("gossamer_toy",),
    layers="model.layers",
    norm="model.norm",
    attention="attn",
    z="attn.o_proj",
    attn_out="attn",
    mlp="mlp",
    mlp_out="mlp",
    q="attn.q_proj",
    k="attn.k_proj",
    v="attn.v_proj",
    core="attend",
)


@dataclass(frozen=True)
class ToyShape:
    """Sizes of a compiled transformer."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    head_dim: int
    intermediate_size: int
    max_position_embeddings: int


class ToyConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of :class:`ToyTransformer`: the fields of :class:`ToyShape`, and `causal`."""

    model_type = "gossamer_toy"

    def __init__(
        self,
        vocab_size: int = 1,
        hidden_size: int = 1,
        num_hidden_layers: int = 1,
        num_attention_heads: int = 1,
        head_dim: int = 1,
        intermediate_size: int = 1,
        max_position_embeddings: int = 1,
        causal: bool = False,
        **kwargs: Any,
    ) -> None:
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        self.num_attention_heads, self.head_dim = num_attention_heads, head_dim
        self.intermediate_size, self.max_position_embeddings = intermediate_size, max_position_embeddings
        self.causal = causal
        super().__init__(**{"tie_word_embeddings": False, **kwargs})


class Attention(nn.Module):
    """Heads of width `head_dim` whose scores are plain dot products: the compiler puts the coldness into the keys."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        width = config.num_attention_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, width)
        self.k_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.o_proj = nn.Linear(width, config.hidden_size, bias=False)

    def forward(self, x: Float[Tensor, "batch pos d_model"], mask: Tensor) -> Float[Tensor, "batch pos d_model"]:
        """What the heads add to the stream."""
        query, key, value = (self._heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        mixed, _ = self.attend(query, key, value, mask)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def attend(
        self,
        query: Float[Tensor, "batch head pos d_head"],
        key: Float[Tensor, "batch head pos d_head"],
        value: Float[Tensor, "batch head pos d_head"],
        mask: Float[Tensor, "#batch 1 pos pos"],
    ) -> tuple[Float[Tensor, "batch head pos d_head"], Float[Tensor, "batch head pos pos"]]:
        """Head outputs and attention probabilities; `mask` is added to the scores."""
        pattern = (query @ key.transpose(-1, -2) + mask).softmax(dim=-1)
        return pattern @ value, pattern

    def _heads(self, x: Tensor) -> Float[Tensor, "batch head pos d_head"]:
        return x.view(*x.shape[:-1], -1, self.head_dim).transpose(1, 2)


class Mlp(nn.Module):
    """One hidden layer of ReLUs."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """What the neurons add to the stream."""
        return self.down_proj(torch.relu(self.up_proj(x)))


class Layer(nn.Module):
    """Attention, then the MLP."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.attn, self.mlp_norm, self.mlp = Attention(config), nn.Identity(), Mlp(config)

    def forward(self, x: Float[Tensor, "batch pos d_model"], mask: Tensor) -> Float[Tensor, "batch pos d_model"]:
        """The stream after the layer."""
        x = x + self.attn(x, mask)
        return x + self.mlp(self.mlp_norm(x))


class _Toy(PreTrainedModel):  # type: ignore[misc]
    config_class = ToyConfig
    base_model_prefix = "model"

    def _init_weights(self, module: nn.Module) -> None:
        """Zeros: the compiler fills in what a program needs."""
        for parameter in module.parameters(recurse=False):
            nn.init.zeros_(parameter)


class ToyStack(_Toy):
    """Embeddings and layers."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList([Layer(config) for _ in range(config.num_hidden_layers)])
        self.norm = nn.Identity()
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        return self.embed_tokens

    def forward(
        self,
        input_ids: Int[Tensor, "batch pos"],
        attention_mask: Tensor | None = None,
        position_ids: Int[Tensor, "..."] | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """The last stream, and all before it; `attention_mask` is 0 at padding. No cache: `use_cache` is ignored."""
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.embed_tokens(input_ids) + self.embed_positions(position_ids)
        mask = self._mask(input_ids, attention_mask).to(x.dtype)
        streams = [x]
        for layer in self.layers:
            streams.append(layer(streams[-1], mask))
        return BaseModelOutput(last_hidden_state=self.norm(streams[-1]), hidden_states=tuple(streams))

    def _mask(self, input_ids: Tensor, attention_mask: Tensor | None) -> Float[Tensor, "#batch 1 pos pos"]:
        n = input_ids.shape[1]
        allowed: Bool[Tensor, "1 1 pos pos"] = torch.ones(1, 1, n, n, dtype=torch.bool, device=input_ids.device)
        if self.config.causal:
            allowed = allowed.tril()
        if attention_mask is not None:
            allowed = allowed & attention_mask[:, None, None, :].bool()
        # Finite, so that a row that may look nowhere (padding on the left) is not NaN.
        return torch.zeros(allowed.shape, device=input_ids.device).masked_fill(~allowed, -1e9)


class ToyTransformer(_Toy):
    """The stack with its head."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.model = ToyStack(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.lm_head

    def forward(self, input_ids: Int[Tensor, "batch pos"], **kwargs: Any) -> CausalLMOutput:
        """Logits at every position, and the streams before and after every layer."""
        found = self.model(input_ids, **kwargs)
        return CausalLMOutput(logits=self.lm_head(found.last_hidden_state), hidden_states=found.hidden_states)


AutoConfig.register(ToyConfig.model_type, ToyConfig)
AutoModelForCausalLM.register(ToyConfig, ToyTransformer)
