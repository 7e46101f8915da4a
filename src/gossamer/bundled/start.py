"""Where the bundled model's weights start.

Left to GPT-2's own initialisation so small a model needs many thousand steps before it looks anything up in its text:
it first has to find heads that look a fixed number of tokens back, then heads that compare what those found (Olsson et
al. 2022, arXiv 2209.11895). Here both kinds are there from the beginning, as rough sketches that training is free to
keep, sharpen or give up; keys that start equal to queries are from Trockman and Kolter 2023 (arXiv 2305.09828).

With w the width of a head, dimensions 0 to w of the stream start as the position and the others as the token.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import GPT2LMHeadModel

# Layers start by adding little, so that a token is still to be recognised behind them.
QUIET = 0.1
# Makes a head that looks back give nine tenths of its attention to one token.
SHARPNESS = 2.0
# What is written for comparison is about as long as a token's own embedding.
WRITING = 0.3
# Compares it strongly enough to stand out among some sixty tokens ...
MATCHING = 1.0
# ... and pushes away the token itself and its neighbours, which would otherwise match best.
REPULSION = 1.8


@torch.no_grad()
def start(model: GPT2LMHeadModel) -> None:
    """Set the weights of a fresh model with standard deviation 1/sqrt(n_embd), in place, with torch's random state."""
    for block in model.transformer.h:
        queries, keys, _ = block.attn.c_attn.weight.chunk(3, dim=1)
        keys.copy_(queries)
        block.attn.c_proj.weight *= QUIET
        block.mlp.c_proj.weight *= QUIET
    _positions(model)
    for head, back in enumerate((1, 2)):
        _look_back(model, head, back)
    _match(model)


def _head_width(model: GPT2LMHeadModel) -> int:
    return int(model.config.n_embd // model.config.n_head)


def _frequencies(model: GPT2LMHeadModel) -> Float[Tensor, "pairs"]:
    """One frequency for each two dimensions of a head, in radians a token."""
    return torch.logspace(math.log10(1.5), math.log10(0.05), _head_width(model) // 2)


def _positions(model: GPT2LMHeadModel) -> None:
    """Sines, then cosines, in the first dimensions of the position embedding; no token there."""
    positions, tokens = model.transformer.wpe.weight, model.transformer.wte.weight
    angles = torch.arange(len(positions))[:, None] * _frequencies(model)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    positions.zero_()
    positions[:, : waves.shape[1]] = waves * math.sqrt(2 / model.config.n_embd)
    tokens[:, : waves.shape[1]] = 0


def _look_back(model: GPT2LMHeadModel, head: int, back: int) -> None:
    """Let a head of the first layer compare its position with each earlier one moved on by `back` tokens."""
    turn = _frequencies(model) * back
    sine, cosine = torch.diag(turn.sin()), torch.diag(turn.cos())
    moved = torch.cat([torch.cat([cosine, -sine], dim=1), torch.cat([sine, cosine], dim=1)])
    width = len(moved)
    columns = slice(head * width, (head + 1) * width)
    queries, keys, _ = model.transformer.h[0].attn.c_attn.weight.chunk(3, dim=1)
    for weight, values in ((queries, torch.eye(width)), (keys, moved)):
        weight[:, columns] = 0
        weight[:width, columns] = SHARPNESS * values


def _match(model: GPT2LMHeadModel) -> None:
    """Let the head that looks two back write what it sees where a head of the second layer compares it.

    Two back from the end of a lookup stands the key that is asked for, and two back from a dictionary's value its key.
    """
    width = _head_width(model)
    head = slice(width, 2 * width)
    read, written = (nn.init.orthogonal_(torch.empty(model.config.n_embd, width)) for _ in range(2))
    read[:width] = 0
    written[:width] = 0
    first, second = (block.attn for block in model.transformer.h[:2])
    first.c_attn.weight.chunk(3, dim=1)[2][:, head] = read
    first.c_proj.weight[head] = WRITING * written.T
    for weight, sign in zip(second.c_attn.weight.chunk(3, dim=1)[:2], (1, -1), strict=True):
        weight[:, :width] = MATCHING * written
        weight[:width, :width] = sign * REPULSION * torch.eye(width)
