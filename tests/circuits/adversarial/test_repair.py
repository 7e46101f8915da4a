"""Repair: patched margins equal those of passes in which the nodes are set by hand, one prompt at a time."""

import json
from dataclasses import replace

import pytest
import torch

from gossamer.circuits.adversarial import AdversarialSettings, adversarial_study, edit_space
from gossamer.circuits.adversarial.bench import Bench, EditedRow, StudyPrompts
from gossamer.circuits.adversarial.detectors import find_detectors
from gossamer.circuits.adversarial.edits import PromptEdit
from gossamer.circuits.adversarial.guides import CircuitGuide
from gossamer.circuits.adversarial.prompts import CountedModel, PromptEncoder
from gossamer.circuits.adversarial.repair import encoded, failures, put_back, repaired_prompts, stand_ins
from gossamer.circuits.adversarial.results import FORMAT, BrokenPrompt
from gossamer.circuits.evaluate.rerun import circuit_nodes
from gossamer.results import digest
from gossamer.tasks.prompt_tokenizer import PromptTokenizer

SETTINGS = AdversarialSettings(budget=24, searches=2, prompts=2, choice=4, held_out=8)


@pytest.fixture(scope="module")
def space(ioi_task):
    return edit_space("ioi", ioi_task.provenance, (*ioi_task.train.prompts, *ioi_task.test.prompts), 0)


@pytest.fixture(scope="module")
def bench(spool, spool_dictionaries, ioi_task, space):
    encoder = PromptEncoder(PromptTokenizer(spool.tokenizer, True), ioi_task.role_names)
    return Bench(space, encoder, spool, spool_dictionaries, SETTINGS, StudyPrompts([], [], [], 0))


@pytest.fixture(scope="module")
def guide(spool_dictionaries, ioi_circuit, ioi_task):
    return CircuitGuide(circuit_nodes(ioi_circuit, spool_dictionaries, ioi_task), spool_dictionaries)


@pytest.fixture(scope="module")
def rows(bench, space):
    """A prompt whose right answer changes, then four with a sentence put in before the story and another object."""
    scenes, edits = space.scenes(5, 0, held_out=False), {one.kind: one for one in space.edits}
    swapped = PromptEdit("name", "IO", next(one.word for one in space.edits if one.kind == "name"))
    recipes = [(swapped,), *[(edits["third person"], edits["object"])] * 4]
    edited = [space.apply(scene, recipe) for scene, recipe in zip(scenes, recipes, strict=True)]
    return [EditedRow(*one) for one in zip(scenes, bench.encoder.rows(scenes), bench.encoder.rows(edited), strict=True)]


@pytest.fixture(scope="module")
def detectors(bench, guide, rows):
    clean = bench.encoder.pairs([row.clean for row in rows])
    return find_detectors(bench.model, guide, clean, bench.space.family.CLASSES)


@pytest.fixture(scope="module")
def repaired(bench, guide, detectors, rows):
    return repaired_prompts(bench, guide, detectors, rows)


def prompt_of(pairs, row):
    """Tokens of one prompt without padding, the places of its roles, its right answer and the wrong one."""
    tokens, side = pairs.clean.tokens, pairs.clean
    inside = tokens.mask[row]
    answers = pairs.answers(slice(row, row + 1)).item(), pairs.incorrect_answers(slice(row, row + 1)).item()
    return tokens.ids[row, inside][None], side.roles[row, inside].tolist(), *answers


def by_hand(bench, nodes, clean, edited, row):
    """The margin of one edited prompt when each node's latent is what it is on the clean one: a loop, no grid."""
    (old, old_roles, *_), (new, new_roles, right, wrong) = prompt_of(clean, row), prompt_of(edited, row)
    streams, edits, keys = {}, {}, nodes.keys()
    with torch.no_grad():
        for site in nodes.sites:
            # Behind block n stands hidden state n + 1.
            streams[site] = bench.model.hf(old, output_hidden_states=True).hidden_states[site.layer + 1]
    for site in nodes.sites:

        def edit(x, site=site, dictionary=bench.dictionaries[site]):
            was, now = dictionary.encode_dense(streams[site])[0], dictionary.encode_dense(x)[0]
            for key in keys:
                if key.site == site:
                    role = nodes.roles.index(key.role)
                    pair = ([at for at, one in enumerate(roles) if one == role] for roles in (old_roles, new_roles))
                    for there, here in zip(*pair, strict=False):
                        x = x.clone()
                        x[0, here] += (was[there, key.latent] - now[here, key.latent]) * dictionary.W_dec[key.latent]
            return x

        edits[site] = edit
    with torch.no_grad(), bench.model.edit(edits, direct=True):
        logits = bench.model.hf(new).logits[0, -1]
    return (logits[right] - logits[wrong]).item()


def chosen(guide, detectors, number):
    """The nodes of a detector, found by name; None: all."""
    names = list(map(str, guide.nodes.keys()))
    return [place for place, name in enumerate(names) if number is None or name in detectors[number].nodes]


def test_every_group_put_back_in_every_prompt_is_what_hand_made_passes_say(bench, guide, detectors, rows, repaired):
    assert repaired.places == (1, 2, 3, 4), "clean values of the first prompt speak for another answer"
    assert [one.detector for one in repaired.groups] == [None, *range(len(detectors))]
    clean, edited = encoded(bench.encoder, rows[1:])
    assert any(old.tolist() != new.tolist() for old, new in zip(clean.clean.roles, edited.clean.roles, strict=True))
    generator = torch.Generator().manual_seed(SETTINGS.seed)
    controls = stand_ins(bench.model, guide, clean, generator)
    moved = 0
    for group in repaired.groups:
        own = torch.tensor(chosen(guide, detectors, group.detector))
        for row in range(4):
            for nodes, found in ((guide.nodes, group.patched), (controls, group.random)):
                expected = by_hand(bench, nodes.select(own), clean, edited, row)
                assert found[row].item() == pytest.approx(expected, abs=2e-3)
            none = by_hand(bench, guide.nodes.none(), clean, edited, row)
            assert repaired.edited[row].item() == pytest.approx(none, abs=2e-3)
            moved += abs(group.patched[row].item() - none) > 0.05
    assert moved > 4, "groups that change nothing test nothing"


def test_a_detector_s_value_is_activation_times_the_margin_s_slope_along_its_decoder_rows(
    bench, guide, detectors, rows, repaired
):
    clean, edited = encoded(bench.encoder, rows[1:])
    for group in repaired.groups[1:4]:
        keys = [guide.nodes.keys()[place] for place in chosen(guide, detectors, group.detector)]
        for row in (0, 3):
            ids, roles, right, wrong = prompt_of(clean, row)
            before = after = 0.0
            for key in keys:
                dictionary, role, acts = bench.dictionaries[key.site], guide.nodes.roles.index(key.role), []
                here = torch.tensor([at for at, one in enumerate(roles) if one == role])
                push = torch.zeros(len(here), requires_grad=True)

                def edit(x, dictionary=dictionary, key=key, here=here, push=push):
                    return x.index_add(1, here, (push[:, None] * dictionary.W_dec[key.latent])[None])

                with bench.model.edit({key.site: edit}, direct=True):
                    logits = bench.model.hf(ids).logits[0, -1]
                slope = torch.autograd.grad(logits[right] - logits[wrong], push)[0].mean().item()
                for pairs in (clean, edited):
                    with torch.no_grad():
                        latents = dictionary.encode_dense(bench.model.capture(pairs.clean.tokens, [key.site])[key.site])
                    acts.append(latents[row, pairs.clean.roles[row] == role, key.latent].sum().item())
                before, after = before + slope * acts[0], after + slope * acts[1]
            assert group.before[row].item() == pytest.approx(before, abs=2e-3)
            assert group.after[row].item() == pytest.approx(after, abs=2e-3)


def test_stand_ins_have_the_places_of_nodes_and_are_none_of_them(bench, guide, rows):
    clean, _ = encoded(bench.encoder, rows[1:])
    other = stand_ins(bench.model, guide, clean, torch.Generator().manual_seed(3))
    own, drawn = guide.nodes.keys(), other.keys()
    assert [(one.site, one.role) for one in drawn] == [(one.site, one.role) for one in own]
    assert not set(own) & set(drawn)
    assert len(set(drawn)) == len(own)
    backwards = CircuitGuide(guide.nodes.select(torch.arange(len(own) - 1, -1, -1)), guide.dictionaries)
    again = stand_ins(bench.model, backwards, clean, torch.Generator().manual_seed(3)).keys()
    assert [(one.site, one.role) for one in again] == [(one.site, one.role) for one in own[::-1]]


def test_means_are_of_the_prompts_and_a_broken_prompt_has_its_own(bench, rows, repaired):
    for mean, group in zip(repaired.means(), repaired.groups, strict=True):
        margins = (repaired.clean, repaired.edited, group.patched, group.random)
        clean, edited, patched, random = (values.double().sum().item() for values in margins)
        assert mean.detector == group.detector
        assert mean.share == pytest.approx((patched - edited) / (clean - edited), abs=1e-5)
        assert mean.random == pytest.approx((random - edited) / (clean - edited), abs=1e-5)
        assert mean.mended == sum(one > 0 for one in group.patched.tolist())
        assert mean.random_mended == sum(one > 0 for one in group.random.tolist())
        assert (mean.prompts, mean.moved) == (4, pytest.approx((group.after - group.before).mean().item()))
    first, *others = failures(bench, rows, repaired)
    assert first.repairs == (), "its right answer is another one"
    for row, one in enumerate(others):
        assert [found.detector for found in one.repairs] == [group.detector for group in repaired.groups]
        for found, group in zip(one.repairs, repaired.groups, strict=True):
            assert found.patched == group.patched[row].item()
            assert found.random == group.random[row].item()
            assert (found.before, found.after) == (group.before[row].item(), group.after[row].item())


def test_where_every_right_answer_changes_nothing_is_put_back(bench, guide, detectors, rows):
    for broken in ([], rows[:1]):
        found = repaired_prompts(bench, guide, detectors, broken)
        assert (found.places, found.means()) == ((), ())
        assert [one.repairs for one in failures(bench, broken, found)] == [()] * len(broken)


def test_the_share_is_from_the_edited_prompt_to_the_clean_one():
    prompt = BrokenPrompt(("a",), ("b",), " Tom", " Sam", 2.0, -1.0)
    assert [prompt.restored(one) for one in (-1.0, 0.5, 2.0, -1.6)] == pytest.approx([0, 0.5, 1, -0.2])


def test_a_study_keeps_repairs_on_disk_and_files_of_version_3_have_none(
    ioi_circuit, spool, spool_dictionaries, tmp_path
):
    # Of this seed the recipe leaves the right answer of some prompts as it is.
    found = adversarial_study(ioi_circuit, spool, spool_dictionaries, settings=replace(SETTINGS, seed=3))
    assert any(one.repairs for one in found.failures)
    for one in found.failures:
        assert one.repairs == () or {item.detector for item in one.repairs} == {item.detector for item in found.repairs}
    path = FORMAT.save(tmp_path / "adversarial.json", found)
    assert FORMAT.load(path).failures == found.failures
    values = json.loads(path.read_text())
    assert values["format"] == "gossamer.adversarial.4"
    for one in values["failures"]:
        del one["repairs"]
    body = {name: value for name, value in values.items() if name not in ("format", "sha256")}
    path.write_text(json.dumps({**body, "format": "gossamer.adversarial.3", "sha256": digest(body)}))
    older = tuple(replace(one, repairs=None) for one in found.failures)
    assert FORMAT.load(path) == replace(found, failures=older)


def test_nodes_put_back_have_their_clean_values(spool, spool_dictionaries, ioi_circuit, ioi_task):
    space = edit_space("ioi", ioi_task.provenance, (*ioi_task.train.prompts, *ioi_task.test.prompts), 0)
    encoder = PromptEncoder(PromptTokenizer(spool.tokenizer, True), ioi_task.role_names)
    scenes = space.scenes(3, 0, held_out=False)
    word = next(one.word for one in space.edits if one.kind == "object")
    recipe = (PromptEdit("object", "object", word),)
    clean, edited = (
        encoder.pairs(encoder.rows(given)) for given in (scenes, [space.apply(one, recipe) for one in scenes])
    )
    nodes = circuit_nodes(ioi_circuit, spool_dictionaries, ioi_task)
    found = put_back(spool, nodes, spool_dictionaries, clean, edited)
    streams, edits, keys = spool.capture(clean.clean.tokens, list(spool_dictionaries)), {}, nodes.keys()
    for site, dictionary in spool_dictionaries.items():
        wanted = dictionary.encode_dense(streams[site])

        def edit(x, site=site, dictionary=dictionary, wanted=wanted):
            latents = dictionary.encode_dense(x)
            moved = latents.clone()
            for key in keys:
                if key.site == site:
                    here = edited.clean.roles == nodes.roles.index(key.role)
                    moved[:, :, key.latent][here] = wanted[:, :, key.latent][here]
            return x + dictionary.reconstruct(x, moved) - dictionary.reconstruct(x, latents)

        edits[site] = edit
    with torch.no_grad(), spool.edit(edits):
        expected = CountedModel(spool).margins(edited)
    assert torch.allclose(found, expected, atol=1e-3)
    unpatched = CountedModel(spool).margins(edited)
    assert not torch.allclose(found, unpatched, atol=1e-3)
    same = put_back(spool, nodes, spool_dictionaries, clean, clean)
    assert same.tolist() == pytest.approx(CountedModel(spool).margins(clean).tolist(), abs=1e-3)
