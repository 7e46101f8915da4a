"""Memory of a mask search on a Gemma-2-9B-shaped model with four dictionaries of 16,384 latents, without allocating it.

    python benchmarks/circuit_memory.py [--batch 16] [--positions 32] [--quick] [--json]

Weights and dictionaries are made on the meta device and counted exactly. What autograd keeps for one batch is counted
exactly too: the layers after the first dictionary run on the meta device in bfloat16, weights frozen as in a search,
and every tensor that a backward pass would need is added up. The masks' share is the formula below. The budget is one
card of 80 GB; --quick takes a 2-layer cut of the same shape for a smoke test.

    total = weights + dictionaries (2 d n each) + cached stream (prompts x positions x d)
          + ablation tables (slots x n and slots x d a site, float32) + kept activations of one batch
          + masks (5 numbers a batch token and column a site) + Adam (4 numbers a candidate)
          + logits (3 x batch x vocabulary)
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from settings import Row, row, show
from transformers import Gemma2Config, Gemma2ForCausalLM

from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.model import Site

GB = 1e9
CARD = 80.0
SITES = (7, 14, 21, 40)
LATENTS = 16_384
PROMPTS, SLOTS, COLUMNS = 512, 64, 8_192


def main() -> None:
    """Print the parts and the total."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--positions", type=int, default=32)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    parts = budget(options.batch, options.positions, 2 if options.quick else 42)
    if not options.json:
        for name, size in parts.items():
            print(f"{name:<40} {size / GB:8.2f} GB")
    total = sum(parts.values()) / GB
    what = f"Gemma-2-9B shape, bf16, {options.batch} x {options.positions} tokens"
    rows: list[Row] = [row(what, total, CARD, "GB", "fits one 80 GB card", total <= CARD)]
    show(rows, options.json)


def budget(batch: int, positions: int, n_layers: int) -> dict[str, float]:
    """Bytes of every part."""
    config = shape(n_layers)
    with torch.device("meta"):
        model = Gemma2ForCausalLM(config).to(torch.bfloat16).requires_grad_(False)
    tokens, d = batch * positions, config.hidden_size
    made = DictionaryConfig("jumprelu", d_in=d, n_latents=LATENTS, site=Site("resid_post", 7))
    dictionary = Dictionary(made, device="meta", dtype=torch.bfloat16)
    n_sites = len(SITES)
    return {
        "weights": float(sum(p.nbytes for p in model.parameters())),
        f"{n_sites} dictionaries of {LATENTS:,}": float(n_sites * dictionary.nbytes),
        f"cached stream, {PROMPTS} prompts": 2.0 * PROMPTS * positions * d,
        f"ablation tables, {SLOTS} slots": 4.0 * n_sites * SLOTS * (LATENTS + 2 * d),
        "activations kept for one batch": kept(model, batch, positions, min(SITES) + 1 if n_layers > 2 else 1),
        f"masks of one batch, {COLUMNS:,} columns a site": 4.0 * 5 * n_sites * tokens * COLUMNS,
        "Adam, all columns at all positions": 4.0 * 4 * n_sites * positions * COLUMNS,
        "logits at the answer": 3 * 4.0 * batch * config.vocab_size,
    }


def shape(n_layers: int) -> Gemma2Config:
    """The published sizes of Gemma 2 9B."""
    return Gemma2Config(
        vocab_size=256_000,
        hidden_size=3584,
        intermediate_size=14_336,
        num_hidden_layers=n_layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=256,
    )


def kept(model: Gemma2ForCausalLM, batch: int, positions: int, first: int) -> float:
    """Bytes that autograd keeps when the layers from `first` on run on one batch of a stream that wants a gradient."""
    stream = torch.empty(
        batch, positions, model.config.hidden_size, device="meta", dtype=torch.bfloat16, requires_grad=True
    )
    places = torch.arange(positions, device="meta")[None]
    rotary = model.model.rotary_emb(stream, places)
    mask = torch.empty(batch, 1, positions, positions, device="meta", dtype=torch.bfloat16)
    with counting({p.untyped_storage()._cdata for p in model.parameters()}) as seen:
        for layer in model.model.layers[first:]:
            stream = layer(stream, position_embeddings=rotary, attention_mask=mask, position_ids=places)
            stream = stream[0] if isinstance(stream, tuple) else stream
        model.model.norm(stream)
    return float(sum(seen.values()))


@contextmanager
def counting(without: set[int]) -> Iterator[dict[int, int]]:
    """Collect the size of every storage that autograd saves, once each, weights left out."""
    seen: dict[int, int] = {}
    alive = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in without:
            alive.append(storage)  # an address may be used again once its storage is gone
            seen[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield seen


if __name__ == "__main__":
    main()
