"""What files say of the tokens that a dictionary learned from decides which it is measured on."""

import pytest
import torch

from gossamer.activations import DEFAULT_MASK, TokenMask
from gossamer.dictionary import Dictionary
from gossamer.dictionary.attach import measure
from gossamer.dictionary.config import Contents, DictionaryConfig
from gossamer.dictionary.training_tokens import TrainingTokens, counted_for, mask_facts
from gossamer.errors import GossamerError, UsageError
from gossamer.model import Site
from gossamer.replacement.evaluate import evaluate
from gossamer.tokens import Tokens

TOKENS = Tokens.full(torch.randint(1, 60, (3, 6), generator=torch.Generator().manual_seed(0)))


def trained(**training):
    """A dictionary of whose training a file says so much."""
    config = DictionaryConfig("relu", 32, 40, site="resid_post.1", model_name="GPT2LMHeadModel")
    draw = torch.Generator().manual_seed(0)
    tensors = {name: 0.2 * torch.randn(shape, generator=draw) for name, shape in config.shapes.items()}
    return Dictionary.from_contents(Contents(config, tensors, {"training": training} if training else {}))


@pytest.mark.parametrize(
    ("said", "mask"),
    [
        ({}, DEFAULT_MASK),
        ({"seqpos_slice": [None], "exclude_special_tokens": False}, DEFAULT_MASK),
        ({"seqpos_slice": [3, None]}, TokenMask(positions=(3, None))),
        (
            {"seqpos_slice": [5, -5, None], "exclude_special_tokens": True},
            TokenMask(special=False, positions=(5, -5, None)),
        ),
        ({"exclude_special_tokens": [2, 7]}, TokenMask(ids=(2, 7))),
        (mask_facts(TokenMask(positions=(1, None), ids=(4,))), TokenMask(positions=(1, None), ids=(4,))),
    ],
)
def test_saelens_words_and_our_own_are_understood(said, mask):
    assert TrainingTokens.of(trained(**said)).mask == mask


def test_bos_and_context_are_told():
    assert TrainingTokens.of(trained(prepend_bos=False, context_size=64)) == TrainingTokens(bos=False, context=64)
    assert TrainingTokens.of(trained()) == TrainingTokens()


@pytest.mark.parametrize(
    "said",
    [
        {"seqpos_slice": "abc"},
        {"seqpos_slice": [1.5]},
        {"seqpos_slice": [1, 2, 0]},
        {"exclude_special_tokens": "yes"},
        {"exclude_special_tokens": [True]},
        {"prepend_bos": 1},
        {"context_size": 0},
        {"token_mask": {"bos": "no"}},
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(said):
    with pytest.raises(GossamerError, match=r"^dictionary at resid_post\.1: [^\n]+ expected [^\n]+$|^dictionary at"):
        TrainingTokens.of(trained(**said))


def test_a_dictionary_is_measured_where_it_learned_unless_told_otherwise(tiny_gpt2):
    sites = {"resid_post.1": trained(seqpos_slice=[2, -1])}
    asked = {"resid_post.1": trained()}, TokenMask(positions=(2, -1))
    for measured in (measure, evaluate):
        own, given = measured(tiny_gpt2, sites, TOKENS), measured(tiny_gpt2, asked[0], TOKENS, mask=asked[1])
        one, other = own["resid_post.1"], given["resid_post.1"]
        assert (one.tokens, one.l0, one.explained_variance) == (9, other.l0, other.explained_variance)
        assert measured(tiny_gpt2, sites, TOKENS, mask=DEFAULT_MASK)["resid_post.1"].tokens == 18


def test_of_several_dictionaries_tokens_count_that_all_learned_from(tiny_gpt2):
    both = [trained(seqpos_slice=[1, None]), trained(seqpos_slice=[None, -2])]
    assert counted_for(tiny_gpt2, both, TOKENS).int().tolist() == [[0, 1, 1, 1, 0, 0]] * 3


def test_sites_of_a_configuration_may_be_names():
    config = DictionaryConfig("relu", 4, 8, site="mlp_in.2", site_out="mlp_out.2")
    assert (config.site, config.site_out) == (Site("mlp_in", 2), Site("mlp_out", 2))
    with pytest.raises(UsageError, match="nowhere"):
        DictionaryConfig("relu", 4, 8, site="nowhere.2")
