"""Texts as rows: nothing lost but short ends, BOS by chance, epochs as permutations."""

from dataclasses import replace

import pytest
import torch
from training_fixtures import CONFIG, texts

from gossamer.activations import corpus as corpus_module
from gossamer.activations.corpus import Corpus, DocumentRows, RowConfig, split_texts
from gossamer.activations.stream import ActivationStream
from gossamer.activations.text import encode
from gossamer.errors import UsageError


@pytest.fixture
def build(tiny_gpt2):
    def corpus(given, config=CONFIG.corpus):
        return Corpus.build(tiny_gpt2, *split_texts(given, config, seed=0), config, seed=0)

    return corpus


def _words(tokens):
    return sorted(tokens.ids[tokens.mask & (tokens.ids != 0)].tolist())


def test_rows_hold_the_tokens_of_the_texts_and_no_others(tiny_gpt2, build):
    config = replace(CONFIG.corpus, bos=0.0, context=100)
    corpus = build(texts(), config)
    found = sorted(_words(corpus.training) + _words(corpus.held_out))
    assert found == sorted(token for text in texts() for token in encode(tiny_gpt2, text))


def test_bos_stands_only_first_and_in_about_the_share_asked_for(build):
    corpus = build(texts(400), replace(CONFIG.corpus, bos=0.3))
    first = corpus.training.ids[:, 0] == 0
    assert 0.2 < first.float().mean() < 0.4
    assert not ((corpus.training.ids[:, 1:] == 0) & corpus.training.mask[:, 1:]).any()


def test_held_out_texts_are_not_learned_from(build):
    pairs = [(a, b) for a in ("Mary", "John", "Tom", "Dan") for b in ("Amy", "Ben", "Sue")]
    unique = [f"One day {a} met {b} in the park ." for a, b in pairs]
    corpus = build(unique, replace(CONFIG.corpus, bos=0.0, held_out=0.25))
    rows = [{tuple(row.tolist()) for row in part.ids} for part in (corpus.training, corpus.held_out)]
    assert (len(corpus.held_out), len(corpus.training)) == (3, 9)
    assert not rows[0] & rows[1]


def test_an_epoch_is_every_row_once_and_the_next_is_in_another_order(build):
    corpus = build(texts())
    count = len(corpus.training)
    first, second = (corpus.rows(epoch * count, count, seed=0).ids for epoch in (0, 1))
    assert sorted(first.tolist()) == sorted(second.tolist()) == sorted(corpus.training.ids.tolist())
    assert not torch.equal(first, second)
    across = corpus.rows(count - 2, 4, seed=0).ids
    assert torch.equal(across, torch.cat([first[-2:], second[:2]]))


def test_every_row_knows_where_in_which_text_it_stands(tiny_gpt2, build):
    """Shuffled rows of several a text give back each text's tokens in order, but for an end too short for a row."""
    config = replace(CONFIG.corpus, bos=0.5, context=12, held_out=0.3)
    given = [" ".join(texts(40)[at : at + 1 + at % 4]) for at in range(0, 36, 2)]
    training, held_out = split_texts(given, config, seed=0)
    corpus = build(given, config)
    for rows, part in ((corpus.training, training), (corpus.held_out, held_out)):
        for number, text in enumerate(part):
            expected = encode(tiny_gpt2, text)
            found = rows.document(number).tolist()
            assert found == expected[: len(found)]
            assert len(expected) - len(found) < 8
        assert sorted(set(rows.documents.tolist())) == list(range(len(part)))
    assert 0 < int(corpus.training.with_bos.sum()) < len(corpus.training)
    again = corpus.rows(0, 2 * len(corpus.training), seed=3)
    assert torch.equal(again.ids[again.with_bos, 0], torch.zeros(int(again.with_bos.sum()), dtype=torch.long))
    own = {document: encode(tiny_gpt2, text) for document, text in enumerate(training)}
    for row in range(len(again)):
        place = again.positions[row]
        held = [own[int(again.documents[row])][at] for at in place[place >= 0].tolist()]
        assert held == again.ids[row][again.mask[row]].tolist()[int(again.with_bos[row]) :]


def test_rows_in_the_order_of_their_texts_keep_it_through_a_stream(tiny_gpt2):
    rows = DocumentRows.of(tiny_gpt2, texts(6), RowConfig(context=10, bos=0.0))
    assert rows.documents.tolist() == sorted(rows.documents.tolist())
    assert not rows.with_bos.any()
    batches = ActivationStream(tiny_gpt2, rows, [], batch_size=2).map(lambda batch: batch.tokens)
    assert torch.equal(torch.cat([batch.documents for batch in batches]), rows.documents)
    assert torch.equal(torch.cat([batch.cut(4).positions for batch in batches]), rows.positions[:, :4])


def test_the_rows_of_a_seed_are_what_they_were_in_earlier_versions(tiny_gpt2):
    """Caches and checkpoints know a corpus by its fingerprint."""
    config = replace(CONFIG.corpus, bos=0.5, context=16, held_out=0.2)
    corpus = Corpus.build(tiny_gpt2, *split_texts(texts(300), config, seed=0), config, seed=0)
    assert corpus.fingerprint == "8d295c64449c075858a2b3573c91c54df3bc10351cd5ceeeefe096864ff1118f"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"context": 1}, "context of at least 2"), ({"bos": 1.5}, "bos between"), ({"held_out": 1.0}, "held_out between")],
)
def test_rows_that_cannot_be_are_refused(settings, expected):
    with pytest.raises(UsageError, match=f"rows of text: expected {expected}"):
        RowConfig(**settings)


@pytest.mark.parametrize("given", [[], ["Mary met John"], ["a b c", "d e f"]])
def test_too_little_text_is_refused(build, given):
    with pytest.raises(UsageError, match=r"corpus of \d and \d texts: .*give more text"):
        build(given)


def test_bos_is_refused_where_there_is_none(build, monkeypatch):
    monkeypatch.setattr(corpus_module, "bos_id", lambda model: None)
    with pytest.raises(UsageError, match="has none; set bos to 0"):
        build(texts())


def test_claims_are_measured_on_the_first_five_thousand_tokens_held_out(tiny_gpt2):
    config = replace(CONFIG.corpus, held_out=0.5)
    corpus = Corpus.build(tiny_gpt2, *split_texts(texts(1000), config, seed=0), config, seed=0)
    count = len(corpus.measured)
    assert int(corpus.held_out.mask.sum()) > 6000
    assert int(corpus.measured.mask.sum()) >= 5000 > int(corpus.measured[: count - 1].mask.sum())
    assert torch.equal(corpus.measured.ids, corpus.held_out.ids[:count])
    few = Corpus.build(tiny_gpt2, *split_texts(texts(20), config, seed=0), config, seed=0)
    assert len(few.measured) == len(few.held_out)
