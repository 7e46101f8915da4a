"""ActAdd, CAA and PCA as rows of a sweep: made as the functions make them, or absent with the reason."""

import json

import pytest
import torch
from test_concept import PLAIN, TEXTS, WITH, planted
from test_intervention import SITE

from gossamer.errors import UsageError
from gossamer.steering import ContrastPairs, contrast_states, contrast_vectors, prepare_concept, sweep
from gossamer.steering.completions import SamplingPlan
from gossamer.steering.vectors import activation_addition, caa, pca

PAIRS = ContrastPairs(tuple(WITH), tuple(PLAIN))
PROMPTS = ["Mary went to", "she was at"]


def test_rows_are_those_of_the_functions(tiny_gpt2):
    states = contrast_states(tiny_gpt2, WITH, PLAIN[:3], SITE)
    found = contrast_vectors(tiny_gpt2, states, PROMPTS, pairs=PAIRS, act_add=("sad dog", "store dog"))
    assert found.absent == {}
    own = {
        "caa": caa(tiny_gpt2, WITH, PLAIN, SITE),
        "pca": pca(contrast_states(tiny_gpt2, WITH, PLAIN, SITE)),
        "act_add": activation_addition(tiny_gpt2, "sad dog", "store dog", SITE),
    }
    assert set(found.vectors) == set(own)
    for name, one in own.items():
        torch.testing.assert_close(found.vectors[name].vector, one.vector)
    # Without pairs PCA takes the first texts of both sides, as many as the smaller side has.
    alone = contrast_vectors(tiny_gpt2, states, PROMPTS)
    first = pca(contrast_states(tiny_gpt2, WITH[:3], PLAIN[:3], SITE))
    torch.testing.assert_close(alone.vectors["pca"].vector, first.vector, rtol=1e-4, atol=1e-5)
    assert "--pairs" in alone.absent["caa"]
    assert "--act-add" in alone.absent["act_add"]
    none = contrast_vectors(tiny_gpt2, states, PROMPTS, rows=("pursuit",))
    assert (none.vectors, none.absent) == ({}, {})
    with pytest.raises(UsageError, match=r"at least 5 tokens to continue expected, found 1 \('Mary'\)"):
        contrast_vectors(tiny_gpt2, states, [*PROMPTS, "Mary"], act_add=(PLAIN[0], PLAIN[1]))


def test_a_sweep_has_them_at_one_norm(tiny_gpt2):
    made = prepare_concept(
        tiny_gpt2,
        planted(tiny_gpt2),
        ["sad"],
        TEXTS,
        prompts=PROMPTS,
        neutral=4,
        rows=("act_add", "caa", "pca"),
        pairs=PAIRS,
        act_add=("sad dog", "store dog"),
        sampling=SamplingPlan(samples=1, max_new_tokens=2),
    )
    pushes = made.steering.interventions
    assert {"act_add", "caa", "pca", "diff_mean", "random_direction_0"} <= set(pushes)
    assert not {"pursuit", "gradient_clean_up", "sae_ts"} & {*pushes, *made.steering.absent}
    # ActAdd acts at its own positions; it has no one direction that could be asked of held-out texts.
    assert pushes["act_add"].kind == "act_add"
    assert "act_add" not in made.steering.fits
    norm = pushes["diff_mean"].coefficient.raw
    for name in ("caa", "pca", "act_add"):
        longest = float(pushes[name].vector.norm(dim=-1).max())
        assert pushes[name].coefficient.raw * longest == pytest.approx(norm, rel=1e-4)
    rows = {row.method: row for row in sweep(tiny_gpt2, made.steering.cells([2.0]), made.plan).rows}
    assert rows["act_add"].kl.tolist() != rows["unsteered"].kl.tolist()
    # It touches the first two positions only, so that it moves a row less than what acts everywhere.
    assert 0 < rows["act_add"].relative_norm < rows["caa"].relative_norm
    with pytest.raises(UsageError, match="rows of pursuit"):
        prepare_concept(tiny_gpt2, planted(tiny_gpt2), ["sad"], TEXTS, prompts=PROMPTS, rows=("dowsing",))


def test_pairs_are_read_and_what_is_none_is_refused(tmp_path):
    path = tmp_path / "pairs.jsonl"
    lines = [{"positive": one, "negative": other} for one, other in zip(WITH, PLAIN, strict=True)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert ContrastPairs.read(path) == PAIRS
    for line in ('{"positive": "a"}', '["a", "b"]', '{"positive": "a", "negative": ""}'):
        path.write_text('{"positive": "a", "negative": "b"}\n' + line + "\n")
        with pytest.raises(UsageError, match="line 2"):
            ContrastPairs.read(path)
    path.write_text('{"positive": "a", "negative": "b"}\n')
    with pytest.raises(UsageError, match="at least 2 pairs"):
        ContrastPairs.read(path)
