"""Indirect object identification: "Then, Mary and John went to the store. John gave a ring to" -> " Mary".

Two names are introduced in either order (ABBA: the indirect object first; BABA: the subject first), then the subject is
named again. Roles: `IO`, `S1`, `S2`, `place`, `object`, and `END` for the last token.
Source of the task: Wang et al. 2022, "Interpretability in the wild" (arXiv 2211.00593).
"""

import random
from collections.abc import Sequence

from gossamer.errors import UsageError
from gossamer.tasks.lexicon import NAMES, OBJECTS, PLACES
from gossamer.tasks.prompt import Piece, Prompt, distinct, fill, need

COUNTERFACTUALS = ("swap", "random")
ORDERS = ("ABBA", "BABA")

TEMPLATES: dict[str, str] = {
    "fun_gave": "Then, {A} and {B} had a lot of fun at the {place}. {S} gave a {object} to",
    "went_gave": "Then, {A} and {B} went to the {place}. {S} gave a {object} to",
    "when_gave": "When {A} and {B} went to the {place}, {S} gave a {object} to",
    "long_gave": "Then, {A} and {B} were working at the {place}. {S} decided to give a {object} to",
    "met_said": "One day, {A} met {B} in the {place}. They played together. Then {S} said to",
    "met_handed": "One day, {A} met {B} at the {place}. They were happy. {S} handed the {object} to",
    "saw_showed": "One day, {A} saw {B} near the {place}. They said hello. {S} showed the {object} to",
}
"""Patterns by name. A name never begins the text: there it would have no space before it and be another token."""


def sample(
    rng: random.Random,
    n: int,
    *,
    names: Sequence[str] = NAMES,
    places: Sequence[str] = PLACES,
    objects: Sequence[str] = OBJECTS,
    templates: Sequence[str] = tuple(TEMPLATES),
    orders: Sequence[str] = ORDERS,
    counterfactual: str = "swap",
) -> list[Prompt]:
    """`n` different prompts.

    Args:
        rng: source of all randomness.
        n: how many.
        names, places, objects: the words; the order of the lists matters to what a seed gives.
        templates: names of `TEMPLATES` to draw from.
        orders: which orders of the two names to draw from.
        counterfactual: "swap" names the indirect object where the clean prompt names the subject again, so that the
            answers change places; "random" puts three other names at the three places (its `wrong` is the subject).

    Raises:
        UsageError: unknown templates, orders or counterfactual; too few words; `n` too large for the words.
    """
    _check(templates, orders, counterfactual)
    for words, least, what in ((names, 6, "names"), (places, 1, "places"), (objects, 1, "objects")):
        need(words, least, f"ioi {what}")

    def draw(rng: random.Random) -> Prompt:
        template, order = rng.choice(list(templates)), rng.choice(list(orders))
        io, subject, *others = rng.sample(list(names), 5)
        shared = {
            "place": Piece(rng.choice(list(places)), "place"),
            "object": Piece(rng.choice(list(objects)), "object"),
        }
        changed = (io, subject, io) if counterfactual == "swap" else (others[0], others[1], others[2])
        return Prompt(
            clean=_pieces(template, order, (io, subject, subject), shared),
            counterfactual=_pieces(template, order, changed, shared),
            answer=f" {io}",
            incorrect=f" {subject}",
            template=template,
            case=order,
        )

    return distinct(rng, n, draw, "ioi")


def _pieces(template: str, order: str, names: tuple[str, str, str], shared: dict[str, Piece]) -> tuple[Piece, ...]:
    """Fill a template with the words for (IO, S1, S2); the roles stay with the places of the clean prompt."""
    io, first, second = (Piece(name, role) for name, role in zip(names, ("IO", "S1", "S2"), strict=True))
    a, b = (io, first) if order == "ABBA" else (first, io)
    return fill(TEMPLATES[template], {"A": a, "B": b, "S": second, **shared})


def _check(templates: Sequence[str], orders: Sequence[str], counterfactual: str) -> None:
    for found, known, what in (
        (templates, tuple(TEMPLATES), "templates"),
        (orders, ORDERS, "orders"),
        ((counterfactual,), COUNTERFACTUALS, "counterfactual"),
    ):
        if not found or not set(found) <= set(known):
            raise UsageError(f"ioi {what}: expected some of {', '.join(known)}; found {', '.join(found) or 'none'}")
