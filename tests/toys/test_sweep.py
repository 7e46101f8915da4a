"""Sweeps of toys: easy features are found, what is made of them is counted, and a stopped sweep goes on."""

from dataclasses import asdict, replace

import pytest
import torch

from gossamer.errors import GossamerError, UsageError
from gossamer.files import write_json
from gossamer.model.site import Site
from gossamer.toys import sweep as sweeps
from gossamer.toys.samples import KnownSamples
from gossamer.toys.sweep import TOYS, SweepSettings, ToyCase, cases, load_sweep, recover, sweep, train_on

TINY = SweepSettings(seeds=2, steps=3, batch=16, toy_steps=3, samples=64)
GRID = [
    ToyCase("histogram", "l1", 0.3, 1.0),
    ToyCase("histogram", "batchtopk", 1.0, 0.5),
    ToyCase("sort", "l1", 0.3, 1.0),
]


def orthogonal(n=6, samples=4000):
    """Features with a dimension each, a quarter of them active."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(8, n, generator=generator))[0].T
    features = torch.rand(samples, n, generator=generator).clamp(min=0.75) * 4 - 3
    activations = features @ directions
    return KnownSamples(
        Site("resid_post", 0), tuple(map(str, range(n))), directions, activations, features, activations
    )


@pytest.mark.parametrize("objective", ["l1", "batchtopk"])
def test_orthogonal_sparse_features_are_found_by_any_objective(objective):
    # At its true L0 BatchTopK may mix features; below it, mixing costs.
    case = ToyCase("-", objective, {"l1": 0.1, "batchtopk": 0.67}[objective], 1.0)
    found = recover(case, orthogonal(), SweepSettings(steps=1200, batch=256, learning_rate=1e-2), 0)
    assert found.recovered == 1.0
    assert found.matched_cosine > 0.97
    assert found.unexplained < 0.3
    assert (found.dead, found.merged, found.split, found.features, found.latents) == (0, 0, 0, 6, 6)
    assert found.true_l0 == pytest.approx(1.5, abs=0.1)


def test_width_and_penalty_are_what_the_case_says():
    samples = orthogonal()
    small = train_on(ToyCase("-", "batchtopk", 2.0, 0.5), samples, TINY, 0)
    assert (small.n_latents, small.k, small.architecture) == (3, 3, "batchtopk")
    assert train_on(ToyCase("-", "l1", 0.3, 2.0), samples, TINY, 0).n_latents == 12
    assert train_on(ToyCase("-", "batchtopk", 0.01, 1.0), samples, TINY, 0).k == 1
    with pytest.raises(UsageError, match="objective: l1 or batchtopk expected, found 'l0'"):
        train_on(ToyCase("-", "l0", 1.0, 1.0), samples, TINY, 0)


def test_the_grid_names_toys_that_there_are_and_no_case_twice():
    grid = cases()
    assert {case.toy for case in grid} == set(TOYS)
    assert len(set(grid)) == len(grid)


def test_a_sweep_is_deterministic_and_in_the_order_of_its_grid(tmp_path):
    found = sweep(TINY, GRID, folder=tmp_path)
    assert [(one.case, one.seed) for one in found.found] == [(case, seed) for case in GRID for seed in (0, 1)]
    assert sweep(TINY, GRID).found == found.found
    assert load_sweep(tmp_path) == replace(found, settings=load_sweep(tmp_path).settings)
    assert found.of(toy="histogram", objective="l1") == [(GRID[0], list(found.found[:2]))]


def test_a_stopped_sweep_goes_on_to_the_same_result(tmp_path, monkeypatch):
    whole = sweep(TINY, GRID)
    calls = []

    def counted(*arguments):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return recover(*arguments)

    monkeypatch.setattr(sweeps, "recover", counted)
    with pytest.raises(KeyboardInterrupt):
        sweep(TINY, GRID, folder=tmp_path)
    assert len(load_sweep(tmp_path).found) == 3
    monkeypatch.setattr(sweeps, "recover", lambda *a: calls.append(1) or recover(*a))
    assert sweep(TINY, GRID, folder=tmp_path) == whole
    assert len(calls) == len(whole.found)


def test_other_sweeps_and_damage_are_refused(tmp_path):
    sweep(TINY, GRID[:1], folder=tmp_path)
    with pytest.raises(UsageError, match=r"another study \(other steps\)"):
        sweep(replace(TINY, steps=4), GRID[:1], folder=tmp_path)
    with pytest.raises(UsageError, match="toy: one of"):
        sweep(TINY, [ToyCase("none", "l1", 1.0, 1.0)])
    with pytest.raises(UsageError, match="above 0 expected"):
        SweepSettings(seeds=0)
    (tmp_path / "results.json").write_text('{"format": "gossamer.toys.1", "settings": {}, "found": [{}]}')
    with pytest.raises(GossamerError, match=r"results\.json: expected a sweep of toys, found damage"):
        load_sweep(tmp_path)


def test_a_sweep_of_an_earlier_version_loads_and_goes_on(tmp_path):
    found = sweep(TINY, GRID)
    settings = {**asdict(TINY), "cases": [asdict(case) for case in GRID]}
    rows = [asdict(one) for one in found.found[:3]]
    write_json(tmp_path / "results.json", {"format": "gossamer.toys.1", "settings": settings, "found": rows})
    assert load_sweep(tmp_path).found == found.found[:3]
    assert sweep(TINY, GRID, folder=tmp_path) == found
    assert load_sweep(tmp_path) == found
