"""Prompts of indirect object identification of which every part can be changed on its own.

"One day, Mary and John went to the park. They played together. Then John said to": the two names, the connective
between them, what stands before and a filler in the sentence are parts, so that one of them can be replaced while the
others stay (Wang et al. 2022, arXiv 2211.00593, for the task; Kissane et al. 2024 for the changes).
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.tasks.lexicon import NAMES, SPARE_NAMES
from gossamer.tasks.prompt import Piece, Prompt, fill
from gossamer.tasks.prompt_tokenizer import PromptTokenizer
from gossamer.tokens import Tokens

ORDERS = ("ABBA", "BABA")
ROLES = ("IO", "connective", "S1", "S2", "END")
AND, PREFIX, FILLER = " and", "It was a nice day. ", " while the weather was nice"
TEMPLATES: dict[str, str] = {
    "park_said": "{prefix}One day, {A}{connective} {B} went to the park{filler}. They played together. "
    "Then {S} said to",
    "school_handed": "{prefix}One day, {A}{connective} {B} were at school{filler}. They were friends. "
    "{S} handed the toy to",
    "beach_found": "{prefix}One day, {A}{connective} {B} played at the beach{filler}. They were happy. "
    "{S} found a red ball and gave it to",
    "store_said": "{prefix}One day, {A}{connective} {B} went to the store{filler}. They were happy. Then {S} said to",
    "park_flower": "{prefix}One day, {A}{connective} {B} went to the park{filler}. They played together. "
    "After that, {S} gave a flower to",
    "school_found": "{prefix}One day, {A}{connective} {B} were at school{filler}. They were friends. "
    "{S} found a red ball and gave it to",
    "beach_handed": "{prefix}One day, {A}{connective} {B} played at the beach{filler}. They were happy. "
    "{S} handed the toy to",
    "school_threw": "{prefix}One day, {A}{connective} {B} were at school{filler}. They were friends. "
    "{S} threw the ball to",
    "store_gave": "{prefix}Then, {A}{connective} {B} went to the store{filler}. {S} gave a drink to",
    "office_gave": "{prefix}When {A}{connective} {B} went to the office{filler}, {S} gave a book to",
    "garden_gave": "{prefix}Then, {A}{connective} {B} had a lot of fun at the garden{filler}. {S} gave a ring to",
    "house_gave": "{prefix}Then, {A}{connective} {B} were working at the house{filler}. {S} decided to give a snack to",
}
"""Patterns by name, those of stories first. A name never begins the text, where it would be another token."""


@dataclass(frozen=True)
class IOIPrompt:
    """One prompt in parts.

    Attributes:
        template: name of one of `TEMPLATES`.
        order: "ABBA": the indirect object comes first; "BABA": the subject does.
        io, subject: the two names.
        second: the name that comes again: the subject, or in a counterfactual the indirect object.
        others: two more names, which can take their places.
        connective, prefix, filler: what stands between the names, before the text, and before the sentence's end.
    """

    template: str
    order: str
    io: str
    subject: str
    second: str
    others: tuple[str, str]
    connective: str = AND
    prefix: str = ""
    filler: str = ""

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.text

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The text in pieces with roles."""
        io, subject = Piece(self.io, "IO"), Piece(self.subject, "S1")
        first, second = (io, subject) if self.order == "ABBA" else (subject, io)
        words = {
            "A": first,
            "B": second,
            "S": Piece(self.second, "S2"),
            "connective": Piece(self.connective, "connective"),
        }
        return fill(TEMPLATES[self.template], {**words, "prefix": Piece(self.prefix), "filler": Piece(self.filler)})

    @property
    def text(self) -> str:
        """The prompt as one string."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def swapped(self) -> "IOIPrompt":
        """The same prompt in which the other name comes again: the two answers change places."""
        return replace(self, second=self.io if self.second == self.subject else self.subject)

    @property
    def renamed(self) -> "IOIPrompt":
        """Both names replaced, the relation of the second mention to the connective kept."""
        io, subject = self.others
        second = subject if self.second == self.subject else io
        return replace(self, io=io, subject=subject, second=second, others=(self.io, self.subject))

    @property
    def reordered(self) -> "IOIPrompt":
        """The two names exchanged, the second mention as it was: its relation to the connective is reversed."""
        return replace(self, order=ORDERS[self.order == ORDERS[0]])

    @property
    def task_prompt(self) -> Prompt:
        """The prompt as one of a task, with its swap as counterfactual."""
        return Prompt(self.pieces, self.swapped.pieces, f" {self.io}", f" {self.subject}", self.template, self.order)


@dataclass(frozen=True, eq=False)
class EncodedPrompts:
    """Prompts as tokens, padded on the right.

    Attributes:
        prompts: what was encoded.
        tokens: their tokens.
        places: the token of each role in every prompt: of `ROLES`.
        answers: the indirect object's token and the subject's.
    """

    prompts: tuple[IOIPrompt, ...]
    tokens: Tokens
    places: Mapping[str, Int[Tensor, "batch"]]
    answers: Int[Tensor, "batch two"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.prompts), "prompt")
        yield plural(len(set(self.templates)), "template")

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def templates(self) -> tuple[str, ...]:
        """Of every prompt."""
        return tuple(prompt.template for prompt in self.prompts)

    def rows(self, **facts: str) -> Int[Tensor, "rows"]:
        """Numbers of the prompts of which all `facts` are true, such as order="ABBA"."""
        chosen = [all(getattr(prompt, name) == value for name, value in facts.items()) for prompt in self.prompts]
        return torch.tensor(chosen, device=self.answers.device).nonzero().squeeze(1)

    def __getitem__(self, rows: Int[Tensor, "rows"]) -> "EncodedPrompts":
        prompts = tuple(self.prompts[row] for row in rows.tolist())
        places = {role: found[rows] for role, found in self.places.items()}
        return EncodedPrompts(prompts, self.tokens[rows], places, self.answers[rows])

    def to(self, device: torch.device | str) -> "EncodedPrompts":
        """The same on `device`."""
        places = {role: found.to(device) for role, found in self.places.items()}
        return EncodedPrompts(self.prompts, self.tokens.to(device), places, self.answers.to(device))


def single_token_names(speller: PromptTokenizer) -> list[str]:
    """The package's names that are one token after a space; its spare names too where fewer than ten are.

    Raises:
        UsageError: fewer than six are.
    """
    found: list[str] = []
    for names in (NAMES, SPARE_NAMES):
        written = speller.answers(["a"] * len(names), [f" {name}" for name in names])
        found += [name for name, answer in zip(names, written, strict=True) if answer.id is not None]
        if len(found) >= 10:
            return found
    if len(found) < 6:
        raise UsageError(
            f"ioi: at least 6 names of one token expected, found {len(found)} in this tokenizer; choose another model"
        )
    return found


def draw_prompts(names: Sequence[str], templates: Sequence[str], n: int, seed: int) -> list[IOIPrompt]:
    """`n` different prompts, templates and orders in turn.

    Raises:
        UsageError: unknown templates, or fewer names than four.
    """
    if unknown := [name for name in templates if name not in TEMPLATES] or (not templates and ["none"]):
        raise UsageError(f"templates: some of {', '.join(TEMPLATES)} expected, found {unknown[0]}")
    if len(names) < 4:
        raise UsageError(f"names: at least 4 expected, found {len(names)}")
    rng = random.Random(seed)
    found: dict[IOIPrompt, None] = {}
    while len(found) < n:
        place = len(found)
        io, subject, *others = rng.sample(list(names), 4)
        template, order = templates[place // 2 % len(templates)], ORDERS[place % 2]
        found[IOIPrompt(template, order, io, subject, subject, (others[0], others[1]))] = None
    return list(found)


def encode_prompts(prompts: Sequence[IOIPrompt], speller: PromptTokenizer) -> EncodedPrompts:
    """Encode prompts, and find the token of each role by the tokenizer's offsets (of the connective the first).

    Raises:
        UsageError: no prompts, or a role without a token of its own.
    """
    if not prompts:
        raise UsageError("ioi: at least one prompt expected, found none")
    spelled = speller.spell([prompt.pieces for prompt in prompts])
    width = max(len(one.ids) for one in spelled)
    ids = torch.full((len(spelled), width), speller.padding)
    mask = torch.zeros(len(spelled), width, dtype=torch.bool)
    for row, one in enumerate(spelled):
        ids[row, : len(one.ids)] = torch.tensor(one.ids)
        mask[row, : len(one.ids)] = True
        if missing := [role for role in ROLES if role not in one.roles]:
            raise UsageError(
                f"ioi: a token for each of {', '.join(ROLES)} expected, found none for {missing[0]} in "
                f"{prompts[row].text!r}; use another tokenizer or connective"
            )
    places = {role: torch.tensor([one.roles.index(role) for one in spelled]) for role in ROLES}
    texts = [prompt.text for prompt in prompts for _ in range(2)]
    names = [f" {name}" for prompt in prompts for name in (prompt.io, prompt.subject)]
    answers: list[int] = []
    for name, answer in zip(names, speller.answers(texts, names), strict=True):
        if answer.id is None:
            raise UsageError(f"ioi: names of one token expected, found {name!r} of several; leave it out")
        answers.append(answer.id)
    return EncodedPrompts(tuple(prompts), Tokens(ids, mask), places, torch.tensor(answers).view(-1, 2))
