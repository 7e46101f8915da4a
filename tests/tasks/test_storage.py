"""Saved tasks come back exactly, or not at all."""

import hashlib
import json
import random

import pytest

from gossamer import tasks
from gossamer.errors import GossamerError, UsageError
from gossamer.tasks import Task


def same(a, b):
    """Whether two tasks are equal in everything."""
    plain = ("name", "role_names", "ablation_group_names", "bos", "metric", "provenance", "roles")
    if any(getattr(a, field) != getattr(b, field) for field in plain):
        return False
    for ours, theirs in ((a.train, b.train), (a.test, b.test)):
        if ours.prompts != theirs.prompts or ours.aligned != theirs.aligned or not ours.answer.equal(theirs.answer):
            return False
        for x, y in ((ours.clean, theirs.clean), (ours.counterfactual, theirs.counterfactual)):
            pairs = (
                (x.tokens.ids, y.tokens.ids),
                (x.tokens.mask, y.tokens.mask),
                (x.roles, y.roles),
                (x.ablation_groups, y.ablation_groups),
            )
            if not all(p.equal(q) for p, q in pairs) or not x.answer_position.equal(y.answer_position):
                return False
    return True


@pytest.mark.parametrize("name", sorted(tasks.GENERATORS))
def test_round_trip(name, with_bos, tmp_path):
    task = tasks.get(name).generate(with_bos, n=40, seed=5)
    path = task.save(tmp_path / "task.json")
    assert same(Task.load(path, with_bos), task)
    assert path.read_bytes() == Task.load(path, with_bos).save(tmp_path / "again.json").read_bytes()


def test_round_trip_by_position(tokenizer, tmp_path):
    prompts = tasks.get("sva-nounpp").sample(random.Random(0), 40)
    task = Task.from_prompts(
        prompts, tokenizer, name="positions", roles="position", bos=True, provenance={"by": "hand"}
    )
    assert task.role_names == ("p0", "p1", "p2", "p3", "END")
    assert same(Task.load(task.save(tmp_path / "task.json"), tokenizer), task)


@pytest.fixture
def saved(tokenizer, tmp_path):
    return tasks.get("ioi").generate(tokenizer, n=30).save(tmp_path / "task.json")


def test_another_tokenizer_is_noticed(saved, coarse):
    with pytest.raises(GossamerError, match="encodes the prompts differently"):
        Task.load(saved, coarse)


@pytest.mark.parametrize("change", [lambda body: body.update(name="x"), lambda body: body["train"].pop()])
def test_edits_are_noticed(saved, tokenizer, change):
    body = json.loads(saved.read_text())
    change(body)
    saved.write_text(json.dumps(body))
    with pytest.raises(GossamerError, match="checksum"):
        Task.load(saved, tokenizer)


def test_damage_is_noticed(saved, tokenizer, tmp_path):
    saved.write_text(saved.read_text()[:-40])
    with pytest.raises(GossamerError, match="damage"):
        Task.load(saved, tokenizer)
    for value in ([], {"format": "other"}, 3):
        saved.write_text(json.dumps(value))
        with pytest.raises(GossamerError, match="expected a saved task"):
            Task.load(saved, tokenizer)
    with pytest.raises(UsageError, match="no such file"):
        Task.load(tmp_path / "none.json", tokenizer)


def test_provenance_must_be_plain(tokenizer):
    prompts = tasks.get("ioi").sample(random.Random(0), 10)
    with pytest.raises(UsageError, match="values that JSON can hold"):
        Task.from_prompts(prompts, tokenizer, name="x", provenance={"x": object()})


def test_a_file_of_the_first_version_loads(saved, tokenizer):
    """Its checksum was of other bytes: characters were not escaped."""
    body = json.loads(saved.read_text())
    body["provenance"]["author"] = "é"
    plain = {name: value for name, value in body.items() if name not in ("format", "sha256")}
    summed = hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    old = saved.with_name("old.json")
    old.write_text(json.dumps({"format": "gossamer task 1", "sha256": summed, **plain}), encoding="utf-8")
    loaded = Task.load(old, tokenizer)
    assert loaded.body() == plain
    assert same(tasks.open_task(old, tokenizer), loaded)
    plain["name"] = "edited"
    old.write_text(json.dumps({"format": "gossamer task 1", "sha256": summed, **plain}), encoding="utf-8")
    with pytest.raises(GossamerError, match="checksum"):
        Task.load(old, tokenizer)


def test_a_file_of_a_later_version_says_so(saved, tokenizer):
    saved.write_text(saved.read_text().replace("gossamer.task.2", "gossamer.task.3"))
    with pytest.raises(UsageError, match=r"expected a saved task .* found version 3: upgrade gossamer"):
        tasks.open_task(saved, tokenizer)
