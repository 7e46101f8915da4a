"""BOS written out in a text is the one BOS, in rows of every form."""

import json

import pytest

from gossamer.errors import UsageError
from gossamer.tasks import Task
from gossamer.tasks.build import draft
from gossamer.tasks.encoding import AblationGroups, encode, role_names
from gossamer.tasks.metric import LOGIT_DIFFERENCE
from gossamer.tasks.prompt import Piece, Prompt
from gossamer.tasks.prompt_tokenizer import PromptTokenizer
from gossamer.tasks.storage import prompt_to_json, save_body, tokens_digest

BOS = "<|endoftext|>"
PAIRS = (("boy", "boys"), ("girl", "girls"), ("man", "men"), ("friend", "friends"), ("kid", "kids"), ("guy", "guys"))


def rows(start=BOS, roles=True):
    return [
        {
            "clean": f"{start}The {a} that",
            "counterfactual": f"{start}The {b} that",
            "answer": " is",
            "wrong": " are",
            **({"roles": {"subject": a}, "counterfactual_roles": {"subject": b}} if roles else {}),
        }
        for a, b in PAIRS
    ]


@pytest.fixture
def read(tmp_path):
    def read(content, tokenizer, **options):
        (tmp_path / "rows.json").write_text(json.dumps(content))
        return Task.from_file(tmp_path / "rows.json", tokenizer, **options)

    return read


def same(one, other):
    assert (one.bos, one.role_names, one.ablation_group_names) == (
        other.bos,
        other.role_names,
        other.ablation_group_names,
    )
    for ours, theirs in ((one.train, other.train), (one.test, other.test)):
        for a, b in ((ours.clean, theirs.clean), (ours.counterfactual, theirs.counterfactual)):
            assert a.tokens.ids.equal(b.tokens.ids)
            assert a.roles.equal(b.roles)


@pytest.mark.parametrize("roles", [True, False])
def test_written_out_or_added_there_is_one(read, tokenizer, with_bos, roles):
    plain = read(rows("", roles), with_bos)
    assert plain.bos
    ids = plain.train.clean.tokens.ids
    assert (ids[:, 0] == with_bos.bos_token_id).all()
    assert not (ids[:, 1] == with_bos.bos_token_id).any()
    assert (plain.train.clean.roles[:, 0] == -1).all()
    for content in (rows(BOS, roles), rows(2 * BOS, roles)):
        same(read(content, with_bos), plain)
        same(read(content, tokenizer), plain)
        same(read(content, tokenizer, bos=True), plain)
    same(read(rows("", roles), tokenizer, bos=True), plain)


def test_written_out_in_some_texts_only(read, tokenizer, with_bos):
    mixed = [*rows(BOS)[:2], *rows("")[2:]]
    same(read(mixed, with_bos), read(rows(""), with_bos))
    with pytest.raises(UsageError, match=r"prompt 0: begins with '<\|endoftext\|>' written out, but not all texts do"):
        read(mixed, tokenizer)
    one_side = [{**row, "counterfactual": row["counterfactual"].removeprefix(BOS)} for row in rows(BOS)]
    with pytest.raises(UsageError, match=r"use --bos \(bos=True in Python\) to begin all of them with it"):
        read(one_side, tokenizer)


def test_none_wanted_but_written_out_is_refused(read, tokenizer, with_bos):
    for known in (tokenizer, with_bos):
        with pytest.raises(UsageError, match=r"prompt 0: no BOS token expected, found '<\|endoftext\|>' written out"):
            read(rows(BOS), known, bos=False)
        assert not read(rows(""), known, bos=False).bos


def test_texts_that_only_look_like_it_stay(read, coarse):
    task = read(rows("<|start|>"), coarse)
    assert not task.bos
    assert all(prompt.clean_text.startswith("<|start|>") for prompt in task.train.prompts)


def test_a_task_that_was_saved_with_two_loads_as_it_was(with_bos, tmp_path):
    prompts = [
        Prompt(
            (Piece(f"{BOS}The "), Piece(a, "subject")), (Piece(f"{BOS}The "), Piece(b, "subject")), " is", " are", "x"
        )
        for a, b in PAIRS
    ]
    prompt_tokenizer = PromptTokenizer(with_bos, True)
    spelled = list(draft(dict(enumerate(prompts)), prompt_tokenizer, ()).rows.values())
    names = role_names(spelled)
    train, test = (
        encode(part, names, AblationGroups(spelled[:4]), 0, LOGIT_DIFFERENCE) for part in (spelled[:4], spelled[4:])
    )
    assert (train.clean.tokens.ids[:, :2] == with_bos.bos_token_id).all()
    sides = {"train": train, "test": test}
    body = {"name": "old", "roles": "given", "bos": True, "metric": "logit_diff", "provenance": {}}
    body |= {side: [prompt_to_json(prompt) for prompt in found.prompts] for side, found in sides.items()}
    save_body(tmp_path / "old.json", body | {"tokens_sha256": tokens_digest(train, test)})
    loaded = Task.load(tmp_path / "old.json", with_bos)
    assert loaded.train.clean.tokens.ids.equal(train.clean.tokens.ids)
