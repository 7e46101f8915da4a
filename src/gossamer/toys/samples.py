"""Activations whose features are known, to learn dictionaries from and to judge them by."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.activations.stream import ActivationStream
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.toys.compiler import Compiled
from gossamer.toys.known import labelled_dictionary, labelled_latents
from gossamer.toys.rasp import Value
from gossamer.toys.superposition import SuperpositionModel

# A feature whose direction is shorter is not represented in a toy model of superposition (learned ones are near 1).
_REPRESENTED = 0.5


@dataclass(frozen=True)
class KnownSamples:
    """Activations with the features that they are made of.

    Attributes:
        site: where they were read.
        labels: of the features.
        directions: of the features, of any positive length.
        training: to learn from.
        features, activations: to judge by, sample by sample.
    """

    site: Site
    labels: tuple[str, ...]
    directions: Float[Tensor, "feature d"]
    training: Float[Tensor, "some d"]
    features: Float[Tensor, "sample feature"]
    activations: Float[Tensor, "sample d"]

    __repr__ = short_repr

    @property
    def true_l0(self) -> float:
        """Mean number of active features."""
        return (self.features > 0).sum(dim=1).double().mean().item()


def superposition_samples(model: SuperpositionModel, n_training: int, n_test: int, seed: int) -> KnownSamples:
    """Hidden activations of a toy model; features that it does not represent (length below 1/2) are left out.

    Raises:
        UsageError: it represents none.
    """
    represented = model.directions.norm(dim=1) >= _REPRESENTED
    if not represented.any():
        raise UsageError("superposition: at least one feature represented expected, found none; train it for longer")
    x, hidden = model.sample(n_test, seed + 1)
    labels = tuple(str(place) for place in represented.nonzero()[:, 0].tolist())
    training = model.sample(n_training, seed)[1]
    return KnownSamples(
        Site("resid_post", 0), labels, model.directions[represented], training, x[:, represented], hidden
    )


def program_samples(compiled: Compiled, site: Site, inputs: Sequence[Sequence[Value]]) -> KnownSamples:
    """The stream of a compiled program at every token of `inputs`, BOS left out: the whole distribution, so that there
    is nothing to hold out.

    Features are the labelled directions that are active on some token; what they are on a token is read off along them.

    Raises:
        UsageError: as :meth:`Compiled.encode` and :func:`labelled_dictionary`.
    """
    rows = ActivationStream(compiled.language_model, compiled.encode(inputs), [site]).collect()[site]
    labelled = labelled_dictionary(compiled, site)
    features = labelled.encode_dense(rows)
    # What is rounding, and not there.
    features = torch.where(features > 1e-4, features, 0.0)
    active = (features > 0).any(dim=0)
    names = [latent.label for latent in labelled_latents(compiled.layout)]
    labels = tuple(names[place] for place in active.nonzero()[:, 0].tolist())
    return KnownSamples(site, labels, labelled.W_dec[active], rows, features[:, active], rows)
