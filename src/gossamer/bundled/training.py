"""Training of the bundled model: one seeded run."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from gossamer.bundled.rows import Rows
from gossamer.errors import UsageError
from gossamer.progress import begin

# Weight of the heads that start by looking back: their attention is then about nine tenths on one token.
SHARPNESS = 2.0
QUIET = 0.1
WRITING = 0.3
MATCHING = 1.0
REPULSION = 1.8


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, beside the corpus.

    Attributes:
        n_layers, d_model, n_heads, context: the shape of the GPT-2.
        steps: optimiser steps.
        short_steps: how many of them, the first, see short lists and dictionaries.
        batch: documents of each kind of task in a step.
        longest: tokens at which a training row is cut; every prompt of a bundled task is shorter.
        matrix_rate: peak learning rate of Muon, which trains the matrices inside the layers.
        rate: peak learning rate of AdamW, which trains embeddings, biases and layer norms.
        weight_decay: Muon's.
        warm_up: steps in which both rates rise linearly; a cosine to a fiftieth of the peak follows.
        seed: of the weights and of the corpus.
    """

    n_layers: int = 4
    d_model: int = 96
    n_heads: int = 4
    context: int = 128
    steps: int = 1600
    short_steps: int = 150
    batch: int = 14
    longest: int = 64
    matrix_rate: float = 4e-3
    rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up: int = 40
    seed: int = 0


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """A GPT-2 with fresh weights from `recipe.seed`, without dropout.

    Left to GPT-2's own initialisation so small a model needs many thousand steps before it looks anything up. It needs
    some hundred when

    - weights have standard deviation 1/sqrt(d_model) instead of 0.02, which suits larger models;
    - keys start equal to queries, so that a head first attends to tokens like its own (as in Trockman and Kolter 2023,
      arXiv 2305.09828);
    - a quarter of the width starts as sinusoids of the position, the rest as the token, and two heads of the first
      layer start by attending one and two tokens back.
    """
    torch.manual_seed(recipe.seed)
    model = GPT2LMHeadModel(_config(recipe, tokenizer))
    with torch.no_grad():
        for block in model.transformer.h:
            queries, keys, _ = block.attn.c_attn.weight.chunk(3, dim=1)
            keys.copy_(queries)
            block.attn.c_proj.weight *= QUIET
            block.mlp.c_proj.weight *= QUIET
        _start_positions(model, recipe)
        for head, back in enumerate((1, 2)):
            _start_looking_back(model, recipe, head, back)
        _start_matching(model, recipe)
    return model


def _frequencies(recipe: Recipe) -> Float[Tensor, "pairs"]:
    """One frequency for each two dimensions of a head, in radians a token."""
    return torch.logspace(math.log10(1.5), math.log10(0.05), recipe.d_model // recipe.n_heads // 2)


def _start_positions(model: GPT2LMHeadModel, recipe: Recipe) -> None:
    """Sines, then cosines, in the first d_model/n_heads dimensions of the position; no token there."""
    angles = torch.arange(recipe.context)[:, None] * _frequencies(recipe)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    positions, tokens = model.transformer.wpe.weight, model.transformer.wte.weight
    positions.zero_()
    positions[:, : waves.shape[1]] = waves * math.sqrt(2 / recipe.d_model)
    tokens[:, : waves.shape[1]] = 0


def _start_matching(model: GPT2LMHeadModel, recipe: Recipe) -> None:
    """Let the second head that looks back write what it sees into directions which a head of the next layer compares."""
    width = recipe.d_model // recipe.n_heads
    head = slice(width, 2 * width)
    read, written = (nn.init.orthogonal_(torch.empty(recipe.d_model, width)) for _ in range(2))
    read[:width] = 0
    written[:width] = 0
    first, second = (block.attn for block in model.transformer.h[:2])
    first.c_attn.weight.chunk(3, dim=1)[2][:, head] = read
    first.c_proj.weight[head] = WRITING * written.T
    for weight, sign in zip(second.c_attn.weight.chunk(3, dim=1)[:2], (1, -1), strict=True):
        weight[:, :width] = MATCHING * written
        weight[:width, :width] = sign * REPULSION * torch.eye(width)


def _start_looking_back(model: GPT2LMHeadModel, recipe: Recipe, head: int, back: int) -> None:
    """Let a head of the first layer compare its position with each earlier one moved on by `back` tokens."""
    turn = _frequencies(recipe) * back
    sine, cosine = torch.diag(turn.sin()), torch.diag(turn.cos())
    moved = torch.cat([torch.cat([cosine, -sine], dim=1), torch.cat([sine, cosine], dim=1)])
    width = len(moved)
    columns = slice(head * width, (head + 1) * width)
    queries, keys, _ = model.transformer.h[0].attn.c_attn.weight.chunk(3, dim=1)
    for weight, values in ((queries, torch.eye(width)), (keys, moved)):
        weight[:, columns] = 0
        weight[:width, columns] = SHARPNESS * values


def _config(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> GPT2Config:
    return GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=recipe.context,
        n_embd=recipe.d_model,
        n_layer=recipe.n_layers,
        n_head=recipe.n_heads,
        initializer_range=recipe.d_model**-0.5,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        # The fused form of GPT-2's own gelu_new: the same function, a quarter faster to train.
        activation_function="gelu_pytorch_tanh",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def loss_sum(model: GPT2LMHeadModel, rows: Rows) -> Float[Tensor, ""]:
    """Sum over the tokens of `rows` of weight times cross-entropy, in nats."""
    logits = model(input_ids=rows.ids, use_cache=False).logits[:, :-1]
    losses = nn.functional.cross_entropy(logits.flatten(0, 1), rows.ids[:, 1:].flatten(), reduction="none")
    return (losses * rows.weights[:, 1:].flatten()).sum()


def train(
    model: GPT2LMHeadModel,
    steps: Iterable[list[Rows]],
    recipe: Recipe,
    watch: Callable[[int, float], None] | None = None,
) -> float:
    """Train in place for `recipe.steps` steps and return the seconds it took.

    Args:
        steps: the rows of every step, in groups of like length; the loss is one mean over all of them.
        watch: called after every step with its number, from 1, and its loss in nats.

    Raises:
        UsageError: this torch has no Muon.
    """
    optimizers = _optimizers(model, recipe)
    advance = begin("training the bundled model", recipe.steps)
    started = time.monotonic()
    model.train()
    for step, groups in zip(range(recipe.steps), steps, strict=False):
        loss = _learn(model, groups)
        for optimizer, peak in optimizers:
            optimizer.param_groups[0]["lr"] = peak * _share(step, recipe)
            optimizer.step()
        model.zero_grad()
        advance(1, f"loss {loss:.3f}")
        if watch is not None:
            watch(step + 1, loss)
    model.eval()
    return time.monotonic() - started


def _learn(model: GPT2LMHeadModel, groups: list[Rows]) -> float:
    """Accumulate the gradient of one step, clipped to norm one; returns the loss."""
    weight = float(sum(rows.weights.sum() for rows in groups))
    total = 0.0
    for rows in groups:
        loss = loss_sum(model, rows) / weight
        loss.backward()
        total += float(loss.detach())
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return total


def _optimizers(model: GPT2LMHeadModel, recipe: Recipe) -> list[tuple[torch.optim.Optimizer, float]]:
    """The optimisers with their peak learning rates."""
    if not hasattr(torch.optim, "Muon"):
        raise UsageError(f"building the bundled model needs torch 2.9 or later (for Muon), found {torch.__version__}")
    matrices = [p for block in model.transformer.h for p in block.parameters() if p.dim() == 2]
    inside = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in inside]
    muon = torch.optim.Muon(
        matrices, lr=recipe.matrix_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(others, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return [(muon, recipe.matrix_rate), (adamw, recipe.rate)]


def _share(step: int, recipe: Recipe) -> float:
    """The learning rates of `step` as a share of their peaks."""
    if step < recipe.warm_up:
        return (step + 1) / recipe.warm_up
    progress = (step - recipe.warm_up) / max(1, recipe.steps - recipe.warm_up)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))
