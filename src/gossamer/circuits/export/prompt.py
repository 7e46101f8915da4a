"""The one prompt that an attribution graph shows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from gossamer.circuits.nodes import Nodes
from gossamer.circuits.splice import Splice
from gossamer.display import cut, short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import ERROR, Feature


@dataclass(frozen=True)
class Output:
    """A token that may come next, with the probability that the model gives it."""

    token: str
    token_id: int
    probability: float


@dataclass(frozen=True)
class GraphPrompt:
    """A prompt of the task without padding.

    Attributes:
        tokens, token_ids: the prompt, BOS included; the answer is predicted at its last token.
        roles: role of each token; None for BOS.
        answer, incorrect: the two outputs whose logits the task compares.
        activations: of features on this prompt, one number a token; may be incomplete or empty. Of an error: the norm
            of what it adds.

    Raises:
        UsageError: tokens, ids, roles or activations of different lengths, or twice the same output.
    """

    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    roles: tuple[str | None, ...]
    answer: Output
    incorrect: Output
    activations: Mapping[Feature, Sequence[float]] = field(default_factory=dict)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield cut(repr("".join(self.tokens)), 80)
        yield f"{self.answer.token!r} or {self.incorrect.token!r}"

    def __post_init__(self) -> None:
        lengths = [len(self.tokens), len(self.token_ids), len(self.roles), *map(len, self.activations.values())]
        if len(set(lengths)) > 1 or not self.tokens:
            raise UsageError(
                "attribution graph: one id, one role and one activation of each latent expected for each token, "
                f"found {len(self.tokens)} tokens, {len(self.token_ids)} ids, {len(self.roles)} roles"
                + (f" and {sorted(set(lengths[3:]))} activations" if self.activations else "")
            )
        if self.answer.token_id == self.incorrect.token_id:
            raise UsageError(f"attribution graph: answer and wrong answer are the same token {self.answer.token!r}")


def graph_prompt(splice: Splice, circuit: Nodes, row: int) -> GraphPrompt:
    """Prompt number `row` of the splice's examples: probabilities and activations of the model itself.

    Raises:
        UsageError: no such prompt.
    """
    examples, model = splice.examples, splice.model
    if not 0 <= row < len(examples):
        raise UsageError(f"attribution graph: prompt {row} asked for, found prompts 0 to {len(examples) - 1}")
    network, rows = splice.with_nodes(circuit), slice(row, row + 1)
    with torch.no_grad():
        probabilities = network.full(rows).logits().float().softmax(dim=-1)[0]
    batch = network.batch(rows)
    ids, roles = batch.tokens.ids[0].tolist(), batch.roles[0].tolist()
    activations = {
        Feature(site, latent): values[0, :, column].tolist()
        for index, (site, (values, _)) in enumerate(network.latents(rows).items())
        for column, latent in enumerate(circuit.at(index).columns.tolist())
    }
    for site, error in batch.errors.items():
        activations[Feature(site, ERROR)] = error[0].float().norm(dim=-1).tolist()

    def output(token_id: int) -> Output:
        return Output(model.word(token_id), token_id, float(probabilities[token_id]))

    return GraphPrompt(
        tokens=tuple(model.word(token_id) for token_id in ids),
        token_ids=tuple(ids),
        roles=tuple(circuit.roles[role] if role >= 0 else None for role in roles),
        answer=output(int(examples.answer[row])),
        incorrect=output(int(examples.incorrect[row])),
        activations=activations,
    )
