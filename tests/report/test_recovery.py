"""A sweep of toys as a table and a picture."""

import pytest

from gossamer.errors import GossamerError
from gossamer.report.figures.recovery import recovery
from gossamer.report.recovery import markdown, write_recovery
from gossamer.toys.sweep import Recovered, Sweep, ToyCase, cases


def one(case, seed, cosine=0.5, merged=0):
    return Recovered(case, seed, 8, 10, 2.0, 4.0, cosine, 0.75, 0.5, 0.25, 1, 2, merged, 4, 0.001)


def sample():
    return Sweep({}, tuple(one(case, seed, 0.5 + 0.25 * seed, seed) for case in cases() for seed in (0, 1)))


def test_a_line_holds_means_and_the_spread_over_seeds():
    found = Sweep({}, sample().found[:2])
    head, _, line = markdown(found).strip().splitlines()
    values = dict(
        zip((cell.strip() for cell in head.split("|")), (cell.strip() for cell in line.split("|")), strict=True)
    )
    assert values["matched cosine"] == "0.62 [0.50, 0.75]"
    assert (values["toy"], values["objective"], values["penalty"]) == ("superposition 0.02", "l1", "0.1")
    assert (values["L0"], values["true L0"], values["dead"], values["merged"]) == ("2", "4", "1", "0.5")
    assert values["unexplained"] == "0.0010"


def test_the_picture_draws_every_penalty_and_every_width():
    superposed, programs, l1, topk, pairs = recovery(sample()).axes
    lines = {line.get_gid(): line for line in superposed.lines}
    assert list(lines["superposition 0.05-l1"].get_xdata()) == [0.5] * 4
    assert list(lines["superposition 0.05-batchtopk"].get_ydata()) == [0.625] * 3
    assert "sort-l1" in {line.get_gid() for line in programs.lines}
    for axes, name in ((l1, "l1"), (topk, "batchtopk")):
        shares = {line.get_gid(): line for line in axes.lines}
        assert list(shares[f"{name}-latents duplicate"].get_xdata()) == [0.5, 1, 2, 4]
        assert list(shares[f"{name}-features split"].get_ydata()) == [0.5] * 4
    assert [label.get_text().split("\n")[0] for label in pairs.get_yticklabels()][::2] == [
        "independent",
        "correlated pairs",
        "exclusive pairs",
    ]


def test_part_of_a_sweep_is_drawn_and_none_is_refused(tmp_path):
    part = Sweep({}, (one(ToyCase("sort", "l1", 0.3, 1.0), 0),))
    for name in ("one", "two"):
        assert write_recovery(part, tmp_path / name) == tmp_path / name / "recovery.png"
    for name in ("tables.md", "recovery.svg", "recovery.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with pytest.raises(GossamerError, match="at least one dictionary"):
        recovery(Sweep({}, ()))
