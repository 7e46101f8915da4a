"""The stream of a model with planted relations is what a loop over its Boolean functions says it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gossamer.errors import UsageError
from gossamer.toys.planted_dictionaries import recovered, trained_dictionaries, true_dictionaries
from gossamer.toys.planted_relations import PlantedSettings, plant_relations

SMALL = PlantedSettings(each=1, vocabulary=2048, positions=16)


@pytest.fixture(scope="module")
def planted():
    return plant_relations(SMALL)


@pytest.fixture(scope="module")
def lengths(planted):
    """Of every feature at every token of some rows, at each place: (rows, positions, features), BOS first."""
    tokens = planted.tokens(40)
    values = planted.language_model.capture(tokens, planted.sites)
    return [(values[site] @ planted.directions.T).numpy() for site in planted.sites]


def test_features_that_are_there_stay_and_those_that_go_leave_nothing(planted, lengths):
    for place, present in enumerate(planted.present):
        absent = sorted(set(range(len(planted.directions))) - present)
        assert abs(lengths[place][..., absent]).max(initial=0) < 1e-4
        if place:
            kept = sorted(planted.present[place - 1] & present)
            np.testing.assert_allclose(lengths[place][..., kept], lengths[place - 1][..., kept], atol=1e-4)
            assert planted.lost[place] <= present
        there = lengths[place][..., sorted(present)]
        assert ((there < 1e-4) | ((there > 0.84) & (there < 1.16))).all()
    gone = planted.present[0] - planted.present[1]
    assert {planted.labels[one] for one in gone} == {"gone", "split", "merge"}


def test_gates_splits_and_moved_features_are_functions_of_what_was_there(planted, lengths):
    for layer, gates in enumerate(planted.gates):
        before, after = (one > 0.5 for one in lengths[layer : layer + 2])
        kinds = {(gate.kind, len(gate.inputs), gate.merge) for gate in gates}
        three = {("AND", 3, False), ("OR", 3, False)}
        two = {("AND", 2, False), ("OR", 2, False), ("XOR", 2, False), ("AND NOT", 2, False), ("OR", 2, True)}
        assert kinds == three | two
        for gate in gates:
            inputs = [before[..., one] for one in gate.inputs]
            expected = {
                "AND": lambda inputs: np.all(inputs, axis=0),
                "OR": lambda inputs: np.any(inputs, axis=0),
                "XOR": lambda inputs: inputs[0] ^ inputs[1],
                "AND NOT": lambda inputs: inputs[0] & ~inputs[1],
            }[gate.kind](inputs)
            assert (after[..., gate.output] == expected).all()
            assert 0 < expected.mean() < 0.5
            if gate.merge:
                assert not (inputs[0] & inputs[1]).any()
        for split in planted.splits[layer]:
            parts = [after[..., one] for one in split.parts]
            assert (parts[0] ^ parts[1] == before[..., split.whole]).all()
            assert not (parts[0] & parts[1]).any()
            assert min(one.sum() for one in parts) > 5
        # A new feature is one of the token before.
        new = [one for one in planted.present[layer + 1] - planted.present[layer] if planted.labels[one] == "new"]
        for one in new:
            moved = (after[:, 1:, one][..., None] == before[:, :-1]).all(axis=(0, 1))
            assert moved.sum() == 1


def test_relations_are_drawn_by_the_seed_and_no_token_comes_twice(planted):
    again, other = plant_relations(SMALL), plant_relations(replace(SMALL, seed=1))
    assert torch.equal(again.directions, planted.directions)
    assert not torch.equal(other.directions, planted.directions)
    ids = planted.tokens(128).ids
    assert (ids[:, 0] == planted.language_model.tokenizer.bos_token_id).all()
    assert len(ids[:, 1:].unique()) == 2048
    with pytest.raises(UsageError, match="at most 2,048 tokens expected, asked for 2,064"):
        planted.tokens(129)
    with pytest.raises(UsageError, match="each and layers of at least 1"):
        PlantedSettings(each=0)


def test_true_dictionaries_read_every_feature_but_the_lost_ones(planted, lengths):
    known = true_dictionaries(planted)
    assert recovered(planted, known) == 1
    values = planted.language_model.capture(planted.tokens(40), planted.sites)
    for place, (site, one) in enumerate(known.items()):
        assert set(one.features.tolist()) == planted.present[place] - planted.lost[place]
        dense = one.dictionary.encode_dense(values[site]).numpy()
        np.testing.assert_allclose(dense, np.maximum(lengths[place][..., one.features], 0), atol=1e-4)
    leaning = true_dictionaries(planted, cosine=0.9)
    for one in leaning.values():
        cosines = torch.nn.functional.cosine_similarity(one.dictionary.W_dec, planted.directions[one.features])
        torch.testing.assert_close(cosines, torch.full_like(cosines, 0.9))
    with pytest.raises(UsageError, match="a cosine above 0"):
        true_dictionaries(planted, cosine=0.0)


def test_trained_dictionaries_say_which_feature_each_latent_stands_for():
    planted = plant_relations(replace(SMALL, layers=1))
    known = trained_dictionaries(planted, planted.tokens(128), steps=400, batch=128)
    assert recovered(planted, known) > 0.5
    for place, one in enumerate(known.values()):
        found = one.features >= 0
        rows = one.dictionary.W_dec[torch.from_numpy(found)]
        own = planted.directions[one.features[found]]
        assert torch.nn.functional.cosine_similarity(rows, own).min() >= 0.8
        assert len(set(one.features[found].tolist())) == found.sum()
        assert not set(one.features.tolist()) & planted.lost[place]
        assert one.dictionary.n_latents == len(one.features)
