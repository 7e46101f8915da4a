"""How often the bundled model's first choice is the answer, on prompts that are not in its corpus."""

import random
from collections.abc import Callable

import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerBase

from gossamer.bundled.corpus import BE, STRUCTURES, held_out
from gossamer.tasks import code_output, ioi, subject_verb
from gossamer.tasks.prompt import Prompt

Sampler = Callable[[random.Random], Prompt]
# Draws without a new held-out prompt after which the rest is left: the simplest structure has only a handful.
PATIENCE = 600


def _agreement(structure: str) -> Sampler:
    return lambda rng: subject_verb.sample(rng, 1, structure=structure, answers=BE)[0]


TASKS: dict[str, Sampler] = {
    "ioi ABBA": lambda rng: ioi.sample(rng, 1, orders=("ABBA",))[0],
    "ioi BABA": lambda rng: ioi.sample(rng, 1, orders=("BABA",))[0],
    **{f"agreement {structure}": _agreement(structure) for structure in STRUCTURES},
    "code index": lambda rng: code_output.sample_index(rng, 1)[0],
    "code key": lambda rng: code_output.sample_key(rng, 1)[0],
}
"""The bundled tasks: what draws a prompt of each, with the settings under which the model's accuracy is promised."""


def held_out_prompts(task: str, n: int, seed: int) -> list[Prompt]:
    """Up to `n` different held-out prompts of one of `TASKS`; fewer if the task has hardly as many."""
    rng = random.Random(f"held out {task} {seed}")
    found: dict[str, Prompt] = {}
    misses = 0
    while len(found) < n and misses < PATIENCE:
        prompt = TASKS[task](rng)
        new = held_out(prompt.clean_text) and prompt.clean_text not in found
        misses = 0 if new else misses + 1
        if new:
            found[prompt.clean_text] = prompt
    return list(found.values())


@torch.no_grad()
def correct(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerBase, prompts: list[Prompt]) -> list[bool]:
    """For every prompt, run after BOS: is the answer the most likely token of the whole vocabulary?"""
    rows = tokenizer([prompt.clean_text for prompt in prompts])["input_ids"]
    answers = [tokenizer(prompt.answer, add_special_tokens=False)["input_ids"][0] for prompt in prompts]
    longest = max(map(len, rows))
    # Padding on the right cannot be seen by a causal model.
    ids = torch.tensor([row + [tokenizer.eos_token_id] * (longest - len(row)) for row in rows])
    last = torch.tensor([len(row) - 1 for row in rows])
    logits = model(input_ids=ids, use_cache=False).logits[torch.arange(len(rows)), last]
    return (logits.argmax(dim=-1) == torch.tensor(answers)).tolist()


def accuracies(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerBase, n: int, seed: int) -> dict[str, float]:
    """Top-1 accuracy on up to `n` held-out prompts of every bundled task."""
    scores = {}
    for task in TASKS:
        right = correct(model, tokenizer, held_out_prompts(task, n, seed))
        scores[task] = sum(right) / len(right)
    return scores
