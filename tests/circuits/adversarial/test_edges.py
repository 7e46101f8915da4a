"""What a study is given at its edges: prompts that fail from the start, one word of a kind, nothing to edit with."""

import random
from dataclasses import replace

import pytest

from gossamer.circuits.adversarial import AdversarialSettings, adversarial_study, edit_space
from gossamer.circuits.adversarial.bench import study_prompts
from gossamer.circuits.adversarial.prompts import CountedModel, PromptEncoder
from gossamer.circuits.adversarial.search import SearchOptions, SearchState, Tried, at_random, by_evolution, search
from gossamer.errors import UsageError
from gossamer.tasks import get
from gossamer.tasks.prompt_tokenizer import PromptTokenizer

SETTINGS = AdversarialSettings(budget=16, searches=2, prompts=2, choice=4, held_out=6)


def space_of(task):
    return edit_space(task.name, task.provenance, (*task.train.prompts, *task.test.prompts), 0)


@pytest.mark.parametrize("share", [2, 3])
def test_prompts_that_fail_as_they_are_are_skipped_and_counted(spool, ioi_task, monkeypatch, share):
    space = space_of(ioi_task)
    encoder = PromptEncoder(PromptTokenizer(spool.tokenizer, True), ioi_task.role_names)
    own, failing = CountedModel.margins, set()

    def margins(self, pairs):
        found = own(self, pairs)
        for row, prompt in enumerate(pairs.prompts):
            if len(prompt.clean_text) % share == 0:
                found[row] = -1.0
        failing.update(p.clean_text for p, margin in zip(pairs.prompts, found, strict=True) if margin <= 0)
        return found

    monkeypatch.setattr(CountedModel, "margins", margins)
    found = study_prompts(space, encoder, spool, SETTINGS)
    kept = [*(scene for group in found.groups for scene in group), *found.choice, *found.held_out]
    assert len(kept) == 2 * 2 + 4 + 6
    assert not {scene.prompt().clean_text for scene in kept} & failing
    assert all(len(scene.prompt().clean_text) % share for scene in kept)
    # As many as the draws had: each side's last draw, prompt by prompt.
    drawn, counted = {False: 8, True: 6}, 0
    for held_out, wanted in drawn.items():
        n = wanted
        while True:
            rows = [row for row in encoder.rows(space.scenes(n, 0, held_out=held_out)) if row is not None]
            bad = sum(row.prompt.clean_text in failing for row in rows)
            if len({row.prompt.clean_text for row in rows if row.prompt.clean_text not in failing}) >= wanted:
                break
            n *= 2
        counted += bad
    assert found.failed == counted > 0


def test_a_list_of_one_word_gives_edits_that_do_nothing_and_searches_that_end(spool):
    task = get("ioi").generate(spool.tokenizer, n=64, bos=True, places=["park"], objects=["ring"])
    space = space_of(task)
    assert [edit.word for edit in space.edits if edit.kind in ("place", "object")] == ["park", "ring"]
    # The vocabulary of these roles is one token: both sides have it, and an edit leaves every scene as it is.
    assert space.words[0]["places"] == space.words[1]["places"] == ("park",)
    scenes = [one for one in space.scenes(20, 0, held_out=False) if "park" in one.prompt().clean_text][:2]
    idle = replace(space, edits=tuple(edit for edit in space.edits if edit.kind == "place"))
    encoder = PromptEncoder(PromptTokenizer(spool.tokenizer, True), task.role_names)
    for propose in (at_random, by_evolution):
        runner = CountedModel(spool)
        state = SearchState(idle, encoder, runner, scenes, SearchOptions(64), random.Random(0), Tried((), 0, 1.0, 0))
        assert search(state, propose, [idle.random_recipe(random.Random(1), 3)]) == []
        assert (runner.spent, state.left) == (0, 64), "nothing new was asked, so nothing was spent"


def test_a_study_of_few_words_runs_to_its_end(spool, spool_dictionaries):
    from spool_circuit import active_circuit

    task = get("ioi").generate(spool.tokenizer, n=64, bos=True, places=["park"], objects=["ring"])
    circuit = active_circuit(spool, spool_dictionaries, task)
    found = adversarial_study(circuit, spool, spool_dictionaries, settings=SETTINGS)
    assert all(arm.spent <= SETTINGS.searches * SETTINGS.budget for arm in found.arms)
    with pytest.raises(UsageError, match="nodes to search with expected, found none"):
        adversarial_study(replace(circuit, nodes=()), spool, spool_dictionaries, settings=SETTINGS)
