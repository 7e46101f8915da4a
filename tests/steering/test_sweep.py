"""Sweeps: a batch of everything against one cell at a time, stopping and going on, and what is refused."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_intervention import SITE, random_dictionary

from gossamer.chat import Failure
from gossamer.errors import NotFiniteError, UsageError
from gossamer.model.generation import Sampling
from gossamer.report.steering import write_steering
from gossamer.results import digest
from gossamer.steering import add, clamp, judged_examples, steered
from gossamer.steering.benefit import WordList
from gossamer.steering.cell import Cell
from gossamer.steering.completions import Completions, SamplingPlan, complete
from gossamer.steering.judge import Ratings, harmonic_mean
from gossamer.steering.pareto import UNSTEERED
from gossamer.steering.predictions import accuracies
from gossamer.steering.sweep import SweepPlan, load_sweep, measured_benefits, numbers, sweep, sweep_curves
from gossamer.steering.vector_notes import VectorNotes
from gossamer.tasks import Task
from gossamer.tasks.prompt import Piece, Prompt
from gossamer.tokens import Tokens

PROMPTS = [" Mary went to", " John and", " Then Tom"]
NEUTRAL = [" Mary went to the store", " John and Mary", " Then John gave a drink to Mary and John", " Tom met them"]
PLAN = SamplingPlan(samples=3, max_new_tokens=6, seed=2)


def cells():
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    pushes = [Cell("add", (add(SITE, vector, c),)) for c in (0.5, 1.5)]
    return [
        Cell(UNSTEERED),
        Cell("prompt", prefix=" He was sad"),
        *pushes,
        *(Cell("clamp", (clamp(random_dictionary(SITE), 3, c),)) for c in (2.0, 6.0)),
    ]


class Rater:
    """Rates by length, and cannot say of some."""

    name = "length"

    def rate(self, concept, prompts, completions):
        return [Failure.UNPARSED if len(text) % 9 == 8 else Ratings(len(text) % 3, 2, 2) for text in completions]


@pytest.fixture
def plan(tiny_gpt2):
    words = WordList(("sad", "happy", "dog", "he"))
    return SweepPlan(PROMPTS, words, tiny_gpt2.tokenize(NEUTRAL), PLAN, rows_at_once=18)


def test_what_is_written_is_what_each_cell_writes_alone(tiny_gpt2):
    """Cell by cell, with the same draws, by the model's own `generate` under one intervention."""
    found = complete(tiny_gpt2, cells(), PROMPTS, PLAN)
    for cell, written in zip(cells(), found, strict=True):
        texts = [cell.prefix + prompt for prompt in PROMPTS for _ in range(3)]
        with steered(tiny_gpt2, cell.interventions):
            alone = tiny_gpt2.generate(texts, max_new_tokens=6, temperature=1.0, seed=2)
        assert torch.equal(written.new.ids[written.new.mask], alone.new.ids[alone.new.mask])
        assert written.texts == tuple(tiny_gpt2.decode(alone.new))
        bare = [prompt for prompt in PROMPTS for _ in range(3)]
        for row in range(9):
            new = written.new.ids[row][written.new.mask[row]]
            whole = torch.cat([tiny_gpt2.tokenize([bare[row]]).ids[0], new])[None]
            odds = tiny_gpt2.hf(whole).logits[0].log_softmax(dim=-1)[-len(new) - 1 : -1].gather(1, new[:, None])
            assert float(written.log_probability[row]) == pytest.approx(float(odds.mean()), rel=1e-4)
    assert len({written.texts for written in found}) > 3
    again = complete(tiny_gpt2, cells(), PROMPTS, PLAN, rows_at_once=1)
    assert [one.texts for one in again] == [one.texts for one in found]


def test_degenerate_text_is_told():
    def written(*rows):
        texts = tuple(" ".join(map(str, row)) for row in rows)
        return Completions(texts, Tokens.full(torch.tensor(rows)), torch.zeros(1))

    fine, stuck = written([1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]), written([1, 2, 1, 2, 1, 2], [7, 7, 7, 7, 7, 7])
    assert (fine.distinct_2, fine.repeated_4) == (1.0, 0.0)
    assert stuck.distinct_2 == pytest.approx((2 / 5 + 1 / 5) / 2)
    assert stuck.repeated_4 == pytest.approx((1 / 3 + 2 / 3) / 2)


def test_a_sweep_stopped_and_begun_again_ends_in_the_same_bytes(tiny_gpt2, plan, tmp_path, monkeypatch):
    at_once, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (at_once, parts):
        folder.mkdir()
    sweep(tiny_gpt2, cells(), plan, at_once)
    # The package has a function of the module's name.
    module = sys.modules["gossamer.steering.sweep"]
    original, calls = module.complete, []

    def stops(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(module, "complete", stops)
    with pytest.raises(KeyboardInterrupt):
        sweep(tiny_gpt2, cells(), plan, parts)
    assert len(load_sweep(parts).rows) == 4
    sweep(tiny_gpt2, cells(), plan, parts)
    assert len(calls) == 4
    assert (parts / "sweep.json").read_bytes() == (at_once / "sweep.json").read_bytes()
    with pytest.raises(UsageError, match=r"another study \(other cells\)"):
        sweep(tiny_gpt2, cells()[:-1], plan, parts)


def test_rows_hold_what_was_measured(tiny_gpt2, plan, tmp_path):
    pairs = (("Mary", "Tom"), ("Ben", "Sue"), ("Dan", "Amy"), ("Kate", "Paul"))
    cases = [
        Prompt((Piece(f" {name} was"),), (Piece(f" {other} was"),), " sad", " happy", "was") for name, other in pairs
    ]
    task = Task.from_prompts(cases, tiny_gpt2.tokenizer, name="moods", roles="position", test_fraction=0.5)
    full = replace(
        plan, target=tiny_gpt2.tokenize([" he was sad", " she was happy"]), judge=Rater(), tasks={"moods": task}
    )
    record = sweep(tiny_gpt2, cells(), full)
    written = complete(tiny_gpt2, cells(), PROMPTS, PLAN, rows_at_once=18)
    for row, one in zip(record.rows, written, strict=True):
        assert row.words.tolist() == [plan.words.count(text) for text in one.texts]
        assert row.examples == one.texts[:3]
        # Each rating is that of its own text, in whatever order the judge saw them.
        lengths = [len(text) for text in one.texts]
        expected = [None if length % 9 == 8 else Ratings(length % 3, 2, 2) for length in lengths]
        assert row.ratings == expected
        rated = [harmonic_mean(one) for one in expected if one is not None]
        assert (row.judged.rated, row.judged.unparsed) == (len(rated), 9 - len(rated))
        assert row.judged.score == pytest.approx(np.mean(rated))
    pushed = cells()[3].interventions
    with steered(tiny_gpt2, pushed):
        logits = tiny_gpt2.logits(task.test.clean.tokens, at=task.test.clean.answer_position)
    right = logits.gather(1, task.test.answer[:, None]) > logits.gather(1, task.test.incorrect[:, None])
    assert record.rows[3].accuracy == {"moods": pytest.approx(float(right.double().mean()))}
    hits = numbers(record)
    assert hits.benefit.shape == (6, 3, 3)
    share = np.mean([value > 0 for value in record.rows[2].words.tolist()])
    assert float(hits.means[1][2]) == pytest.approx(share)
    target = numbers(record, "target")
    assert float(target.means[1][0]) == pytest.approx(0, abs=1e-5)
    with pytest.raises(UsageError, match="not measured"):
        numbers(record, "classified")
    with pytest.raises(UsageError, match="a benefit of hit"):
        numbers(record, "fun")
    found = sweep_curves(record, "add", limit=5.0)
    assert [one.method for one in found] == ["prompt", "add", "clamp"]
    record = replace(record, provenance=VectorNotes(absent={"cleaned": "nothing to remove"}).provenance())
    picture = write_steering(record, tmp_path, "add", limit=5.0)
    assert picture.stat().st_size > 10_000
    said = (tmp_path / "steering.md").read_text()
    assert "no cleaned: nothing to remove" in said
    assert "fit of effects" not in said
    notes = VectorNotes(effects_explained={"add": 0.25, "clamp": -3.3})
    write_steering(replace(record, provenance=notes.provenance()), tmp_path, "add", limit=5.0)
    fitted = (tmp_path / "steering.md").read_text()
    assert "- add rests on a fit of effects that explains 25.0% of them" in fitted
    assert "- **WARNING: clamp rests on a fit of effects that explains -330.0% of them" in fitted
    assert fitted.count("| clamp (!) |") == len(measured_benefits(record))
    assert "add (!)" not in fitted
    # A line in the table of each benefit, and one for each of its cells.
    failing = any(row.judged.failures > 0.2 for row in record.rows)
    assert measured_benefits(record) == ["hit", "words", "target", *(["judged"] if not failing else [])]
    judged = numbers(record, "judged")
    assert float(judged.means[1][2]) == pytest.approx(record.rows[2].judged.score)
    shown = judged_examples(record)
    assert len(shown) <= 10
    assert all(one.listed == (plan.words.count(one.text) > 0) for one in shown)
    assert all(one.concept == len(one.text) % 3 for one in shown)
    assert "## The judge" in said
    assert said.count("\n| clamp |") == 3 + 2
    assert (tmp_path / "pareto.svg").read_text().startswith("<svg")


def test_a_sweep_from_before_ratings_were_kept_still_loads(tiny_gpt2, plan, tmp_path):
    record = sweep(tiny_gpt2, cells()[:3], plan, tmp_path)
    stored = json.loads((tmp_path / "sweep.json").read_text())
    for row in stored["rows"]:
        for name in ("rated_concept", "rated_instruction", "rated_fluency"):
            del row[name]
        row["judged"] = {"score": 1.5, "rated": 6, "unparsed": 3}
    stored["sha256"] = digest({name: value for name, value in stored.items() if name not in ("format", "sha256")})
    (tmp_path / "sweep.json").write_text(json.dumps(stored))
    old = load_sweep(tmp_path)
    assert [row.words for row in old.rows] == [row.words for row in record.rows]
    assert old.rows[0].judged.error == 0
    assert "judged" not in measured_benefits(old)
    with pytest.raises(UsageError, match="'judged' was not measured"):
        numbers(old, "judged")


def test_draws_of_a_cell_do_not_depend_on_others():
    draws = [torch.Generator().manual_seed(0) for _ in range(2)]
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(1))
    both = Sampling(1.0, repeat_every=2).choose(logits, draws[0])
    assert torch.equal(both[:2], Sampling(1.0).choose(logits[:2], draws[1]))


def test_what_cannot_be_swept_is_refused(tiny_gpt2, plan, tmp_path):
    for chosen, other, said in (
        (cells()[1:], plan, "one cell 'unsteered'"),
        ([Cell(UNSTEERED, prefix=" he")], plan, "one cell 'unsteered'"),
        (cells(), replace(plan, prompts=PROMPTS[:1]), "at least 2 prompts"),
        (cells(), replace(plan, neutral=tiny_gpt2.tokenize([*NEUTRAL, " he was sad"])), "found one in row 4"),
        (cells(), replace(plan, prompts=[" Mary" * 60, " Tom"]), "at most 64"),
    ):
        with pytest.raises(UsageError, match=said):
            sweep(tiny_gpt2, chosen, other)
    with pytest.raises(UsageError, match="one sample expected at temperature 0"):
        SamplingPlan(samples=2, temperature=0.0)
    broken = [*cells(), Cell("broken", (add(SITE, torch.ones(32), 3.4e38),))]
    with pytest.raises(NotFiniteError, match="smaller coefficient"):
        sweep(tiny_gpt2, broken, plan, tmp_path)
    assert len(load_sweep(tmp_path).rows) == 6
    assert json.loads((tmp_path / "sweep.json").read_text())["format"] == "gossamer.steering.1"


def test_a_prefix_stands_before_the_prompts_of_a_task_too(tiny_gpt2, monkeypatch):
    names = ("Mary", "Tom", "Ben", "Sue")
    cases = [Prompt((Piece(f" {name} was"),), (Piece(f" {name} is"),), " sad", " happy", "was") for name in names]
    task = Task.from_prompts(cases, tiny_gpt2.tokenizer, name="moods", roles="position", test_fraction=0.5)
    read: list[list[int]] = []
    real = type(tiny_gpt2).logits

    def watched(self, tokens, *, at):
        read.extend(ids[: end + 1].tolist() for ids, end in zip(tokens.ids, at.tolist(), strict=True))
        return real(self, tokens, at=at)

    monkeypatch.setattr(type(tiny_gpt2), "logits", watched)
    accuracies(tiny_gpt2, [Cell("none"), Cell("prompt", prefix="A sad day.")], task, at_once=4)
    plain, prefixed = read[: len(task.test)], read[len(task.test) :]
    front = tiny_gpt2.tokenizer("A sad day.")["input_ids"]
    assert prefixed == [[*front, *ids] for ids in plain]
