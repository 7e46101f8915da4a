"""Prompt files of auto-circuit, EAP-IG and MIB: samples by the rules of their formats, and what is refused."""

import csv
import itertools
import json
import random

import pytest
import torch

from gossamer.errors import GossamerError, UsageError
from gossamer.tasks import Task, TaskWarning, open_task
from gossamer.tasks.formats import YEARS
from gossamer.tasks.metric import LOGIT_DIFFERENCE, LOGIT_MARGIN, PROBABILITY_DIFFERENCE
from gossamer.tasks.reading import read_prompts

NAMES = ("Mary", "John", "Tom", "Anna", "Lily", "Ben", "Tim", "Sara")
IOI = "When {} and {} went to the store, {} gave a ring to"
LABELS = ["When", "Mary", "and", "John", "went", "to", "the", "store", ",", "John", "gave", "a", "ring", "to"]
WORDS = {"IO": 1, "IO-1": 0, "IO+1": 2, "S1": 3, "S1-1": 2, "S1+1": 4, "S2": 9, "end": 13, "starts": 0, "punct": 8}
NOUNS = ("war", "plan", "trip", "party")


def ioi_prompts():
    """As auto-circuit's own IOI files: the corrupt prompt has three other names."""
    rng = random.Random(0)
    rows = []
    for io, subject in itertools.permutations(NAMES, 2):
        others = rng.sample([name for name in NAMES if name not in (io, subject)], 3)
        rows.append(
            {
                "clean": IOI.format(io, subject, subject),
                "corrupt": IOI.format(*others),
                "answers": [f" {io}"],
                "wrong_answers": [f" {subject}"],
            }
        )
    return rows


def years():
    """(clean, corrupted, two digits) as the greater-than data of EAP-IG have them."""
    return [
        (f"The {noun} lasted from the year {century}{year:02d} to the year {century}",
         f"The {noun} lasted from the year {century}01 to the year {century}", year)
        for noun in NOUNS for century, year in ((11, 30), (13, 52), (16, 3), (17, 75), (17, 2))
    ]  # fmt: skip


@pytest.fixture(scope="module")
def digits(train_tokenizer):
    """Two digits are one token and so is a century after a space; " 1776" is one token of its own."""
    counted = [f"x{year:02d}" for year in range(100)]
    words = 20 * [f"The {' '.join(NOUNS)} lasted from the year to the year"]
    return train_tokenizer(words + 90 * [f"year {c}" for c in range(11, 18)] + 40 * counted + 2000 * ["year 1776"], 900)


@pytest.fixture
def write_json(tmp_path):
    def write(body, name="prompts.json"):
        (tmp_path / name).write_text(json.dumps(body, indent=1))
        return tmp_path / name

    return write


@pytest.fixture
def write_csv(tmp_path):
    def write(columns, rows, name="prompts.csv"):
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
        return tmp_path / name

    return write


def all_prompts(task):
    return [prompt for side in (task.train, task.test) for prompt in side.prompts]


def words_of(prompt, role):
    return [piece.text.strip() for piece in prompt.clean if piece.role == role]


@pytest.mark.parametrize("bos", [0, 1])
def test_auto_circuits_positions_become_roles(tokenizer, write_json, bos):
    labels = ["BOS"] * bos + LABELS
    words = {name: place + bos for name, place in WORDS.items()} | ({"starts": 0} if bos else {})
    path = write_json({"seq_labels": labels, "word_idxs": words, "prompts": ioi_prompts()})
    task = open_task(path, tokenizer)
    assert task.metric is LOGIT_DIFFERENCE
    assert {"IO", "S1", "S2", "IO-1", "punct", "END"} <= set(task.role_names)
    assert len(all_prompts(task)) == 56
    for prompt in all_prompts(task):
        assert words_of(prompt, "IO") == [prompt.answer.strip()]
        assert words_of(prompt, "S1") == words_of(prompt, "S2") == [prompt.wrong.strip()]
        others = [piece.text.strip() for piece in prompt.counterfactual if piece.role in ("IO", "S1", "S2")]
        assert len(set(others)) == 3
    assert task.train.aligned
    assert task.provenance["roles_from"] == "given"


def test_labels_alone_name_every_token(tokenizer, write_json):
    task = open_task(write_json({"seq_labels": LABELS, "prompts": ioi_prompts()}), tokenizer)
    assert task.role_names == (*LABELS[:9], "John9", "gave", "a", "ring", "to13")


def test_prompts_that_the_labels_do_not_fit_are_left_out_and_said(tokenizer, write_json):
    longer = [{**row, **{side: f"Then, {row[side]}" for side in ("clean", "corrupt")}} for row in ioi_prompts()[:5]]
    path = write_json({"seq_labels": LABELS, "word_idxs": WORDS, "prompts": [*ioi_prompts(), *longer]})
    with pytest.warns(TaskWarning, match="5 prompts left out, of other numbers of tokens"):
        task = open_task(path, tokenizer)
    assert len(all_prompts(task)) == 56
    assert task.provenance["without_labels"] == 5
    every = open_task(path, tokenizer, roles="answers", names=("IO", "S"))
    assert len(all_prompts(every)) == 61


def test_labels_of_another_tokenizer_are_refused_with_a_way_out(coarse, write_json):
    path = write_json({"seq_labels": LABELS, "word_idxs": WORDS, "prompts": ioi_prompts()})
    with pytest.raises(UsageError, match=r"texts of 14 tokens, found texts of \d+: .*another tokenizer.*--roles diff"):
        open_task(path, coarse)


def test_one_right_and_many_wrong_answers_are_measured_by_the_margin(tokenizer, write_json, tmp_path):
    prompts = ioi_prompts()
    for row in prompts:
        words = row["corrupt"].replace(",", "").split()
        row["wrong_answers"] += [f" {words[1]}", f" {words[3]}"]
    task = open_task(write_json({"prompts": prompts}), tokenizer, roles="diff")
    assert task.metric is LOGIT_MARGIN
    for side in (task.train, task.test):
        for row, prompt in enumerate(side.prompts):
            wrong = [tokenizer.convert_tokens_to_ids("Ġ" + word.strip()) for word in prompt.wrong_answers]
            assert side.wrong_answers()[row].tolist() == wrong
            assert side.answers()[row].tolist() == [tokenizer.convert_tokens_to_ids("Ġ" + prompt.answer.strip())]
    logits = torch.randn(len(task.train), len(tokenizer), generator=torch.Generator().manual_seed(0))
    best = logits.gather(1, task.train.wrong_answers()).amax(dim=1)
    torch.testing.assert_close(task.train.measure(logits), logits.gather(1, task.train.answer[:, None])[:, 0] - best)
    again = Task.load(task.save(tmp_path / "saved.json"), tokenizer)
    assert again.train.wrong_answers().equal(task.train.wrong_answers())
    assert again.metric is LOGIT_MARGIN


@pytest.mark.parametrize("form", ["csv", "auto-circuit"])
def test_greater_than_is_the_published_metric(digits, write_csv, write_json, form):
    if form == "csv":
        path = write_csv(("clean", "corrupted", "correct_idx"), years())
    else:
        rows = [
            {"clean": a, "corrupt": b, "answers": YEARS[year + 1 :], "wrong_answers": YEARS[: year + 1]}
            for a, b, year in years()
        ]
        path = write_json({"prompts": rows})
    task = open_task(path, digits)
    assert task.metric is PROBABILITY_DIFFERENCE
    assert "year" in task.role_names
    assert len(all_prompts(task)) == 20
    known = {clean: year for clean, _, year in years()}
    # As EAP-IG takes it: the tokens of the two digits by themselves, also of " 1776", which is one token here.
    ids = torch.tensor([digits(text)["input_ids"][0] for text in YEARS])
    assert digits("year 1776")["input_ids"] != [*digits("year 17")["input_ids"], ids[76].item()]
    for side in (task.train, task.test):
        logits = 5 * torch.randn(len(side), len(digits), generator=torch.Generator().manual_seed(1))
        found, probabilities = side.measure(logits), logits.double().softmax(dim=1)[:, ids]
        for row, prompt in enumerate(side.prompts):
            year = known[prompt.clean_text]
            expected = probabilities[row, year + 1 :].sum() - probabilities[row, : year + 1].sum()
            assert found[row].item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
            assert words_of(prompt, "year") == [prompt.clean_text.split()[6]]


def test_token_ids_of_names(tokenizer, write_csv):
    rows = []
    for number, row in enumerate(ioi_prompts()):
        ids = (tokenizer(row[side][0])["input_ids"][0] for side in ("answers", "wrong_answers"))
        rows.append((number, row["clean"], row["corrupt"], row["corrupt"], *ids))
    path = write_csv(("", "clean", "corrupted", "corrupted_hard", "correct_idx", "incorrect_idx"), rows)
    task = open_task(path, tokenizer)
    assert {"IO", "S1", "S2"} <= set(task.role_names), "recognised by its rows"
    assert [prompt.key for prompt in read_prompts(path, tokenizer).prompts] == [
        (row["clean"], row["corrupt"], tuple(row["answers"]), tuple(row["wrong_answers"])) for row in ioi_prompts()
    ]
    rows[3] = (*rows[3][:4], 10**6, rows[3][5])
    path = write_csv(("", "clean", "corrupted", "corrupted_hard", "correct_idx", "incorrect_idx"), rows)
    with pytest.raises(UsageError, match=r"row 3: a token id below \d+ expected, found 1000000: .* another tokenizer"):
        open_task(path, tokenizer)


@pytest.mark.parametrize(
    ("columns", "cells", "answers", "wrong"),
    [
        (("answer", "wrong_answer"), (" is", " are"), (" is",), (" are",)),
        (("correct", "incorrect"), ("is", "are"), (" is",), (" are",)),
        (("country", "country_idx", "corrupted_country"), ("is", 7, "are"), (" is",), (" are",)),
        (("answers", "corrupted_answers"), ("['is', 'has']", '["are", "have"]'), (" is", " has"), (" are", " have")),
        (("answers", "wrong_answers"), ("is", "['are']"), (" is",), (" are",)),
    ],
)  # fmt: skip
def test_answers_as_text(tokenizer, write_csv, columns, cells, answers, wrong):
    rows = [(f"The {a}", f"The {b}", *cells) for a, b in (("boy", "boys"), ("girl", "girls"), ("man", "men"))]
    prompts = read_prompts(write_csv(("clean", "corrupted", *columns), rows), tokenizer).prompts
    assert [(prompt.answers, prompt.wrong_answers) for prompt in prompts] == 3 * [(answers, wrong)]


def test_lists_of_token_ids(tokenizer, write_csv):
    ids = {word: tokenizer(word)["input_ids"][0] for word in (" is", " has", " are", " have")}
    cells = (f"[{ids[' is']}, {ids[' has']}]", f"[{ids[' are']}, {ids[' have']}]")
    path = write_csv(("clean", "corrupted", "answers_idx", "corrupted_answers_idx"), [("The boy", "The boys", *cells)])
    (prompt,) = read_prompts(path, tokenizer).prompts
    assert (prompt.answers, prompt.wrong_answers) == ((" is", " has"), (" are", " have"))


def test_written_prompts_read_back_with_all_their_answers(digits, write_csv, tmp_path):
    task = open_task(write_csv(("clean", "corrupted", "correct_idx"), years()), digits)
    ours = [prompt.key for prompt in all_prompts(task)]
    for form, name in (("gossamer", "a.json"), ("gossamer", "a.jsonl"), ("auto-circuit", "b.json")):
        path = task.write_prompts(tmp_path / name, form)
        assert [prompt.key for prompt in read_prompts(path, digits).prompts] == ours
    with pytest.raises(UsageError, match="holds one right and one wrong answer"):
        task.write_prompts(tmp_path / "c.json", "published")


GOOD = {"clean": "The boy", "corrupt": "The boys", "answers": [" is"], "wrong_answers": [" are"]}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"prompts": 3}, "a list of prompts expected"),
        ({"prompts": []}, "rows expected, found none"),
        ({"prompts": [3]}, "row 0: an object expected"),
        (
            {"prompts": [GOOD, {**GOOD, "clean": [3, 0, 1]}]},
            r"row 1: text expected for clean, found \[3, 0, 1\]",
        ),
        ({"prompts": [{"clean": "a", "corrupt": "b", "answers": ["c"]}]}, "row 0: wrong_answers expected, found none"),
        ({"prompts": [{**GOOD, "answers": []}]}, r"row 0: texts or token ids expected for answers, found \[\]"),
        ({"prompts": [{**GOOD, "answers": [[1]]}]}, r"texts or token ids expected for answers, found \[\[1\]\]"),
        ({"prompts": [{**GOOD, "answers": [True]}]}, "texts or token ids expected for answers"),
        ({"prompts": [{**GOOD, "answers": [10**9]}]}, "a token id below"),
        ({"prompts": [GOOD], "seq_labels": [1]}, "a list of texts expected for seq_labels"),
        ({"prompts": [GOOD], "word_idxs": {"x": "1"}}, "an object of token positions expected for word_idxs"),
    ],
)
def test_auto_circuit_files_are_refused(tokenizer, write_json, body, says):
    with pytest.raises(UsageError, match=says):
        open_task(write_json(body), tokenizer)


@pytest.mark.parametrize(
    ("columns", "row", "says"),
    [
        (("text", "corrupted"), ("a", "b"), "columns clean and corrupted expected, found text, corrupted"),
        (("clean", "answer"), ("a", "b"), "columns clean and corrupted expected"),
        (
            ("clean", "corrupted", "group", "plural"),
            ("a", "b", "c", 1),
            "columns of answers expected .*found clean",
        ),
        (("clean", "corrupted", "correct_idx"), ("a", "b", "x"), "two digits of a year, 0 to 98 expected, found 'x'"),
        (("clean", "corrupted", "correct_idx"), ("a", "b", 99), "0 to 98 expected, found '99'"),
        (
            ("clean", "corrupted", "correct_idx", "incorrect_idx"),
            ("a", "b", "x", 1),
            "row 0: token ids expected",
        ),
        (("clean", "corrupted", "answer", "wrong"), ("a", "b", " c"), "row 0: 4 cells expected, found 3"),
        (("clean", "corrupted", "answer", "wrong"), ("a", "b", "", " d"), "text expected for answer, found ''"),
    ],
)
def test_csv_files_are_refused(tokenizer, write_csv, columns, row, says):
    with pytest.raises(UsageError, match=says):
        open_task(write_csv(columns, [row]), tokenizer)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("deep.json", b"[" * 60_000, "lists or objects nested too deep"),
        ("long.json", b'[{"clean": ' + b"7" * 5_000 + b"}]", "a number of too many digits"),
        ("open.csv", b'clean,corrupted,answer,wrong\n"' + b"x" * 200_000, "expected CSV, found damage"),
        ("bytes.csv", b"\xff\xfeclean", "found other bytes"),
    ],
)
def test_damaged_files_are_one_line(tokenizer, tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GossamerError, match=says) as error:
        open_task(tmp_path / name, tokenizer)
    assert "\n" not in str(error.value)
