"""Edits: the stored answer is what Python prints, or what a reader of the text works out, after any of them."""

import random
import re

import pytest

from gossamer.circuits.adversarial import edit_space
from gossamer.circuits.adversarial.edits import families, joined
from gossamer.errors import UsageError
from gossamer.tasks import GENERATORS, get
from gossamer.tasks.lexicon import (
    ANSWER_VERBS,
    CLAUSE_NOUNS,
    OBJECT_NOUNS,
    SPARE_CLAUSE_NOUNS,
    SPARE_SUBJECTS,
    SUBJECTS,
)

NUMBER = {
    form: number
    for pair in (*SUBJECTS, *SPARE_SUBJECTS, *CLAUSE_NOUNS, *SPARE_CLAUSE_NOUNS, *OBJECT_NOUNS, *ANSWER_VERBS)
    for number, form in enumerate(pair)
}


@pytest.fixture(scope="module", params=sorted(GENERATORS))
def space(request, spool):
    task = get(request.param).generate(spool.tokenizer, n=90, bos=True)
    return edit_space(task.name, task.provenance, (*task.train.prompts, *task.test.prompts), 0)


def printed(session):
    """What Python prints last in a session, "Traceback" for an error; each line before is checked against Python."""
    names, lines = {}, session.split("\n")
    assert lines.pop() == ""
    found = None
    for line in lines:
        if not line.startswith(">>> "):
            assert line == found  # what an earlier lookup printed
            continue
        code = line.removeprefix(">>> ")
        try:
            if " = " in code:
                exec(code, {}, names)
            else:
                found = repr(eval(code, {}, names))
        except (LookupError, NameError):
            found = "Traceback"
    return found


def answer_by_reading(task, text):
    """The right answer worked out from the text alone."""
    if task.startswith("code"):
        return printed(text)
    if task == "ioi":
        names = re.search(r"(?:Then|One day|When),? (\w+) (?:and|met|saw) (\w+)", text).groups()
        last = re.findall(r"(\w+) (?:gave|decided|said|handed|showed)", text.rpartition(".")[2])
        giver = last[0] if last[0] in names else re.search(r"Then (\w+) said", text).group(1)
        return " " + next(name for name in names if name != giver)
    words = text.split()
    if task == "sva-within-rc":
        words = words[words.index("that") + 1 :]
    return NUMBER[words[1]]


def test_the_answer_is_right_after_any_edits(space):
    rng = random.Random(1)
    scenes = [*space.scenes(20, 0, held_out=False), *space.scenes(20, 0, held_out=True)]
    changed = 0
    for _ in range(150):
        scene, recipe = rng.choice(scenes), space.random_recipe(rng, 3)
        edited = space.apply(scene, recipe)
        prompt = edited.prompt()
        expected = answer_by_reading(space.task, prompt.clean_text)
        if isinstance(expected, int):
            found = NUMBER[prompt.answer.strip()]
            assert NUMBER[prompt.incorrect.strip()] == 1 - found
        else:
            found = prompt.answer
        assert found == expected, prompt.clean_text
        assert prompt.answer not in prompt.incorrect_answers
        changed += edited != scene
    assert changed > 75


def test_every_edit_does_something_somewhere(space):
    scenes = space.scenes(30, 0, held_out=False)
    idle = [str(edit) for edit in space.edits if all(space.apply(scene, (edit,)) == scene for scene in scenes)]
    assert idle == []


def test_a_scene_is_what_its_prompt_says(space):
    for scene in space.scenes(20, 3, held_out=False):
        prompt = scene.prompt()
        assert space.family.scene(prompt).prompt() == prompt


def test_scenes_have_the_templates_of_the_tasks_own_prompts(space, spool):
    # Ablation values are by template: the worst case has none for a prompt of another.
    task = get(space.task).generate(spool.tokenizer, n=90, bos=True)
    known = {prompt.template for prompt in (*task.train.prompts, *task.test.prompts)}
    assert {scene.prompt().template for scene in space.scenes(20, 3, held_out=False)} <= known


def test_sides_share_no_divided_word(space):
    search, apart = space.words
    divided = [key for key in search if key in ("names", "subjects", "nouns", "places", "objects", "variables")]
    assert divided
    for key in divided:
        assert not set(search[key]) & set(apart[key])
    edited = {edit.word for edit in space.edits if edit.kind in ("name", "noun")}
    held = {word for key in divided for entry in apart[key] for word in ([entry] if isinstance(entry, str) else entry)}
    assert not edited & held


def test_held_out_prompts_get_words_that_the_search_never_had(space):
    rng, (search, apart) = random.Random(2), space.words
    divided = [key for key in search if key in ("names", "subjects", "nouns", "places", "objects", "variables")]
    flat = [
        {word for key in divided for entry in side[key] for word in ([entry] if isinstance(entry, str) else entry)}
        for side in (search, apart)
    ]
    drawn = set()
    for scene in space.scenes(20, 0, held_out=True) * 5:
        recipe = space.random_recipe(rng, 3)
        unseen = space.unseen(scene, recipe)
        assert unseen == space.unseen(scene, recipe)
        assert space.apply_unseen(scene, recipe) == space.apply(scene, unseen)
        assert [(one.kind, one.where, one.touches) for one in unseen] == [
            (one.kind, one.where, one.touches) for one in recipe
        ]
        words = {piece.text.strip() for piece in scene.prompt().clean}
        mapping = {}
        for before, after in zip(recipe, unseen, strict=True):
            for one, other in zip(before.word.split(" "), after.word.split(" "), strict=True):
                assert mapping.setdefault(one, other) == other
                assert other not in flat[0]
                assert (other in flat[1] - words) if one in flat[0] else other == one
                drawn |= {other} & flat[1]
        new = [one for one in mapping if one in flat[0]]
        assert len({mapping[one] for one in new}) == len(new)
        # The right answer is worked out for the words that stand there now.
        prompt = space.apply_unseen(scene, recipe).prompt()
        expected = answer_by_reading(space.task, prompt.clean_text)
        found = NUMBER[prompt.answer.strip()] if isinstance(expected, int) else prompt.answer
        assert found == expected
    # They differ from prompt to prompt: no one word breaks them all.
    assert len(drawn) > 1


def test_an_edit_of_the_same_part_takes_the_place_of_another(space):
    first, second = space.edits[:2]
    assert joined((first,), first) == (first,)
    same = (first.kind, first.where) == (second.kind, second.where)
    assert joined((first,), second) == ((second,) if same else (first, second))


def test_a_task_without_edits_is_refused():
    with pytest.raises(UsageError, match="task stories: one whose right answers can be worked out again expected"):
        edit_space("stories", {}, (), 0)
    assert set(families()) == set(GENERATORS)
