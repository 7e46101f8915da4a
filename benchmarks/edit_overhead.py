"""What an edit costs: the forward pass of a Hugging Face model with edits at four sites, beside the same pass raw.

    python benchmarks/edit_overhead.py [--quick] [--json]

`ours` and `theirs` are the medians of interleaved passes in milliseconds; `ratio` is ours / theirs (smaller is better).
The raw pass is the model called by itself with the same token ids, full logits, no cache, no gradients.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from rows import Row, parser, row, show
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from gossamer.model import LanguageModel, Site
from gossamer.model.editing import Edit
from gossamer.tokens import Tokens

TARGET = 1.10
REPEATS = 40


def models(quick: bool) -> dict[str, PreTrainedModel]:
    """Random models; --quick leaves out the one of GPT-2's true size."""
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    size = {"num_hidden_layers": 6, "hidden_size": 256, "num_attention_heads": 8, "vocab_size": 8000, **ends}
    found: dict[str, PreTrainedModel] = {
        "GPT-2, 6 layers of 256": GPT2LMHeadModel(GPT2Config(n_layer=6, n_embd=256, n_head=8, vocab_size=8000, **ends)),
        "Llama, 6 layers of 256": LlamaForCausalLM(LlamaConfig(**size, num_key_value_heads=4, intermediate_size=688)),
    }
    if not quick:
        found["GPT-2 small, 12 layers of 768"] = GPT2LMHeadModel(GPT2Config())
    return {name: hf.eval().to(default_device()) for name, hf in found.items()}


def default_device() -> str:
    """CUDA where there is any."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def medians(first: Callable[[], Any], second: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median seconds of two calls, taken in turns so that a busy machine slows both."""
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 3):
        for which in (0, 1) if turn % 2 else (1, 0):
            begin = time.perf_counter()
            (first, second)[which]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= 3:  # the first turns warm caches and allocators
                taken[which].append(time.perf_counter() - begin)
    return statistics.median(taken[0]), statistics.median(taken[1])


def edited(model: LanguageModel, kind: str) -> dict[Site, Edit]:
    """Adding a fixed vector at four sites spread over the depth."""
    sites = model.sites(kind)
    chosen = [sites[round(i * (len(sites) - 1) / 3)] for i in range(4)]
    return {site: torch.randn(model.width(site), device=model.device).add for site in chosen}


def edited_logits(model: LanguageModel, edits: dict[Site, Edit], tokens: Tokens) -> torch.Tensor:
    """One pass under edits that are open for it alone, since the raw pass is refused while they are."""
    with model.edit(edits):
        return model.logits(tokens)


def measure(quick: bool) -> list[Row]:
    """All rows: every model, two prompt lengths, edits in the stream and at what attention adds."""
    rows = []
    for name, hf in models(quick).items():
        model = LanguageModel.load(hf)
        for batch, length in ((16, 32), (4, 128)):
            tokens = Tokens.full(torch.randint(0, model.d_vocab, (batch, length), device=model.device))
            for kind in ("resid_post", "attn_out"):
                edits = edited(model, kind)
                with torch.no_grad():
                    ours, theirs = medians(
                        lambda model=model, edits=edits, tokens=tokens: edited_logits(model, edits, tokens),
                        lambda hf=hf, tokens=tokens: hf(input_ids=tokens.ids, use_cache=False).logits,
                        REPEATS,
                    )
                what = f"{name}, {batch} x {length} tokens: edits at 4 {kind} sites"
                held = ours <= TARGET * theirs
                rows.append(row(what, 1000 * ours, 1000 * theirs, "ms", f"{TARGET:g}x or less", held))
    return rows


def main() -> None:
    """Print the rows as a table, or as JSON."""
    options = parser(__doc__, "small models only").parse_args()
    show(measure(options.quick), options.json)


if __name__ == "__main__":
    main()
