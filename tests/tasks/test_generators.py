"""Generated tasks: what every one of them must keep to."""

from dataclasses import replace

import pytest
import torch

from gossamer import tasks
from gossamer.errors import UsageError
from gossamer.tasks import Task, TaskWarning
from gossamer.tasks.examples import Examples
from gossamer.tasks.published import task_of


@pytest.fixture(scope="module", params=sorted(tasks.GENERATORS))
def generated(request, tokenizer):
    return tasks.get(request.param).generate(tokenizer, n=60, seed=1)


def sides(task: Task) -> list[Examples]:
    return [task.train, task.test]


def encodings(task):
    return [encoded for side in sides(task) for encoded in (side.clean, side.counterfactual)]


def test_unknown_name_lists_the_known():
    with pytest.raises(UsageError, match=r"ioi, sva-simple, sva-rc, sva-within-rc, sva-nounpp, code-index, code-key"):
        tasks.get("addition")


def test_splits_share_no_text(generated):
    texts = [
        {text for prompt in side.prompts for text in (prompt.clean_text, prompt.counterfactual_text)}
        for side in sides(generated)
    ]
    assert not texts[0] & texts[1]
    assert len(generated.train) + len(generated.test) == 60
    assert 9 <= len(generated.test) <= 21


def test_every_token_has_a_role_and_a_slot(generated):
    for encoded in encodings(generated):
        mask = encoded.tokens.mask
        assert (encoded.roles >= 0).equal(mask)
        assert (encoded.slots >= 0).equal(mask)
        assert encoded.end.equal(mask.sum(1) - 1)
        assert int(encoded.roles.max()) < len(generated.role_names)
        assert int(encoded.slots.max()) < len(generated.slot_names)


def test_generated_pairs_are_aligned_and_differ(generated):
    for side in sides(generated):
        assert side.aligned
        assert bool((side.clean.tokens.ids != side.counterfactual.tokens.ids).any(1).all())
        assert bool((side.answer != side.wrong).all())


def test_a_slot_has_one_template_role_and_offset(generated):
    for side in sides(generated):
        for encoded in (side.clean, side.counterfactual):
            for row, prompt in enumerate(side.prompts):
                kept = encoded.tokens.mask[row]
                pairs = zip(encoded.roles[row][kept].tolist(), encoded.slots[row][kept].tolist(), strict=True)
                for role, slot in pairs:
                    template, rest = generated.slot_names[slot].rsplit("/", 1)
                    assert (template, rest.split("+")[0]) == (prompt.template, generated.role_names[role])


def test_every_slot_has_a_training_counterfactual(generated):
    known = set(generated.train.counterfactual.slots.unique().tolist()) - {-1}
    assert known == set(range(len(generated.slot_names)))


def test_answers_continue_the_prompt(generated, tokenizer):
    for side in sides(generated):
        for row, prompt in enumerate(side.prompts):
            length = int(side.clean.end[row]) + 1
            ids = [*side.clean.tokens.ids[row, :length].tolist(), int(side.answer[row])]
            assert ids == tokenizer(prompt.clean_text + prompt.answer)["input_ids"]


def test_same_seed_same_task(generated, tokenizer):
    again = tasks.get(generated.name).generate(tokenizer, n=60, seed=1)
    assert (again.role_names, again.slot_names) == (generated.role_names, generated.slot_names)
    for ours, theirs in zip(encodings(generated), encodings(again), strict=True):
        assert ours.tokens.ids.equal(theirs.tokens.ids)
        assert ours.slots.equal(theirs.slots)
    assert tasks.get(generated.name).generate(tokenizer, n=60, seed=2).train.prompts != generated.train.prompts


def test_describes_and_previews(generated, tokenizer):
    text = generated.describe()
    assert "\n" not in text
    assert generated.name in text
    assert f"{len(generated.train)} training" in text
    shown = generated.preview(tokenizer)
    prompt = generated.train.prompts[0]
    assert "".join(token for token, _ in shown.clean) == prompt.clean_text
    assert {role for _, role in shown.clean} <= set(generated.role_names)
    assert (shown.answer, shown.wrong) == (prompt.answer, prompt.wrong)


ROLES = {
    "ioi": {"IO", "S1", "S2", "place", "object", "END"},
    "sva-simple": {"gap1", "subject"},
    "sva-rc": {"gap1", "subject", "that", "gap2", "noun", "clause_verb"},
    "sva-within-rc": {"gap1", "subject", "that", "gap2", "noun"},
    "sva-nounpp": {"gap1", "subject", "preposition", "gap2", "noun"},
    "code-index": {"name", "items", "target", "query_name", "index", "close", "END"},
    "code-key": {"name", "keys", "values", "target_key", "target_value", "query_name", "query_key", "close", "END"},
}


def test_roles(generated):
    found = set(generated.role_names)
    assert ROLES[generated.name] <= found
    assert all(role.startswith("gap") for role in found - ROLES[generated.name])
    if "END" in found:
        assert generated.role_names[-1] == "END"


def test_bos_is_passed_through(tokenizer, with_bos):
    usual = tasks.get("ioi").generate(with_bos, n=40)
    asked = tasks.get("ioi").generate(tokenizer, n=40, bos=True)
    without = tasks.get("ioi").generate(with_bos, n=40, bos=False)
    assert (usual.bos, asked.bos, without.bos) == (True, True, False)
    assert usual.train.clean.tokens.ids.equal(asked.train.clean.tokens.ids)
    assert bool((usual.train.clean.tokens.ids[:, 0] == with_bos.bos_token_id).all())
    for values in (usual.train.clean.roles, usual.train.clean.slots):
        assert bool((values[:, 0] == -1).all())
        assert bool((values[:, 1] >= 0).all())
    assert usual.train.clean.tokens.ids[:, 1:].equal(without.train.clean.tokens.ids)


def test_prompts_of_different_lengths_share_roles(tokenizer):
    task = tasks.get("ioi").generate(tokenizer, n=60)
    lengths = task.train.clean.tokens.lengths
    assert int(lengths.min()) < int(lengths.max())
    for row, length in enumerate(lengths.tolist()):
        roles = [task.role_names[role] for role in task.train.clean.roles[row, :length].tolist()]
        assert [role for role in roles if role in ("IO", "S1", "S2")].count("IO") == 1
        assert roles[-1] == "END"
        assert bool((task.train.clean.roles[row, length:] == -1).all())


def test_words_of_several_tokens_are_refused_by_name_when_asked(coarse):
    with pytest.raises(UsageError, match=r"'.*' \(.*: .*\|.*\) and .*, Mary, .*use other words"):
        tasks.get("ioi").generate(coarse, n=10, drop_multi_token=False)


def test_words_of_several_tokens_are_left_out_and_said(coarse):
    names = ("Mary", "Tim", "Ben", "Sam", "Tom", "Max", "Dan", "Sue", "Amy")
    with pytest.warns(TaskWarning, match="left out because they are not one token: Mary$"):
        task = tasks.get("ioi").generate(coarse, n=40, names=names)
    assert task.provenance["dropped_words"] == ["Mary"]
    assert not any("Mary" in prompt.clean_text for side in sides(task) for prompt in side.prompts)


def test_too_few_words_left(coarse):
    with pytest.raises(UsageError, match="at least 6 words needed, found 2"), pytest.warns(TaskWarning):
        tasks.get("ioi").generate(coarse, names=("Mary", "Peter", "Molly", "James", "Tim", "Ben"))


def test_spare_words_take_the_places_of_words_that_are_left_out(texts, train_tokenizer):
    seen = [text for text in texts if "uncles" not in text and "guy" not in text]
    known = train_tokenizer([*seen, *20 * [" children child"]], 3000)
    with pytest.warns(TaskWarning, match="one token: guy, guys, uncles; in their place: child, children$"):
        task = tasks.get("sva-rc").generate(known, n=200)
    found = {piece.text for prompt in task.train.prompts for piece in prompt.clean if piece.role == "subject"}
    assert {"child", "children"} <= found
    assert not {"uncle", "uncles", "guy", "guys"} & found


def test_where_no_word_is_left_out_no_spare_word_is_used(tokenizer):
    for name in ("ioi", "sva-simple", "sva-rc", "sva-within-rc", "sva-nounpp", "code-key"):
        generator = tasks.get(name)
        assert not {str(word) for words in generator.spare.values() for word in words} & {
            str(word) for words in generator.words.values() for word in words
        }
        assert (
            generator.generate(tokenizer, n=60, seed=1).train.prompts
            == replace(generator, spare={}).generate(tokenizer, n=60, seed=1).train.prompts
        )


def test_an_error_of_several_tokens_is_told_by_its_first(coarse):
    with pytest.warns(TaskWarning, match="first token stands for answers of several tokens in 40 prompts: 'Traceback'"):
        task = tasks.get("code-index").generate(coarse, n=40)
    first = coarse("Traceback")["input_ids"][0]
    for side in sides(task):
        for row, prompt in enumerate(side.prompts):
            ids = {"Traceback": first}
            assert int(side.answer[row]) == ids.get(prompt.answer, coarse(prompt.answer)["input_ids"][0])


def test_an_error_that_its_first_token_cannot_tell_is_refused(coarse):
    digits = ("Traceroute", "1", "2", "3", "4", "5", "6")
    with pytest.raises(UsageError, match=r"'Traceback' cannot be told from a digit.*counterfactual='other'"):
        tasks.get("code-index").generate(coarse, n=10, digits=digits)


def test_unknown_options_are_named(tokenizer):
    with pytest.raises(UsageError, match=r"names, places, objects, templates.*found number"):
        tasks.get("ioi").generate(tokenizer, number=3)


def test_select_and_move(generated):
    rows = torch.tensor([2, 0])
    chosen = generated.train.select(rows)
    assert len(chosen) == 2
    assert chosen.prompts == (generated.train.prompts[2], generated.train.prompts[0])
    assert chosen.clean.slots.equal(generated.train.clean.slots[rows])
    assert chosen.answer.equal(generated.train.answer[rows])
    assert chosen.to("cpu").aligned


def test_a_task_is_opened_by_its_name(tokenizer, tmp_path):
    task = tasks.get("sva-simple").generate(tokenizer, n=40, seed=1)
    named = tasks.open_task("sva-simple", tokenizer, n=40, seed=1)
    assert named.body() == task.body()
    assert task_of(task, tokenizer) is task
    assert task_of(task.save(tmp_path / "task.json"), tokenizer).body() == task.body()
    with pytest.raises(UsageError, match=r"expected one of ioi, .* or a file of prompts; found 'addition'"):
        tasks.open_task("addition", tokenizer)
    with pytest.raises(UsageError, match="task ioi: a tokenizer expected"):
        tasks.open_task("ioi", None)
