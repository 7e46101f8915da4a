"""Labelled directions hold what their labels say, at every site, and bad requests are refused."""

import operator

import pytest
import torch
from transformers import AutoTokenizer

from gossamer.errors import UsageError
from gossamer.model import LanguageModel, Site
from gossamer.tokens import Tokens
from gossamer.toys import PROGRAMS, Sharpness, compile_program
from gossamer.toys.layout import Layout
from gossamer.toys.rasp import BosShare, Map, RaspInterpreter, Select, SequenceMap, aggregate, indices, tokens
from gossamer.toys.transformer import TOY

INPUTS = [list("abca"), list("ccb"), list("b")]


def compiled(name, **options):
    return compile_program(PROGRAMS[name].build(), PROGRAMS[name].vocabulary, max_length=4, name=name, **options)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["sort_by_frequency", "pattern_detection", "count_less_than"])
def test_every_labelled_direction_holds_its_value(name, causal):
    found = compiled(name, causal=causal)
    layout, model = found.layout, found.language_model
    streams = model.capture(found.encode(INPUTS), model.sites("resid_post"))
    for row, given in enumerate(INPUTS):
        run = RaspInterpreter(given, causal=causal)
        for node, sublayer in layout.sublayers.items():
            expected = torch.zeros(len(given), len(layout.directions))
            for position in range(len(given)):
                value = run.read(node, position)
                if value is not None:
                    expected[position, layout.place(node, value)] = float(value) if node.numerical else 1.0
            places = layout.places(node)
            for site, stream in streams.items():
                present = expected if 2 * site.layer + 1 >= sublayer else torch.zeros_like(expected)
                stands = stream[row, 1 : len(given) + 1]
                torch.testing.assert_close(stands[:, places], present[:, places], atol=2e-5, rtol=0)


def test_bos_holds_its_mark_and_what_counts_it():
    found = compiled("count_less_than")
    last = found.language_model.capture(found.encode(INPUTS), [Site("resid_post", 1)])[Site("resid_post", 1)][:, 0]
    shares = [found.layout.place(node) for node in found.layout.names if isinstance(node, BosShare)]
    expected = torch.zeros_like(last)
    expected[:, [0, *shares]] = 1.0
    torch.testing.assert_close(last, expected)


def test_labels_are_unique_and_named():
    labels = [direction.label for direction in compiled("sort").directions]
    assert len(set(labels)) == len(labels)
    assert labels[:4] == ["<bos>", "tokens:a", "tokens:b", "tokens:c"]
    assert {"indices:3", "key:('b', 2)", "target_share", "target:0", "sorted:c"} <= set(labels)


def test_equal_names_are_numbered():
    again = Map(str.upper, Map(str.upper, tokens, name="upper"), name="upper")
    assert list(Layout.plan(again, "ab", 2).names.values()) == ["tokens", "upper", "upper_2"]


def test_every_site_can_be_read_and_edited():
    found = compiled("pair_balance", causal=True)
    model, ids = found.language_model, found.encode([list("(a)")])
    sites = [site for kind in model.kinds for site in model.sites(kind)]
    values = model.capture(ids, sites)
    assert set(values) == set(sites)
    assert values[Site("pattern", 1)].shape == (1, model.n_heads, 4, 4)
    assert values[Site("pattern", 1)].triu(1).abs().max() == 0
    raw = model.hf(ids.ids).logits
    with model.edit(dict.fromkeys(sites, torch.clone)):
        torch.testing.assert_close(model.logits(ids), raw)
    with model.edit({Site("v", 1): torch.zeros_like}):
        assert model.logits(ids)[0, -1].argmax() == found.tokenizer.convert_tokens_to_ids("0")


def test_attention_without_a_mask_looks_ahead():
    ids = (found := compiled("reverse")).encode([list("abc")])
    pattern = found.language_model.capture(ids, [Site("pattern", 2)])[Site("pattern", 2)]
    assert found.heads[2] == ("reverse",)
    torch.testing.assert_close(pattern[0, 0, 1:, 1:], torch.eye(3).flip(0), atol=1e-6, rtol=0)


def test_empty_selections_look_at_bos():
    previous = aggregate(Select(indices, indices, lambda key, query: key == query - 1), tokens, name="previous")
    found = compile_program(previous, "ab", max_length=3)
    ids = found.encode([list("ab")])
    pattern = found.language_model.capture(ids, [Site("pattern", 0)])[Site("pattern", 0)]
    torch.testing.assert_close(pattern[0, 0, 1], torch.tensor([1.0, 0.0, 0.0]))
    assert found.run([list("ab")]) == [[None, "a"]]


def test_padding_on_either_side_changes_nothing():
    found = compiled("histogram")
    model, short = found.language_model, list("cca")
    right, left = (model.tokenize(["a b c a", "c c a"], side=side) for side in ("right", "left"))
    alone = model.logits(found.encode([short]))[0]
    torch.testing.assert_close(model.logits(right)[1, :4], alone)
    torch.testing.assert_close(model.logits(left)[1, 1:], alone)


def test_saved_and_loaded_it_is_the_same_model(tmp_path):
    found = compiled("sort")
    found.hf.save_pretrained(tmp_path)
    found.tokenizer.save_pretrained(tmp_path)
    again = LanguageModel.load(tmp_path, family=TOY, device="cpu")
    ids = again.tokenize(["c a b"])
    torch.testing.assert_close(again.logits(ids), found.language_model.logits(ids), rtol=0, atol=0)
    assert AutoTokenizer.from_pretrained(tmp_path)("c a").input_ids == [0, 5, 3]


def test_the_same_program_compiles_to_the_same_weights():
    one, other = (compiled("sort_by_frequency").hf.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_smooth_model_has_gradients_where_a_sharp_one_has_none():
    def gradient(sharpness):
        found = compiled("histogram", sharpness=sharpness)
        site, ids = Site("resid_pre", 0), found.encode([list("aab")])
        x = found.language_model.capture(ids, [site])[site].requires_grad_()
        answer = found.tokenizer.convert_tokens_to_ids("2")
        loss = found.language_model.resume(site, x, Tokens.full(ids.ids))[0, 1, answer]
        return torch.autograd.grad(loss, x)[0][0, 1:, found.layout.places(tokens)].abs().max()

    assert gradient(Sharpness()) == 0
    assert gradient(Sharpness(coldness=20.0, ramp=1.0)) > 1


@pytest.mark.parametrize("bad", [list("abcab"), [], list("ax")])
def test_inputs_that_do_not_fit_are_refused(bad):
    with pytest.raises(UsageError, match="expected, found"):
        compiled("sort").run([bad])


@pytest.mark.parametrize("vocabulary", [("a", "a b"), ("1", 1), ("<pad>", "a"), ()])
def test_vocabularies_that_read_alike_are_refused(vocabulary):
    with pytest.raises(UsageError, match=r"without spaces expected|a vocabulary"):
        compile_program(tokens, vocabulary, max_length=2)


def test_other_impossible_requests_are_refused():
    with pytest.raises(UsageError, match="without a colon"):
        compile_program(Map(str.upper, tokens, name="a:b"), "ab", max_length=2)
    with pytest.raises(UsageError, match="without spaces expected"):
        compile_program(SequenceMap(lambda a, b: (a, b), tokens, indices), "ab", max_length=2)
    with pytest.raises(UsageError, match=r"ramp in \(0, 1\]"):
        Sharpness(ramp=0.0)
    close = Map(lambda index: index * 1e-6, indices, numerical=True)
    with pytest.raises(UsageError, match="too close to be told apart"):
        compile_program(Map(lambda x: x > 0, close), "ab", max_length=2)


def test_a_program_of_the_input_alone_compiles():
    found = compile_program(tokens, "ab", max_length=2)
    assert found.run([list("ab")]) == [["a", "b"]]
    assert compile_program(Map(operator.neg, indices), "ab", max_length=3).run([list("aba")]) == [[0, -1, -2]]
