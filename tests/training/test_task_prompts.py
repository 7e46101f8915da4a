"""Prompts of tasks in the fine-tuning: training ones only, known later, and answered better for it."""

import itertools
from dataclasses import replace

import pytest
import torch
from training_fixtures import CONFIG, plans, texts
from word_model import NAMES

from gossamer.activations import TokenMask
from gossamer.activations.corpus import Corpus, split_texts
from gossamer.dictionary import Dictionary, DictionarySet
from gossamer.dictionary.config import Contents
from gossamer.dictionary.training_prompts import seen_in_training
from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.tasks import Piece, Prompt, Task
from gossamer.tokens import Tokens
from gossamer.training import TaskPrompts, finetune_dictionaries, metrics
from gossamer.training.finetune import finetune
from gossamer.training.finished import rows_like
from gossamer.training.fit import fit
from gossamer.training.task_prompts import similar_words, together

SITES = [Site("resid_post", 0), Site("attn_out", 1), Site("mlp_out", 1)]


def _prompt(a, b):
    def pieces(last):
        words = (
            "When",
            Piece(f" {a}", "A"),
            " and",
            Piece(f" {b}", "B"),
            " went to the store ,",
            Piece(f" {last}", "S"),
        )
        return tuple(Piece(word) if isinstance(word, str) else word for word in (*words, " gave a ball to"))

    return Prompt(pieces(b), pieces(a), f" {a}", f" {b}", template="gave", case="ABB")


def _task(tokenizer, names=NAMES, name="gave", seed=0):
    prompts = [_prompt(a, b) for a, b in itertools.permutations(names, 2)]
    return Task.from_prompts(prompts, tokenizer, name=name, bos=False, seed=seed)


@pytest.fixture(scope="module")
def task(tokenizer):
    return _task(tokenizer)


@pytest.fixture
def corpus(tiny_gpt2):
    return Corpus.build(tiny_gpt2, *split_texts(texts(), CONFIG.corpus, seed=0), CONFIG.corpus, seed=0)


@pytest.fixture
def fitted(tiny_gpt2, corpus, tmp_path):
    return DictionarySet(fit(tiny_gpt2, corpus, plans(SITES), CONFIG.fit, tmp_path / "fit", seed=0).values())


def _answer_kl(model, dictionaries, prompts):
    """KL(model || spliced) at the answer positions, from a pass of its own."""
    tokens, at = prompts.tokens, prompts.answer_position
    edits = {site: lambda x, one=one: one(x) for site, one in dictionaries.items()}
    own = model.logits(tokens, at=at).log_softmax(dim=-1)
    with model.edit(edits):
        spliced = model.logits(tokens, at=at).log_softmax(dim=-1)
    return (own.exp() * (own - spliced)).sum(dim=-1).mean().item()


def test_they_are_the_training_prompts_of_both_sides_once(task, tokenizer):
    found = TaskPrompts.of([task, task])
    expected = {one.clean_text for one in task.train.prompts} | {one.counterfactual_text for one in task.train.prompts}
    rows = [ids[mask].tolist() for ids, mask in zip(found.tokens.ids, found.tokens.mask, strict=True)]
    assert sorted(tokenizer.decode(row) for row in rows) == sorted(expected)
    assert found.tasks == ("gave",)
    epoch = found.rows(0, len(rows), seed=3)
    assert sorted(map(tuple, epoch.ids.tolist())) == sorted(map(tuple, found.tokens.ids.tolist()))
    assert not torch.equal(epoch.ids, found.rows(len(rows), len(rows), seed=3).ids)


def test_a_prompt_held_out_of_one_task_is_no_training_prompt_of_another(task, tokenizer):
    with pytest.raises(UsageError, match=r"task gave: .* is held out there and a training prompt of another task"):
        TaskPrompts.of([task, _task(tokenizer, name="again", seed=1)])
    with pytest.raises(UsageError, match="at least one task, found none"):
        TaskPrompts.of([])


def test_rows_below_each_other_keep_their_tokens():
    left = Tokens(torch.tensor([[0, 5, 6]]), torch.tensor([[False, True, True]]))
    found, numbers = together(Tokens.full(torch.tensor([[1, 2, 3, 4]])), left)
    assert found.ids.tolist() == [[1, 2, 3, 4], [5, 6, 0, 0]]
    assert found.mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert numbers.tolist() == [1]


def test_half_of_the_rows_say_other_words_in_place_of_their_answers(task):
    others = torch.tensor([900, 901, 902])
    plain = TaskPrompts.of([task])
    varied = plain.varied(others)
    count = 40 * len(plain.tokens)
    before, after = plain.rows(0, count, seed=5), varied.rows(0, count, seed=5)
    pairs = {tuple(ids): pair for ids, pair in zip(plain.tokens.ids.tolist(), plain.answers.tolist(), strict=True)}
    changed = 0
    for was, now in zip(before.ids.tolist(), after.ids.tolist(), strict=True):
        right, incorrect = pairs[tuple(was)]
        instead = {old: new for old, new in zip(was, now, strict=True) if old in (right, incorrect)}
        assert [instead.get(token, token) for token in was] == now
        if was != now:
            changed += 1
            assert len(set(instead.values())) == 2
            assert set(instead.values()) <= {900, 901, 902}
    assert changed / count == pytest.approx(0.5, abs=0.05)
    assert torch.equal(before.mask, after.mask)
    assert torch.equal(varied.rows(7, 3, seed=5).ids, after.ids[7:10])
    assert varied.facts == {**plain.facts, "similar_words": [900, 901, 902]}
    with pytest.raises(UsageError, match="at least 2 expected, found 1"):
        plain.varied(others[:1])
    with pytest.raises(UsageError, match="prompts of gave say none of their answers"):
        replace(plain, answers=plain.answers + 1000).varied(others)


def test_similar_words_are_the_nearest_and_no_held_out_answer(tiny_gpt2, task):
    """Against a loop over the vocabulary in float64."""
    table = tiny_gpt2.hf.get_input_embeddings().weight.detach().double()
    table = table - table.mean(dim=0)
    learned = {*task.train.answer.tolist(), *task.train.incorrect.tolist()}
    held = {*task.test.answer.tolist(), *task.test.incorrect.tolist()}
    centre = sum(table[index] / table[index].norm() for index in learned)
    near = sorted(range(len(table)), key=lambda index: -float(table[index] @ centre / table[index].norm()))
    expected = [index for index in near if index not in held | {near[0]}]
    found = similar_words(tiny_gpt2, [task], 5, without=[near[0]])
    assert sorted(expected[:5]) == found.tolist()
    free = len(table) - len(held)
    with pytest.raises(UsageError, match=f"similar words: at most {free} expected, found {free + 1}"):
        similar_words(tiny_gpt2, [task], free + 1)


def test_prompts_are_answered_better_than_after_text_alone(tiny_gpt2, corpus, fitted, task, tmp_path):
    """At sites of three kinds, on prompts that nobody trained on."""
    config = replace(CONFIG.finetune, tokens=4 * 16 * 60, prompt_share=0.5)
    prompts, held_out = TaskPrompts.of([task]), task.test.clean
    text_only = finetune(tiny_gpt2, fitted, corpus, config, tmp_path / "text", seed=0)
    with_prompts = finetune(tiny_gpt2, fitted, corpus, config, tmp_path / "prompts", seed=0, prompts=prompts)
    before, text, after = (_answer_kl(tiny_gpt2, one, held_out) for one in (fitted, text_only, with_prompts))
    assert after < 0.8 * text < before
    lines = metrics.read(tmp_path / "prompts")
    assert lines[-1]["answer_kl"] < lines[0]["answer_kl"]
    assert "answer_kl" not in metrics.read(tmp_path / "text")[-1]
    assert [one["prompts"] for one in with_prompts["resid_post.0"].provenance["finetuned"]] == [
        {"share": 0.5, **prompts.facts}
    ]


def test_the_loss_is_what_its_parts_and_their_weights_say(tiny_gpt2, corpus, fitted, task, tmp_path):
    """Balanced, every part is as large as the KL at the first step, times its weight."""
    config = replace(
        CONFIG.finetune, balanced=True, logit_error=2.0, reconstruction=0.5, prompt_share=0.25, log_every=1
    )
    found = finetune(tiny_gpt2, fitted, corpus, config, tmp_path, seed=0, prompts=TaskPrompts.of([task]))
    (facts,) = found["resid_post.0"].provenance["finetuned"]
    weights, lines = facts["loss_weights"], metrics.read(tmp_path)

    def parts(line):
        kl = 0.75 * line["kl"] + 0.25 * line["answer_kl"]
        unexplained = sum(1 - line[str(site)]["explained_variance"] for site in SITES) / len(SITES)
        return kl, weights["logit_error"] * line["logit_error"], weights["reconstruction"] * unexplained

    kl, logit_error, unexplained = parts(lines[0])
    assert (logit_error, unexplained) == (pytest.approx(2 * kl, rel=1e-4), pytest.approx(0.5 * kl, rel=1e-4))
    for line in lines:
        assert line["loss"] == pytest.approx(sum(parts(line)), rel=1e-4)


def test_finished_dictionaries_are_fine_tuned_further_and_say_on_what(tiny_gpt2, fitted, task, tmp_path):
    training = {
        "config": {"corpus": {"context": 12, "bos": 1.0}, "trainer": {"objective": {"name": "batchtopk", "k": 6}}}
    }
    given = DictionarySet(
        Dictionary.from_contents(Contents(one.config, dict(one.state_dict()), {"training": training}))
        for one in fitted.values()
    )
    config = replace(CONFIG, corpus=rows_like(given, tiny_gpt2, CONFIG.corpus))
    assert (config.corpus.context, config.corpus.bos, config.corpus.held_out) == (12, 1.0, CONFIG.corpus.held_out)
    prompts = TaskPrompts.of([task])

    def run(source, folder, **more):
        return finetune_dictionaries(tiny_gpt2, source, texts(), config, tmp_path / folder, **more)

    first = run(given, "first", prompts=prompts)
    second = run(first, "second")
    said = second["mlp_out.1"].provenance["training"]
    assert said["config"] == training["config"]
    assert said["finetuned"][:1] == first["mlp_out.1"].provenance["training"]["finetuned"]
    assert ["prompts" in one for one in said["finetuned"]] == [True, False]
    assert said["held_out"]["spliced_sites"] == list(map(str, SITES))
    learned, held_out = ([prompt.texts for prompt in side.prompts] for side in (task.train, task.test))
    assert seen_in_training(given.values(), learned) == 0
    assert seen_in_training(second.values(), learned) == len(learned)
    assert seen_in_training(second.values(), held_out) == 0
    # Read, not made again; and other dictionaries are another request.
    assert run(given, "first", prompts=prompts)["mlp_out.1"].reported == first["mlp_out.1"].reported
    with pytest.raises(UsageError, match="belongs to another training run"):
        run(first, "first", prompts=prompts)


def test_what_cannot_be_meant_is_refused(tiny_gpt2, fitted, tmp_path):
    nothing = replace(CONFIG, finetune=replace(CONFIG.finetune, tokens=4 * 16 - 1))
    with pytest.raises(UsageError, match=r"at least one step \(64\), found 63"):
        finetune_dictionaries(tiny_gpt2, fitted, texts(), nothing, tmp_path / "out")
    masks = [{}, {"token_mask": TokenMask(special=False).facts}, {}]
    mixed = DictionarySet(
        Dictionary.from_contents(Contents(one.config, dict(one.state_dict()), {"training": said}))
        for one, said in zip(fitted.values(), masks, strict=True)
    )
    with pytest.raises(UsageError, match="expected one mask of tokens, found 2"):
        rows_like(mixed, tiny_gpt2, CONFIG.corpus)
