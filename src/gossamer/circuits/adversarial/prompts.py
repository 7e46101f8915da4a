"""Scenes as tokens, and the bare model on them with every pass counted."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.adversarial.edits import Scene
from gossamer.circuits.outputs import Outputs, last_stream, measured
from gossamer.finite import require_finite
from gossamer.model.inputs import gathered
from gossamer.model.language_model import LanguageModel
from gossamer.model.predictions import log_probabilities
from gossamer.tasks.build import draft
from gossamer.tasks.encoding import AblationGroups, EncodedRow, encode
from gossamer.tasks.metric import LOGIT_MARGIN
from gossamer.tasks.prompt_pairs import PromptPairs
from gossamer.tasks.prompt_tokenizer import BOS, PromptTokenizer
from gossamer.tokens import Tokens

# A forward pass of one prompt costs 1; a backward pass twice as much.
FORWARD, BACKWARD = 1, 2


@dataclass
class PromptEncoder:
    """Scenes as prompts in tokens.

    Attributes:
        tokenizer: of the model.
        roles: those of the circuit's task, which number the tokens.
        refused: scenes so far whose words this tokenizer joins with others, or whose answers it cannot tell apart.
    """

    tokenizer: PromptTokenizer
    roles: tuple[str, ...]
    refused: int = 0
    _known: dict[Scene, EncodedRow | None] = field(default_factory=dict)

    def rows(self, scenes: Sequence[Scene]) -> list[EncodedRow | None]:
        """Each scene in tokens; None where the tokenizer refuses it."""
        new = [scene for scene in dict.fromkeys(scenes) if scene not in self._known]
        found = draft({number: scene.prompt() for number, scene in enumerate(new)}, self.tokenizer, ())
        bad = found.bad_rows()
        for number, scene in enumerate(new):
            self._known[scene] = None if number in bad else found.rows.get(number)
        self.refused += sum(self._known[scene] is None for scene in new)
        return [self._known[scene] for scene in scenes]

    def pairs(self, rows: Sequence[EncodedRow]) -> PromptPairs:
        """Tensors of the rows; a wrong answer that beats the right one makes the metric negative."""
        return encode(rows, self.roles, AblationGroups(rows), self.tokenizer.padding, LOGIT_MARGIN)


def with_roles_of(row: EncodedRow, original: EncodedRow) -> EncodedRow:
    """A row whose unnamed text has the roles of the `original`'s unnamed text.

    Text that is put in runs together with a gap, or renumbers those after it: where lengths differ, tokens of gaps are
    matched by what they are. Text that the original lacks has no role.
    """
    if len(row.clean.ids) == len(original.clean.ids):
        return row
    roles = list(row.clean.roles)
    for place, role in enumerate(roles):
        roles[place] = BOS if role.startswith("gap") else role
    matcher = SequenceMatcher(None, original.clean.ids, row.clean.ids, autojunk=False)
    for old, new, length in matcher.get_matching_blocks():
        for step in range(length):
            known = original.clean.roles[old + step]
            if known.startswith("gap") and row.clean.roles[new + step].startswith("gap"):
                roles[new + step] = known
    spelled = replace(row.clean, roles=tuple(roles))
    return replace(row, clean=spelled, counterfactual=spelled)


@dataclass
class CountedModel:
    """The bare model; `spent` counts forward passes of one prompt, a backward pass as two."""

    model: LanguageModel
    batch_size: int = 64
    spent: int = 0

    def margins(self, pairs: PromptPairs) -> Float[Tensor, "prompt"]:
        """By how much the right answer beats the best wrong one on each prompt; negative: the model fails.

        Raises:
            NotFiniteError: the model's logits are not finite.
        """
        self.spent += FORWARD * len(pairs)
        last, clean = last_stream(self.model), pairs.clean

        def run(rows: slice) -> Tensor:
            tokens = clean.tokens[rows].to(self.model.device)
            stream = self.model.capture(tokens, [last])[last]
            found = Outputs(gathered(stream, clean.answer_position[rows]), self.model.unembed)
            return require_finite(measured(found, pairs, rows), "the model's logits").cpu()

        with torch.no_grad():
            return torch.cat(in_batches(len(pairs), self.batch_size, run))


def token_distance(before: Sequence[int], after: Sequence[int]) -> int:
    """The fewest tokens to put in, leave out or exchange that make one text of the other (Levenshtein)."""
    row = list(range(len(after) + 1))
    for place, token in enumerate(before, 1):
        diagonal, row[0] = row[0], place
        for other, wanted in enumerate(after, 1):
            diagonal, row[other] = row[other], min(row[other] + 1, row[other - 1] + 1, diagonal + (token != wanted))
    return row[-1]


@torch.no_grad()
def text_costs(model: LanguageModel, texts: Sequence[Sequence[int]], batch_size: int = 32) -> list[float]:
    """Cross-entropy of each text under the bare model, in nats a token; the first token is given.

    Memory: the logits of one text.
    """
    last = last_stream(model)

    def run(rows: slice) -> list[float]:
        own = texts[rows]
        width = max(map(len, own))
        ids = torch.tensor([[*text, *[0] * (width - len(text))] for text in own])
        mask = torch.arange(width) < torch.tensor(list(map(len, own)))[:, None]
        stream = model.capture(Tokens(ids, mask).to(model.device), [last])[last]
        return [_text_cost(model, stream[row, : len(text)], text) for row, text in enumerate(own)]

    return [cost for part in in_batches(len(texts), batch_size, run) for cost in part]


def _text_cost(model: LanguageModel, stream: Float[Tensor, "pos d"], text: Sequence[int]) -> float:
    following = torch.tensor(text[1:], device=stream.device)
    return -log_probabilities(model, stream[:-1]).gather(1, following[:, None]).double().mean().item()
