"""The latents that say most of a text: active there and seldom elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.training_tokens import counted_for
from gossamer.display import short_repr
from gossamer.features.feature import Feature
from gossamer.features.prompt_latents import prompt_tokens
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import SiteMapping, by_site
from gossamer.store.database import quoted
from gossamer.store.feature_store import FeatureStore


@dataclass(frozen=True)
class SpecificLatent:
    """A latent on a text.

    Attributes:
        feature: the latent.
        activation: its largest on the text; `position`: the token at which it is.
        density: share of the store's tokens on which it is active; of a latent that is active on none, as if on one.
        specificity: activation times log(1 / density), natural logarithm.
    """

    feature: Feature
    activation: float
    position: int
    density: float
    specificity: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.feature} {self.specificity:.3g}"
        yield f"activation {self.activation:.3g} at token {self.position}, density {self.density:.2g}"


@torch.no_grad()
def specific_latents(
    store: FeatureStore,
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    text: str,
    *,
    bos: bool | None = None,
    count: int = 50,
) -> list[SpecificLatent]:
    """The latents of the largest activation x log(1 / density) on a text, the first the most specific.

    What is active on every second token of any text says little of this one; the logarithm is what observing the
    latent is worth, in nats (as the inverse document frequency of words). Memory: tokens x latents of one site.

    Args:
        store: of the dictionaries; sites that it lacks are left out.
        model: the language model.
        dictionaries: of any of its sites.
        text: at most :data:`gossamer.features.prompt_latents.MOST_TOKENS` tokens.
        bos: see :meth:`LanguageModel.tokenize`.
        count: most latents.

    Raises:
        UsageError: a text that is too long.
    """
    known = {site: one for site, one in by_site(dictionaries).items() if str(site) in store.manifest.dictionaries}
    tokens = prompt_tokens(model, text, bos)
    counted = counted_for(model, known.values(), tokens)[0]
    values = model.capture(tokens, list(known))
    found: list[SpecificLatent] = []
    for site, dictionary in known.items():
        latents = dictionary.encode_dense(values[site])[0].float() * counted[:, None]
        activations, positions = latents.max(dim=0)
        densities = _densities(store, str(site)).to(activations)
        scores = activations * -densities.log()
        for latent in scores.topk(min(count, len(scores))).indices.tolist():
            if activations[latent] > 0:
                one = (
                    activations[latent].item(),
                    int(positions[latent]),
                    densities[latent].item(),
                    scores[latent].item(),
                )
                found.append(SpecificLatent(Feature(site, latent), *one))
    return sorted(found, key=lambda one: (-one.specificity, one.feature))[:count]


def _densities(store: FeatureStore, site: str) -> Float[Tensor, "latent"]:
    rows = store.sql(f"SELECT active FROM statistics WHERE site = {quoted(site)} ORDER BY latent", limit=None)
    active = torch.tensor(rows["active"].to_pylist(), dtype=torch.float64)
    return active.clamp(min=1) / store.manifest.tokens
