"""Guides and searches: gradients against small steps, the budget against the passes that ran."""

import random

import pytest
import torch
from scipy.stats import pearsonr

from gossamer.circuits.adversarial import edit_space
from gossamer.circuits.adversarial.detectors import find_detectors, footprint, groups, wrong_circuit
from gossamer.circuits.adversarial.edits import PromptEdit
from gossamer.circuits.adversarial.guides import CircuitGuide, ModelGuide, embeddings, first_order
from gossamer.circuits.adversarial.prompts import CountedModel, PromptEncoder, with_roles_of
from gossamer.circuits.adversarial.search import (
    Guided,
    SearchOptions,
    SearchState,
    Tried,
    at_random,
    by_evolution,
    search,
)
from gossamer.circuits.evaluate.rerun import circuit_nodes
from gossamer.circuits.outputs import last_stream
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.prompt_tokenizer import PromptTokenizer


@pytest.fixture(scope="module")
def space(ioi_task):
    return edit_space("ioi", ioi_task.provenance, (*ioi_task.train.prompts, *ioi_task.test.prompts), 0)


@pytest.fixture
def encoder(spool, ioi_task):
    return PromptEncoder(PromptTokenizer(spool.tokenizer, True), ioi_task.role_names)


@pytest.fixture(scope="module")
def guide(ioi_circuit, ioi_task, spool_dictionaries):
    return CircuitGuide(circuit_nodes(ioi_circuit, spool_dictionaries, ioi_task), spool_dictionaries)


def test_margins_are_those_of_the_models_own_logits(spool, space, encoder):
    rows = encoder.rows(space.scenes(5, 0, held_out=False))
    runner = CountedModel(spool, batch_size=2)
    found = runner.margins(encoder.pairs(rows))
    for row, margin in zip(rows, found, strict=True):
        logits = spool.hf(torch.tensor([row.clean.ids])).logits[0, -1]
        expected = max(logits[token] for token in row.answers) - max(logits[token] for token in row.incorrect)
        assert margin.item() == pytest.approx(expected.item(), abs=1e-3)
    assert runner.spent == 5


def test_text_that_is_put_in_has_no_role_and_moves_none(space, encoder):
    scene = next(one for one in space.scenes(20, 0, held_out=False) if one.template != "when_gave")
    (row,) = encoder.rows([scene])
    for edit in (PromptEdit("third person", "before", "Zed"), PromptEdit("sentence", "about IO between")):
        (edited,) = encoder.rows([space.apply(scene, (edit,))])
        found = with_roles_of(edited, row).clean
        assert len(found.ids) > len(row.clean.ids)
        # In the order of reading every role is what it was, but that of a first word, which has a space before it now.
        kept = [(token, role) for token, role in zip(found.ids, found.roles, strict=True) if role]
        own = [(token, role) for token, role in zip(row.clean.ids, row.clean.roles, strict=True) if role]
        assert kept in (own, own[1:])
        assert len(found.ids) - len(row.clean.ids) <= found.roles[1:].count("") <= len(found.ids) - len(kept)
    assert with_roles_of(row, row) is row


def test_weights_are_what_a_small_step_along_the_decoder_does(spool, space, encoder, guide):
    pairs = encoder.pairs(encoder.rows(space.scenes(3, 0, held_out=False)))
    _, weights, activations = guide.attributed(spool, pairs)
    streams = spool.capture(pairs.clean.tokens, guide.nodes.sites)
    for place, key in enumerate(guide.nodes.keys()):
        here = pairs.clean.roles == guide.nodes.roles.index(key.role)
        dense = guide.dictionaries[key.site].encode_dense(streams[key.site])[:, :, key.latent]
        assert torch.allclose(activations[:, place], (dense * here).sum(dim=1), atol=1e-5)
    place, step = len(guide.nodes) - 1, 0.05
    key = guide.nodes.keys()[place]
    here = (pairs.clean.roles == guide.nodes.roles.index(key.role)).float()
    row = guide.dictionaries[key.site].W_dec[key.latent]
    margins = []
    for sign in (1, -1):
        with spool.edit({key.site: lambda x, sign=sign: x + sign * step * here[:, :, None] * row}):
            margins.append(CountedModel(spool).margins(pairs))
    slope = (margins[0] - margins[1]) / (2 * step) / here.sum(dim=1)
    assert torch.allclose(slope, weights[:, place], atol=2e-3, rtol=2e-2)


@pytest.mark.parametrize("of_circuit", [False, True])
def test_the_gradient_of_a_guide_is_that_of_its_value(spool, space, encoder, guide, of_circuit):
    chosen = guide if of_circuit else ModelGuide()
    pairs, runner = encoder.pairs(encoder.rows(space.scenes(2, 0, held_out=False))), CountedModel(spool)
    reading = chosen.read(runner, pairs)
    assert runner.spent == chosen.cost * 2
    direction = torch.randn(reading.gradient.shape, generator=torch.Generator().manual_seed(0))
    values = []
    for sign in (1, -1):
        with spool.edit({"resid_pre.0": lambda x, sign=sign: x + sign * 1e-3 * direction}):
            values.append(chosen.value(runner, pairs, reading))
    expected = (reading.gradient * direction).sum(dim=(1, 2))
    assert torch.allclose((values[0] - values[1]) / 2e-3, expected, rtol=0.05, atol=0.05)


def test_first_order_is_the_gradient_times_the_change_of_the_embedding(spool, space, encoder):
    scenes = space.scenes(2, 0, held_out=False)
    pairs = encoder.pairs(encoder.rows(scenes))
    reading = ModelGuide().read(CountedModel(spool), pairs)
    edit = next(one for one in space.edits if one.kind == "place")
    edited = encoder.pairs(encoder.rows([space.apply(scene, (edit,)) for scene in scenes]))
    table = spool.hf.get_input_embeddings().weight
    found = first_order(spool, reading, edited, torch.arange(2))
    for row in range(2):
        old, new = pairs.clean.tokens[row : row + 1], edited.clean.tokens[row : row + 1]
        change = table[new.ids[0]] - table[old.ids[0]]
        expected = (change * reading.gradient[row, : len(change)])[old.mask[0]].sum()
        assert found[row].item() == pytest.approx(expected.item(), abs=1e-4)
    assert embeddings(spool, pairs).shape == reading.gradient.shape


def test_groups_are_those_of_correlations_pair_by_pair():
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(40, 3, generator=generator)
    activations = torch.cat([base, base[:, :1] * 2 + 1, base[:, :1] * -1, base[:, 1:2] + 0.1 * base[:, 2:]], dim=1)
    activations = torch.cat([activations, torch.ones(40, 1)], dim=1)
    effect = torch.tensor([1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0])
    together = {number: {number} for number in range(7)}
    for a in range(6):
        for b in range(6):
            close = abs(pearsonr(activations[:, a], activations[:, b]).statistic) > 0.8
            if close and effect[a] * effect[b] > 0:
                merged = together[a] | together[b]
                for member in merged:
                    together[member] = merged
    assert {tuple(one.tolist()) for one in groups(activations, effect)} == {tuple(sorted(v)) for v in together.values()}
    assert (0, 3, 4) in {tuple(one.tolist()) for one in groups(activations, effect)}


def test_detectors_have_every_node_once_and_read_shares_of_one(spool, space, encoder, guide):
    pairs = encoder.pairs(encoder.rows(space.scenes(8, 0, held_out=False)))
    found = find_detectors(spool, guide, pairs, space.family.CLASSES)
    names = sorted(name for one in found for name in one.nodes)
    assert names == sorted(map(str, guide.nodes.keys()))
    assert all(0 < sum(one.reads.values()) <= 1 + 1e-5 for one in found)
    _, weights, activations = guide.attributed(spool, pairs)
    assert sum(one.effect for one in found) == pytest.approx((weights * activations).sum(1).mean().item(), rel=1e-4)
    shares = footprint(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[0, 1, -1]]), 2)
    assert shares.tolist() == [0.25, 0.75]


def test_a_wrong_circuit_has_as_many_other_active_nodes_everywhere(spool, space, encoder, guide):
    pairs = encoder.pairs(encoder.rows(space.scenes(8, 0, held_out=False)))
    found = wrong_circuit(spool, guide.nodes, guide.dictionaries, pairs, torch.Generator().manual_seed(0))
    places = [sorted(zip(one.site.tolist(), one.role.tolist(), strict=True)) for one in (found, guide.nodes)]
    assert places[0] == places[1]
    assert not set(found.keys()) & set(guide.nodes.keys())
    assert bool((CircuitGuide(found, guide.dictionaries).attributed(spool, pairs)[2].detach().sum(dim=0) > 0).all())


@pytest.mark.parametrize("arm", ["random", "evolution", "gradient", "circuit"])
def test_the_budget_is_what_ran_and_the_seed_decides(spool, space, encoder, guide, arm, monkeypatch):
    scenes, counted = space.scenes(3, 0, held_out=False), []
    capture, grad = LanguageModel.capture, torch.autograd.grad

    def counting(self, tokens, sites, **options):
        wanted = list(sites)
        # What the first layer reads is looked up: no layer runs.
        counted.append(0 if [str(site) for site in wanted] == ["resid_pre.0"] else len(tokens.ids))
        return capture(self, tokens, wanted, **options)

    def differentiating(value, inputs, **options):
        counted.append(2 * 3)  # every gradient here is of the three prompts of a search
        return grad(value, inputs, **options)

    monkeypatch.setattr(LanguageModel, "capture", counting)
    monkeypatch.setattr(torch.autograd, "grad", differentiating)
    proposers = {
        "random": lambda: at_random,
        "evolution": lambda: by_evolution,
        "gradient": lambda: Guided(ModelGuide()),
        "circuit": lambda: Guided(guide, frozenset({"S2"})),
    }

    def run():
        options = SearchOptions(64, round=4)
        runner = CountedModel(spool)
        rng, unedited = random.Random(5), Tried((), 0, 9.0, 0)
        state = SearchState(space, encoder, runner, scenes, options, rng, unedited)
        first = [space.random_recipe(random.Random(1), 3)]
        return state, search(state, proposers[arm](), first)

    state, found = run()
    assert state.spent == sum(counted) <= 64
    assert state.left < 3 or arm in ("gradient", "circuit")
    assert found[0].recipe == space.random_recipe(random.Random(1), 3)
    assert run()[1] == found
    for one in found[:3]:
        rows = encoder.rows([space.apply(scene, one.recipe) for scene in scenes])
        margins = CountedModel(spool).margins(encoder.pairs(rows))
        assert one.broken == int((margins < 0).sum())
        assert one.margin == pytest.approx(margins.mean().item(), abs=1e-4)
    assert last_stream(spool).layer == spool.n_layers - 1
