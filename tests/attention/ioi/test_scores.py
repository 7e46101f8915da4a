"""Shares of a score's variance against numpy, and tables of pairs that sum to the score."""

import numpy as np
import pytest
import torch
from ioi_lab import spool, spool_prompts, z_dictionaries

from gossamer.attention import FrozenPass
from gossamer.attention.ioi.patching import AttentionHead
from gossamer.attention.ioi.scores import Pair, ScoreTables, explained, score_tables, shares_of
from gossamer.attention.source import Source
from gossamer.model import Site


def planted(seed=0, prompts=40):
    """Tables of three queries and four keys; in every prompt one query and one key are missing."""
    draw = np.random.default_rng(seed)
    kinds = ("latent", "latent", "error"), ("latent", "latent", "mlp", "latent")
    queries, keys = (
        tuple(Source(kind, Site("z", 0), number, "END") for number, kind in enumerate(side)) for side in kinds
    )
    whole = np.zeros((prompts, 3, 4))
    tables = []
    for prompt in range(prompts):
        rows, columns = (np.delete(draw.permutation(n), 0) for n in (3, 4))
        table = draw.normal(size=(2, 3)) * (1 + rows[:, None]) + columns
        whole[prompt][np.ix_(rows, columns)] = table
        tables.append((torch.tensor(rows), torch.tensor(columns), torch.tensor(table)))
    scores = torch.tensor(whole.sum(axis=(1, 2)))
    return ScoreTables(AttentionHead(1, 0), "IO", queries, keys, tuple(tables), scores), whole


def test_covariances_sum_to_the_variance():
    tables, whole = planted()
    scores = whole.sum(axis=(1, 2))
    expected = [[np.cov(whole[:, i, j], scores, bias=True)[0, 1] for j in range(4)] for i in range(3)]
    np.testing.assert_allclose(tables.covariances(), expected, atol=1e-12)
    assert float(tables.covariances().sum()) == pytest.approx(scores.var())
    kinds = tables.by_kind()
    assert sum(kinds.values()) == pytest.approx(1)
    assert kinds["error", "mlp"] == pytest.approx(expected[2][2] / scores.var())


def test_pairs_by_prompt_and_what_they_explain():
    tables, whole = planted()
    pairs = [Pair(tables.queries[1], tables.keys[3]), Pair(tables.queries[0], tables.keys[0])]
    values = tables.values(pairs)
    np.testing.assert_array_equal(values, [whole[:, 1, 3], whole[:, 0, 0]])
    scores = whole.sum(axis=(1, 2))
    expected = 1 - np.var(scores - whole[:, 1, 3] - whole[:, 0, 0]) / np.var(scores)
    assert explained(tables.scores, values) == pytest.approx(expected)
    covariance = np.cov(whole[:, 1, 3], scores, bias=True)[0, 1] / scores.var()
    assert shares_of(tables.scores, values)[0] == pytest.approx(covariance)
    absent = Pair(Source("latent", Site("z", 2), 0, "END"), tables.keys[0])
    assert tables.values([absent]).abs().sum() == 0


@pytest.mark.parametrize("latents", [True, False])
def test_the_next_pair_is_the_one_that_explains_most(latents):
    tables, whole = planted()
    chosen = tables.chosen(3, latents=latents)
    cells = [(i, j) for i in range(3) for j in range(4) if not latents or (i < 2 and j != 2)]
    scores, taken = whole.sum(axis=(1, 2)), []
    for pair in chosen:
        left = scores - sum((whole[:, i, j] for i, j in taken), np.zeros(len(scores)))
        best = min((cell for cell in cells if cell not in taken), key=lambda cell: np.var(left - whole[:, *cell]))
        assert pair == Pair(tables.queries[best[0]], tables.keys[best[1]])
        taken.append(best)
    # All of the pairs explain all; no more are taken than help.
    assert len(tables.chosen(50, latents=latents)) <= len(cells)


def test_tables_of_a_model_sum_to_its_scores():
    model, speller = spool()
    groups = [spool_prompts(model, speller, 4, [name]) for name in ("park_said", "store_gave")]
    dictionaries = z_dictionaries(model, groups[0].tokens, (0, 1))
    passes = [(FrozenPass.of(model, dictionaries.values(), one.tokens), one) for one in groups]
    head = AttentionHead(3, 1)
    found = score_tables(passes, head)
    prompt = 0
    for _, group in passes:
        with torch.no_grad():
            scores = model.capture(group.tokens, ["scores.3"])["scores.3"]
        for row in range(len(group)):
            io, s1, end = (int(group.places[role][row]) for role in ("IO", "S1", "END"))
            expected = float(scores[row, 1, end, io]), float(scores[row, 1, end, io] - scores[row, 1, end, s1])
            for target, value in zip(("IO", "IO - S1"), expected, strict=True):
                assert float(found[target].scores[prompt]) == pytest.approx(value, abs=1e-4)
                assert float(found[target].tables[prompt][2].sum()) == pytest.approx(value, abs=1e-3)
            prompt += 1
    assert {one.place for one in found["IO"].queries} == {"END"}
    assert {one.place for one in found["IO - S1"].keys} == {"IO", "S1"}
