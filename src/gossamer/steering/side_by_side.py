"""The unsteered and the steered model write the same prompt on, token by token with the same draws; and the price."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.finite import error_context, require_finite
from gossamer.model.generation import Sampling, Step, left_padded
from gossamer.model.language_model import LanguageModel
from gossamer.steering.cell import Cell, steering_of
from gossamer.steering.completions import SamplingPlan
from gossamer.steering.intervention import Intervention, Positions
from gossamer.steering.pareto import UNSTEERED
from gossamer.steering.predictions import prediction_changes
from gossamer.steering.steered import read_back
from gossamer.tokens import Tokens

# Plain sentences for the price where a reader has no text at hand: about everyday things, none of them one concept's.
NEUTRAL = (
    "The shop on the corner opens at nine and closes when the street is empty.",
    "She put the letter on the table and went to look for a pen.",
    "There are two ways to the station, and the longer one is by the river.",
    "He asked the old man what time it was, but the old man did not know.",
    "The book is about a family that moves to another town in the north.",
    "After lunch they walked to the park and sat under a tree.",
    "The door was open, so the cat came in and lay down by the window.",
    "Most of the people in the village work in the fields or at the mill.",
    "It was late when the last guest left and the lights went out.",
    "The teacher wrote three words on the board and turned around.",
    "A small boat was waiting at the pier with its engine running.",
    "You can take the bus, but it is quicker to go by bicycle.",
)
_BEHIND_FIRST = Positions(1)


class Chosen(NamedTuple):
    """A token, in words, with the probability that its own model gave it."""

    token: int
    word: str
    probability: float


class SideBySide(NamedTuple):
    """One place of both texts; None where a text has ended."""

    default: Chosen | None
    steered: Chosen | None


def side_by_side(
    model: LanguageModel, interventions: Sequence[Intervention], prompt: str, plan: SamplingPlan | None = None
) -> Iterator[SideBySide]:
    """Continue a prompt without and with interventions, in one batch of two rows that draw the same numbers.

    Args:
        interventions: what is done, in this order at each site; positions after the prompt count from its end.
        plan: tokens, temperature and seed; one sample.

    Raises:
        UsageError: a prompt that is too long with what is to be written, or an empty one of a model without BOS.
        NotFiniteError: a strength that makes values that are not finite.
    """
    plan = plan or SamplingPlan(samples=1)
    tokens = left_padded(model.tokenize([prompt, prompt]))
    if not int(tokens.lengths.min()):
        raise UsageError("prompt: at least one token expected, found none; this model has no BOS: write a word")
    cells = [Cell(UNSTEERED), Cell("steered", tuple(interventions))]
    sampling = Sampling(plan.temperature, plan.top_k, plan.top_p, plan.seed, repeat_every=1)
    with model.edit(steering_of(cells, 1, tokens.lengths).edits()):
        steps = model.stream(tokens, max_new_tokens=plan.max_new_tokens, sampling=sampling)
    # The edits stay with the stream, which is read step by step and may be left at any of them.
    with error_context("steering (take a smaller strength)"):
        for step in steps:
            require_finite(step.logits, "logits")
            yield SideBySide(*(_chosen(model, step, row) for row in (0, 1)))


def _chosen(model: LanguageModel, step: Step, row: int) -> Chosen | None:
    if not bool(step.active[row]):
        return None
    token = int(step.ids[row])
    odds = step.logits[row].double().log_softmax(dim=0)[token].exp()
    return Chosen(token, model.word(token), float(odds))


@dataclass(frozen=True)
class Push:
    """What one intervention does alone, on the text of the price.

    Attributes:
        kind: of intervention.
        feature: along which it pushes, where that is one.
        raw: coefficient as formulas take it.
        relative_norm: mean |delta| over mean |x| there.
        before, after: mean activation of the feature, encoded again after steering; None without one.
    """

    kind: str
    feature: Feature | None
    raw: float
    relative_norm: float
    before: float | None
    after: float | None

    __repr__ = short_repr


@dataclass(frozen=True)
class SteeringPrice:
    """What interventions together cost on a text that has nothing to do with them, and what each does alone.

    Attributes:
        tokens: predicted tokens of the text.
        cross_entropy: rise of -log p of the next token, nats a token.
        kl: KL(unsteered || steered), nats a token.
        changed: share of tokens whose likeliest next token is another one.
        pushes: each alone.
    """

    tokens: int
    cross_entropy: float
    kl: float
    changed: float
    pushes: tuple[Push, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"cross-entropy {self.cross_entropy:+.3g} nats on {plural(self.tokens, 'token')}"
        yield f"KL {self.kl:.3g}"


@torch.no_grad()
def steering_price(model: LanguageModel, interventions: Sequence[Intervention], text: Tokens) -> SteeringPrice:
    """Measure interventions on a text; rows padded on the right. Errors: those of :func:`prediction_changes`.

    Positions after a prompt's end do not exist in a text that is no prompt: such interventions act at every token of it
    but the first.
    """
    acting = [one if not one.positions.after_prompt else one.where(_BEHIND_FIRST) for one in interventions]
    cells = [Cell("steered", tuple(acting)), *(Cell(one.kind, (one,)) for one in acting)]
    costs = prediction_changes(model, cells, text)
    pushes = []
    for place, one in enumerate(acting, start=1):
        back = read_back(model, one, text) if one.feature is not None else []
        found = (back[0].before, back[0].after) if back else (None, None)
        pushes.append(
            Push(one.kind, one.feature, one.coefficient.raw, float(costs.relative_norm[place]), found[0], found[1])
        )
    means = [float(costs.mean(name)[0]) for name in ("cross_entropy", "kl", "changed")]
    return SteeringPrice(int(costs.tokens.sum()), means[0], means[1], means[2], tuple(pushes))
