"""Pairs in a head's score: chosen on one side, and measured on the other, against tables taken apart by hand."""

import numpy as np
import pytest
import torch
from ioi_lab import spool, z_dictionaries

from gossamer.attention import FrozenPass, HeadMaps, attribute_score
from gossamer.attention.ioi import measures
from gossamer.attention.ioi.patching import AttentionHead
from gossamer.attention.ioi.results import Estimate, HeadEffect, PathEffect, StudyPart, TemplateAbility
from gossamer.attention.ioi.setup import CHOOSE, REPORT, Setup
from gossamer.tasks.bootstrap import sampled

MOVER = AttentionHead(3, 1)
SIDES = {"park_said": CHOOSE, "store_gave": CHOOSE, "store_said": REPORT, "garden_gave": REPORT}


@pytest.fixture(scope="module")
def setup():
    model, speller = spool()
    ability = [TemplateAbility(name, side, 8, 1.0, 1.0) for name, side in SIDES.items()]
    bare = Setup.of(model, {}, ability, speller, 24, 0)
    return Setup.of(model, z_dictionaries(model, bare.prompts.tokens, (1, 2)), ability, speller, 24, 0)


def test_what_pairs_explain_on_the_other_side(setup):
    sent = [PathEffect(AttentionHead(2, head), MOVER, "q", Estimate(float(head))) for head in range(4)]
    mover = HeadEffect(MOVER, "END", 0.5, Estimate(0.5), 0.5, 0.5, to_io=0.6, to_s1=0.1)
    found = measures.scores(setup, StudyPart("known", heads=(mover,), paths=tuple(sent)))
    assert [(one.head, one.target) for one in found.scores] == [(MOVER, "IO"), (MOVER, "IO - S1")]
    lead = found.scores[1]
    rows, shares, scores = by_hand(setup, [(pair.query, pair.key) for pair in lead.pairs])
    assert lead.mean == pytest.approx(scores.mean(), abs=1e-4)
    assert lead.deviation == pytest.approx(scores.std(), abs=1e-4)
    expected = 1 - np.var(scores - shares.sum(axis=0)) / np.var(scores)
    assert lead.explained["8"] == pytest.approx(expected, abs=1e-3)
    assert lead.interval.value == lead.explained["8"]
    assert [pair.mean for pair in lead.pairs] == pytest.approx(list(shares.mean(axis=1)), abs=1e-4)
    for number, pair in enumerate(lead.pairs):
        covariance = np.cov(shares[number], scores, bias=True)[0, 1] / scores.var()
        assert pair.reported == pytest.approx(covariance, abs=1e-3)
    assert sum(lead.by_kind.values()) == pytest.approx(1, abs=1e-3)
    # Templates are numbered by name.
    template = torch.tensor([1] * (len(rows) // 2) + [0] * (len(rows) // 2))
    draws = []
    for weights in sampled(torch.arange(len(rows)), template, 0).numpy().astype(int):
        own = np.repeat(np.arange(len(rows)), weights)
        draws.append(1 - np.var((scores - shares.sum(axis=0))[own]) / np.var(scores[own]))
    assert lead.interval.low == pytest.approx(np.quantile(draws, 0.025), abs=1e-3)
    (agreement,) = found.agreement
    assert (agreement.heads, agreement.what) == (4, "heads into the query of 3.1: latents in its pairs, path patching")


def by_hand(setup, pairs):
    """Rows of the reporting side, shares of named pairs in each, and the scores: one prompt at a time."""
    rows = setup.rows_in_passes(REPORT)
    shares, scores = np.zeros((len(pairs), len(rows))), np.zeros(len(rows))
    for place, row in enumerate(rows.tolist()):
        prompts = setup.prompts[torch.tensor([row])]
        tokens = prompts.tokens.cut(int(prompts.tokens.lengths[0]))
        maps = HeadMaps(FrozenPass.of(setup.model, setup.dictionaries.values(), tokens), MOVER.layer)
        end, io, s1 = (int(prompts.places[role][0]) for role in ("END", "IO", "S1"))
        for key, role, sign in ((io, "IO", 1), (s1, "S1", -1)):
            found = attribute_score(maps, MOVER.head, end, key)
            scores[place] += sign * found.score
            queries = [str(one._replace(place="END")) for one in found.queries]
            keys = [str(one._replace(place=role)) for one in found.keys]
            for number, (query, name) in enumerate(pairs):
                if query in queries and name in keys:
                    shares[number, place] += sign * float(found.table[queries.index(query), keys.index(name)])
    return rows, shares, scores


def test_templates_of_the_sides_share_nothing(setup):
    sides = [{setup.drawn[row].template for row in setup.side(side).tolist()} for side in (CHOOSE, REPORT)]
    assert sides == [{"park_said", "store_gave"}, {"store_said", "garden_gave"}]
    assert sorted(setup.rows_in_passes(REPORT).tolist()) == setup.side(REPORT).tolist()
