"""Contributions by role: with the biases they are the pre-activation, and each token counts once."""

import pytest
import torch
from ioi_lab import spool, spool_prompts, z_dictionaries
from random_dictionaries import pre_activations

from gossamer.attention import FrozenPass
from gossamer.attention.ioi.sources import SOURCES, role_contributions, source_roles
from gossamer.model import Site


def test_roles_of_sources():
    model, speller = spool()
    prompts = spool_prompts(model, speller, 2, ["store_gave"])
    roles = source_roles(prompts)
    words = [[model.word(int(one)) for one in row] for row in prompts.tokens.ids]
    first = next(place for place, word in enumerate(words[0]) if word == f" {prompts.prompts[0].io}")
    named = [SOURCES[role] if role >= 0 else "" for role in roles[0].tolist()]
    # "Then, IO and S1 went to the store. S2 gave a drink to"
    assert named[first : first + 5] == ["IO", "connective", "S1", "after S1", "between"]
    assert set(named[:first]) == {"before names"}
    second = int(prompts.places["S2"][0])
    assert named[second] == "S2"
    assert set(named[second + 1 :]) == {""}
    # "Then, S1 and IO went ..": what comes after S1 is the connective.
    named = [SOURCES[role] if role >= 0 else "" for role in roles[1].tolist()]
    assert named[first : first + 4] == ["S1", "connective", "IO", "between"]


def test_contributions_are_the_pre_activation():
    model, speller = spool()
    prompts = spool_prompts(model, speller, 6)
    dictionaries, site = z_dictionaries(model, prompts.tokens, (2,)), Site("z", 2)
    frozen = FrozenPass.of(model, dictionaries.values(), prompts.tokens)
    where = prompts.places["S2"]
    latents = sorted({latent for row in range(6) for latent in frozen.codes[site].active(row, int(where[row]))})[:4]
    shares, bias = role_contributions(frozen, prompts, site, latents)
    rows = torch.arange(6)
    z = frozen.values[site][rows, where]
    pre = pre_activations(dictionaries[site], z)[:, latents].T
    active = dictionaries[site].encode_dense(z)[:, latents].T > 0
    assert active.any()
    assert not active.all()
    assert torch.equal(~bias.isnan(), active)
    torch.testing.assert_close((shares.sum(dim=2) + bias)[active], pre[active], atol=1e-4, rtol=1e-4)
    assert shares[~active].isnan().all()


@pytest.mark.parametrize("order", [[3, 17], [17, 3]])
def test_latents_keep_the_order_in_which_they_are_asked_for(order):
    model, speller = spool()
    prompts = spool_prompts(model, speller, 6)
    frozen = FrozenPass.of(model, z_dictionaries(model, prompts.tokens, (2,)).values(), prompts.tokens)
    together, _ = role_contributions(frozen, prompts, Site("z", 2), order)
    for number, latent in enumerate(order):
        torch.testing.assert_close(
            role_contributions(frozen, prompts, Site("z", 2), [latent])[0][0], together[number], equal_nan=True
        )
