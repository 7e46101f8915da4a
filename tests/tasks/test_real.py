"""Files that others published, with the tokenizers of real models."""

import warnings

import pytest
from transformers import AutoTokenizer

from gossamer import tasks
from gossamer.tasks import Task, TaskWarning
from gossamer.tasks.published import load_published

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def tinytalk(real_folder):
    return AutoTokenizer.from_pretrained(real_folder / "models" / "tinytalk-3m-gpt2")


@pytest.fixture(scope="module")
def stories(real_folder):
    return AutoTokenizer.from_pretrained(real_folder / "models" / "stories260k")


def check(task):
    """What holds for every task."""
    texts = [
        {t for p in side.prompts for t in (p.clean_text, p.counterfactual_text)} for side in (task.train, task.test)
    ]
    assert not texts[0] & texts[1]
    assert set(task.train.counterfactual.ablation_groups.unique().tolist()) - {-1} == set(
        range(len(task.ablation_group_names))
    )
    for side in (task.train, task.test):
        for encoded in (side.clean, side.counterfactual):
            assert int((encoded.roles >= 0).sum()) == int(encoded.tokens.mask.sum()) - task.bos * len(side)


def test_ioi(real_folder, tinytalk):
    task = load_published(real_folder / "tasks" / "ioi_met.jsonl", tinytalk)
    check(task)
    assert task.train.aligned
    assert task.test.aligned
    assert len(task.train) + len(task.test) == 1183
    assert {"IO", "S1", "S2", "END"} <= set(task.role_names)
    templates = {prompt.template for prompt in task.train.prompts}
    assert "park_share" in templates
    assert len(templates) == 24


def test_gendered_pronouns(real_folder, tinytalk, stories):
    path = real_folder / "tasks" / "gender_pronoun.jsonl"
    with pytest.warns(TaskWarning, match="joined both sides of the split"):
        task = load_published(path, tinytalk)
    check(task)
    assert task.role_names == ("gap1", "name", "gap2", "END")
    assert len({prompt.template for prompt in task.train.prompts}) == 8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TaskWarning)
        spelled = load_published(path, stories)
    check(spelled)
    assert spelled.bos
    assert not spelled.train.aligned


@pytest.mark.parametrize("name", ["simple_train", "nounpp_test", "within_rc_test"])
def test_agreement(real_folder, tinytalk, name):
    path = real_folder / "tasks" / "feature_circuits" / f"{name}.json"
    task = load_published(path, tinytalk, bos=True)
    check(task)
    assert task.bos
    assert {prompt.template for prompt in task.train.prompts} == {"agreement"}
    with pytest.warns(TaskWarning, match="multi token"):
        short = load_published(path, tinytalk, drop_multi_token=True)
    check(short)
    assert short.train.aligned
    assert short.provenance["left_out"]["multi_token"] > 0


def test_agreement_in_stories(real_folder, tinytalk):
    task = load_published(real_folder / "tasks" / "sva_story.jsonl", tinytalk)
    check(task)
    assert len({prompt.template for prompt in task.train.prompts}) == 6
    assert "subject" in task.role_names


def test_names_of_several_tokens(real_folder, stories):
    path = real_folder / "tasks" / "ioi_met.jsonl"
    with pytest.warns(TaskWarning, match="the first token stands for answers of several tokens"):
        load_published(path, stories)
    with pytest.warns(TaskWarning, match="multi token"):
        task = load_published(path, stories, drop_multi_token=True)
    check(task)
    assert task.provenance["left_out"]["multi_token"] > 1000


def test_generated_for_a_real_tokenizer(tinytalk, tmp_path):
    with pytest.warns(TaskWarning, match="words left out"):
        task = tasks.get("sva-within-rc").generate(tinytalk, n=80, bos=True, drop_multi_token=True)
    check(task)
    assert "skater" in task.provenance["dropped_words"]
    again = Task.load(task.save(tmp_path / "task.json"), tinytalk)
    assert again.train.clean.ablation_groups.equal(task.train.clean.ablation_groups)


@pytest.mark.parametrize("name", sorted(tasks.GENERATORS))
@pytest.mark.parametrize("model", ["SmolLM2-135M-Instruct", "gemma-3-270m"])
def test_every_task_is_made_for_modern_tokenizers(real_folder, model, name):
    folder = real_folder / "models" / model
    if not folder.is_dir():
        pytest.skip(f"no {model} in {folder.parent}")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TaskWarning)
        task = tasks.get(name).generate(tokenizer)
    check(task)
    assert len(task.train) + len(task.test) == tasks.get(name).n
    assert task.train.aligned
    if name.startswith("code"):
        assert task.provenance["answers_by_first_token"] == 512
