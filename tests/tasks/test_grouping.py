"""Masks by role, position or shared: the roles change, everything else stays."""

import random

import pytest
import torch

from gossamer.errors import UsageError
from gossamer.tasks import Task, ioi
from gossamer.tasks.grouping import grouped


@pytest.fixture
def task(tokenizer):
    return Task.from_prompts(ioi.sample(random.Random(0), 40), tokenizer, name="ioi")


def test_roles_are_the_tasks_own(task):
    assert grouped(task, "role") is task


def test_shared_masks_have_one_role_and_the_same_slots(task):
    one = grouped(task, "shared")
    assert one.role_names == ("any",)
    for old, new in ((task.train.clean, one.train.clean), (task.test.counterfactual, one.test.counterfactual)):
        assert torch.equal(new.roles, torch.where(old.roles >= 0, 0, -1))
        assert torch.equal(new.ablation_groups, old.ablation_groups)


def test_positions_need_one_length(task):
    lengths = {int(end) for end in (*task.train.clean.answer_position, *task.test.clean.answer_position)}
    if len(lengths) > 1:
        with pytest.raises(UsageError, match="prompts of one length"):
            grouped(task, "position")


def test_positions_number_the_tokens(tokenizer):
    prompts = [prompt for prompt in ioi.sample(random.Random(0), 200) if prompt.template == "0"] or ioi.sample(
        random.Random(0), 200
    )
    template = prompts[0].template
    same = [prompt for prompt in prompts if prompt.template == template]
    task = Task.from_prompts(same, tokenizer, name="ioi")
    positions = grouped(task, "position")
    clean = positions.train.clean
    assert positions.role_names == tuple(f"p{place}" for place in range(int(clean.answer_position[0]) + 1))
    assert clean.roles[0, int(clean.answer_position[0])] == clean.answer_position[0]
    assert (clean.roles[~clean.tokens.mask] == -1).all()


def test_other_groupings_are_refused(task):
    with pytest.raises(UsageError, match="role, position, shared"):
        grouped(task, "latent")
