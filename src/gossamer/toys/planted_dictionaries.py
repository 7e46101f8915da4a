"""Dictionaries of a model with planted relations, of known quality, and which feature each of their latents is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn.functional import normalize

from gossamer.activations.stream import ActivationStream
from gossamer.dictionary.config import DictionaryConfig
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.seeding import generator
from gossamer.tokens import Tokens
from gossamer.toys.planted_relations import PlantedModel
from gossamer.training.config import DictionarySpec, DictionaryTrainerConfig, OptimiserConfig
from gossamer.training.dictionary_trainer import DictionaryTrainer
from gossamer.training.objectives import L1

# A latent whose decoder row has at least this cosine with a feature's direction stands for it.
_SAME = 0.8
# Below the smallest length of a feature, above what others put along its direction.
_THRESHOLD = 0.3


@dataclass(frozen=True, eq=False)
class KnownDictionary:
    """A dictionary and which feature each latent stands for; -1 where it stands for none."""

    dictionary: Dictionary
    features: NDArray[np.int64]


def true_dictionaries(planted: PlantedModel, *, cosine: float = 1.0, seed: int = 0) -> dict[Site, KnownDictionary]:
    """At each place a latent for every feature that is there and not to be lost, in random order.

    Args:
        cosine: of each latent with its feature: below 1, both its weights lean by a random mixture of all features, so
            that others leak into it.

    Raises:
        UsageError: a cosine outside (0, 1].
    """
    if not 0 < cosine <= 1:
        raise UsageError(f"true dictionaries: a cosine above 0 and at most 1 expected, found {cosine}")
    found = {}
    for place, site in enumerate(planted.sites):
        draw = generator(seed, "true dictionaries", place)
        features = torch.tensor(sorted(planted.present[place] - planted.lost[place]))
        features = features[torch.randperm(len(features), generator=draw)]
        mixture = torch.randn(len(features), len(planted.directions), generator=draw)
        mixture[torch.arange(len(features)), features] = 0
        leaning = normalize(mixture @ planted.directions, dim=1)
        rows = cosine * planted.directions[features] + (1 - cosine**2) ** 0.5 * leaning
        found[site] = KnownDictionary(_thresholded(planted, site, rows), features.numpy())
    return found


def _thresholded(planted: PlantedModel, site: Site, rows: Tensor) -> Dictionary:
    """Unit rows as encoder and decoder, with one threshold."""
    n, d = rows.shape
    config = DictionaryConfig("jumprelu", d, n, site=site, model_name=planted.language_model.name)
    made = Dictionary(config, provenance={"source": "directions of planted features"})
    values = {
        "W_enc": rows.T,
        "W_dec": rows,
        "b_enc": torch.zeros(n),
        "b_dec": torch.zeros(d),
        "threshold": torch.full((n,), _THRESHOLD),
    }
    for name, value in values.items():
        made.get_parameter(name).data.copy_(value)
    return made.requires_grad_(False)


def trained_dictionaries(
    planted: PlantedModel, tokens: Tokens, *, steps: int, batch: int = 512, seed: int = 0
) -> dict[Site, KnownDictionary]:
    """Dictionaries that learn from the stream by L1 (coefficient 1), with as many latents as there are features.

    Which latent stands for which feature is the one-to-one assignment of the largest cosines, from .8 on; latents that
    stand for a feature that is to be lost are then left out.

    Memory: the activations of `tokens` at one place.
    """
    found = {}
    for place, site in enumerate(planted.sites):
        rows = ActivationStream(planted.language_model, tokens, [site]).collect()[site]
        here = np.array(sorted(planted.present[place]))
        directions = planted.directions[here]
        dictionary = _trained(site, rows, len(here), steps, batch, seed)
        features = _stands_for(dictionary.W_dec, directions, here)
        kept = ~np.isin(features, list(planted.lost[place]))
        found[site] = KnownDictionary(_restricted(dictionary, kept), features[kept])
    return found


def _trained(site: Site, rows: Tensor, n_latents: int, steps: int, batch: int, seed: int) -> Dictionary:
    config = DictionaryTrainerConfig(
        n_latents=n_latents,
        objective=L1(coefficient=1.0),
        optimiser=OptimiserConfig(learning_rate=5e-3),
        sensitivity=0.0,
        dead_after=50 * batch,
    )
    trainer = DictionaryTrainer.begin(DictionarySpec("planted", site, trainer=config, seed=seed), steps, rows)
    draw = generator(seed, "planted dictionaries", str(site))
    for step in range(steps):
        trainer.step(rows[torch.randint(len(rows), (batch,), generator=draw)], None, step)
    return trainer.dictionary(None, {"source": "planted relations", "steps": steps, "seed": seed})


def _stands_for(decoder: Tensor, directions: Tensor, features: NDArray[np.int64]) -> NDArray[np.int64]:
    cosines = (normalize(decoder.detach(), dim=1) @ directions.T).numpy()
    latents, own = linear_sum_assignment(cosines, maximize=True)
    found = np.full(len(cosines), -1)
    found[latents] = np.where(cosines[latents, own] >= _SAME, features[own], -1)
    return found


def _restricted(dictionary: Dictionary, kept: NDArray[np.bool_]) -> Dictionary:
    """The same without some latents."""
    chosen = torch.from_numpy(np.flatnonzero(kept))
    config = dictionary.config
    made = Dictionary(
        DictionaryConfig(config.architecture, config.d_in, len(chosen), site=config.site, k=config.k),
        provenance=dictionary.provenance,
    )
    for name, value in dictionary.named_parameters():
        own = value if name == "b_dec" or value.ndim == 0 else value[chosen] if name == "W_dec" else value[..., chosen]
        made.get_parameter(name).data.copy_(own)
    return made.requires_grad_(False)


def recovered(planted: PlantedModel, known: Mapping[Site, KnownDictionary]) -> float:
    """Share of the features that are to be in the dictionaries that have a latent standing for them."""
    wanted = [one - other for one, other in zip(planted.present, planted.lost, strict=True)]
    there = [set(known[site].features.tolist()) - {-1} for site in planted.sites]
    return sum(len(one & other) for one, other in zip(wanted, there, strict=True)) / sum(map(len, wanted))
