"""Patched heads and paths against the same interventions by hand: one prompt and one head at a time, whole tensors."""

import pytest
import torch
from ioi_lab import PLACES, alone, difference, random_prompts, random_runs

from gossamer.attention.ioi.patching import AttentionHead, head_effects, layer_effects, path_effects
from gossamer.attention.ioi.prompts import EncodedPrompts
from gossamer.attention.ioi.runs import CleanRun
from gossamer.errors import UsageError
from gossamer.model import Site

# Learned positions; grouped queries with rotation; a norm between attention and the stream, sliding windows.
FAMILIES = ["gpt2", "llama", "gemma3"]


def captured(model, prompts, row, sites, edits=None):
    with torch.no_grad(), model.edit(edits or {}):
        return model.capture(alone(prompts, row), sites)


def put(where, head, width, value):
    """An edit of a whole tensor of z: one head at one token."""

    def edit(z):
        z = z.clone()
        z[0, where, head * width : (head + 1) * width] = value
        return z

    return edit


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("role", ["S2", "END"])
def test_every_head_at_its_own_token(name, role):
    clean, other = random_runs(name)
    model, prompts, d = clean.model, clean.prompts, clean.model.d_head
    found = head_effects(clean, other, role, [0, 2])
    whole = layer_effects(clean, other, role)
    for row in range(3):
        where, own = PLACES[role][row], difference(model, prompts, row, {})
        assert float(clean.difference[row]) == pytest.approx(own, abs=1e-5)
        for place, layer in enumerate((0, 2)):
            site = Site("z", layer)
            value = captured(model, other.prompts, row, [site])[site][0, where]
            for head in range(model.n_heads):
                edit = put(where, head, d, value[head * d : (head + 1) * d])
                expected = own - difference(model, prompts, row, {site: edit})
                assert float(found[place, head, row]) == pytest.approx(expected, abs=1e-5)
        every = {Site("z", 1): lambda z, row=row, where=where: instead(z, other, row, where)}
        expected = own - difference(model, prompts, row, every)
        assert float(whole[1, row]) == pytest.approx(expected, abs=1e-5)


def instead(z, other, row, where):
    z = z.clone()
    z[0, where] = other.values[Site("z", 1)][row, where]
    return z


@pytest.mark.parametrize("name", FAMILIES)
def test_a_direct_effect_holds_all_later_heads(name):
    clean, other = random_runs(name)
    model, prompts, d = clean.model, clean.prompts, clean.model.d_head
    found = head_effects(clean, other, "END", [0, 2], direct=True)
    torch.testing.assert_close(found[1], head_effects(clean, other, "END", [2])[0])
    for row in range(3):
        where, sites = PLACES["END"][row], [Site("z", layer) for layer in range(3)]
        own, new = (captured(model, one, row, sites) for one in (prompts, other.prompts))
        edits = {site: always(own[site]) for site in sites[1:]}
        for head in range(model.n_heads):
            edits[sites[0]] = put(where, head, d, new[sites[0]][0, where, head * d : (head + 1) * d])
            expected = float(clean.difference[row]) - difference(model, prompts, row, edits)
            assert float(found[0, head, row]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("through", "role"), [("q", "END"), ("v", "S2"), ("v", "END")])
def test_paths_between_heads(name, through, role):
    clean, other = random_runs(name)
    model, prompts, d = clean.model, clean.prompts, clean.model.d_head
    senders, receivers = [AttentionHead(0, 1), AttentionHead(1, 3)], [AttentionHead(1, 0), AttentionHead(2, 3)]
    found = path_effects(clean, other, senders, role, receivers, through)
    assert bool(found[1, 0].isnan().all())
    sites = [Site("z", layer) for layer in range(3)]
    for row in range(3):
        where, end = PLACES[role][row], PLACES["END"][row]
        own, new = (captured(model, one, row, sites) for one in (prompts, other.prompts))
        for place, sender in enumerate(senders):
            for number, receiver in enumerate(receivers):
                if receiver.layer <= sender.layer:
                    continue
                at, read = sites[sender.layer], Site(through, receiver.layer)
                part = slice(sender.head * d, (sender.head + 1) * d)
                edits = {site: always(own[site]) for site in sites[: receiver.layer]}
                edits[at] = put(where, sender.head, d, new[at][0, where, part])
                sent = captured(model, prompts, row, [read], edits)[read]
                output = captured(model, prompts, row, [sites[receiver.layer]], {read: only(sent, where)})
                mine = slice(receiver.head * d, (receiver.head + 1) * d)
                value = output[sites[receiver.layer]][0, end, mine]
                after = difference(model, prompts, row, {sites[receiver.layer]: put(end, receiver.head, d, value)})
                expected = float(clean.difference[row]) - after
                assert float(found[place, number, row]) == pytest.approx(expected, abs=1e-5)


def always(value):
    """An edit: that value."""
    return lambda _: value


def only(sent, where):
    """An edit: what was sent, at one token."""

    def edit(value):
        value = value.clone()
        value[0, where] = sent[0, where]
        return value

    return edit


def test_refusals():
    clean, other = random_runs("gpt2")
    with pytest.raises(UsageError, match="senders at END expected, found S2"):
        path_effects(clean, other, [AttentionHead(0, 0)], "S2", [AttentionHead(1, 0)], "q")
    moved, _ = random_prompts()
    places = {**moved.places, "S2": moved.places["S2"] + 1}
    elsewhere = CleanRun.of(clean.model, EncodedPrompts(moved.prompts, moved.tokens, places, moved.answers))
    with pytest.raises(UsageError, match="same lengths and roles"):
        layer_effects(clean, elsewhere, "S2")
