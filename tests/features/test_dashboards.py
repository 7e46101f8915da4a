"""Cards as dashboards of others take them: every field that their readers ask for, and nothing unmeasured."""

from dataclasses import replace

import pytest

from gossamer.errors import UsageError
from gossamer.features import Feature, FeatureCard, FeatureExample, Histogram
from gossamer.features.dashboards import BATCH, neuronpedia_uploads, saedashboard_batches
from gossamer.model.site import Site

SITE = Site("resid_post", 3)
# What SAEDashboard 0.8.0 writes of a feature, and of an activation.
FEATURE = {
    *("feature_index", "neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1"),
    *("correlated_neurons_indices", "correlated_neurons_l1", "correlated_neurons_pearson"),
    *("correlated_features_indices", "correlated_features_l1", "correlated_features_pearson"),
    *("neg_str", "neg_values", "pos_str", "pos_values", "frac_nonzero", "freq_hist_data_bar_values"),
    *("freq_hist_data_bar_heights", "logits_hist_data_bar_heights", "logits_hist_data_bar_values"),
    *("n_prompts_total", "n_tokens_in_prompt", "dataset", "decoder_weights_dist", "activations", "vector"),
}
ACTIVATION = {"bin_min", "bin_max", "bin_contains", "tokens", "values", "qualifying_token_index"}


def card(latent: int, **facts: object) -> FeatureCard:
    made = FeatureCard(
        Feature(SITE, latent),
        "tiny",
        tokens=200,
        active=3,
        mean=2.0,
        std=0.5,
        maximum=4.0,
        histogram=Histogram((1.0, 2.0, 4.0), (1, 2)),
        promotes=((" Mary", 2.0), ("<b>", 1.0)),
        suppresses=((" John", -1.0),),
        examples=(FeatureExample((" a", " b"), (0.0, 4.0), 1, 0),),
        strata=tuple(FeatureExample((" c",), (value,), 0, 2, stratum=group) for group, value in enumerate((1.0, 3.0))),
    )
    return replace(made, **facts)


def test_uploads_have_what_neuronpedia_asks_for():
    told = {Feature(SITE, 5): [{"text": "names", "methodName": "rule", "modelName": None}]}
    dead = card(6, examples=(), strata=(), active=0)
    (body,) = neuronpedia_uploads([card(5), dead, card(9, promotes=())], "tiny", "3-res", told)
    assert (body["modelId"], body["source"]) == ("tiny", "3-res")
    first, second = body["features"]
    assert first == {
        "index": 5,
        "density": 3 / 200,
        "topLogits": [{"token": " Mary", "value": 2.0}, {"token": "<b>", "value": 1.0}],
        "bottomLogits": [{"token": " John", "value": -1.0}],
        "explanations": told[Feature(SITE, 5)],
        "activations": [{"tokens": [" a", " b"], "values": [0.0, 4.0]}],
    }
    assert (second["index"], second["topLogits"], second["explanations"]) == (9, None, [])


def test_batches_have_what_saedashboard_writes():
    (batch,) = saedashboard_batches([card(5)], "tiny", "res", "some text")
    (found,) = batch.pop("features")
    assert batch == {"model_id": "tiny", "layer": 3, "sae_set": "res", "sae_id_suffix": None}
    assert set(found) == FEATURE
    assert (found["pos_str"], found["pos_values"]) == ([" Mary", "<b>"], [2.0, 1.0])
    assert (found["neg_str"], found["neg_values"]) == ([" John"], [-1.0])
    assert (found["freq_hist_data_bar_values"], found["freq_hist_data_bar_heights"]) == ([1.5, 3.0], [1, 2])
    assert found["frac_nonzero"] == 3 / 200
    assert found["n_prompts_total"] * found["n_tokens_in_prompt"] == 200
    assert all(set(one) == ACTIVATION for one in found["activations"])
    bins = [(one["bin_min"], one["bin_max"], one["bin_contains"]) for one in found["activations"]]
    assert bins == [(-1.0, 4.0, -1.0), (1.0, 1.0, 0.5), (3.0, 3.0, 0.5)]
    assert found["neuron_alignment_values"] == found["logits_hist_data_bar_heights"] == []


@pytest.mark.parametrize("made", [neuronpedia_uploads, saedashboard_batches])
def test_a_file_has_as_many_as_are_taken(made):
    sizes = [len(body["features"]) for body in made([card(one) for one in range(BATCH + 2)], "tiny", "3-res")]
    assert sizes == [BATCH, 2]


@pytest.mark.parametrize("made", [neuronpedia_uploads, saedashboard_batches])
def test_latents_of_two_dictionaries_are_refused(made):
    other = card(1, feature=Feature(Site("resid_post", 4), 1))
    with pytest.raises(UsageError, match=r"of one dictionary expected, found some of resid_post\.3, resid_post\.4"):
        list(made([card(1), other], "tiny", "3-res"))
    error = card(1, feature=Feature(SITE, -1))
    assert list(made([error], "tiny", "3-res")) == []
