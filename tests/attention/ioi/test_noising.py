"""Attention outputs from changed prompts, each at its own second mention, against one prompt at a time."""

import pytest
import torch
from ioi_lab import alone, difference, spool, spool_prompts

from gossamer.attention.ioi.noising import changes, connective_chances, kept_differences
from gossamer.attention.ioi.prompts import encode_prompts
from gossamer.attention.ioi.runs import CleanRun
from gossamer.model import Site


def test_one_prompt_at_a_time():
    model, speller = spool()
    prompts = spool_prompts(model, speller, 6)
    clean = CleanRun.of(model, prompts)
    changed = dict(changes(prompts.prompts, [" or"]))
    for name in ("connective or", "names, prefix and filler", "order", None):
        other = None if name is None else encode_prompts(changed[name], speller)
        found = kept_differences(clean, other, [2, 1])
        for row in range(len(prompts)):
            where, sites, edits = int(prompts.places["S2"][row]), [Site("attn_out", layer) for layer in (1, 2)], {}
            for site in sites:
                value = torch.zeros(model.d_model)
                if other is not None:
                    with torch.no_grad():
                        value = model.capture(alone(other, row), [site])[site][0, int(other.places["S2"][row])]
                edits[site] = lambda out, value=value, where=where: put(out, where, value)
            assert float(found[row]) == pytest.approx(difference(model, prompts, row, edits), abs=1e-4)


def put(out, where, value):
    out = out.clone()
    out[0, where] = value
    return out


def test_what_the_model_expects_between_names():
    model, speller = spool()
    prompts = spool_prompts(model, speller, 6)
    clean = CleanRun.of(model, prompts)
    found = connective_chances(clean, [" and", " or"], speller)
    expected = []
    for row in range(6):
        with torch.no_grad():
            logits = model.logits(alone(prompts, row))[0, int(prompts.places["connective"][row]) - 1]
        expected.append(
            float(torch.softmax(logits, -1)[model.tokenizer(" and", add_special_tokens=False)["input_ids"][0]])
        )
    assert found[" and"] == pytest.approx(sum(expected) / 6, rel=1e-4)
    assert found[" or"] < found[" and"]
