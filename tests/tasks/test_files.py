"""Prompts from files and back: forms, roles, traps and refusals."""

import itertools
import json
import re
from pathlib import Path

import pytest

from gossamer import tasks
from gossamer.errors import GossamerError, UsageError
from gossamer.tasks import Task, TaskWarning
from gossamer.tasks.published import load_published, recognise
from gossamer.tasks.reading import read_prompts, read_rows

SUBJECTS = ("boy", "girl", "man", "woman", "friend", "kid", "guy", "doctor")
PLURALS = ("boys", "girls", "men", "women", "friends", "kids", "guys", "doctors")
NAMES = ("Mary", "John", "Tom", "Anna", "Lily", "Ben", "Tim", "Sara")


def agreement_rows():
    """Published rows whose case reveals the answer."""
    pairs = zip((*SUBJECTS, *PLURALS), (*PLURALS, *SUBJECTS), 8 * ["singular"] + 8 * ["plural"], strict=True)
    return [
        {
            "clean_prefix": f"The {a}",
            "patch_prefix": f"The {b}",
            "clean_answer": " is" if number == "singular" else " are",
            "patch_answer": " are" if number == "singular" else " is",
            "case": number,
        }
        for a, b, number in pairs
    ]


def ioi_rows():
    rows = []
    for place in ("store", "park"):
        for number, (a, b) in enumerate(itertools.pairwise(NAMES)):
            io, s = (a, b) if number % 2 else (b, a)
            text = f"Then, {a} and {b} went to the {place}. {{}} gave a ring to"
            rows.append(
                {
                    "clean_prefix": text.format(s),
                    "patch_prefix": text.format(io),
                    "clean_answer": f" {io}",
                    "patch_answer": f" {s}",
                    "case": f"{'ABBA' if io == a else 'BABA'}_{place}_gave",
                }
            )
    return rows


def own_rows():
    """Rows of our form, with roles for both texts."""
    return [
        {
            "clean": f"The {a} that the chef",
            "counterfactual": f"The {b} that the chef",
            "answer": " is",
            "wrong": " are",
            "roles": {"subject": a, "noun": [4 + len(a) + 10, 4 + len(a) + 14]},
            "counterfactual_roles": {"subject": b, "noun": [[4 + len(b) + 10, 4 + len(b) + 14]]},
        }
        for a, b in zip(SUBJECTS, PLURALS, strict=True)
    ]


@pytest.fixture
def written(tmp_path):
    def write(rows, name="rows.json", lines=False):
        path = tmp_path / name
        path.write_text("\n".join(map(json.dumps, rows)) + "\n" if lines else json.dumps(rows, indent=1))
        return path

    return write


def words_with_role(task, role):
    return {
        piece.text
        for side in (task.train, task.test)
        for prompt in side.prompts
        for piece in prompt.clean
        if piece.role == role
    }


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
@pytest.mark.parametrize("lines", [True, False])
def test_arrays_and_lines_under_either_name(written, tokenizer, name, lines):
    task = Task.from_file(written(agreement_rows(), name, lines), tokenizer)
    assert len(task.train) + len(task.test) == 16
    assert task.role_names == ("p0", "END")
    assert task.name == "rows"


@pytest.mark.parametrize("lines", [True, False])
def test_a_byte_order_mark_is_no_damage(written, tokenizer, lines):
    path = written(agreement_rows(), lines=lines)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_prompts(path, tokenizer).prompts) == 16


@pytest.mark.parametrize("field", ["clean", "wrong", "case"])
def test_half_a_character_is_refused(written, tokenizer, field):
    rows = [*own_rows(), {**own_rows()[0], field: "The \ud83d"}]
    with pytest.raises(GossamerError, match=r"expected JSON, found half of a character \('\\ud83d'\)"):
        read_prompts(written(rows), tokenizer)
    rows[-1][field] = "The \U0001f600"
    assert len(read_rows(written(rows))) == 9


def test_own_rows_with_roles(written, tokenizer):
    task = Task.from_file(written(own_rows()), tokenizer)
    assert task.role_names == ("gap1", "subject", "gap2", "noun")
    assert words_with_role(task, "subject") == set(SUBJECTS)
    assert words_with_role(task, "noun") == {"chef"}
    assert task.train.aligned
    assert task.provenance["roles_from"] == "given"


def test_the_readmes_example_is_read(tmp_path, tokenizer):
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    path = tmp_path / "rows.jsonl"
    path.write_text(" ".join(re.search(r"```json\n(.*?)```", text, re.DOTALL).group(1).split("\n")))
    (prompt,) = read_prompts(path, tokenizer).prompts
    assert [(piece.text, piece.role) for piece in prompt.clean if piece.role] == [("Mary", "IO"), ("Tom", "S2")]


def test_roles_are_carried_to_a_counterfactual_of_equal_length(written, tokenizer):
    rows = [{key: value for key, value in row.items() if key != "counterfactual_roles"} for row in own_rows()]
    carried, given = (Task.from_file(written(kind), tokenizer) for kind in (rows, own_rows()))
    assert carried.train.counterfactual.roles.equal(given.train.counterfactual.roles)


def test_roles_are_not_carried_to_another_length(written, tokenizer):
    rows = [{**own_rows()[0], "counterfactual": "The kind old boys that the chef"}]
    del rows[0]["counterfactual_roles"]
    with pytest.raises(UsageError, match=r"row 0.*counterfactual_roles"):
        Task.from_file(written(rows), tokenizer)


def test_unequal_lengths_without_roles_say_how_to_give_them(written, tokenizer):
    rows = [{key: row[key] for key in ("clean", "counterfactual", "answer", "wrong")} for row in own_rows()]
    rows += [{**rows[0], "clean": "The boy near the chef that"}]
    with pytest.raises(UsageError, match=r'one length, found 5 to 6 tokens.*"roles".*--roles answers'):
        Task.from_file(written(rows), tokenizer)
    with pytest.warns(TaskWarning, match="1 other length"):
        task = Task.from_file(written(rows), tokenizer, length=5)
    assert task.role_names == ("p0", "p1", "p2", "p3", "END")
    assert len(task.train) + len(task.test) == 8


def test_answers_become_roles_with_ordinals(written, tokenizer):
    task = Task.from_file(
        written(ioi_rows()), tokenizer, roles="answers", names=("IO", "S"), template_pattern=r"^(?:ABBA|BABA)_(.*)$"
    )
    assert {"IO", "S1", "S2", "END"} <= set(task.role_names)
    for prompt in task.train.prompts:
        assert prompt.template in ("store_gave", "park_gave")
        words = {piece.role: piece.text for piece in prompt.clean}
        assert words["IO"] == prompt.answer.strip()
        assert words["S1"] == words["S2"] == prompt.wrong.strip()
    assert task.train.aligned


def test_answers_with_other_names_in_the_counterfactual_are_carried(written, tokenizer):
    rows = [{**row, "patch_prefix": "Then, Max and Mia went to the park. Bob gave a ring to"} for row in ioi_rows()]
    prompt = read_prompts(written(rows), tokenizer, roles="answers", names=("IO", "S")).prompts[0]
    words = {piece.role: piece.text.strip() for piece in prompt.counterfactual if piece.role}
    assert sorted(words) == ["IO", "S1", "S2"]
    assert words["S2"] == "Bob"


def test_differences_become_roles(written, tokenizer):
    task = Task.from_file(written(agreement_rows()), tokenizer, roles="diff")
    assert task.role_names == ("gap1", "differs1")
    named = Task.from_file(written(agreement_rows()), tokenizer, roles="diff", names=("subject",))
    assert named.role_names == ("gap1", "subject")
    assert words_with_role(named, "subject") == {*SUBJECTS, *PLURALS}


def test_patterns_become_roles(written, tokenizer):
    task = Task.from_file(written(agreement_rows()), tokenizer, roles="pattern", pattern=r"The (?P<subject>\w+)")
    assert task.role_names == ("gap1", "subject")


def test_integer_answers_become_text_and_are_said(written, tokenizer):
    rows = [
        {
            "clean_prefix": f">>> data = [{a}, {b}]\n>>> data[0]\n",
            "patch_prefix": f">>> data = [{a}, {b}]\n>>> data[1]\n",
            "clean_answer": a,
            "patch_answer": str(b),
            "case": "x",
        }
        for a, b in zip(range(5), range(5, 10), strict=True)
    ]
    task = load_published(written(rows), tokenizer)
    assert task.provenance["integer_answers_made_text"] == 5
    assert {prompt.answer for prompt in (*task.train.prompts, *task.test.prompts)} == set("01234")


def test_duplicates_are_used_once_and_said(written, tokenizer):
    task = Task.from_file(written(agreement_rows() * 3), tokenizer)
    assert len(task.train) + len(task.test) == 16
    assert task.provenance["left_out"]["duplicates"] == 32


def test_the_first_token_stands_for_an_answer_where_it_decides(written, tokenizer):
    rows = [*agreement_rows(), {**agreement_rows()[0], "clean_answer": " hippopotamus"}]
    with pytest.warns(TaskWarning, match=r"first token stands for answers of several tokens in 1 prompts: ' hippo"):
        task = Task.from_file(written(rows), tokenizer)
    assert task.provenance["answers_by_first_token"] == 1
    assert task.provenance["left_out"]["multi_token"] == 0
    for side in (task.train, task.test):
        for row, prompt in enumerate(side.prompts):
            ids = tokenizer(prompt.clean_text + prompt.answer)["input_ids"]
            assert int(side.answer[row]) == ids[int(side.clean.end[row]) + 1]
    again = Task.load(task.save(written([]).parent / "saved.json"), tokenizer)
    assert again.train.answer.equal(task.train.answer)
    with pytest.warns(TaskWarning, match=r"1 multi token \(' hippopotamus' \(answer: several tokens"):
        task = Task.from_file(written(rows), tokenizer, drop_multi_token=True)
    assert task.provenance["left_out"]["multi_token"] == 1


def test_answers_that_begin_alike_are_left_out_and_said(written, tokenizer):
    rows = [*agreement_rows(), {**agreement_rows()[0], "clean_answer": " thexa", "patch_answer": " thexb"}]
    ids = [tokenizer(f"The{answer}")["input_ids"] for answer in (" thexa", " thexb")]
    assert ids[0][1] == ids[1][1]
    with pytest.warns(TaskWarning, match=r"1 multi token.*' thexa' \(answer: .*; both begin with the same token"):
        task = Task.from_file(written(rows), tokenizer)
    assert task.provenance["left_out"]["multi_token"] == 1
    assert len(task.train) + len(task.test) == 16


def test_a_first_token_that_is_a_space_stands_for_nothing(written, coarse):
    rows = [{**row, "clean_answer": " Zoë"} for row in agreement_rows()]
    before = coarse("The boy")["input_ids"]
    assert coarse.decode(coarse("The boy Zoë")["input_ids"][len(before)]) == " "
    with pytest.raises(UsageError, match=r"found none that can be used of 16.*' Zoë' \(answer:  \|Z\|"):
        Task.from_file(written(rows), coarse)


def test_nothing_left(written, tokenizer):
    rows = [{**row, "clean_answer": " thexa", "patch_answer": " thexb"} for row in agreement_rows()]
    with pytest.raises(UsageError, match=r"found none that can be used of 16.*first, prompt 0: .*' thexa' \(answer"):
        Task.from_file(written(rows), tokenizer)


def test_a_prompt_that_ends_in_a_space_is_named_as_the_cause(written, tokenizer):
    rows = [{**row, "clean_prefix": row["clean_prefix"] + " "} for row in agreement_rows()]
    rows = [{**row, "clean_answer": row["clean_answer"].strip()} for row in rows]
    with pytest.raises(UsageError, match="the prompt ends in a space: move it to the answer"):
        Task.from_file(written(rows), tokenizer)


def test_a_case_of_null_is_no_case(written, tokenizer):
    task = Task.from_file(written([{**row, "case": None} for row in agreement_rows()]), tokenizer)
    assert {prompt.case for prompt in (*task.train.prompts, *task.test.prompts)} == {""}
    assert task.provenance["cases"] == {"": 16}


def test_presets_know_their_files(written, tokenizer):
    ioi = load_published(written(ioi_rows()), tokenizer)
    assert {"IO", "S1", "S2"} <= set(ioi.role_names)
    assert {prompt.template for prompt in ioi.train.prompts} == {"store_gave", "park_gave"}
    agreement = load_published(written(agreement_rows()), tokenizer)
    assert agreement.role_names == ("gap1", "subject")
    # The case is the number of the subject, so that a template made of it would give the answer away.
    assert {prompt.template for prompt in agreement.train.prompts} == {"agreement"}
    named = [{**row, "case": "The {x} is/are"} for row in agreement_rows()]
    assert recognise(written(named)).name == "subject_in_case"
    assert {prompt.template for prompt in load_published(written(named), tokenizer).train.prompts} == {"The {x}"}
    with pytest.raises(UsageError, match=r"known kind expected .*ioi_orders"):
        load_published(written([{**row, "case": "?"} for row in agreement_rows()]), tokenizer)


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_written_prompts_read_back(tokenizer, tmp_path, suffix):
    task = tasks.get("ioi").generate(tokenizer, n=40)
    path = task.write_prompts(tmp_path / f"own{suffix}")
    again = read_prompts(path, tokenizer)
    ours = [*task.train.prompts, *task.test.prompts]
    assert [prompt.key for prompt in again.prompts] == [prompt.key for prompt in ours]
    assert [prompt.template for prompt in again.prompts] == [prompt.template for prompt in ours]
    for new, old in zip(again.prompts, ours, strict=True):
        assert [piece for piece in new.clean if piece.role] == [piece for piece in old.clean if piece.role]
    published = task.write_prompts(tmp_path / f"published{suffix}", form="published")
    assert [prompt.key for prompt in read_prompts(published, tokenizer).prompts] == [prompt.key for prompt in ours]
    with pytest.raises(UsageError, match="gossamer, published or auto-circuit"):
        task.write_prompts(path, form="csv")


GOOD = agreement_rows()[0]
IN_CLEAN = {"clean": "The boy", "counterfactual": "The boys", "answer": " is", "wrong": " are"}


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        ([], {}, "rows expected, found none"),
        ([3], {}, "row 0: an object expected, found int"),
        ([GOOD, {"clean_prefix": "The"}], {}, "row 1: counterfactual, answer, wrong expected"),
        ([{**GOOD, "clean_answer": True}], {}, "text expected for answer, found True"),
        ([{**GOOD, "clean_answer": 1.5}], {}, "text expected for answer, found 1.5"),
        ([{**GOOD, "clean_prefix": ""}], {}, "text expected for clean"),
        ([{**GOOD, "clean_prefix": "  "}], {}, "text expected"),
        ([{**GOOD, "patch_answer": " is"}], {}, "two different answers expected"),
        ([GOOD], {"roles": "guess"}, "given, position, answers, diff, pattern"),
        ([GOOD], {"roles": "given"}, "row 0: roles such as"),
        ([GOOD], {"roles": "answers"}, "found neither"),
        ([GOOD], {"roles": "answers", "names": ("one",)}, "two names, found 1"),
        ([GOOD], {"roles": "pattern"}, "needs pattern="),
        ([GOOD], {"roles": "pattern", "pattern": "The ("}, "a regular expression expected"),
        ([GOOD], {"roles": "pattern", "pattern": r"The \w+"}, "named groups"),
        ([GOOD], {"roles": "pattern", "pattern": r"A (?P<x>\w+)"}, "to match the whole text"),
        ([GOOD], {"template_pattern": "x(.*)"}, "expected in the case"),
        ([GOOD], {"test_fraction": 1.0}, "between 0 and 1"),
        ([GOOD], {}, "for training and for testing expected"),
        ([{**GOOD, "patch_prefix": "The two boys"}], {"roles": "diff"}, "equally many words"),
        ([{**GOOD, "patch_prefix": "The boy"}], {"roles": "diff"}, "the same text twice"),
        ([{**IN_CLEAN, "roles": {"x": "girl"}}], {}, "'girl' expected in the text"),
        ([{**IN_CLEAN, "roles": {"x": [4, 9]}}], {}, "a span inside the text"),
        ([{**IN_CLEAN, "roles": {"x": [4, 7], "y": [5, 7]}}], {}, "overlaps no other"),
        ([{**IN_CLEAN, "roles": {"x": 4}}], {}, "a list of those spans expected"),
        ([{**IN_CLEAN, "roles": {"x": [4, 5, 6]}}], {}, "a list of those spans expected"),
        ([{**IN_CLEAN, "roles": ["x"]}], {}, "an object such as"),
        ([{**IN_CLEAN, "roles": {"gap1": "boy"}}], {}, "rename the role"),
        ([{**IN_CLEAN, "roles": {"x": [4, 6]}}], {}, "tokens of their own"),
    ],
)
def test_refuses(written, tokenizer, rows, options, says):
    with pytest.raises(UsageError, match=says):
        Task.from_file(written(rows), tokenizer, **options)


def test_missing_and_damaged_files(tmp_path, tokenizer):
    with pytest.raises(UsageError, match="no such file"):
        Task.from_file(tmp_path / "none.json", tokenizer)
    for name, content, says in (
        ("a.json", b'[{"clean": ', r"a\.json: expected JSON, found damage"),
        ("b.jsonl", b'{"clean": 1}\n{"cle', r"b\.jsonl, line 2: expected JSON, found damage"),
        ("c.json", b"\xff\xfe", r"c\.json: expected UTF-8 prompts .*, found other bytes"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GossamerError, match=says):
            Task.from_file(tmp_path / name, tokenizer)
