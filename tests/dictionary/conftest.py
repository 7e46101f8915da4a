"""Random dictionaries of every architecture, with weights such that some latents are active and some are not."""

import pytest
import torch

from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.model.site import Site

D_IN, N_LATENTS, K = 12, 40, 5


def random_dictionary(
    architecture="relu",
    *,
    site="resid_post.1",
    model_name="toy",
    dtype=torch.float32,
    seed=0,
    provenance=None,
    reported=None,
    **conventions,
):
    """A dictionary with seeded random weights."""
    config = DictionaryConfig(
        architecture=architecture,
        d_in=D_IN,
        n_latents=N_LATENTS,
        site=None if site is None else Site.parse(site),
        model_name=model_name,
        k={"topk": K, "batchtopk": 6.5}.get(architecture),
        **conventions,
    )
    dictionary = Dictionary(config, dtype=dtype, provenance=provenance, reported=reported)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in dictionary.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
            if name == "threshold":
                parameter.copy_(parameter.abs() + 0.1)
    return dictionary.requires_grad_(False)


@pytest.fixture
def make():
    """The factory of random dictionaries."""
    return random_dictionary


@pytest.fixture
def x():
    """Activations of 3 rows of 5 tokens, with a mean that is not zero."""
    return torch.randn(3, 5, D_IN, generator=torch.Generator().manual_seed(1)) * 1.5 + 0.3
