"""Cards of latents in the forms that dashboards of other tools take.

- Neuronpedia's upload (POST /api/feature/upload-batch): at most 128 features a request.
- The batch files that SAEDashboard's runner for Neuronpedia writes (batch-0.json and so on), which Neuronpedia's
  converter reads. What gossamer does not measure (aligned and correlated neurons, the histogram of logits) is empty.

Sources: github.com/hijohnnylin/neuronpedia, apps/webapp/app/api/feature/upload-batch and
utils/neuronpedia-utils; SAEDashboard 0.8.0, neuronpedia/neuronpedia_dashboard.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.features.feature_card import FeatureCard, FeatureExample
from gossamer.model.site import Site

# Features of one request, and of one file.
BATCH = 128
_WORDS, _TOKENS = 20, 1024
# What SAEDashboard says of examples that are the strongest, in place of the share of their bin.
_STRONGEST = -1.0
# Of a latent that says nothing of them.
_UNMEASURED: Mapping[str, Any] = {
    f"{what}_{part}": []
    for what, parts in {
        "neuron_alignment": ("indices", "values", "l1"),
        "correlated_neurons": ("indices", "l1", "pearson"),
        "correlated_features": ("indices", "l1", "pearson"),
        "logits_hist_data_bar": ("heights", "values"),
    }.items()
    for part in parts
}


def neuronpedia_uploads(
    cards: Iterable[FeatureCard],
    model_id: str,
    source: str,
    explanations: Mapping[Feature, Sequence[Mapping[str, Any]]] | None = None,
) -> Iterator[dict[str, Any]]:
    """Bodies of Neuronpedia's upload: examples, density and words of latents, and what is said of them.

    Latents that were never active are left out: Neuronpedia takes none without an example.

    Args:
        cards: of one site.
        model_id, source: as Neuronpedia names them, such as gemma-2-2b and 12-gemmascope-res-16k.
        explanations: of each latent, as Neuronpedia takes them (text, methodName, modelName).

    Raises:
        UsageError: cards of several sites.
    """
    told = explanations or {}
    for part in _parts([card for card in _of_one_site(cards) if card.examples]):
        features = [_upload(card, told.get(card.feature, ())) for card in part]
        yield {"modelId": model_id, "source": source, "features": features}


def _upload(card: FeatureCard, told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "index": card.feature.latent,
        "density": card.density,
        "topLogits": [{"token": word, "value": value} for word, value in card.promotes[:_WORDS]] or None,
        "bottomLogits": [{"token": word, "value": value} for word, value in card.suppresses[:_WORDS]] or None,
        "explanations": list(told),
        "activations": [
            {"tokens": list(one.tokens[:_TOKENS]), "values": list(one.activations[:_TOKENS])} for one in card.examples
        ],
    }


def saedashboard_batches(
    cards: Iterable[FeatureCard], model_id: str, source_set: str, dataset: str = ""
) -> Iterator[dict[str, Any]]:
    """Batch files of SAEDashboard, 128 latents each.

    A card knows how many tokens it is of and not in how many prompts: they count as one prompt of that length.

    Args:
        cards: of one site with a layer.
        model_id: the model's name at Neuronpedia.
        source_set: name of the set of dictionaries.
        dataset: which text they are of.

    Raises:
        UsageError: cards of several sites, or of a site without a layer.
    """
    for part in _parts(_of_one_site(cards)):
        site = part[0].feature.site
        if site.layer is None:
            raise UsageError(f"SAEDashboard: latents of a layer expected, found some of {site}")
        yield {
            "model_id": model_id,
            "layer": site.layer,
            "sae_set": source_set,
            "sae_id_suffix": None,
            "features": [_dashboard(card, dataset) for card in part],
        }


def _dashboard(card: FeatureCard, dataset: str) -> dict[str, Any]:
    edges, strata = card.histogram.edges, 1 + max((one.stratum or 0 for one in card.strata), default=0)
    words = {"pos": card.promotes, "neg": card.suppresses}
    return {
        "feature_index": card.feature.latent,
        **_UNMEASURED,
        **{f"{side}_str": [word for word, _ in found] for side, found in words.items()},
        **{f"{side}_values": [value for _, value in found] for side, found in words.items()},
        "frac_nonzero": card.density,
        "freq_hist_data_bar_values": [(low + high) / 2 for low, high in pairwise(edges)],
        "freq_hist_data_bar_heights": list(card.histogram.counts),
        "n_prompts_total": 1,
        "n_tokens_in_prompt": card.tokens,
        "dataset": dataset,
        "decoder_weights_dist": [],
        "vector": [],
        "activations": [
            *(_activation(one, _STRONGEST, card.maximum, _STRONGEST) for one in card.examples),
            *(_activation(one, *_range(card, one.stratum), 1 / strata) for one in card.strata),
        ],
    }


def _range(card: FeatureCard, stratum: int | None) -> tuple[float, float]:
    """Smallest and largest activation among the examples of a quantile group."""
    found = [one.activation for one in card.strata if one.stratum == stratum]
    return min(found), max(found)


def _activation(example: FeatureExample, low: float, high: float, share: float) -> dict[str, Any]:
    return {
        "bin_min": low,
        "bin_max": high,
        "bin_contains": share,
        "tokens": list(example.tokens),
        "values": list(example.activations),
        "qualifying_token_index": example.position,
    }


def _of_one_site(cards: Iterable[FeatureCard]) -> list[FeatureCard]:
    """The cards of latents; error nodes have no place in a dictionary's dashboard."""
    found = [card for card in cards if not card.feature.is_error]
    sites: set[Site] = {card.feature.site for card in found}
    if len(sites) > 1:
        names = ", ".join(map(str, sorted(sites)))
        raise UsageError(f"dashboards: latents of one dictionary expected, found some of {names}; give one site")
    return found


def _parts(cards: Sequence[FeatureCard]) -> Iterator[Sequence[FeatureCard]]:
    return (cards[start : start + BATCH] for start in range(0, len(cards), BATCH))
