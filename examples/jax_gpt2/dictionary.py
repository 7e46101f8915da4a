"""A gossamer dictionary in JAX: what a DictionarySet wrote, read without torch."""

import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from safetensors.numpy import load_file


class Dictionary(NamedTuple):
    """The parameters of one site; a pytree, so that it can be an argument of a jitted function.

    ``a = jumprelu((x - s * b_dec) @ W_enc + b_enc)``, with s = 0 or 1, and ``x_hat = a @ W_dec + b_dec``.
    """

    W_enc: jax.Array
    b_enc: jax.Array
    threshold: jax.Array
    W_dec: jax.Array
    b_dec: jax.Array
    subtract_b_dec: jax.Array

    def encode(self, x: jax.Array) -> jax.Array:
        """Latents (..., n) of activations (..., d)."""
        pre = (x - self.subtract_b_dec * self.b_dec) @ self.W_enc + self.b_enc
        return jax.nn.relu(pre) * (pre > self.threshold)

    def decode(self, latents: jax.Array) -> jax.Array:
        """Activations (..., d) from latents (..., n)."""
        return latents @ self.W_dec + self.b_dec

    def reconstruct(self, x: jax.Array) -> jax.Array:
        """What the dictionary makes of activations."""
        return self.decode(self.encode(x))


def read_set(folder: Path) -> dict[int, Dictionary]:
    """The dictionaries of a folder that `gossamer.DictionarySet.save` wrote, by layer; all at ``resid_post``.

    Raises:
        ValueError: another site, a file that is not the one saved, an architecture other than jumprelu or relu, or a
            normalisation of the input.
    """
    entries = json.loads((folder / "dictionaries.json").read_text())["dictionaries"]
    return dict(_read(folder, str(entry["site"]), entry["sha256"]) for entry in entries)


def _read(folder: Path, site: str, hashes: dict[str, str]) -> tuple[int, Dictionary]:
    named = re.fullmatch(r"resid_post\.(\d+)", site)
    if named is None:
        raise ValueError(f"expected dictionaries at resid_post.N, found {site}")
    for name in ("cfg.json", "sae_weights.safetensors"):
        if hashlib.sha256((folder / site / name).read_bytes()).hexdigest() != hashes[name]:
            raise ValueError(f"{folder / site / name} is not the file that was saved")
    facts = json.loads((folder / site / "cfg.json").read_text())
    if facts["architecture"] not in ("jumprelu", "standard") or facts["normalize_activations"] != "none":
        raise ValueError(f"{site}: {facts['architecture']} with {facts['normalize_activations']} is not read here")
    tensors = {name: jnp.asarray(array) for name, array in load_file(folder / site / "sae_weights.safetensors").items()}
    tensors.setdefault("threshold", jnp.zeros_like(tensors["b_enc"]))
    subtract = jnp.float32(facts["apply_b_dec_to_input"])
    return int(named[1]), Dictionary(**tensors, subtract_b_dec=subtract)
