"""Repair: patched margins equal those of a pass in which the nodes are set by hand."""

import pytest
import torch

from gossamer.circuits.adversarial import edit_space
from gossamer.circuits.adversarial.edits import PromptEdit
from gossamer.circuits.adversarial.prompts import CountedModel, PromptEncoder
from gossamer.circuits.adversarial.repair import put_back
from gossamer.circuits.evaluate.rerun import circuit_nodes
from gossamer.tasks.prompt_tokenizer import PromptTokenizer


def test_nodes_put_back_have_their_clean_values(spool, spool_dictionaries, ioi_circuit, ioi_task):
    space = edit_space("ioi", ioi_task.provenance, (*ioi_task.train.prompts, *ioi_task.test.prompts), 0)
    encoder = PromptEncoder(PromptTokenizer(spool.tokenizer, True), ioi_task.role_names)
    scenes = space.scenes(3, 0, held_out=False)
    word = next(one.word for one in space.edits if one.kind == "object")
    recipe = (PromptEdit("object", "object", word),)
    clean, edited = (
        encoder.pairs(encoder.rows(given)) for given in (scenes, [space.apply(one, recipe) for one in scenes])
    )
    nodes = circuit_nodes(ioi_circuit, spool_dictionaries, ioi_task)
    found = put_back(spool, nodes, spool_dictionaries, clean, edited)
    streams, edits, keys = spool.capture(clean.clean.tokens, list(spool_dictionaries)), {}, nodes.keys()
    for site, dictionary in spool_dictionaries.items():
        wanted = dictionary.encode_dense(streams[site])

        def edit(x, site=site, dictionary=dictionary, wanted=wanted):
            latents = dictionary.encode_dense(x)
            moved = latents.clone()
            for key in keys:
                if key.site == site:
                    here = edited.clean.roles == nodes.roles.index(key.role)
                    moved[:, :, key.latent][here] = wanted[:, :, key.latent][here]
            return x + dictionary.reconstruct(x, moved) - dictionary.reconstruct(x, latents)

        edits[site] = edit
    with torch.no_grad(), spool.edit(edits):
        expected = CountedModel(spool).margins(edited)
    assert torch.allclose(found, expected, atol=1e-3)
    unpatched = CountedModel(spool).margins(edited)
    assert not torch.allclose(found, unpatched, atol=1e-3)
    same = put_back(spool, nodes, spool_dictionaries, clean, clean)
    assert same.tolist() == pytest.approx(CountedModel(spool).margins(clean).tolist(), abs=1e-3)
