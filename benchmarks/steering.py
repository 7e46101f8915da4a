"""A steering sweep in one batch, beside the loop over prompts and coefficients that notebooks have.

    python benchmarks/steering.py [--model FOLDER] [--methods 4] [--coefficients 5] [--quick] [--json]

Both write 8 tokens for 8 prompts with 4 samples each under every method (a direction of its own) and coefficient, and
measure cross-entropy and KL on 16 rows of neutral text. The loop generates one prompt and sample at a time with a
cache, under the same edits, and runs the whole model twice over each row of text, once with the edit; it is timed on
--loop-cells of the cells and taken times all of them. Both must agree, or the rows fail: what is written to the
letter (the likeliest tokens), cross-entropy and KL to 1e-3. Without --model: a random GPT-2 of 4 layers, d 64 and 500
tokens. Seconds are of CPU time of this process, so that other programs count less.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from rows import Row, parser, row, show
from transformers import GPT2Config, GPT2LMHeadModel

from gossamer.model import LanguageModel, Site
from gossamer.steering import Cell, Steering, add, prediction_changes
from gossamer.steering.cell import steering_of
from gossamer.tokens import Tokens

PROMPTS, SAMPLES, NEW, NEUTRAL, LENGTH = 8, 4, 8, 16, 24


def main() -> None:
    """Print the rows."""
    made = parser(__doc__, "2 methods of 3 coefficients, one cell of the loop")
    made.add_argument("--model", default=None, help="a folder or a Hugging Face id; default: a random one")
    made.add_argument("--methods", type=int, default=4)
    made.add_argument("--coefficients", type=int, default=5)
    made.add_argument("--loop-cells", type=int, default=4)
    options = made.parse_args()
    if options.quick:
        options.methods, options.coefficients, options.loop_cells = 2, 3, 1
    show(rows(options), options.json)


@torch.no_grad()
def rows(options: argparse.Namespace) -> list[Row]:
    """Writing, and cost on neutral text."""
    model = LanguageModel.load(options.model) if options.model else random_model()
    generator = torch.Generator().manual_seed(0)
    site = model.sites("resid_post")[model.n_layers // 2]
    cells = cells_of(model, site, options, generator)
    prompts, text = (
        random_tokens(model, count, length, generator) for count, length in ((PROMPTS, 6), (NEUTRAL, LENGTH))
    )
    chosen = cells[: options.loop_cells]
    write_batch(model, cells[:1], prompts)
    batch, ours = timed(lambda: write_batch(model, cells, prompts))
    loop, theirs = timed(lambda: write_loop(model, chosen, prompts))
    theirs *= len(cells) / len(chosen)
    equal = all(torch.equal(batch[: len(loop)][number], loop[number]) for number in range(len(loop)))
    costs, own = timed(lambda: prediction_changes(model, cells, text))
    one_by_one, others = timed(lambda: cost_loop(model, chosen, text))
    others *= len(cells) / len(chosen)
    measured = torch.stack([costs.mean("cross_entropy"), costs.mean("kl")], dim=1)[: len(chosen)]
    close = bool((measured - one_by_one).abs().max() < 1e-3)
    what = f"{len(cells)} cells, {model.name}"
    both = (own + ours, others + theirs)
    return [
        row(f"{what}: write", ours, theirs, "CPU s", "<= 0.1x", 10 * ours <= theirs and equal),
        row(f"{what}: cost on neutral text", own, others, "CPU s", "<= 0.33x", 3 * own <= others and close),
        row(f"{what}: sweep", *both, "CPU s", "<= 0.1x", 10 * both[0] <= both[1] and equal and close),
    ]


def random_model() -> LanguageModel:
    """Small, so that the loop takes minutes and not hours."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=500,
        n_positions=64,
        n_embd=64,
        n_layer=4,
        n_head=4,
        initializer_range=0.1,
        bos_token_id=0,
        eos_token_id=0,
    )
    return LanguageModel.load(GPT2LMHeadModel(config).eval().requires_grad_(False))


def random_tokens(model: LanguageModel, count: int, length: int, generator: torch.Generator) -> Tokens:
    """Rows of random words."""
    return Tokens.full(torch.randint(model.d_vocab, (count, length), generator=generator))


def cells_of(model: LanguageModel, site: Site, options: argparse.Namespace, generator: torch.Generator) -> list[Cell]:
    """Every direction at every coefficient."""
    found = []
    for number in range(options.methods):
        vector = torch.nn.functional.normalize(torch.randn(model.width(site), generator=generator), dim=0)
        found += [Cell(f"{number}", (add(site, vector, 0.5 * (1 + c)),)) for c in range(options.coefficients)]
    return found


def write_batch(model: LanguageModel, cells: list[Cell], prompts: Tokens) -> list[torch.Tensor]:
    """The likeliest words of every cell, prompt and sample, all in one batch."""
    per_cell = PROMPTS * SAMPLES
    each = torch.arange(PROMPTS).repeat_interleave(SAMPLES).repeat(len(cells))
    with model.edit(steering_of(cells, per_cell).edits()):
        found = model.generate(prompts[each], max_new_tokens=NEW, stop=())
    return list(found.new.ids.split(per_cell))


def write_loop(model: LanguageModel, cells: list[Cell], prompts: Tokens) -> list[torch.Tensor]:
    """The same, one prompt and sample at a time."""
    found = []
    for cell in cells:
        rows = []
        for place in range(PROMPTS):
            for _ in range(SAMPLES):
                with model.edit(Steering([cell.interventions]).edits()):
                    made = model.generate(prompts[place : place + 1], max_new_tokens=NEW, stop=())
                rows.append(made.new.ids)
        found.append(torch.cat(rows))
    return found


def cost_loop(model: LanguageModel, cells: list[Cell], text: Tokens) -> torch.Tensor:
    """Mean rise of cross-entropy and KL of each cell, row by row, from whole passes."""
    found = []
    for cell in cells:
        sums = torch.zeros(2, dtype=torch.float64)
        for place in range(len(text)):
            one = text[place : place + 1]
            before = model.logits(one)[0, :-1].log_softmax(dim=-1).double()
            with model.edit(Steering([cell.interventions]).edits()):
                after = model.logits(one)[0, :-1].log_softmax(dim=-1).double()
            sums[0] += (before - after).gather(1, one.ids[0, 1:, None]).sum()
            sums[1] += (before.exp() * (before - after)).sum()
        found.append(sums / (len(text) * (LENGTH - 1)))
    return torch.stack(found)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What a work gives, and its seconds of CPU."""
    begun = time.process_time()
    found = work()
    return found, time.process_time() - begun


if __name__ == "__main__":
    main()
