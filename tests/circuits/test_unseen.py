"""What circuits do on prompts that their search did not see, by size."""

import pytest
import torch

from gossamer.circuits.unseen import Unseen


@pytest.fixture
def known() -> Unseen:
    excess = torch.tensor([[-0.4, -0.2], [0.0, 0.4], [0.1, 0.1]])
    return Unseen.of([(400, excess[2]), (10, excess[0]), (100, excess[1])])


def test_sizes_rise(known: Unseen) -> None:
    assert known.sizes == (10, 100, 400)
    assert repr(known) == "Unseen(10 to 400 nodes, 2 prompts)"


@pytest.mark.parametrize(
    ("size", "excess"),
    [
        (10, (-0.4, -0.2)),
        (100, (0.0, 0.4)),
        (400, (0.1, 0.1)),
        (200, (0.05, 0.25)),
        (1, (-0.4, -0.2)),
        (4000, (0.1, 0.1)),
    ],
)
def test_between_sizes_it_is_linear_in_their_logarithm(known: Unseen, size: int, excess: tuple[float, float]) -> None:
    torch.testing.assert_close(known.at(size), torch.tensor(excess))


def test_of_one_size_it_is_the_same_at_all() -> None:
    alone = Unseen.of([(7, torch.tensor([0.3]))])
    assert [alone.at(size).item() for size in (1, 7, 50)] == pytest.approx([0.3] * 3)
