"""Gates whose inputs are ablated: the output follows where the model computes it, and not where it was copied."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gossamer.errors import UsageError
from gossamer.relations import (
    ActiveAbove,
    CausalSettings,
    GateSettings,
    Keep,
    LatentSource,
    ModelLatents,
    SitePair,
    check_gates,
    find_gates,
    relate,
)
from gossamer.report.relations import gate_checks_table
from gossamer.toys.planted_dictionaries import true_dictionaries
from gossamer.toys.planted_relations import PlantedSettings, plant_relations


@pytest.fixture(scope="module")
def found():
    """A model with planted gates, its stream, and what is found between its first two places and its last two."""
    planted = plant_relations(PlantedSettings(each=1, vocabulary=4096))
    known = true_dictionaries(planted)
    sources = {str(site): LatentSource(planted.language_model, known[site].dictionary) for site in planted.sites}
    stream = ModelLatents(sources, planted.tokens(128), batch_size=32)
    names = list(sources)
    pairs = [SitePair(*names[:2]), SitePair(*names[1:])]
    among = [SitePair(name, name) for name in names[:2]]
    relations = relate(stream, [*pairs, *among], keep=Keep(top=16))
    settings = GateSettings(inputs=3)
    gates = [
        find_gates(stream, relations[pair], among=relations[own], settings=settings)
        for pair, own in zip(pairs, among, strict=True)
    ]
    return planted, known, stream, [relations[pair] for pair in pairs], gates


def computed(planted, known, place, gates):
    """Whether each gate is one that the layer at a place computes."""
    names = [known[site].features for site in planted.sites[place : place + 2]]
    planted_ones = {(gate.kind, gate.inputs, gate.output) for gate in planted.gates[place]}
    return [
        (gate.kind, tuple(sorted(names[0][list(gate.inputs)].tolist())), names[1][gate.output]) in planted_ones
        for gate in gates
    ]


def test_ablation_confirms_the_gates_that_a_layer_computes_and_no_others(found):
    planted, known, stream, relations, gates = found
    settings = CausalSettings(rows=64, batch_size=32)
    for place, (relation, own) in enumerate(zip(relations, gates, strict=True)):
        checks = check_gates(stream, relation, own, settings=settings, support=3)
        assert [check.confirmed for check in checks] == computed(planted, known, place, own)
        assert sum(check.confirmed for check in checks) == len(planted.gates[place])
        assert all(check.agreement == 1 for check in checks if check.confirmed)
    # In the second layer others are found too: functions of what the first layer computed already.
    assert len(gates[1]) > len(planted.gates[1])


def test_counts_after_ablation_are_those_of_taking_latents_out_by_hand(found):
    """x - sum f_i d_i over the latents taken out, at the tokens that count, and a whole new pass."""
    planted, known, stream, relations, gates = found
    chosen = [next(gate for gate in gates[0] if gate.kind == kind) for kind in ("XOR", "AND NOT")]
    active, settings = ActiveAbove(absolute=0.4), CausalSettings(rows=24, batch_size=7)
    checks = check_gates(stream, relations[0], chosen, active=active, settings=settings)
    rows, counted = stream.tokens[:24], stream.counted[:24]
    sites = planted.sites[:2]
    up, down = (known[site].dictionary for site in sites)
    model = planted.language_model
    with torch.no_grad():
        f = up.encode_dense(model.capture(rows, sites)[sites[0]])
        for gate, check in zip(chosen, checks, strict=True):
            lit = f[..., list(gate.inputs)] > 0.4
            pattern = (lit * torch.tensor([1, 2])).sum(-1)
            for one in check.patterns:
                out = [latent for bit, latent in enumerate(gate.inputs) if one.ablated >> bit & 1]
                taken = (f[..., out] @ up.W_dec[out]) * counted[..., None]
                with model.edit({sites[0]: lambda x, taken=taken: x - taken}):
                    after = down.encode_dense(model.capture(rows, sites[1:])[sites[1]])[..., gate.output]
                here = counted & (pattern == one.pattern)
                assert one.tokens == here.sum()
                assert one.on == (after[here] > 0.4).sum()
                assert one.left == one.pattern & ~one.ablated
    # Of an XOR, taking one of two active inputs out switches the output on.
    both = [one for one in checks[0].patterns if one.pattern == 3]
    assert [(one.ablated, one.predicted, one.on == one.tokens) for one in both] == [
        (1, True, True),
        (2, True, True),
        (3, False, False),
    ]


def test_what_no_token_shows_is_neither_confirmed_nor_refuted(found):
    _, _, stream, relations, gates = found
    (check,) = check_gates(stream, relations[0], gates[0][:1], settings=CausalSettings(rows=2), support=10_000)
    assert check.judged == ()
    assert np.isnan(check.agreement)
    assert not check.confirmed
    assert "too rare to check" in repr(check)
    assert check_gates(stream, relations[0], []) == []


def test_the_table_has_predicted_and_measured_outputs(found):
    _, _, stream, relations, gates = found
    (gate,) = (one for one in gates[0] if one.kind == "AND NOT")
    checks = check_gates(stream, relations[0], [gate], settings=CausalSettings(rows=32, batch_size=32), support=1)
    text = gate_checks_table(checks)
    assert "| AND NOT |" in text
    assert "| yes |" in text
    on = next(one for one in checks[0].judged if one.pattern == 3 and one.left in gate.patterns)
    left = "".join("0" if latent == gate.negated else "1" for latent in gate.inputs)
    assert f"11 → {left} on: {on.on}/{on.tokens}" in text


def test_requests_that_cannot_be_meant_are_refused(found):
    _, _, stream, relations, gates = found
    back = replace(relations[0], pair=SitePair(*reversed(relations[0].pair)))
    with pytest.raises(UsageError, match="a later site"):
        check_gates(stream, back, gates[0])
    with pytest.raises(UsageError, match="support of at least 1"):
        check_gates(stream, relations[0], gates[0], support=0)
