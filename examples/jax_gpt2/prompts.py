"""Indirect object identification: prompts with one name swapped, and the two names to tell apart."""

import json
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
from tokenizers import Tokenizer


@dataclass(frozen=True)
class Prompts:
    """Prompts of one template, so that a position means the same in all of them.

    Attributes:
        clean: token ids (prompt, pos).
        counterfactual: the same with the other name as second subject: the answer is then `other`.
        answer, other: token ids (prompt,) of the two names.
        labels: what stands at each position: IO, S1, S2 or the word.
    """

    clean: jax.Array
    counterfactual: jax.Array
    answer: jax.Array
    other: jax.Array
    labels: tuple[str, ...]

    def difference(self, logits: jax.Array) -> jax.Array:
        """Mean logit of the answer minus that of the other name, from logits (prompt, vocab) at the last position."""
        rows = jnp.arange(len(self.answer))
        return jnp.mean(logits[rows, self.answer] - logits[rows, self.other])

    def position(self, label: str) -> int:
        """Where a role stands."""
        return self.labels.index(label)


def read(tasks: Path, tokenizer_file: Path, case: str, count: int) -> Prompts:
    """The first `count` prompts of a case of `ioi_met.jsonl`.

    Raises:
        ValueError: fewer prompts, prompts of unequal length, or an answer of several tokens.
    """
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    rows = [json.loads(line) for line in (tasks / "ioi_met.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["case"] == case][:count]
    if len(rows) < count:
        raise ValueError(f"expected {count} prompts of {case}, found {len(rows)}")
    columns = ("clean_prefix", "patch_prefix", "clean_answer", "patch_answer")
    ids = {name: [tokenizer.encode(row[name], add_special_tokens=False).ids for row in rows] for name in columns}
    if any(len({len(row) for row in ids[name]}) != 1 for name in columns) or len(ids["clean_answer"][0]) != 1:
        raise ValueError(f"{case}: expected prompts of one length and answers of one token")
    clean, answer = jnp.array(ids["clean_prefix"]), jnp.array(ids["clean_answer"])[:, 0]
    labels = _labels(tokenizer, clean, answer)
    other = jnp.array(ids["patch_answer"])[:, 0]
    return Prompts(clean, jnp.array(ids["patch_prefix"]), answer, other, labels)


def _labels(tokenizer: Tokenizer, clean: jax.Array, answer: jax.Array) -> tuple[str, ...]:
    """The word at each position; where the prompts differ, the role of the name."""
    subjects = iter(("S1", "S2"))
    labels = []
    for position in range(clean.shape[1]):
        column = clean[:, position]
        if bool((column == column[0]).all()):
            labels.append(tokenizer.decode([int(column[0])]).strip())
        else:
            labels.append("IO" if bool((column == answer).all()) else next(subjects))
    return tuple(labels)
