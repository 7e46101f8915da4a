"""Text to train dictionaries on that are to carry the tasks: stories, paragraphs, and sentences of the tasks' kinds.

    python examples/mixed_text.py --stories STORIES.jsonl --paragraphs PARAGRAPHS.jsonl --out mixed.jsonl

The sentences introduce two people and say one of them again, or put a noun between a subject and its verb, in patterns
that no task of the package has. Names and nouns of the tasks are among their words, as they are in any large text; a
prompt of a task is not among them. Everything is drawn from one seed.
"""

import argparse
import json
import random
from pathlib import Path

from gossamer.files import write_text
from gossamer.tasks.ioi import TEMPLATES
from gossamer.tasks.lexicon import CLAUSE_NOUNS, CLAUSE_VERBS, NAMES, SPARE_NAMES, SPARE_SUBJECTS, SUBJECTS


def words(text: str) -> tuple[str, ...]:
    """A list of words, written as a text."""
    return tuple(text.split())


OTHER_NAMES = words(
    """
    Aaron Abby Alan Albert Alfred Amanda Andrea Andrew Angela Ann Anthony Arthur Barbara Betty Bill Brian Bruce Carl
    Carol Caroline Catherine Chris Claire Clara Colin Daniel Dave Dean Dennis Diana Donald Donna Dorothy Doug Edward
    Eleanor Ellen Emily Eva Eve Evelyn Fiona Florence Fred Gary Gina Gordon Graham Greg Hannah Harold Harry Heather
    Howard Hugh Ian Irene Isaac Ivan Jacob Jake Janet Jason Jean Jeff Jennifer Jenny Jerry Jessica Jill Joan
    Jonathan Joseph Josh Joyce Judy Julian Julie Justin Karen Karl Katherine Keith Kelly Ken Kim Larry Lauren Leo
    Leon Lewis Linda Liz Louis Louise Luke Lynn Margaret Marie Marion Martha Martin Matt Matthew Megan Melissa
    Michelle Mike Nancy Naomi Nathan Neil Nicholas Nick Nicole Nina Nora Oliver Olivia Oscar Pamela Pat Patricia
    Patrick Penny Phil Philip Rachel Ralph Ray Rebecca Rick Rob Roger Ron Roy Russell Ryan Sally Samuel Sandra Sean
    Sharon Sophie Stanley Stella Stephen Stuart Sylvia Ted Teresa Terry Tina Tony Tracy Victor Victoria Vincent
    Walter Wendy Will Zoe
    """
)
THINGS = words(
    """
    apple bag basket bike blanket box bread cake camera candle chair coat coin cup flower guitar hat key knife lamp
    letter map phone picture pen plate shirt shoe stone ticket toy umbrella watch
    """
)
WHERE = words(
    """
    airport bank bridge cafe church corner farm forest gym kitchen lake library market museum river shop street
    theater train yard
    """
)
RELATIVE = words("behind beside near above below before opposite facing")

# A and B are two people in either order, S the one of them who acts and R the one to whom it is done.
PEOPLE = (
    "At the {where}, {A} and {B} talked for an hour. Before leaving, {S} lent the {thing} to {R}.",
    "Everyone knew that {A} liked {B}. In the evening {S} brought a {thing} to {R}.",
    "Last week {A} called {B} about the {thing}. Later {S} sent it to {R}.",
    "After {A} and {B} finished dinner, {S} passed the {thing} to {R}.",
    "While {A} was waiting with {B} at the {where}, {S} offered a {thing} to {R}.",
    "Yesterday {A} and {B} were late. {S} explained everything to {R}, and {R} listened.",
    "My friends {A} and {B} live near the {where}. Every day {S} writes to {R}.",
    "The teacher introduced {A} to {B}. {S} smiled and said hello to {R}.",
    "At last {A} found {B} by the {where}. {S} was happy to see {R} again.",
    "Because {A} and {B} had lost the {thing}, {S} had to apologize to {R}.",
    "In the morning {A} visited {B}, and {S} read a story to {R}.",
    "Both {A} and {B} wanted the {thing}. In the end {S} gave it back to {R}.",
    "On Monday {A} and {B} went shopping. {S} sold the old {thing} to {R}.",
    "They said that {A} had met {B} before. {S} whispered something to {R}.",
    "Outside the {where}, {A} saw {B} with {C}. Then {S} waved to {R}, not to {C}.",
    "Once, {A}, {B} and {C} shared a room. {S} showed the {thing} to {R} and {C}.",
    "It rained when {A} and {B} arrived at the {where}. {S} handed an umbrella to {R}.",
    "At school {A} sat next to {B}. During the lesson {S} threw a {thing} to {R}.",
)
# N is a noun of either number, V a verb of the same one, M another noun between them.
AGREEMENT = (
    "Yesterday the {N} {near} the {M} {was} tired.",
    "We saw that the {N} {near} the {M} {is} here and {does} not want to leave.",
    "In this town the {N} who {CV} the {M} {has} no time.",
    "They say the {N} that the {M} {CW} {is} famous. The {M} {knows} it.",
    "Today the {N} {goes} home, and the {M} {stays}.",
    "Sometimes the {N} {near} the old {M} {looks} up and {thinks} about the {where}.",
    "At night the {N} {was} near the {where}, where the {M} {was} too.",
    "Here the {N} that the {M} {CW} {has} {own} own {thing}.",
)
VERBS = {
    "was": ("was", "were"),
    "is": ("is", "are"),
    "does": ("does", "do"),
    "has": ("has", "have"),
    "knows": ("knows", "know"),
    "goes": ("goes", "go"),
    "stays": ("stays", "stay"),
    "looks": ("looks", "look"),
    "thinks": ("thinks", "think"),
    "own": ("its", "their"),
}


def people(rng: random.Random) -> str:
    """Two or three people; which of the two acts is drawn, and so is who comes first."""
    a, b, c = rng.sample((*NAMES, *SPARE_NAMES, *OTHER_NAMES), 3)
    acting, other = rng.sample((a, b), 2)
    filled = {"where": rng.choice(WHERE), "thing": rng.choice(THINGS)}
    return rng.choice(PEOPLE).format(A=a, B=b, C=c, S=acting, R=other, **filled)


def agreement(rng: random.Random) -> str:
    """A subject with a noun between it and its verb, each of either number."""
    pattern, (noun, other) = rng.choice(AGREEMENT), rng.sample((*SUBJECTS, *SPARE_SUBJECTS, *CLAUSE_NOUNS), 2)
    number, others = rng.randrange(2), rng.randrange(2)
    verb, clause = rng.choice(CLAUSE_VERBS), rng.choice(CLAUSE_VERBS)
    verbs = {name: forms[number] for name, forms in VERBS.items()}
    if "The {M} {knows}" in pattern or "the {M} {stays}" in pattern:
        verbs |= {"knows": VERBS["knows"][others], "stays": VERBS["stays"][others]}
    return pattern.format(
        N=noun[number],
        M=other[others],
        CV=verb[number],
        CW=clause[others],
        near=rng.choice(RELATIVE),
        where=rng.choice(WHERE),
        thing=rng.choice(THINGS),
        **verbs,
    )


def sentences(n: int, seed: int) -> list[str]:
    """`n` texts of one to three sentences, two thirds of them about people."""
    rng = random.Random(seed)
    return [
        " ".join((people if rng.random() < 2 / 3 else agreement)(rng) for _ in range(rng.choice((1, 1, 2, 3))))
        for _ in range(n)
    ]


def write_mixed_text(
    out: Path, stories: Path, paragraphs: Path, n_stories: int = 1500, n_sentences: int = 12000, seed: int = 0
) -> None:
    """Write the file: some of the stories, all paragraphs and new sentences, shuffled; the same for the same seed."""
    assert not any(pattern in PEOPLE for pattern in TEMPLATES.values())
    texts = [json.loads(line)["text"] for line in stories.read_text("utf-8").splitlines()[:n_stories]]
    texts += [json.loads(line)["text"] for line in paragraphs.read_text("utf-8").splitlines()]
    texts += sentences(n_sentences, seed)
    random.Random(seed).shuffle(texts)
    rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    if not out.exists() or out.read_text("utf-8") != rows:
        write_text(out, rows)
    print(f"{out}: {len(texts)} texts, {sum(map(len, texts)):,} characters", flush=True)


def main() -> None:
    """Write the file that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stories", type=Path, required=True, help='one {"text": ...} a line')
    parser.add_argument("--paragraphs", type=Path, required=True, help='one {"text": ...} a line')
    parser.add_argument("--n-stories", type=int, default=1500)
    parser.add_argument("--n-sentences", type=int, default=12000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    write_mixed_text(given.out, given.stories, given.paragraphs, given.n_stories, given.n_sentences, given.seed)


if __name__ == "__main__":
    main()
