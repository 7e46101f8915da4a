"""Token batches know their real tokens on either side of the padding."""

import torch

from gossamer.tokens import Tokens


def test_lengths_and_last_positions_with_padding_on_both_sides():
    mask = torch.tensor([[1, 1, 1, 0], [0, 0, 1, 1]], dtype=torch.bool)
    tokens = Tokens(torch.arange(8).view(2, 4), mask)
    assert tokens.lengths.tolist() == [3, 2]
    assert tokens.last.tolist() == [2, 3]
    assert len(tokens) == 2


def test_rows_can_be_chosen_and_full_rows_have_no_padding():
    tokens = Tokens.full(torch.arange(6).view(3, 2))
    assert tokens.mask.all()
    chosen = tokens[torch.tensor([2, 0])]
    assert chosen.ids.tolist() == [[4, 5], [0, 1]]
    assert tokens[1:].to("cpu").ids.tolist() == [[2, 3], [4, 5]]


def test_cut_takes_the_first_positions():
    tokens = Tokens(torch.arange(6).reshape(2, 3), torch.tensor([[True, True, True], [True, False, False]]))
    found = tokens.cut(2)
    assert found.ids.tolist() == [[0, 1], [3, 4]]
    assert found.mask.tolist() == [[True, True], [True, False]]
    assert tokens.cut(9).ids.shape == (2, 3)
