"""Tables and pictures of a study of relations, from a record made by hand."""

import math
from dataclasses import replace

import pytest

from gossamer.relations import AblatedPattern, Ablations, CommunityFacts, GateCheck, LifecycleCounts, RelationStudy
from gossamer.relations.causal import RankAgreement
from gossamer.relations.community_facts import ListedCommunity
from gossamer.relations.gate_ablation import CheckedGates
from gossamer.relations.gates import Gate
from gossamer.relations.study_results import (
    ErrorFacts,
    FoundGate,
    GateCount,
    PairFacts,
    Reappearance,
    RelationsPart,
    StudiedDictionary,
)
from gossamer.relations.truth_tables import TruthTable
from gossamer.report.figures.relation_study import pictures
from gossamer.report.relation_study import markdown, sections, sentences

NAMES, NAN = ("resid_post.0", "resid_post.1"), math.nan
AHEAD = {"passed on": 50, "gone": 20, "lost in the error": 10, "dead": 15, "too rare to judge": 5}
BEHIND = {"passed on": 40, "new": 40, "dead": 20, "too rare to judge": 0}
GATE = Gate("AND", (3, 4), 7, None, TruthTable(((900, 0), (40, 0), (30, 0), (2, 28))), 28 / 30, 1.0, 0.05, 0.0, 0.0)
AGREEMENT = RankAgreement(
    "jaccard", 12, 0.6, 0.4, 0.8, (0.0, 0.5, 1.0), (8, 4), (0.1, 0.5), (0.05, 0.4), ((0.0, 0.2), (0.3, 0.7)), (0.5, 0.0)
)


@pytest.fixture
def study():
    community = CommunityFacts(
        *("pearson", 0.1, "leiden", 0.1, True, 80, 120, 6, 2),
        *((40, 20, 10, 8, 1, 1), (2, 0, 0, 2, 1, 1), 0.9, 0.7),
        (ListedCommunity(40, NAMES, (" cat", " dog")),),
        chance=(5.0, 0.4, 0.5),
        left_out=3,
        isolated=120,
        dead=35,
    )
    whole = RelationsPart(
        "all",
        dictionaries=(StudiedDictionary(NAMES[0], 100, 5.0, 15, 5, 0.9),),
        pairs=(PairFacts(*NAMES, 300, 0.4, {"jaccard": 0.2, "pearson": 0.1}, {"jaccard": 0.1, "pearson": 0.02}),),
        lifecycle=tuple(
            LifecycleCounts(*NAMES, "pearson", 0.5, matching, AHEAD, BEHIND, chance=0.01)
            for matching in ("best", "hungarian", "mutual")
        ),
        reappeared=(Reappearance(NAMES[0], NAMES[1], "resid_post.2", "pearson", 0.5, 30, 6, 10, 4, 1),),
        errors=(ErrorFacts(*NAMES, 2.0, 0.5, 0.2, NAN, 0.03),),
        searches=(GateCount(*NAMES, 500, {"AND": 1}, 2, {"AND": 4, "OR": 5}),),
        gates=(
            FoundGate(*NAMES, GATE, TruthTable(((90, 0), (4, 0), (3, 0), (0, 2))), 1.0, 1.0, ((" a",), (" b",), ())),
        ),
        communities=(community,),
        ablations=(Ablations(*NAMES, (1,), (2,), (0.5,), (1.5,), (9,), {"jaccard": (0,)}, (AGREEMENT,)),),
        agreement=(AGREEMENT,),
    )
    patterns = (
        AblatedPattern(3, 1, False, 28, 2),
        AblatedPattern(3, 2, False, 28, 20),
        AblatedPattern(3, 3, False, 9, 9),
    )
    checks = (GateCheck(GATE, patterns[:1], 10), GateCheck(GATE, patterns[1:], 10), GateCheck(GATE, patterns[2:], 10))
    whole = replace(whole, checked=(CheckedGates(*NAMES, checks),))
    return RelationStudy({"measures": ["pearson"], "threshold": 0.5, "model": "m"}, {"all": whole})


def test_tables_say_what_was_found(study):
    found = dict(sections(study))
    assert len(found) == 14
    life = next(rows for title, rows in found.items() if title.startswith("Latents without"))
    # 50 of 100, of 85 alive, of 80 judged are passed on; 10 of 80 are lost.
    assert life[1][2:6] == ["50.0%", "41.2%", "37.5%", "12.5%"]
    assert life[1][6:10] == ["60.0%", "50.0%", "50.0%", "1.0%"]
    gates = next(rows for title, rows in found.items() if title.startswith("Gates with"))
    assert gates[1][0] == "resid_post.0: 3 AND 4 > resid_post.1: 7"
    assert "11: 28/30" in gates[1][5]
    checked = next(rows for title, rows in found.items() if title.startswith("Gates whose inputs"))
    assert checked[1] == ["resid_post.0>resid_post.1", "3", "1", "2", "1", "1 of 2", "", "", ""]
    said = " ".join(sentences(study))
    assert "Of 2 gates whose output lies downstream and whose inputs are active often enough" in said
    assert "50% to 50% of each dictionary's latents have no partner" in said
    assert "1 gates of 500 candidates (2 in shuffled documents)" in said
    assert "best ranked by jaccard: Spearman 0.60 [0.40, 0.80]" in said
    assert markdown(study).count("## ") == 14


def test_pictures_show_it(study):
    drawn = pictures(study)
    assert list(drawn) == ["sankey", "gates", "communities", "effects"]
    bars = sorted(round(bar.get_height(), 3) for bar in drawn["gates"].axes[0].patches)
    assert bars == [0, 0, 0, 0, 0, 0, round(28 / 30, 3), 1]
    line = drawn["communities"].axes[0].lines[0]
    assert [(x, y) for x, y in zip(*line.get_data(), strict=True) if y == y] == [(1, 2), (8, 2), (16, 1), (32, 1)]
    medians = drawn["effects"].axes[0].lines[0].get_data()
    assert [list(one) for one in medians] == [[0.25, 0.75], [0.05, 0.4]]
    assert pictures(RelationStudy(study.settings)) == {}
