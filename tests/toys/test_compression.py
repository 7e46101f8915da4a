"""Compressed models: nothing is lost while there is room, something is when there is not, and training helps then."""

import pytest
import torch

from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.toys import PROGRAMS, SMOOTH, compile_program, compress, labelled_dictionary
from gossamer.toys.task import all_inputs

INPUTS = [tokens for length in (1, 2, 3) for tokens in all_inputs("abc", length)]


@pytest.fixture(scope="module")
def reverse():
    return compile_program(PROGRAMS["reverse"].build(), "abc", max_length=3, sharpness=SMOOTH, name="reverse")


def streams(found):
    ids = found.encode(INPUTS)
    return torch.stack(found.hf(ids.ids, attention_mask=ids.mask).hidden_states)[:, ids.mask]


def right(found):
    return sum(ours == wanted for ours, wanted in zip(found.run(INPUTS), found.expected(INPUTS), strict=True))


def error(wide, narrow):
    return (streams(narrow) @ narrow.projection.T - streams(wide)).square().mean().item()


def test_with_room_for_all_streams_nothing_changes(reverse):
    rank = int(torch.linalg.matrix_rank(streams(reverse).flatten(0, 1)))
    assert rank < len(reverse.directions)
    narrow = compress(reverse, rank, INPUTS)
    assert narrow.language_model.d_model == rank
    assert right(narrow) == len(INPUTS)
    assert error(reverse, narrow) < 1e-7
    site, ids = Site("resid_post", 1), narrow.encode(INPUTS)
    stream = narrow.language_model.capture(ids, [site])[site][ids.mask]
    torch.testing.assert_close(labelled_dictionary(narrow, site)(stream), stream, atol=1e-3, rtol=0)


def test_with_less_room_directions_disturb_each_other_and_learning_makes_superposition_work(reverse):
    """Streams that span 16 dimensions in 12: the strongest 12 lose outputs, learned ones share them and lose none."""
    assert int(torch.linalg.matrix_rank(streams(reverse).flatten(0, 1))) == 16
    pca = compress(reverse, 12, INPUTS)
    learned = compress(reverse, 12, INPUTS, projection="learned", steps=300, learning_rate=5e-3)
    torch.testing.assert_close(pca.projection.T @ pca.projection, torch.eye(12))
    assert right(pca) < len(INPUTS)
    assert right(learned) == len(INPUTS)
    assert error(reverse, learned) < error(reverse, pca)
    directions = torch.nn.functional.normalize(learned.projection, dim=1)
    assert (directions @ directions.T).fill_diagonal_(0).abs().max() > 0.5


def test_no_step_is_the_start_and_the_original_stays(reverse):
    before = {name: weight.clone() for name, weight in reverse.hf.state_dict().items()}
    start = compress(reverse, 12, INPUTS, projection="learned", steps=0)
    assert torch.equal(start.projection, compress(reverse, 12, INPUTS).projection)
    assert all(torch.equal(weight, before[name]) for name, weight in reverse.hf.state_dict().items())


def test_impossible_compressions_are_refused(reverse):
    with pytest.raises(UsageError, match="a d_model from 1 to"):
        compress(reverse, len(reverse.directions), INPUTS)
    with pytest.raises(UsageError, match="an uncompressed model"):
        compress(compress(reverse, 12, INPUTS), 5, INPUTS)
    with pytest.raises(UsageError, match="pca or learned expected"):
        compress(reverse, 12, INPUTS, projection="random")
