"""Texts and latents of the reader's own: the library's numbers, and refusals with a reason."""

import pytest
import torch

from gossamer.features import Feature, feature_cards
from gossamer.features.prompt_latents import prompt_latents

URL, TEXT = "/api/v1/dicts/circuit", "The boys near the dog"


@pytest.fixture(scope="module")
def said(ask):
    return ask.post(f"{URL}/prompt", json={"text": TEXT, "count": 4}).json()


@pytest.fixture(scope="module")
def own(bench):
    with bench.restored("circuit") as restored:
        study = restored.study
        return study, prompt_latents(study.model, study.dictionaries, TEXT, bos=True)


def test_every_token_has_its_latents_by_either_measure(said, own):
    study, found = own
    assert said["tokens"][1:3] == ["The", "␣boys"]
    assert said["counted"] == found.counted.tolist()
    assert [site["site"] for site in said["sites"]] == list(map(str, study.dictionaries))
    for site, one in zip(said["sites"], found.sites.values(), strict=True):
        for place, token in enumerate(site["tokens"]):
            assert token["active"] == int((one.activations[place] > 0).sum())
            assert token["error_share"] == pytest.approx(one.error_share[place].item(), rel=1e-4)
            for latent in token["latents"]:
                number = Feature.parse(latent["feature"]).latent
                assert latent["activation"] == pytest.approx(one.activations[place, number].item(), rel=1e-4)
                assert latent["attribution"] == pytest.approx(one.attributions[place, number].item(), abs=1e-5)
                assert len(latent["words"]) == 3
    last = {latent["feature"].split("/")[1] for latent in said["sites"][0]["tokens"][-1]["latents"]}
    one = next(iter(found.sites.values()))
    assert str(int(one.activations[-1].argmax())) in last
    assert str(int(one.attributions[-1].abs().argmax())) in last
    # Nothing is said of a token that the dictionaries do not know.
    assert said["sites"][0]["tokens"][0]["latents"] == []


def test_predictions_are_the_models(said, own):
    _, found = own
    assert said["target"] == said["predictions"][0]
    assert [one["token"] for one in said["predictions"]] == found.log_probs.topk(10).indices.tolist()
    assert said["target"]["probability"] == pytest.approx(found.log_probs.max().exp().item(), rel=1e-4)


def test_another_target_is_attributed_and_a_latent_taken_away(ask, said):
    other = said["predictions"][1]["token"]
    again = ask.post(f"{URL}/prompt", json={"text": TEXT, "count": 4, "target": other}).json()
    assert again["target"]["token"] == other
    assert [one["token"] for one in again["predictions"]] == [one["token"] for one in said["predictions"]]
    token = again["sites"][1]["tokens"][2]
    latents = [Feature.parse(one["feature"]).latent for one in token["latents"]]
    asked = {"text": TEXT, "target": other, "site": again["sites"][1]["site"], "position": 2, "latents": latents}
    changes = ask.post(f"{URL}/prompt/removals", json=asked).json()
    assert changes["latents"] == latents
    largest = max(token["latents"], key=lambda one: abs(one["attribution"]))
    change = changes["changes"][token["latents"].index(largest)]
    # To first order what is taken away is what was added.
    assert change * largest["attribution"] < 0


def test_any_latent_has_a_card_and_says_where_it_is_used(ask, bench, made):
    node = made[2].nodes[0].node
    said = ask.get(f"{URL}/latent", params={"feature": str(node.feature)}).json()
    assert f"circuit {node}" in said["nodes"]
    with bench.restored("circuit") as restored:
        study = restored.study
        card = feature_cards(study.model, study.dictionaries, [node.feature], study.task.train.clean.tokens)[
            node.feature
        ]
    assert said["card"]["density"] == pytest.approx(card.density)
    assert said["card"]["maximum"] == pytest.approx(card.maximum)
    assert [one["word"].strip("␣") for one in said["card"]["promotes"]] == [word.strip() for word, _ in card.promotes]


def test_a_latent_on_a_text_is_the_encoders(ask, own, made):
    study, _ = own
    feature = made[2].nodes[0].node.feature
    said = ask.post(f"{URL}/latent/test", json={"feature": str(feature), "text": TEXT}).json()
    tokens = study.model.tokenize([TEXT], bos=True)
    with torch.no_grad():
        x = study.model.capture(tokens, [feature.site])[feature.site]
        values = study.dictionaries[feature.site].encode_dense(x)[0, :, feature.latent]
    assert said["example"]["activations"][0] == 0
    assert said["example"]["activations"][1:] == pytest.approx(values[1:].tolist(), rel=1e-3, abs=1e-4)
    assert max(said["example"]["shade"]) in (0, 1)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/prompt", {"text": ""}),
        ("/prompt", {"text": "x" * 20_001}),
        ("/prompt", {"text": "dog " * 600}),
        ("/prompt", {"text": TEXT, "at": 400}),
        ("/prompt", {"text": TEXT, "target": 10**6}),
        ("/prompt", {"text": TEXT, "count": 1000}),
        ("/prompt/removals", {"text": TEXT, "site": "resid_post.0", "position": 1, "latents": [1]}),
        ("/prompt/removals", {"text": TEXT, "site": "<b>", "position": 1, "latents": [1]}),
        ("/prompt/removals", {"text": TEXT, "site": "resid_post.1", "position": 400, "latents": [1]}),
        ("/prompt/removals", {"text": TEXT, "site": "resid_post.1", "position": 1, "latents": [10**9]}),
        ("/prompt/removals", {"text": TEXT, "site": "resid_post.1", "position": 1, "latents": [-1]}),
        ("/latent/test", {"text": TEXT, "feature": "resid_post.1/999999"}),
        ("/latent/test", {"text": TEXT, "feature": "nonsense"}),
    ],
)
def test_what_means_nothing_is_refused_with_a_reason(ask, path, body):
    found = ask.post(f"{URL}{path}", json=body)
    assert found.status_code == 422, found.text[:200]
    assert found.json()["detail"]


@pytest.mark.parametrize(
    "feature", ["", "x", "resid_post.1/-1", "resid_post.1/999999", "resid_post.0/1", "../1", "\u202e/1"]
)
def test_features_that_are_none_are_refused(ask, feature):
    found = ask.get(f"{URL}/latent", params={"feature": feature})
    assert found.status_code == 422
    assert found.json()["detail"]


def test_hostile_text_is_written_so_that_it_can_be_read(ask):
    said = ask.post(f"{URL}/prompt", json={"text": "<img src=x onerror=alert(1)> \u202e\x00 dog"}).json()
    assert "\u202e" not in "".join(said["tokens"])
    assert "\x00" not in "".join(said["tokens"])
