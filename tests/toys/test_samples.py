"""Samples with known features: they are made of the directions they name."""

import pytest
import torch

from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.toys import PROGRAMS, SuperpositionConfig, SuperpositionModel, compile_program
from gossamer.toys.samples import program_samples, superposition_samples
from gossamer.toys.task import all_inputs


def test_features_that_are_not_represented_are_left_out():
    w = torch.tensor([[1.0, -0.9, 0.1], [0.0, 0.0, 0.2]])
    model = SuperpositionModel(SuperpositionConfig(3, 2, probability=0.5), w, torch.zeros(3), 0.0)
    found = superposition_samples(model, 50, 20, seed=0)
    assert found.labels == ("0", "1")
    torch.testing.assert_close(found.directions, w.T[:2])
    assert (found.training.shape, found.features.shape, found.activations.shape) == ((50, 2), (20, 2), (20, 2))
    # What is left out still disturbs.
    away = found.activations - found.features @ found.directions
    torch.testing.assert_close(away / w[:, 2], (away / w[:, 2])[:, :1].expand(20, 2))
    assert found.true_l0 == pytest.approx((found.features > 0).sum().item() / 20)
    assert not torch.equal(found.training[:20], found.activations)
    with pytest.raises(UsageError, match="at least one feature represented"):
        superposition_samples(SuperpositionModel(model.config, 0.1 * w, torch.zeros(3), 0.0), 5, 5, seed=0)


def test_a_programs_stream_is_the_sum_of_its_active_features():
    program = PROGRAMS["histogram"]
    compiled = compile_program(program.build(), program.vocabulary, max_length=3)
    inputs = [tokens for n in (1, 2, 3) for tokens in all_inputs(program.vocabulary, n)]
    found = program_samples(compiled, Site("resid_post", compiled.layout.n_layers - 1), inputs)
    assert len(found.activations) == 3 * 1 + 9 * 2 + 27 * 3
    assert found.training is found.activations
    torch.testing.assert_close(found.features @ found.directions, found.activations, atol=1e-3, rtol=0)
    assert {"tokens:a", "tokens:b", "tokens:c"} <= set(found.labels)
    assert "<bos>" not in found.labels
    # Exactly one value of a categorical variable is active.
    own = [place for place, label in enumerate(found.labels) if label.startswith("tokens:")]
    assert ((found.features[:, own] > 0).sum(dim=1) == 1).all()
    assert (found.features > 0).any(dim=0).all()
