"""Slots: every token of every prompt has a mean that training counterfactuals can give."""

import pytest

from gossamer.errors import UsageError
from gossamer.tasks import Piece, Prompt, Task, TaskWarning


def prompt(subject, other, answer, incorrect, role="subject", template="t"):
    pieces = [
        (Piece("The "), Piece(word, kind), Piece(" that")) for word, kind in ((subject, role), (other, "subject"))
    ]
    return Prompt(pieces[0], pieces[1], answer, incorrect, template)


def test_longer_words_than_any_in_training_share_the_last_slot(coarse):
    pairs = [("cat", "cats"), ("dog", "dogs"), ("cow", "cows"), ("pig", "pigs")]
    prompts = [prompt(a, b, " is", " are") for a, b in pairs]
    prompts += [prompt("hippopotamuses", "ox", " are", " is")]
    task = Task.from_prompts(prompts, coarse, name="animals", test_fraction=0.4)
    known = set(task.train.counterfactual.ablation_groups.unique().tolist()) - {-1}
    assert known == set(range(len(task.ablation_group_names)))
    for side in (task.train, task.test):
        assert not side.aligned
        for encoded in (side.clean, side.counterfactual):
            assert set(encoded.ablation_groups[encoded.tokens.mask].tolist()) <= known
            assert encoded.tokens.mask.sum(1).equal(encoded.answer_position + 1)


def test_roles_without_a_training_mean_are_left_out_and_said(tokenizer):
    pairs = [("boy", "boys"), ("girl", "girls"), ("kid", "kids"), ("guy", "guys"), ("man", "men"), ("woman", "women")]
    prompts = [prompt(a, b, " is", " are") for a, b in pairs]
    prompts += [prompt("friend", "friends", " is", " are", role="stranger")]
    with pytest.warns(TaskWarning, match="1 without a training mean for stranger"):
        task = Task.from_prompts(prompts, tokenizer, name="people")
    assert "stranger" not in task.role_names
    assert len(task.train) + len(task.test) == 6


def test_one_prompt_for_each_template_cannot_be_tested(tokenizer):
    pairs = [("boy", "boys"), ("girl", "girls"), ("kid", "kids"), ("guy", "guys")]
    prompts = [prompt(a, b, " is", " are", template=a) for a, b in pairs]
    with pytest.raises(UsageError, match="found 4 and 0 that share no text"):
        Task.from_prompts(prompts, tokenizer, name="people")


def test_unknown_roles_option(tokenizer):
    with pytest.raises(UsageError, match="given or position"):
        Task.from_prompts([prompt("boy", "boys", " is", " are")], tokenizer, name="x", roles="answers")
