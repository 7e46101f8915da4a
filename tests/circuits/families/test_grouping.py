"""Families by label and by profile, with clusters that are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gossamer.circuits.attribution import attribution_patching
from gossamer.circuits.families.grouping import clustered, labelled, profiles, silhouette
from gossamer.circuits.study import Study
from gossamer.errors import UsageError


def test_the_mean_of_profiles_is_attribution_patching(study: Study) -> None:
    splice = study.splice
    found = profiles(splice)
    assert found.shape == (len(splice.examples), len(splice.nodes))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)))
    alone = torch.stack([attribution_patching(splice.select(torch.tensor([row]))) for row in range(len(found))])
    torch.testing.assert_close(found, alone / alone.norm(dim=1, keepdim=True))


def _planted(sizes: tuple[int, ...], seed: int, spread: float = 0.3) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    rows = [
        torch.eye(30)[number] + spread / 30**0.5 * torch.randn(size, 30, generator=draw)
        for number, size in enumerate(sizes)
    ]
    found = torch.cat(rows)
    return found / found.norm(dim=1, keepdim=True)


def test_planted_clusters_are_found_and_held_out_prompts_join_theirs() -> None:
    sizes = (12, 9, 20)
    found = clustered(_planted(sizes, 0), _planted((3, 4, 2), 1))
    blocks = [set(found.training[start : start + size]) for start, size in zip((0, 12, 21), sizes, strict=True)]
    assert all(len(block) == 1 for block in blocks)
    (first,), (second,), (third,) = blocks
    assert len({first, second, third}) == 3
    assert found.held_out == (first,) * 3 + (second,) * 4 + (third,) * 2
    assert found.silhouette > 0.7


def test_prompts_that_are_alike_are_no_families() -> None:
    one_apart = torch.cat([_planted((29,), 0, spread=0.01), torch.eye(30)[29:]])
    with pytest.raises(UsageError, match="clusters of at least 8 of the 30 training prompts expected"):
        clustered(one_apart, _planted((3,), 1))


def test_a_silhouette_is_the_sum_written_out() -> None:
    points = np.random.default_rng(0).normal(size=(9, 2))
    distances = np.linalg.norm(points[:, None] - points[None, :], axis=2)
    cut = [0, 0, 0, 1, 1, 1, 1, 2, 0]
    values = []
    for item in range(9):
        others = {one: [j for j in range(9) if cut[j] == one and j != item] for one in range(3)}
        mean = {one: np.mean(distances[item, members]) if members else 0.0 for one, members in others.items()}
        a, b = mean[cut[item]], min(mean[one] for one in range(3) if one != cut[item])
        values.append(0.0 if cut.count(cut[item]) == 1 else (b - a) / max(a, b))
    assert silhouette(torch.from_numpy(distances), torch.tensor(cut)) == pytest.approx(np.mean(values))


def test_labels_are_templates_cases_or_the_order_of_roles(study: Study) -> None:
    train, test, roles = study.examples, study.task.test, study.task.role_names
    found = labelled(train, test, roles, "roles")
    assert found.training[:2] == ("prefix A gap B END", "prefix B A END")
    assert found.held_out == found.training[: len(test)]
    cased = replace(train, prompts=tuple(replace(one, case=f"kind {row % 3}") for row, one in enumerate(train.prompts)))
    assert labelled(cased, test, roles, "case").training[:4] == ("kind 0", "kind 1", "kind 2", "kind 0")
    with pytest.raises(UsageError, match="families by template: at least two expected, found 'by hand' alone"):
        labelled(train, test, roles, "template")
