"""Prompts taken apart: what is in the file adds up, and is what direct attribution, traces and scores say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_dictionaries import random_dictionary
from tiny_families import random_tokens, shared_model

from gossamer import DictionarySet, LanguageModel, bundled
from gossamer.attention import (
    AttributionData,
    FrozenPass,
    HeadMaps,
    Limits,
    Question,
    attribute_score,
    attribution_data,
    direct_attribution,
    explore_prompt,
    latent_root,
    logit_root,
    task_attribution,
    trace,
)
from gossamer.attention.attribution_data import GROUPS, KINDS
from gossamer.attention.source import Source
from gossamer.errors import UsageError
from gossamer.features import Feature, FeatureCard, Histogram
from gossamer.model import Site
from gossamer.results.column import Column

EVERYTHING = Limits(latents=100, terms=10_000, scores=10, pairs=10_000)
# Grouped queries and rotation, norms after attention, parallel blocks, and learned positions.
FAMILIES = ["gpt2", "llama", "gemma2", "gpt_neox parallel"]


def frozen_of(name, length=3):
    model, text = shared_model(name, dtype=torch.float64), random_tokens()
    sites = ("z.1", "resid_post.1")
    dictionaries = [random_dictionary(model, text, site, seed=number, n=40) for number, site in enumerate(sites)]
    dictionaries.append(random_dictionary(model, text, "mlp_in.2", site_out="mlp_out.2", skip=True, n=40))
    return FrozenPass.of(model, dictionaries, random_tokens(1).cut(length))


def root_of(frozen):
    ids = torch.tensor([5]), torch.tensor([20])
    return logit_root(frozen, *ids, torch.tensor([frozen.tokens.ids.shape[1] - 1]))


@pytest.fixture(scope="module")
def frozen():
    return frozen_of("gpt2", 5)


@pytest.fixture(scope="module")
def whole(frozen):
    return explore_prompt(frozen, root_of(frozen), EVERYTHING)


def source(prompt, line):
    items = prompt.items
    site, latent, position = (int(column.values[line]) for column in (items.site, items.latent, items.position))
    place = None if position < 0 else position
    named = None if site < 0 else Site.parse(items.sites[site])
    return Source(KINDS[items.kind.values[line]], named, None if latent < 0 else latent, place)


def brought(prompt, one):
    """Pattern times v . w, (heads, sources), as a reader of the file computes it."""
    query, tokens = int(prompt.items.position.values[one.item]), len(prompt.tokens)
    pattern = prompt.patterns[one.layer].values.reshape(-1, tokens * (tokens + 1) // 2).astype(float)
    start = query * (query + 1) // 2
    return pattern[:, start : start + query + 1] * one.values.values.reshape(len(pattern), query + 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_function_is_its_terms_and_its_heads(name):
    frozen = frozen_of(name)
    prompt = explore_prompt(frozen, root_of(frozen), EVERYTHING)
    kinds = set()
    for one in prompt.functions:
        size = max(1.0, float(np.abs(one.contributions.values).sum()))
        assert one.constant + one.contributions.values.sum() == pytest.approx(one.value, abs=1e-5 * size)
        assert one.constant + one.totals.values.sum() == pytest.approx(one.value, abs=1e-5 * size)
        groups = prompt.items.group.values[one.items.values]
        for group in range(len(GROUPS)):
            here = groups == group
            assert here.sum() == one.counts.values[group]
            assert one.contributions.values[here].sum() == pytest.approx(one.totals.values[group], abs=1e-5 * size)
        kinds.add(source(prompt, one.item).kind)
        if one.layer is None:
            assert (len(one.values), len(one.heads)) == (0, 0)
            continue
        cells = brought(prompt, one)
        assert one.constant + cells.sum() == pytest.approx(one.value, abs=1e-5 * size)
        # By source the terms are what the heads bring, biases included.
        positions = prompt.items.position.values[one.items.values]
        for position in range(cells.shape[1]):
            listed = one.contributions.values[positions == position].sum()
            assert listed == pytest.approx(cells[:, position].sum(), abs=1e-5 * size)
    assert {"root", "latent", "attention", "skip"} <= kinds


def test_latents_are_what_direct_attribution_says(frozen, whole):
    site = Site("z", 1)
    found = direct_attribution(frozen, site)
    functions = {source(whole, one.item): one for one in whole.functions}
    assert len(found) > 5
    for entry in range(len(found)):
        position = int(found.positions[entry])
        one = functions[Source("latent", site, int(found.latents[entry]), position)]
        assert one.value == pytest.approx(float(found.pre_activations[entry]), abs=1e-9)
        assert one.constant == pytest.approx(float(found.bias[entry]), abs=1e-9)
        expected = found.contributions[entry][:, : position + 1].numpy()
        np.testing.assert_allclose(brought(whole, one), expected, atol=1e-6)
        assert whole.items.activation.values[one.item] == pytest.approx(float(found.activations[entry]), rel=1e-6)


def test_paths_multiply_to_what_a_trace_says(frozen, whole):
    found = trace(frozen, root_of(frozen), nodes=300)
    of_latent = {one.item: number for number, one in enumerate(whole.functions) if one.parent is None}
    going_on = {(one.parent, one.item): number for number, one in enumerate(whole.functions)}
    lines = {source(whole, line): line for line in range(len(whole.items.kind))}
    # Of every node of the trace: the function that it opens, and its contribution by multiplied shares.
    reached = {0: (whole.root, whole.functions[whole.root].value)}
    compared = 0
    for number, node in enumerate(found.nodes[1:], start=1):
        if node.parent not in reached:
            continue
        above, total = reached[node.parent]
        function, line = whole.functions[above], lines[node.source]
        (at,) = np.flatnonzero(function.items.values == line)
        contribution = total * function.contributions.values[at] / function.value
        assert contribution == pytest.approx(node.contribution, abs=1e-5)
        compared += 1
        opened = of_latent.get(line, going_on.get((above, line)))
        if opened is not None:
            reached[number] = opened, contribution
    assert compared > 200


def test_scores_are_what_score_attribution_says(frozen, whole):
    assert len(whole.scores) == 10
    for score in whole.scores:
        found = attribute_score(HeadMaps(frozen, score.layer), score.head, score.query, score.key)
        assert score.score == pytest.approx(found.score, abs=1e-9)
        assert score.pairs == found.table.numel() == len(score.contributions)
        assert score.contributions.values.sum() + score.remainder == pytest.approx(score.score, abs=1e-4)
        pairs = zip(score.query_items.values, score.key_items.values, strict=True)
        assert [(source(whole, q), source(whole, k)) for q, k in pairs] == [pair[:2] for pair in found.top(10_000)]


def test_limits_leave_the_smallest_out_and_count_them(frozen, whole):
    limits = Limits(latents=2, terms=5, scores=3, pairs=4)
    small = explore_prompt(frozen, limits=limits)
    assert small.root is None
    assert small.target is None
    whole_of = {source(whole, one.item): one for one in whole.functions if one.parent is None}
    shown = [source(small, one.item) for one in small.functions]
    for site, codes, active in zip(frozen.codes, frozen.codes.values(), small.active, strict=True):
        for position in range(len(small.tokens)):
            strongest = list(codes.active(0, position))
            assert active.values[position] == len(strongest)
            here = {one.latent for one in shown if one.kind == "latent" and one.site == site and one.place == position}
            assert here == set(strongest[:2])
    for one in small.functions:
        biases = small.items.group.values[one.items.values] == GROUPS.index("biases")
        assert (~biases).sum() <= 5
        if one.parent is None:
            same = whole_of[source(small, one.item)]
            assert one.totals == same.totals
            assert one.counts == same.counts
            np.testing.assert_array_equal(
                one.contributions.values[~biases], same.contributions.values[: (~biases).sum()]
            )
            assert biases.sum() == same.counts.values[GROUPS.index("biases")]
    assert [len(score.contributions) for score in small.scores] == [4, 4, 4]


def test_latents_on_large_paths_are_taken_apart_though_others_are_more_active(frozen):
    found = explore_prompt(frozen, root_of(frozen), Limits(latents=1))
    latents = {source(found, one.item) for one in found.functions}
    nodes = trace(frozen, root_of(frozen), nodes=100).nodes
    assert {node.source for node in nodes if node.source.kind == "latent"} <= latents


@pytest.fixture(scope="module")
def spool():
    return LanguageModel.load("bundled:spool"), DictionarySet.load(bundled.path("spool") / "dictionaries")


def test_questions_and_their_file(spool, tmp_path):
    feature = Feature(Site("resid_post", 2), 164)
    questions = [
        Question("The boys near the dog", " are", " is"),
        "The boys near the dog",
        Question("The boys near the dog", feature=feature, position=2),
    ]
    data = attribution_data(*spool, questions, limits=Limits(latents=1, terms=6, scores=2))
    first, second, third = data.prompts
    assert first.target == "logit difference, ' are' over ' is'"
    assert second.root is None
    assert source(third, third.functions[third.root].item) == Source("latent", feature.site, 164, 2)
    frozen = FrozenPass.of(*spool, spool[0].tokenize(["The boys near the dog"]))
    assert third.functions[third.root].value == pytest.approx(latent_root(frozen, feature, 2).value, abs=1e-5)
    facts = data.dictionaries[1]
    assert (facts.site, facts.group, facts.latents) == ("resid_post.2", GROUPS.index("residual latents"), 768)
    assert len(facts.words["164"]) == 5
    assert AttributionData.load(data.save(tmp_path / "data.json")) == data
    assert data != replace(data, model="another")
    assert "3 prompts" in repr(data)


def test_latents_of_z_have_the_words_of_what_they_write(spool):
    model, _ = spool
    tokens, site = model.tokenize(["The boys near the dog saw the girl"]), Site("z", 1)
    made = random_dictionary(model, tokens, site)
    data = attribution_data(model, [made], ["The boys near the dog saw the girl"], limits=Limits(latents=1, scores=0))
    latent, words = next(iter(data.dictionaries[0].words.items()))
    row = made.W_dec[int(latent)].float() @ model.hf.transformer.h[1].attn.c_proj.weight
    with torch.no_grad():
        logits = model.unembed(torch.stack([row, torch.zeros_like(row)]))
    assert words == tuple(model.word(int(one)) for one in (logits[0] - logits[1]).topk(5).indices)


def test_what_is_said_of_latents_may_come_from_cards(spool):
    class Source:
        text = "some text"

        def cards(self, features):
            made = {one: FeatureCard(one, "m", 9, 1, 1.0, 0.0, 1.0, Histogram((), ())) for one in features}
            for one, card in made.items():
                said = {"explanation": "even"} if one.latent % 2 == 0 else {"promotes": ((f" w{one.latent}", 1.0),)}
                made[one] = replace(card, **said)
            return made

    data = attribution_data(*spool, ["The boys near"], limits=Limits(latents=3, scores=0), source=Source())
    words = {latent: one for facts in data.dictionaries for latent, one in facts.words.items()}
    assert words == {latent: (f"w{latent}",) if int(latent) % 2 else ("even",) for latent in words}
    assert {len(set(words.values())) > 1, ("even",) in words.values()} == {True}


def test_a_task_begins_with_its_answers(spool):
    model, dictionaries = spool
    data = task_attribution(model, dictionaries, "sva-rc", prompts=2, limits=Limits(latents=1, terms=4, scores=0))
    assert len(data.prompts) == 2
    for prompt in data.prompts:
        right, wrong = prompt.target.removeprefix("logit difference, '").removesuffix("'").split("' over '")
        ids = [model.tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in (right, wrong)]
        tokens = model.tokenize(["".join(prompt.tokens).removeprefix("<|endoftext|>")])
        with torch.no_grad():
            logits = model.logits(tokens)[0, -1]
        expected = float(logits[ids[0]] - logits[ids[1]])
        assert prompt.functions[prompt.root].value == pytest.approx(expected, abs=1e-3)


def test_bad_requests_are_one_line(spool, frozen):
    with pytest.raises(UsageError, match="at least one prompt expected"):
        attribution_data(*spool, [])
    with pytest.raises(UsageError, match="a latent or an answer with a wrong one expected, found both"):
        attribution_data(*spool, [Question("a", " is", " are", Feature(Site("resid_post", 2), 1))])
    with pytest.raises(UsageError, match="an answer and a wrong one expected"):
        attribution_data(*spool, [Question("a", " is")])
    with pytest.raises(UsageError, match="prompts: at least 1"):
        task_attribution(*spool, "ioi", prompts=0)
    model = frozen.model
    several = FrozenPass.of(model, [], random_tokens(2))
    with pytest.raises(UsageError, match="one prompt expected, found 2"):
        explore_prompt(several)


def test_columns_come_back_as_they_were():
    for kind, values in (("uint8", [0, 255]), ("uint16", [65535]), ("int32", [-1, 2**31 - 1]), ("float32", [0.1, -2])):
        column = Column.of(values, kind)
        assert Column.parse(str(column)) == column
        assert column.tolist() == pytest.approx(values)
        assert hash(column) == hash(Column.parse(str(column)))
    assert Column.of([], "float32") != Column.of([], "uint8")
    assert Column.of([1], "uint8") != [1]
    assert repr(Column.of([1, 2], "uint8")) == "Column(2 uint8)"
    # The bytes of an array in a browser.
    assert str(Column.of([1.0], "float32")) == "float32:AACAPw=="
    for text in ("float64:AACAPw==", "float32:AACA", "float32:%%", "", "float32"):
        with pytest.raises(ValueError, match="TYPE:BASE64 expected"):
            Column.parse(text)
    with pytest.raises(ValueError, match="numbers that uint8 holds expected, found 256"):
        Column.of([256], "uint8")
    with pytest.raises(ValueError, match="found float64"):
        Column.of([1], "float64")
