"""Splits: no text on both sides, templates in training, giants divided."""

import itertools
import random

import pytest

from gossamer import tasks
from gossamer.tasks import Piece, Prompt
from gossamer.tasks.split import Split, components, shared_words, split, validation_split, word_split


def prompt(clean, counterfactual, template="t"):
    return Prompt((Piece(clean),), (Piece(counterfactual),), " a", " b", template)


def texts(prompts, rows):
    return {text for row in rows for text in (prompts[row].clean_text, prompts[row].counterfactual_text)}


def test_components_join_by_either_text():
    prompts = [prompt("a", "b"), prompt("c", "d"), prompt("b", "e"), prompt("f", "c"), prompt("g", "h")]
    assert components(prompts, range(5)) == [[0, 2], [1, 3], [4]]


@pytest.mark.parametrize("seed", range(20))
def test_random_prompts_never_share_a_text(seed):
    rng = random.Random(seed)
    names = [f"{letter}{number}" for letter in "abcd" for number in range(rng.randrange(3, 30))]
    pairs = {tuple(rng.sample(names, 2)) for _ in range(80)}
    prompts = [prompt(a, b, template=a[0]) for a, b in sorted(pairs)]
    found = split(prompts, 0.3, seed)
    assert sorted((*found.train, *found.test, *found.cut)) == list(range(len(prompts)))
    assert not texts(prompts, found.train) & texts(prompts, found.test)
    assert found.train
    assert {prompts[row].template for row in found.test} <= {prompts[row].template for row in found.train}
    assert found == split(prompts, 0.3, seed)


def test_share_is_met_with_small_components():
    prompts = [prompt(f"a{n}", f"b{n}", template=f"t{n % 10}") for n in range(100)]
    found = split(prompts, 0.25, 0)
    assert len(found.test) == 25
    assert not found.cut


def test_the_first_rows_of_a_side_are_of_every_template():
    # Files come sorted by template; whoever takes the first training prompts must not get one template alone.
    prompts = [prompt(f"a{n}", f"b{n}", template=f"t{n // 100}") for n in range(300)]
    found = split(prompts, 0.25, 0)
    for side in (found.train, found.test):
        assert {prompts[row].template for row in side[:20]} == {"t0", "t1", "t2"}


def test_a_component_of_all_pairs_is_divided():
    prompts = [prompt(f"a{a}", f"b{b}") for a, b in itertools.product(range(12), repeat=2)]
    found = split(prompts, 0.25, 0)
    assert len(found.train) > 40
    assert len(found.test) > 8
    assert found.cut
    assert not texts(prompts, found.train) & texts(prompts, found.test)


def test_what_cannot_be_divided_is_all_for_training():
    prompts = [prompt(f"a{n}", "always the same") for n in range(20)]
    found = split(prompts, 0.25, 0)
    assert (len(found.train), found.test, found.cut) == (20, (), ())


def test_two_prompts_make_one_of_each():
    found = split([prompt("a", "b"), prompt("c", "d")], 0.25, 0)
    assert (len(found.train), len(found.test)) == (1, 1)


def words(prompts, rows, *roles):
    return {piece.text.strip() for row in rows for piece in prompts[row].clean if piece.role in roles}


def accounted(prompts, found):
    assert sorted((*found.train, *found.test, *found.cut)) == list(range(len(prompts)))


@pytest.mark.parametrize("counterfactual", ["swap", "random"])
def test_names_of_the_validation_side_are_its_own(counterfactual):
    prompts = tasks.get("ioi").sample(random.Random(0), 400, counterfactual=counterfactual)
    found = validation_split(prompts, 0.2, 3)
    accounted(prompts, found)
    names = ("IO", "S1", "S2")
    assert not words(prompts, found.train, *names) & words(prompts, found.test, *names)
    held = words(prompts, found.test, *names)
    assert all(words(prompts, [row], *names) & held and words(prompts, [row], *names) - held for row in found.cut)
    assert len(found.train) > 140
    assert 0.1 < len(found.test) / (len(found.train) + len(found.test)) < 0.3
    assert words(prompts, found.train, "place") == words(prompts, found.test, "place"), "the largest list is divided"
    assert found == validation_split(prompts, 0.2, 3) != validation_split(prompts, 0.2, 4)


@pytest.mark.parametrize("structure", ["simple", "rc", "nounpp"])
def test_both_numbers_of_a_subject_are_on_one_side(structure):
    prompts = tasks.get(f"sva-{structure}").sample(random.Random(0), 90)
    found = validation_split(prompts, 0.2, 0)
    accounted(prompts, found)
    assert not found.cut
    sides = [words(prompts, side, "subject") for side in (found.train, found.test)]
    other = {piece.text for row in found.test for piece in prompts[row].counterfactual if piece.role == "subject"}
    assert not sides[0] & (sides[1] | other)
    assert len(found.test) == pytest.approx(18, abs=5)


def test_where_words_cannot_be_held_out_templates_are():
    # Every row has most of the ten digits.
    prompts = tasks.get("code-index").sample(random.Random(0), 200)
    named = [Prompt(p.clean, p.counterfactual, p.answer, p.incorrect, f"t{n % 5}") for n, p in enumerate(prompts)]
    found = validation_split(named, 0.2, 0)
    accounted(named, found)
    templates = [{named[row].template for row in side} for side in (found.train, found.test)]
    assert len(templates[1]) == 1
    assert not templates[0] & templates[1]


def test_where_templates_are_few_texts_are():
    prompts = tasks.get("code-key").sample(random.Random(0), 200)
    found = validation_split(prompts, 0.2, 0)
    assert not texts(prompts, found.train) & texts(prompts, found.test)
    assert len(found.test) == pytest.approx(40, abs=8)


def test_too_few_or_too_like_prompts_have_no_validation_side():
    assert validation_split([prompt(f"a{n}", f"b{n}") for n in range(12)], 0.2, 0) is None
    assert validation_split([prompt("a", "b")] * 50, 0.2, 0) is None
    assert validation_split([prompt(f"a{n}", f"b{n}") for n in range(50)], 0.2, 0) is not None


@pytest.mark.parametrize(
    ("name", "roles", "counts"), [("ioi", ("IO", "S1", "S2"), (140, 30)), ("sva-simple", ("subject",), (250, 70))]
)
@pytest.mark.parametrize("seed", range(3))
def test_words_of_the_test_are_its_own(name, roles, counts, seed):
    prompts = list(dict.fromkeys(tasks.get(name).sample(random.Random(seed), 400 if name == "ioi" else 96)))
    found = word_split(prompts, 0.25, seed)
    accounted(prompts, found)
    assert not words(prompts, found.train, *roles) & words(prompts, found.test, *roles)
    assert not texts(prompts, found.train) & texts(prompts, found.test)
    assert {prompts[row].template for row in found.test} <= {prompts[row].template for row in found.train}
    least = [count * len(prompts) // 400 for count in counts]
    assert (len(found.train) >= least[0], len(found.test) >= least[1]) == (True, True)
    assert found == word_split(prompts, 0.25, seed)


def test_a_training_row_with_a_text_of_the_test_is_left_out():
    # The counterfactual of one training row is another row of the test.
    prompts = [
        Prompt(
            (Piece(f"n{n}", "name"), Piece(" was")),
            (Piece(f"n{(n + 1) % 40}", "other"), Piece(" was")),
            " a",
            " b",
            "t",
        )
        for n in range(40)
    ]
    found = word_split(prompts, 0.2, 0)
    accounted(prompts, found)
    assert found.cut
    assert not texts(prompts, found.train) & texts(prompts, found.test)


def test_what_has_no_words_to_divide_is_not_split_by_words():
    assert word_split([prompt(f"a{n}", f"b{n}") for n in range(100)], 0.25, 0) is None
    every_digit = tasks.get("code-index").sample(random.Random(0), 200)
    assert word_split(every_digit, 0.25, 0) is None


@pytest.mark.parametrize(("n", "seed"), [(96, 1), (160, 0), (320, 0)])
def test_of_few_prompts_too_the_validation_side_has_names_of_its_own(n, seed):
    prompts = tasks.get("ioi").sample(random.Random(seed), n)
    kept = word_split(prompts, 0.25, seed)
    training = [prompts[row] for row in kept.train]
    found = validation_split(training, 0.15, 0)
    accounted(training, found)
    assert min(len(found.train), len(found.test)) >= 8
    assert not shared_words(training, found)
    names = ("IO", "S1", "S2")
    assert not words(training, found.train, *names) & words(training, found.test, *names)


def test_words_that_both_sides_have_are_named():
    prompts = [Prompt((Piece(name, "name"),), (Piece("Max", "name"),), " a", " b", "t") for name in ("Ann", "Bo", "Cy")]
    assert shared_words(prompts * 2, Split((0, 1, 2), (3, 4), (5,))) == {"Ann", "Bo"}
    assert shared_words(prompts, Split((0,), (1, 2), ())) == set()
