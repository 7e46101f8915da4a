"""Word lists, the classifier that must not lean on them, and a judge's scores (T6)."""

import math

import pytest

from gossamer.chat import Failure
from gossamer.errors import UsageError
from gossamer.steering.benefit import ConceptClassifier, WordList
from gossamer.steering.judge import JudgedScore, Ratings, harmonic_mean

RAIN = "the clouds came and drops fell on the wet roof with rain today"
SUN = "the garden was bright and the birds sang near warm stones for hours"


def test_whole_words_of_any_case():
    words = WordList(("wed", "Bride"))
    assert [words.count(text) for text in ("Wed, wed!", "wedding", "the BRIDE's", "a bride wed")] == [2, 0, 0, 2]
    assert words.split(["a bride", "no"]) == (["a bride"], ["no"])
    for made, said in (
        (lambda: WordList(()), "none"),
        (lambda: WordList(("two words",)), "two words"),
        (lambda: words.split(["no"]), "none with it"),
        (lambda: words.split(["bride"]), "none without it"),
    ):
        with pytest.raises(UsageError, match=said):
            made()


def test_the_classifier_knows_more_than_the_list():
    """It was never shown the word itself, and finds texts without it by what else they say."""
    words = WordList(("rain",))
    texts = [f"{RAIN} {number}" if number % 2 else f"{SUN} {number}" for number in range(40)]
    found = ConceptClassifier.fit(texts, words)
    assert found.auroc == 1.0
    assert not any("rain" in term.split() for term in found.terms)
    wet, dry, alone = found.probabilities([RAIN.replace("rain", ""), SUN, "rain"])
    assert wet > 0.8
    assert dry < 0.2
    assert alone == pytest.approx(1 / (1 + math.exp(-found.bias)))
    with pytest.raises(UsageError, match="more text"):
        ConceptClassifier.fit([SUN] * 10, words)


def test_it_is_the_minimum_of_its_loss():
    import torch

    words = WordList(("rain",))
    texts = [f"{RAIN} {number}" if number % 3 else f"{SUN} {number}" for number in range(30)]
    found = ConceptClassifier.fit(texts, words)
    pieces = [text for number, text in enumerate(texts) if number % 5 != 4]
    labels = torch.tensor([words.count(text) > 0 for text in pieces], dtype=torch.float64)
    share = labels.mean()
    weight = torch.where(labels > 0, 0.5 / share, 0.5 / (1 - share)) / len(labels)

    def loss(shift):
        moved = ConceptClassifier(found.terms, found.weights + shift, found.bias, 0.5)
        p = moved.probabilities(pieces, words._set)
        nll = -(weight * (labels * p.log() + (1 - labels) * (1 - p).log())).sum()
        return float(nll + moved.weights.square().sum() / len(labels))

    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        assert loss(0.05 * torch.randn(len(found.terms), generator=generator)) > loss(0.0)


def test_t6_harmonic_means():
    for ratings, expected in (((2, 1, 2), 1.5), ((1, 1, 2), 1.2), ((2, 0, 2), 0), ((1.5, 0.5, 2), 0.947368)):
        assert harmonic_mean(Ratings(*ratings)) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(UsageError, match="0 to 2"):
        harmonic_mean(Ratings(3, 1, 1))


def test_answers_that_could_not_be_read_are_no_zeros():
    found = JudgedScore.of([Ratings(2, 1, 2), Failure.UNPARSED, Ratings(2, 0, 2), Failure.ERROR, Failure.ERROR])
    assert (found.score, found.rated, found.unparsed, found.error) == (0.75, 2, 1, 2)
    assert found.failures == 0.6
    assert math.isnan(JudgedScore.of([Failure.ERROR]).score)
