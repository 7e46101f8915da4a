"""Latents ablated at each prompt's own token, against a loop over prompts, one at a time and without padding."""

import pytest
import torch
from ioi_lab import PLACES, alone, difference, random_runs
from random_dictionaries import random_dictionary
from tiny_families import random_tokens

from gossamer.attention import FrozenPass
from gossamer.attention.ioi.ablation import latent_effects
from gossamer.model import Site


@pytest.mark.parametrize(("name", "facts"), [("gpt2", {}), ("llama", {"normalisation": "layer_norm"})])
def test_every_latent_at_its_own_s2(name, facts):
    clean, _ = random_runs(name)
    model, prompts, site = clean.model, clean.prompts, Site("z", 1)
    dictionary = random_dictionary(model, random_tokens(), site, **facts)
    found = latent_effects(clean, FrozenPass.of(model, [dictionary], prompts.tokens), site, "S2")
    assert len(found.latents) > 4
    for row in range(3):
        where = PLACES["S2"][row]
        with torch.no_grad():
            z = model.capture(alone(prompts, row), [site])[site]
        codes = FrozenPass.of(model, [dictionary], alone(prompts, row)).codes[site]
        active = codes.active(0, where)
        scale = 1.0 if codes.output_scale is None else float(codes.output_scale[0, where])
        assert set(active) == set(found.latents[found.active[:, row]].tolist())
        removed = {latent: scale * value * dictionary.W_dec[latent] for latent, value in active.items()}
        for number, latent in enumerate(found.latents.tolist()):
            fall = fallen(model, prompts, row, site, z, where, removed.get(latent))
            assert float(found.effects[number, row]) == pytest.approx(fall, abs=1e-5)
            assert float(found.activations[number, row]) == pytest.approx(active.get(latent, 0.0))
        assert float(found.every[row]) == pytest.approx(
            fallen(model, prompts, row, site, z, where, sum(removed.values())), abs=1e-5
        )
        error = codes.error[0, where]
        assert float(found.error[row]) == pytest.approx(fallen(model, prompts, row, site, z, where, error), abs=1e-5)


def fallen(model, prompts, row, site, z, where, removed):
    if removed is None:
        return 0.0
    after = z.clone()
    after[0, where] -= removed
    return difference(model, prompts, row, {}) - difference(model, prompts, row, {site: lambda _: after})
