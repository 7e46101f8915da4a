"""Rules: what they print they parse, and they fire where a plain loop over tokens says."""

import random

import pytest

from gossamer.errors import UsageError
from gossamer.explain.grammar import parse, spoken
from gossamer.explain.rules import ANY, CLASSES, Clause, Rule, Term, TokenPattern, WeightedRule
from gossamer.explain.token_rows import TokenRows

SENTENCES = (
    "activates on nothing",
    'activates on " dog", "dogs" = 2.5',
    'activates on " dog" after " the", " a" = 1',
    'activates on <digit> after " the" then <capitalised> before " ." near park in the first 12 = 0.25',
    'activates on <ends "ing">, <starts "un"> = 3 or on "\\n", "\\"", "=" = 1 or on <any> before " x" = 0.1',
    'activates by -2.5 +3 " dog" -1.25 " cat"@-1 +0.5 " park"@text = 2',
)
BROKEN = (
    "activates",
    "activates on",
    'activates on "a',
    "activates on <foo>",
    "activates on <ends ing>",
    "activates on a or",
    "activates on a on b",
    "activates on a = x",
    "activates on a = inf",
    "activates on a in the first x",
    "activates by 1 +2 dog",
    'activates by 1 +2 " dog"@2',
    'activates by " dog"',
    "activates on " + "a," * 20_000 + "a",
)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_what_is_printed_is_parsed(sentence):
    rule = parse(sentence)
    assert str(rule) == sentence
    assert parse(str(rule)) == type(rule).parse(sentence) == rule


@pytest.mark.parametrize("sentence", BROKEN)
def test_half_a_rule_is_refused_in_one_line(sentence):
    with pytest.raises(UsageError, match="expected, found"):
        Rule.parse(sentence) if sentence == "activates" else parse(sentence)


@pytest.mark.parametrize("sentence", ["names of animals", "", "activates whenever a dog is there", "on dogs"])
def test_other_sentences_are_no_rules(sentence):
    assert parse(sentence) is None


@pytest.mark.parametrize("seed", range(20))
def test_random_rules_survive_their_sentence(seed):
    draw = random.Random(seed)
    letters = 'ab "\\,=<>@\n\té-1'

    def pattern():
        kind = draw.choice(("token", "word", "ends", "starts", *CLASSES))
        text = "".join(draw.choice(letters) for _ in range(draw.randint(1, 5)))
        return TokenPattern(kind, "" if kind in CLASSES else text)

    def several(least=1):
        return tuple(pattern() for _ in range(draw.randint(least, 3)))

    clauses = tuple(
        Clause(
            several(),
            tuple(several() for _ in range(draw.randint(0, 2))),
            several(0),
            several(0),
            draw.choice((None, 3)),
            draw.randint(1, 9) / 8,
        )
        for _ in range(draw.randint(1, 3))
    )
    rule = Rule(clauses)
    # A quoted word is read as a token: those that need quotes are what they say already.
    again = parse(str(rule))
    assert parse(str(again)) == again
    rows = TokenRows.of([[*letters, " ab", "a", "b "]])
    plain = all(one.kind != "word" for clause in clauses for one in (*clause.on, *clause.before, *clause.near))
    if plain and all(one.kind != "word" for clause in clauses for several in clause.after for one in several):
        assert again == rule
        assert (again.expected(rows) == rule.expected(rows)).all()


def by_loop(clause, texts, starts):
    """Where a clause holds, token by token."""
    found = []
    for text, start in zip(texts, starts, strict=True):
        for place, token in enumerate(text):
            holds = any(one.matches(token) for one in clause.on)
            for distance, patterns in enumerate(reversed(clause.after), start=1):
                before = place - distance
                holds &= before >= 0 and any(one.matches(text[before]) for one in patterns)
            if clause.before:
                holds &= place + 1 < len(text) and any(one.matches(text[place + 1]) for one in clause.before)
            if clause.near:
                holds &= any(one.matches(other) for other in text[:place] for one in clause.near)
            if clause.first is not None:
                holds &= start + place < clause.first
            found.append(holds)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_a_clause_fires_where_a_loop_says(seed):
    draw = random.Random(seed)
    words = [" a", " b", " Ab", "3", ".", "\n", " running"]
    texts = [[draw.choice(words) for _ in range(draw.randint(1, 12))] for _ in range(6)]
    starts = [draw.choice((0, 5)) for _ in texts]
    kinds = (
        TokenPattern("token", " a"),
        TokenPattern("word", "B"),
        TokenPattern("digit"),
        TokenPattern("ends", "ing"),
        *ANY,
        TokenPattern("capitalised"),
        TokenPattern("newline"),
        TokenPattern("punctuation"),
        TokenPattern("token", "absent"),
    )

    def several(least):
        return tuple(draw.choice(kinds) for _ in range(draw.randint(least, 2)))

    clause = Clause(
        several(1), tuple(several(1) for _ in range(seed % 3)), several(0), several(0), draw.choice((None, 7)), 1.0
    )
    assert clause.fires(TokenRows.of(texts, starts)).tolist() == by_loop(clause, texts, starts)


def test_the_first_clause_that_holds_says_how_much():
    rule = Rule.parse('activates on " dog" after " hot" = 0 or on " dog" = 2 or on <any> after " dog" = 1')
    rows = TokenRows.of([[" hot", " dog", " a", " dog", " b"], [" dog"]])
    assert rule.expected(rows).tolist() == [0, 0, 1, 2, 1, 2]
    assert rule.fires(rows).tolist() == [False, False, True, True, True, True]


def test_a_weighted_rule_adds_up():
    rule = WeightedRule(-1.0, (Term(2.0, " a"), Term(-3.0, " b", -1), Term(0.5, " c", None)), 4.0)
    rows = TokenRows.of([[" a", " b", " a"], [" a", " c"]])
    assert rule.sums(rows).tolist() == [1, -1, -2, 1.5, -0.5]
    assert rule.fires(rows).tolist() == [True, False, False, True, False]
    assert rule.expected(rows)[0] == pytest.approx(4 / (1 + 2.718281828**-1))


def test_more_said_costs_more_bits():
    lengths = [
        parse(one).bits(1024)
        for one in (
            "activates on nothing",
            "activates on <digit>",
            'activates on " a"',
            'activates on " a", " b"',
            'activates on " a", " b" after " c"',
        )
    ]
    assert lengths == sorted(lengths)
    assert lengths[3] - lengths[2] == 3 + 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'activates on " a = 1" after <any> then "x" = 0.25 or on dog in the first 5 = 1e-05',
            'activates on " a = 1" after <any> then "x" or on dog in the first 5',
        ),
        (
            'activates by -0.76 +0.4 " like"@text +1.1 " the" -0.2 "or"@-1 -0.5 "x"@-3 = 0.24',
            'activates mostly with " the", " like" anywhere in the text; seldom with "x" 3 tokens before, '
            '"or" right before',
        ),
        ("activates by 0.5 = 1", "activates by 0.5 = 1"),
        ("activates on nothing", "activates on nothing"),
        ("words for dogs", "words for dogs"),
        ("activates on on on", "activates on on on"),
    ],
)
def test_people_are_told_a_rule_without_its_numbers(text, said):
    assert spoken(text) == said
