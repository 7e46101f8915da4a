"""GPT-2 in plain flax: layers stacked by `nn.scan`, attention from flax, and not one tag."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from safetensors.numpy import load_file


@dataclass(frozen=True)
class Config:
    """The sizes of a GPT-2."""

    layers: int
    heads: int
    width: int
    inner: int
    vocabulary: int
    positions: int
    epsilon: float

    @classmethod
    def read(cls, folder: Path) -> "Config":
        """From the `config.json` of a Hugging Face folder.

        Raises:
            ValueError: not the GPT-2 that this file computes.
        """
        facts = json.loads((folder / "config.json").read_text())
        expected = {"model_type": "gpt2", "activation_function": "gelu_new", "scale_attn_by_inverse_layer_idx": False}
        for name, value in expected.items():
            if facts.get(name, value) != value:
                raise ValueError(f"{folder}: expected {name}={value!r}, found {facts[name]!r}")
        width = facts["n_embd"]
        return cls(
            facts["n_layer"],
            facts["n_head"],
            width,
            facts.get("n_inner") or 4 * width,
            facts["vocab_size"],
            facts["n_positions"],
            facts["layer_norm_epsilon"],
        )


class Block(nn.Module):
    """One layer; returns the stream and nothing for `nn.scan` to stack."""

    config: Config

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, None]:
        config = self.config
        attention = nn.MultiHeadDotProductAttention(config.heads, name="attn")
        x = x + attention(nn.LayerNorm(config.epsilon, name="ln_1")(x), mask=mask)
        hidden = nn.Dense(config.inner, name="c_fc")(nn.LayerNorm(config.epsilon, name="ln_2")(x))
        x = x + nn.Dense(config.width, name="c_proj")(nn.gelu(hidden, approximate=True))
        return x, None


class GPT2(nn.Module):
    """Tokens (batch, pos) to logits: (batch, pos, vocab), or (batch, vocab) for the last position alone."""

    config: Config

    @nn.compact
    def __call__(self, tokens: jax.Array, last: bool = False) -> jax.Array:
        config = self.config
        embed = nn.Embed(config.vocabulary, config.width, name="wte")
        place = nn.Embed(config.positions, config.width, name="wpe")
        x = embed(tokens) + place(jnp.arange(tokens.shape[1]))
        stacked = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=config.layers,
        )
        x, _ = stacked(config, name="layers")(x, nn.make_causal_mask(tokens))
        x = x[:, -1] if last else x
        return embed.attend(nn.LayerNorm(config.epsilon, name="ln_f")(x))


def load(folder: Path) -> tuple[GPT2, dict[str, Any]]:
    """The model of a Hugging Face folder and its parameters, those of the layers stacked."""
    config = Config.read(folder)
    weights = {
        name.removeprefix("transformer."): array for name, array in load_file(folder / "model.safetensors").items()
    }

    def stacked(name: str) -> jax.Array:
        return jnp.stack([weights[f"h.{layer}.{name}"] for layer in range(config.layers)])

    def norm(scale: Any, bias: Any) -> dict[str, Any]:
        return {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)}

    split = (config.heads, config.width // config.heads)
    kernels = jnp.split(stacked("attn.c_attn.weight"), 3, axis=-1)
    biases = jnp.split(stacked("attn.c_attn.bias"), 3, axis=-1)
    attention: dict[str, Any] = {
        name: {"kernel": kernel.reshape(*kernel.shape[:2], *split), "bias": bias.reshape(-1, *split)}
        for name, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True)
    }
    out = stacked("attn.c_proj.weight").reshape(-1, *split, config.width)
    attention["out"] = {"kernel": out, "bias": stacked("attn.c_proj.bias")}
    layers = {
        "attn": attention,
        "ln_1": norm(stacked("ln_1.weight"), stacked("ln_1.bias")),
        "ln_2": norm(stacked("ln_2.weight"), stacked("ln_2.bias")),
        "c_fc": {"kernel": stacked("mlp.c_fc.weight"), "bias": stacked("mlp.c_fc.bias")},
        "c_proj": {"kernel": stacked("mlp.c_proj.weight"), "bias": stacked("mlp.c_proj.bias")},
    }
    params = {
        "wte": {"embedding": jnp.asarray(weights["wte.weight"])},
        "wpe": {"embedding": jnp.asarray(weights["wpe.weight"])},
        "layers": layers,
        "ln_f": norm(weights["ln_f.weight"], weights["ln_f.bias"]),
    }
    return GPT2(config), {"params": params}
