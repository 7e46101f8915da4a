"""A compiled program as a task: inputs with their outputs as answers, each with another input as counterfactual."""

import random
from collections.abc import Sequence
from itertools import product

from gossamer.errors import UsageError
from gossamer.tasks.prompt import Piece, Prompt
from gossamer.tasks.spelling import END
from gossamer.tasks.task import Task
from gossamer.toys.compiler import Compiled
from gossamer.toys.rasp import Value, evaluate

MOST_PROMPTS = 4096


def all_inputs(vocabulary: Sequence[Value], length: int) -> list[tuple[Value, ...]]:
    """Every input of `length` tokens, in lexicographic order of the vocabulary."""
    return list(product(vocabulary, repeat=length))


def position_role(position: int, length: int) -> str:
    """The role that `position` of an input has in a task: p0, p1, ... and END for the last one."""
    return END if position == length - 1 else f"p{position}"


def program_task(
    compiled: Compiled, length: int, *, most: int = MOST_PROMPTS, test_fraction: float = 0.25, seed: int = 0
) -> Task:
    """Inputs of one length, paired so that the outputs at the last position differ; every position is a role.

    Pairs are disjoint and each is used both ways round, so that the split cuts none. Inputs without output, and those
    of a majority that finds no partner, are left out.

    Args:
        compiled: the program; its categorical or numerical output at the last token is the answer.
        length: tokens of each input, BOS not counted.
        most: prompts at most; inputs are drawn at random where there are more.
        test_fraction, seed: as in :meth:`gossamer.tasks.Task.from_prompts`; the seed also pairs the inputs.

    Raises:
        UsageError: a length that the model cannot take, or no two inputs with different outputs.
    """
    if not 1 <= length <= compiled.max_length:
        raise UsageError(f"length: 1 to {compiled.max_length} expected, found {length}")
    rng = random.Random(seed)
    pairs = _pairs(compiled, _drawn(compiled.vocabulary, length, most, rng), rng)
    if not pairs:
        raise UsageError(f"two inputs of length {length} with different outputs expected, found none; choose another")
    prompts = [_prompt(*ends) for one, other in pairs for ends in ((*one, *other), (*other, *one))]
    return Task.from_prompts(
        prompts,
        compiled.tokenizer,
        name=compiled.language_model.name,
        roles="position",
        test_fraction=test_fraction,
        seed=seed,
    )


def _drawn(vocabulary: Sequence[Value], length: int, most: int, rng: random.Random) -> list[tuple[Value, ...]]:
    if len(vocabulary) ** length <= most:
        return all_inputs(vocabulary, length)
    return list(dict.fromkeys(tuple(rng.choices(list(vocabulary), k=length)) for _ in range(most)))


_Answered = tuple[tuple[Value, ...], Value]


def _pairs(
    compiled: Compiled, inputs: Sequence[tuple[Value, ...]], rng: random.Random
) -> list[tuple[_Answered, _Answered]]:
    """Disjoint pairs with different outputs: always of the two outputs that most inputs are left of."""
    groups: dict[Value, list[_Answered]] = {}
    for tokens in inputs:
        output = evaluate(compiled.program, tokens, causal=compiled.causal)[-1]
        if output is not None:
            groups.setdefault(output, []).append((tokens, output))
    for group in groups.values():
        rng.shuffle(group)
    pairs = []
    while len(groups) > 1:
        first, second, *_ = sorted(groups.values(), key=len, reverse=True)
        if not second:
            break
        pairs.append((first.pop(), second.pop()))
    return pairs


def _prompt(clean: Sequence[Value], answer: Value, other: Sequence[Value], wrong: Value) -> Prompt:
    text, counterfactual = (Piece(" ".join(map(str, tokens))) for tokens in (clean, other))
    return Prompt((text,), (counterfactual,), f" {answer}", f" {wrong}", template=f"{len(clean)} tokens")
