"""Training of the bundled model: one seeded run."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from gossamer.bundled.rows import WeightedRows
from gossamer.bundled.start import start
from gossamer.errors import UsageError
from gossamer.progress import begin


@dataclass(frozen=True)
class LanguageModelRecipe:
    """Everything that decides the weights, beside the corpus.

    Attributes:
        n_layers, d_model, n_heads, context: the shape of the GPT-2.
        steps: optimiser steps.
        first_steps: how many of them, the first, see nothing but lookups in short dictionaries.
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
    steps: int = 1500
    first_steps: int = 200
    batch: int = 16
    longest: int = 64
    matrix_rate: float = 1.2e-3
    rate: float = 5e-4
    weight_decay: float = 0.05
    warm_up: int = 40
    seed: int = 0


def new_model(recipe: LanguageModelRecipe, tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """A GPT-2 with fresh weights from `recipe.seed`, without dropout; see :mod:`gossamer.bundled.start`."""
    torch.manual_seed(recipe.seed)
    model = GPT2LMHeadModel(_config(recipe, tokenizer))
    start(model)
    return model


def _config(recipe: LanguageModelRecipe, tokenizer: PreTrainedTokenizerFast) -> GPT2Config:
    return GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=recipe.context,
        n_embd=recipe.d_model,
        n_layer=recipe.n_layers,
        n_head=recipe.n_heads,
        # GPT-2's own 0.02 suits larger models.
        initializer_range=recipe.d_model**-0.5,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        # The fused form of GPT-2's own gelu_new: the same function, a quarter faster to train.
        activation_function="gelu_pytorch_tanh",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def loss_sum(model: GPT2LMHeadModel, rows: WeightedRows) -> Float[Tensor, ""]:
    """Sum over the tokens of `rows` of weight times cross-entropy, in nats."""
    logits = model(input_ids=rows.ids, use_cache=False).logits[:, :-1]
    losses = nn.functional.cross_entropy(logits.flatten(0, 1), rows.ids[:, 1:].flatten(), reduction="none")
    return (losses * rows.weights[:, 1:].flatten()).sum()


def train(
    model: GPT2LMHeadModel,
    steps: Iterable[list[WeightedRows]],
    recipe: LanguageModelRecipe,
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


def _learn(model: GPT2LMHeadModel, groups: list[WeightedRows]) -> float:
    """Accumulate the gradient of one step, clipped to norm one; returns the loss."""
    weight = float(sum(rows.weights.sum() for rows in groups))
    total = 0.0
    for rows in groups:
        loss = loss_sum(model, rows) / weight
        torch.autograd.backward(loss)
        total += float(loss.detach())
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return total


def _optimizers(model: GPT2LMHeadModel, recipe: LanguageModelRecipe) -> list[tuple[torch.optim.Optimizer, float]]:
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


def _share(step: int, recipe: LanguageModelRecipe) -> float:
    """The learning rates of `step` as a share of their peaks."""
    if step < recipe.warm_up:
        return (step + 1) / recipe.warm_up
    progress = (step - recipe.warm_up) / max(1, recipe.steps - recipe.warm_up)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))
