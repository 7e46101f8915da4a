import numpy as np
import pytest
from planted_relations import given, planted

from gossamer.errors import UsageError
from gossamer.relations import (
    GateSettings,
    Keep,
    SitePair,
    find_gates,
    recounted,
    relate,
    reversed_pair,
    search_gates,
    truth_tables,
)

UP, BACK, AMONG = SitePair("up", "down"), SitePair("down", "up"), SitePair("up", "up")
PLANTED = {("AND", (2, 3), 1, None), ("OR", (4, 5), 2, None), ("AND NOT", (0, 1), 3, 1), ("OR", (2, 7), 6, None)}


def stream_and_relations(up, down, pairs=(UP, BACK, AMONG)):
    stream = given({"up": up, "down": down})
    return stream, relate(stream, list(pairs), keep=Keep(top=16))


def found(gates):
    return {(gate.kind, gate.inputs, gate.output, gate.negated) for gate in gates}


def test_planted_gates_are_found_and_no_others():
    up, down = planted()
    stream, relations = stream_and_relations(up, down)
    gates = find_gates(stream, relations[UP], among=relations[AMONG])
    assert found(gates) == PLANTED
    assert [gate.gain for gate in gates] == sorted((gate.gain for gate in gates), reverse=True)
    assert all(gate.precision == gate.recall == 1 and gate.q_value <= 0.05 for gate in gates)
    # A split is an OR the other way.
    assert reversed_pair(relations[UP]) == BACK
    assert found(find_gates(stream, relations[BACK])) == {("OR", (4, 5), 6, None)}


def test_a_noisy_gate_is_found_by_its_majority():
    up, down = planted()
    draw = np.random.default_rng(0)
    noisy = np.where(draw.random(down.shape) < 0.05, 0, down)
    stream, relations = stream_and_relations(up, noisy)
    gates = find_gates(stream, relations[UP], among=relations[AMONG])
    assert found(gates) == PLANTED
    assert all(0.9 < gate.precision < 1 for gate in gates)


def test_nothing_is_found_in_shuffled_documents():
    up, down = planted()
    stream, relations = stream_and_relations(np.roll(up, 11, axis=0), down)
    settings = GateSettings(least_necessity=0.1, least_sufficiency=0.1, agreement=0.05)
    assert find_gates(stream, relations[UP], among=relations[AMONG], settings=settings) == []
    copied, same = stream_and_relations(up, down)
    loose = find_gates(copied, same[UP], among=same[AMONG], settings=settings)
    assert found(loose) >= PLANTED


def test_gates_of_three_inputs():
    draw = np.random.default_rng(1)
    up = (draw.random((300, 10, 12)) < 0.3) * 1.0
    on = up > 0
    down = np.stack([on[..., :3].all(-1), on[..., 3:6].any(-1), on[..., 0] & on[..., 1] & ~on[..., 6]], axis=-1) * 1.0
    stream, relations = stream_and_relations(up, down)
    settings = GateSettings(inputs=3, least_sufficiency=0.3)
    gates = find_gates(stream, relations[UP], among=relations[AMONG], settings=settings)
    three = {one for one in found(gates) if len(one[1]) == 3}
    assert {("AND", (0, 1, 2), 0, None), ("OR", (3, 4, 5), 1, None), ("AND NOT", (0, 1, 6), 2, 6)} == three


def test_an_and_not_is_found_behind_inputs_that_come_with_its_output():
    """Of what often comes with the needed input, only what keeps the output away can be negated: others take no place
    among the candidates."""
    draw = np.random.default_rng(2)
    up = (draw.random((300, 10, 12)) < 0.05) * 1.0
    needed = draw.random((300, 10)) < 0.3
    # Eight latents come with the needed one more often than what is negated does, and with the output just as often.
    for other in range(2, 10):
        up[..., other] = needed & (draw.random(needed.shape) < 0.7)
    up[..., 0], up[..., 1] = needed, needed & (draw.random(needed.shape) < 0.4)
    down = ((up[..., 0] > 0) & ~(up[..., 1] > 0))[..., None] * 1.0
    stream, relations = stream_and_relations(up, down)
    gates = find_gates(stream, relations[UP], among=relations[AMONG])
    assert found(gates) == {("AND NOT", (0, 1), 0, 1)}


def test_duplicates_and_rare_patterns_are_no_gates():
    up, down = planted()
    up[..., 9] = up[..., 0] * 0.5
    down[..., 0] = up[..., 0]
    stream, relations = stream_and_relations(up, down)
    gates = find_gates(stream, relations[UP])
    assert not any({0, 9} <= set(gate.inputs) for gate in gates)
    # With input 4 never on without 5, OR cannot be told from a copy of 5.
    up[..., 4] = up[..., 5] * (np.arange(400)[:, None] % 2)
    down[..., 2] = np.maximum(up[..., 4], up[..., 5])
    stream, relations = stream_and_relations(up, down)
    assert not any(gate.inputs == (4, 5) for gate in find_gates(stream, relations[UP]))


def test_truth_tables_are_those_of_a_loop():
    up, down = planted(rows=40)
    stream = given({"up": up, "down": down}, batch_size=40)
    candidates = [((2, 3), 1), ((0, 1), 3), ((4, 5, 6), 2)]
    thresholds = {"up": np.full(up.shape[-1], 0.5), "down": np.full(down.shape[-1], 0.7)}
    real, shuffled = truth_tables(stream, UP, candidates, thresholds)
    order = stream._order
    left, right = up[order] > 0.5, down[order] > 0.7
    for tables, ups, downs in ((real, left, right), (shuffled, left[:-1], right[1:])):
        for (inputs, output), table in zip(candidates, tables, strict=True):
            code = sum(ups[..., one].astype(int) << bit for bit, one in enumerate(inputs))
            for pattern, counts in enumerate(table.counts):
                expected = [((code == pattern) & (downs[..., output] == side)).sum() for side in (False, True)]
                assert list(counts) == expected


def test_a_search_counts_what_chance_finds_and_gates_are_recounted_on_other_text():
    up, down = planted()
    stream, relations = stream_and_relations(up, down)
    search = search_gates(stream, relations[UP], among=relations[AMONG])
    assert found(search.gates) == PLANTED
    assert search.candidates > len(search.gates)
    assert search.by_chance == 0
    # At an agreement that anything has, shuffled tables have the form of a gate as well.
    loose = search_gates(stream, relations[UP], settings=GateSettings(agreement=0.01, least_sufficiency=0.2, support=2))
    assert loose.by_chance > 0
    others = planted(seed=5)
    again = recounted(given({"up": others[0], "down": others[1]}), relations[UP], search.gates)
    for gate, (table, precision, recall) in zip(search.gates, again, strict=True):
        assert (precision, recall) == (1, 1)
        ups, downs = others[0][..., list(gate.inputs)] > 0, others[1][..., gate.output] > 0
        code = (ups * 2 ** np.arange(len(gate.inputs))).sum(-1)
        assert sum(map(sum, table.counts)) == code.size
        for pattern in range(4):
            assert (pattern in gate.patterns) == (downs[code == pattern].mean() > 0.5)
            assert table.counts[pattern][1] == (downs & (code == pattern)).sum()
    silent = recounted(given({"up": up * 0, "down": down * 0}), relations[UP], search.gates[:1])
    assert np.isnan(silent[0][1:]).any()


def test_requests_that_cannot_be_meant_are_refused():
    up, down = planted(rows=60)
    stream, relations = stream_and_relations(up, down)
    with pytest.raises(UsageError, match="up with itself expected"):
        find_gates(stream, relations[UP], among=relations[BACK])
    with pytest.raises(UsageError, match="at most 1 candidates"):
        find_gates(stream, relations[UP], settings=GateSettings(limit=1))
    with pytest.raises(UsageError, match="2 to 4 inputs"):
        GateSettings(inputs=5)
    with pytest.raises(UsageError, match="shares above 0"):
        GateSettings(agreement=0.0)
    with pytest.raises(UsageError, match="raise the batch size"):
        find_gates(given({"up": up, "down": down}, batch_size=1), relations[UP])
