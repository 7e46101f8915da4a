"""Latents moved inside the model: what is said is what the model says when its stream is changed by hand."""

import pytest
import torch
from spool_circuit import active_circuit

from gossamer import DictionarySet, LanguageModel, bundled
from gossamer.circuits.evaluate.rerun import circuit_nodes
from gossamer.circuits.patching import patch_nodes
from gossamer.circuits.study import Study, StudySettings
from gossamer.errors import UsageError
from gossamer.tasks import get

ROW = 2


@pytest.fixture(scope="module")
def made():
    model = LanguageModel.load("bundled:spool", device="cpu")
    dictionaries = DictionarySet.load(bundled.path("spool") / "dictionaries")
    task = get("ioi").generate(model.tokenizer, n=32, seed=0, bos=True)
    circuit = active_circuit(model, dictionaries, task)
    study = Study(model, dictionaries, task, StudySettings(minimum_accuracy=0.0))
    return study, circuit_nodes(circuit, dictionaries, study.task)


def moved_by_hand(study, nodes, target):
    """Log-probabilities of the model after the answer when each node's latent goes to `target(site, latent, place)`."""
    prompts, model = study.task.test, study.model
    tokens, roles = prompts.clean.tokens[ROW : ROW + 1], prompts.clean.roles[ROW]
    wanted = {}
    for node in nodes.keys():  # noqa: SIM118 - no mapping
        role = study.task.role_names.index(node.role)
        for place in torch.nonzero(roles == role).flatten().tolist():
            wanted.setdefault(node.site, []).append((place, node.latent))

    def edit(site):
        dictionary = study.dictionaries[site]

        def change(x):
            x, latents = x.clone(), dictionary.encode_dense(x)
            for place, latent in wanted[site]:
                by = target(site, latent, place) - latents[0, place, latent]
                x[0, place] += by * dictionary.W_dec[latent]
            return x

        return change

    with torch.no_grad(), model.edit({site: edit(site) for site in wanted}):
        logits = model.logits(tokens)[0, int(prompts.clean.answer_position[ROW])]
    return logits.log_softmax(dim=0), logits


def targets(study, mode):
    groups = study.task.test.clean.ablation_groups[ROW]
    other = study.task.test.counterfactual.tokens[ROW : ROW + 1]
    streams = study.model.capture(other, list(study.dictionaries))
    latents = {site: one.encode_dense(streams[site])[0] for site, one in study.dictionaries.items()}
    return {
        "zero": lambda site, latent, place: 0.0,
        "value": lambda site, latent, place: 3.5,
        "mean": lambda site, latent, place: study.ablation.sites[site].latents[groups[place], latent],
        "resample": lambda site, latent, place: latents[site][place, latent],
    }[mode]


@pytest.mark.parametrize("mode", ["zero", "mean", "resample", "value"])
def test_a_patch_is_what_the_model_does_when_its_stream_is_changed_by_hand(made, mode):
    study, nodes = made
    found = patch_nodes(study, study.task.test, ROW, nodes, mode, 3.5)
    log_probs, logits = moved_by_hand(study, nodes, targets(study, mode))
    own, own_logits = moved_by_hand(study, nodes.none(), None)
    prompts = study.task.test
    right, wrong = int(prompts.answer[ROW]), int(prompts.incorrect[ROW])
    assert found.metric == pytest.approx(float(own_logits[right] - own_logits[wrong]), abs=1e-4)
    assert found.patched_metric == pytest.approx(float(logits[right] - logits[wrong]), abs=1e-4)
    assert found.kl == pytest.approx(float((own.exp() * (own - log_probs)).sum()), abs=1e-5)
    assert found.kl > 1e-3
    first = found.words[0]
    assert (first.word, first.probability) == (
        study.model.word(right),
        pytest.approx(float(own[right].exp()), abs=1e-5),
    )
    assert first.patched_probability == pytest.approx(float(log_probs[right].exp()), abs=1e-5)
    listed = {word.word for word in found.words}
    assert study.model.word(int(own.argmax())) in listed
    assert study.model.word(int(log_probs.argmax())) in listed


def test_no_nodes_is_the_model_itself(made):
    study, nodes = made
    found = patch_nodes(study, study.task.test, ROW, nodes.none(), "zero")
    assert found.metric == found.patched_metric
    assert found.kl == 0


def test_a_prompt_that_is_not_there_is_refused(made):
    study, nodes = made
    for row in (-1, len(study.task.test)):
        with pytest.raises(UsageError, match="prompt: 0 to"):
            patch_nodes(study, study.task.test, row, nodes, "zero")
