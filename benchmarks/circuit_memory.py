"""Memory of finding a circuit in a Gemma-2-9B-shaped model with four dictionaries of 16,384 latents, not allocating it.

    python benchmarks/circuit_memory.py [--batch 64] [--positions 32] [--quick] [--json]

What stays is counted exactly, and so is what autograd keeps of the model's layers: those after the first dictionary run
on the meta device in bfloat16, weights frozen as in a search, and every tensor that a backward pass would need is added
up. What the dictionaries add is the formulas below, which tests/test_memory_benchmark.py holds against what a small
network really allocates. The budget is one card of 80 GB; --quick takes a 2-layer cut of the same shape.

    peak = what stays + the largest stage
    what stays = weights + dictionaries (2 d n each, in the float32 of their files)
          + cached streams (prompts x positions x d, training and held out) + ablation tables (ablation groups x (n + 2
          d) a site) + the model's last streams (prompts x d, training and held out) + node lists and Adam
    stages = candidates: all latents of every site, dense, for WHOLE_BATCH prompts
          | attribution patching: activations kept for WHOLE_BATCH prompts, full dictionaries inside
          | mask search: activations kept for GRADIENT_BATCH prompts, the candidates' columns inside
          | measuring a circuit: a block of logits of the whole vocabulary a few times, columns for `batch` prompts
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from rows import Row, parser, row, say, show
from transformers import Gemma2Config, Gemma2ForCausalLM

from gossamer.circuits.attribution import GRADIENT_BATCH
from gossamer.circuits.outputs import BLOCK_VALUES
from gossamer.circuits.splice import WHOLE_BATCH
from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.model import Site

GB = 1e9
CARD = 80.0


@dataclass(frozen=True)
class Sizes:
    """What a search is made of.

    Attributes:
        sites: layers with a dictionary on the stream after them.
        latents: of each dictionary.
        prompts: of a split, and how many `splits` there are: training and held out.
        ablation groups: rows of the ablation tables.
        columns: candidate latents of a site.
        positions: tokens a prompt.
        batch: prompts a pass without gradients.
    """

    sites: tuple[int, ...] = (7, 14, 21, 40)
    latents: int = 16_384
    prompts: int = 512
    splits: int = 2
    ablation_groups: int = 64
    columns: int = 8_192
    positions: int = 32
    batch: int = 64

    @property
    def nodes(self) -> int:
        """All columns at all positions."""
        return len(self.sites) * self.positions * self.columns


def main() -> None:
    """Print the parts and the peak."""
    given = parser(__doc__, "2 layers of the same shape")
    given.add_argument("--batch", type=int, default=64, help="prompts a pass without gradients")
    given.add_argument("--positions", type=int, default=32)
    options = given.parse_args()
    config, sizes = shape(2 if options.quick else 42), Sizes(batch=options.batch, positions=options.positions)
    stays, stages = resident(config, sizes), transient(config, sizes)
    for title, parts in (("what stays", stays), ("stages, one at a time", stages)):
        say(title, options.json)
        for name, size in parts.items():
            say(f"  {name:<50} {size / GB:8.2f} GB", options.json)
    peak = (sum(stays.values()) + max(stages.values())) / GB
    what = f"Gemma-2-9B shape, bf16, batch {options.batch}, {options.positions} positions"
    rows: list[Row] = [row(what, peak, CARD, "GB", "fits one 80 GB card", peak <= CARD)]
    show(rows, options.json)


def resident(config: Gemma2Config, sizes: Sizes) -> dict[str, float]:
    """Bytes of every part that is there all the time."""
    with torch.device("meta"):
        model = Gemma2ForCausalLM(config).to(torch.bfloat16)
    d, n_sites = config.hidden_size, len(sizes.sites)
    made = DictionaryConfig("jumprelu", d_in=d, n_latents=sizes.latents, site=Site("resid_post", sizes.sites[0]))
    dictionary = Dictionary(made, device="meta", dtype=torch.float32)
    prompts, said = sizes.splits * sizes.prompts, f"{sizes.splits} x {sizes.prompts} prompts"
    return {
        "weights": float(sum(p.nbytes for p in model.parameters())),
        f"{n_sites} dictionaries of {sizes.latents:,}, float32": float(n_sites * dictionary.nbytes),
        f"cached streams, {said}": 2.0 * prompts * sizes.positions * d,
        f"ablation tables, {sizes.ablation_groups} ablation groups": 4.0
        * n_sites
        * sizes.ablation_groups
        * (sizes.latents + 2 * d),
        f"the model's last streams, {said}": 2.0 * prompts * d,
        "node lists and Adam, all columns at all positions": (4 * 4.0 + 2 * 6 * 8.0) * sizes.nodes,
    }


def transient(config: Gemma2Config, sizes: Sizes) -> dict[str, float]:
    """Bytes of every stage over what stays, for jumprelu dictionaries on the residual stream."""
    with torch.device("meta"):
        model = Gemma2ForCausalLM(config).to(torch.bfloat16).requires_grad_(False)
    d, n_sites, positions, batch = config.hidden_size, len(sizes.sites), sizes.positions, sizes.batch
    tokens, nodes, columns = batch * positions, sizes.nodes, sizes.columns
    whole, held = min(batch, WHOLE_BATCH), min(batch, GRADIENT_BATCH)
    first = min(sizes.sites) + 1 if config.num_hidden_layers > 2 else 1

    def backward(prompts: int, latents: int = 0) -> float:
        layers = kept(model, prompts, positions, first)
        inside = dictionaries_kept(n_sites, prompts * positions, columns, d, nodes, latents)
        return layers + inside + working(prompts * positions, max(latents, columns), nodes, d)

    return {
        f"candidates, {whole} prompts": candidates_peak(n_sites, whole * positions, sizes.latents, positions),
        f"attribution patching, {whole} prompts": backward(whole, sizes.latents),
        f"mask search, {held} prompts": backward(held),
        f"measuring a circuit, {batch} prompts": 18.0 * max(BLOCK_VALUES, config.vocab_size) + 40.0 * tokens * columns,
    }


def dictionaries_kept(n_sites: int, tokens: int, columns: int, d: int, nodes: int, whole: int = 0) -> float:
    """Bytes that autograd keeps of dictionaries in the stream: gathered weights, latents and masks of the columns.

    The first dictionary reads a cached stream and needs nothing for a gradient by it. `whole` counts the latents of an
    unmasked network, whose full encoders run as well (5 bytes each: pre-activation and threshold's decision).
    """
    first = 4.0 * columns * (tokens + d)
    later = columns * (13.0 * tokens + 8.0 * d) + 5.0 * tokens * whole
    return first + (n_sites - 1) * later + 24.0 * nodes


def working(tokens: int, width: int, nodes: int, d: int) -> float:
    """Bytes that come and go in a backward pass beside what is kept: four tensors of `width` at every token.

    And the last stream and its gradient, in half precision, of which the head reads the answer position.
    """
    return 16.0 * tokens * width + 32.0 * nodes + 4.0 * tokens * d


def candidates_peak(n_sites: int, tokens: int, n_latents: int, n_roles: int) -> float:
    """Bytes of looking at all latents of all sites for one batch, and of the list of every node."""
    return 4.0 * tokens * n_latents * (3 * n_sites + 4) + 60.0 * n_sites * n_latents * n_roles


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
        model.model.norm(stream[:, -1])
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
