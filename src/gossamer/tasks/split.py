"""Sides of a task: train and test prompts that share no text, and training prompts with names of their own."""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeGuard

from gossamer.display import short_repr
from gossamer.tasks.prompt import Prompt

# What the two sides of a task do not share: a text, or a word either.
SplitBy = Literal["text", "word"]


@dataclass(frozen=True)
class Split:
    """Row numbers of each side, in random order; `cut` rows joined the two sides and were left out."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    cut: tuple[int, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{len(self.train)} to train, {len(self.test)} to test, {len(self.cut)} cut"


def split(prompts: Sequence[Prompt], test_fraction: float, seed: int) -> Split:
    """Divide rows into two sides with no text in common, every template in the test rows also in the training rows.

    Rows are joined by a text that they share, and whole connected components go to one side, chosen at random within
    each template until its share of test rows is met. Where one component is most of a template (a few names paired at
    random hang together), its *texts* are divided instead and the rows with one text on each side are left out.

    Args:
        prompts: different prompts.
        test_fraction: share of the rows wanted in the test, in (0, 1); met as nearly as the components allow.
        seed: of the choice.
    """
    rng = random.Random(seed)
    sides: dict[str, list[int]] = {"train": [], "test": [], "cut": []}
    wanted = 0.5  # what is owed to the test so far, begun at a half so that small templates round to the nearest
    for components in _by_template(prompts).values():
        wanted += test_fraction * sum(map(len, components))
        rng.shuffle(components)
        chosen = _choose([len(component) for component in components], wanted)
        test = [component for index, component in enumerate(components) if index in chosen]
        rest = [component for index, component in enumerate(components) if index not in chosen]
        largest = max(rest, key=len)
        if sum(map(len, test)) < wanted / 2 and 2 * len(largest) > sum(map(len, components)):
            rest.remove(largest)
            train_rows, test_rows, cut = _divide(prompts, largest, test_fraction, rng)
            test, rest = [*test, test_rows], [*rest, train_rows]
            sides["cut"] += cut
        for side, members in (("train", rest), ("test", test)):
            sides[side] += [row for component in members for row in component]
        wanted = max(0.0, wanted - sum(map(len, test)))
    # In random order: whoever takes the first rows of a side has rows of every template.
    for side in ("train", "test"):
        rng.shuffle(sides[side])
    return Split(*(tuple(sides[side]) for side in ("train", "test", "cut")))


def components(prompts: Sequence[Prompt], rows: Iterable[int]) -> list[list[int]]:
    """`rows` grouped so that rows of different groups have no text in common, each group in ascending order."""
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        parent.setdefault(text, text)
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    rows = list(rows)
    for row in rows:
        parent[root(prompts[row].clean_text)] = root(prompts[row].counterfactual_text)
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(root(prompts[row].clean_text), []).append(row)
    return list(groups.values())


def _by_template(prompts: Sequence[Prompt]) -> dict[tuple[str, ...], list[list[int]]]:
    """Components by the templates that they contain, in order of first appearance."""
    found: dict[tuple[str, ...], list[list[int]]] = {}
    for component in components(prompts, range(len(prompts))):
        templates = tuple(sorted({prompts[row].template for row in component}))
        found.setdefault(templates, []).append(component)
    return found


def _choose(sizes: list[int], wanted: float) -> set[int]:
    """Which components go to the test: at most `wanted` rows and half of all; one at least if it is time, never all."""
    wanted = min(wanted, sum(sizes) / 2)
    chosen: set[int] = set()
    taken = 0
    for index, size in enumerate(sizes[1:], start=1):
        if taken + size <= wanted:
            chosen.add(index)
            taken += size
    smallest = sizes.index(min(sizes))
    if not chosen and wanted >= 1 and len(sizes) > 1 and 2 * wanted >= sizes[smallest]:
        chosen.add(smallest)
    return chosen


def _divide(
    prompts: Sequence[Prompt], rows: list[int], test_fraction: float, rng: random.Random
) -> tuple[list[int], list[int], list[int]]:
    """Train, test and cut rows of one component, by dividing its texts; all train if a side would stay empty."""
    texts = sorted(set().union(*(_texts(prompts[row]) for row in rows)))
    rng.shuffle(texts)
    # A row is in the test if both its texts are: this share of texts gives tests and training rows in the wanted ratio.
    share = math.sqrt(test_fraction) / (math.sqrt(test_fraction) + math.sqrt(1 - test_fraction))
    held = set(texts[: round(share * len(texts))])
    counts = {row: (prompts[row].clean_text in held) + (prompts[row].counterfactual_text in held) for row in rows}
    train = [row for row in rows if counts[row] == 0]
    known = {prompts[row].template for row in train}
    test = [row for row in rows if counts[row] == 2 and prompts[row].template in known]
    cut = sorted(set(rows) - {*train, *test})
    return (train, test, cut) if train and test else (rows, [], [])


# A validation side is worth having if this share of the prompts is left to fit, and so many are left to choose on.
_FITTED_SHARE = 1 / 3
_FEWEST = 8
# Draws of the words that are held out; held-out templates are a choice of several only.
_DRAWS, _FEWEST_TEMPLATES = 20, 4


def validation_split(prompts: Sequence[Prompt], fraction: float, seed: int) -> Split | None:
    """Divide training rows into those to fit circuits to (`train`) and those to choose on (`test`); None if that fails.

    The sides share no word at the roles with the most words (names, subjects); where that would cut too many rows they
    share no template, and else no text. Words that go together in a row, as singular and plural do, stay together;
    where nearly all hang together (names paired at random) rows that mix words of both sides are left out (`cut`).

    Args:
        prompts: the training prompts.
        fraction: share of the kept rows wanted to choose on, in (0, 1); met as nearly as the words allow.
        seed: of the choice.
    """
    rng = random.Random(seed)
    # Of few prompts some draws of words leave enough on either side and most do not.
    for _ in range(_DRAWS):
        if _worth_it(found := _split_by_words(prompts, fraction, rng), prompts):
            return found
    templates = sorted({prompt.template for prompt in prompts})
    if len(templates) >= _FEWEST_TEMPLATES:
        held = set(rng.sample(templates, max(1, round(fraction * len(templates)))))
        if _worth_it(found := _sides([{prompt.template} for prompt in prompts], held), prompts):
            return found
    found = split(prompts, fraction, seed)
    return found if _worth_it(found, prompts) else None


def _worth_it(found: Split | None, prompts: Sequence[Prompt]) -> TypeGuard[Split]:
    return found is not None and len(found.train) >= _FITTED_SHARE * len(prompts) and len(found.test) >= _FEWEST


def word_split(prompts: Sequence[Prompt], test_fraction: float, seed: int) -> Split | None:
    """Divide rows into two sides with no text, and at the roles with the most words no word, in common.

    What a circuit does on the test rows it then does with names or nouns that nothing was fitted to. Rows that mix
    words of both sides, and training rows with a text of the test, are left out (`cut`). None where the words leave too
    few rows on one side.

    Args:
        prompts: different prompts.
        test_fraction: share of the kept rows wanted in the test, in (0, 1); met as nearly as the words allow.
        seed: of the choice.
    """
    rng = random.Random(seed)
    found = _split_by_words(prompts, test_fraction, rng)
    if found is None:
        return None
    held = {text for row in found.test for text in _texts(prompts[row])}
    train = [row for row in found.train if not _texts(prompts[row]) & held]
    known = {prompts[row].template for row in train}
    test = [row for row in found.test if prompts[row].template in known]
    divided = Split(tuple(train), tuple(test), tuple(sorted({*range(len(prompts))} - {*train, *test})))
    if not _worth_it(divided, prompts):
        return None
    for side in (train, test):
        rng.shuffle(side)
    return replace(divided, train=tuple(train), test=tuple(test))


def shared_words(prompts: Sequence[Prompt], sides: Split) -> set[str]:
    """Words, at the roles with the most words, that training and test rows both have."""
    roles = _vocabulary(prompts)
    train, test = (set().union(*(_words(prompts[row], roles) for row in rows)) for rows in (sides.train, sides.test))
    return train & test


def _words(prompt: Prompt, roles: set[str]) -> set[str]:
    """The words of its clean side at these roles."""
    return {piece.text.strip() for piece in prompt.clean if piece.role in roles}


def _texts(prompt: Prompt) -> set[str]:
    return {prompt.clean_text, prompt.counterfactual_text}


def _split_by_words(prompts: Sequence[Prompt], fraction: float, rng: random.Random) -> Split | None:
    """Sides that share no word of the largest vocabulary, the test of at least _FEWEST rows where words give that."""
    roles = _vocabulary(prompts)
    if not roles:
        return None
    clean = [_words(prompt, roles) for prompt in prompts]
    other = [{piece.text.strip() for piece in prompt.counterfactual if piece.role in roles} for prompt in prompts]
    together = _joined([one | two for one, two in zip(clean, other, strict=True)])
    rng.shuffle(together)
    # Words of one component have all their rows in common; the first in random order that fill the share go.
    counts = [sum(bool(words & component) for words in clean) for component in together]
    if 2 * max(counts) <= len(prompts):
        chosen = _choose(counts, fraction * len(prompts))
        return _sides(clean, set().union(*(together[index] for index in chosen)))
    words = sorted(set().union(*clean))
    rng.shuffle(words)
    # A row is on a side if all its words are: these shares of words give rows in the wanted ratio.
    several = max(1, round(sum(map(len, clean)) / len(clean)))
    ends = fraction ** (1 / several), (1 - fraction) ** (1 / several)
    held = round(len(words) * ends[0] / sum(ends))
    # Of few rows that share is too small a side: more words then, rather than a side that shares all of them.
    tried = (_sides(clean, set(words[:n])) for n in range(held, len(words)))
    return next((found for found in tried if len(found.test) >= _FEWEST), _sides(clean, set(words[:held])))


def _vocabulary(prompts: Sequence[Prompt]) -> set[str]:
    """The roles whose words, shared between them, are the most; none if no role has two words."""
    words: dict[str, set[str]] = {}
    for prompt in prompts:
        for piece in prompt.clean:
            if piece.role is not None:
                words.setdefault(piece.role, set()).add(piece.text.strip())
    # Roles that share a word take from one list: the words of the largest such list.
    lists = _joined(list(words.values()))
    largest = max(lists, key=len, default=set())
    return {role for role, found in words.items() if found & largest} if len(largest) > 1 else set()


def _joined(sets: Sequence[set[str]]) -> list[set[str]]:
    """Unions of the sets that have words in common, in order of their first word."""
    found: list[set[str]] = []
    for words in sets:
        touching = [one for one in found if one & words]
        found = [one for one in found if not one & words] + [set(words).union(*touching)]
    return sorted((one for one in found if one), key=min)


def _sides(rows: Sequence[set[str]], held: set[str]) -> Split:
    """Rows of none of the held words, of these only, and of both."""
    kinds = [(bool(words - held), bool(words & held)) for words in rows]
    train, test, cut = (
        tuple(row for row, kind in enumerate(kinds) if kind == wanted)
        for wanted in ((True, False), (False, True), (True, True))
    )
    return Split(train, test, cut)
