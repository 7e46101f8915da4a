"""From a prompt or a task to a trace and its file, on the bundled model."""

import pytest
import torch

from gossamer import DictionarySet, Feature, LanguageModel, bundled
from gossamer.attention import TraceResult, trace_prompt, trace_task
from gossamer.errors import GossamerError, UsageError
from gossamer.model import Site

PROMPT = "The boys near the dog"


@pytest.fixture(scope="module")
def spool():
    model = LanguageModel.load("bundled:spool")
    return model, DictionarySet.load(bundled.path("spool") / "dictionaries")


@pytest.fixture(scope="module")
def found(spool):
    return trace_prompt(*spool, PROMPT, answer=" are", wrong=" is", nodes=30, check=True)


def test_a_prompt_is_traced_checked_and_saved(spool, found, tmp_path):
    model, _ = spool
    tokens = model.tokenize([PROMPT])
    with torch.no_grad():
        logits = model.logits(tokens)[0, -1]
    are, others = (model.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in (" are", " is"))
    assert found.trace.nodes[0].contribution == pytest.approx(float(logits[are] - logits[others]), abs=1e-4)
    assert "".join(found.prompt).endswith(PROMPT)
    # The number of the verb comes from the subject, not from the noun beside it.
    moved = {found.token(number): 0.0 for number in range(1, 30)}
    for number, node in enumerate(found.trace.nodes):
        if node.heads:
            moved[found.token(number)] += node.contribution
    assert max(moved, key=moved.get) == " boys"
    assert found.check.frozen.value > 0.9
    assert TraceResult.load(found.save(tmp_path / "trace.json")) == found
    assert "30 nodes, 1 prompt" in repr(found)
    assert "boys" in found._repr_html_()


def test_a_damaged_file_is_refused(found, tmp_path):
    path = found.save(tmp_path / "trace.json")
    path.write_text(path.read_text().replace("boys", "girl"))
    with pytest.raises(GossamerError, match="checksum"):
        TraceResult.load(path)


def test_a_latent_and_a_task(spool):
    model, dictionaries = spool
    site = Site("resid_post", 2)
    with torch.no_grad():
        x = model.capture(model.tokenize([PROMPT]), [site])[site]
    latents = dictionaries[site].encode_dense(x)[0, -1]
    feature = Feature(site, int(latents.argmax()))
    one = trace_prompt(model, dictionaries, PROMPT, feature=feature, position=-1, nodes=5)
    assert one.trace.nodes[0].contribution == pytest.approx(float(latents.max()), abs=1e-4)
    task = trace_task(model, dictionaries, "sva-rc", prompts=4, nodes=8, check=True)
    assert task.check.frozen.texts > 1
    assert len(task.check.edges) == 7
    assert (task.prompts, task.prompt, len(task.trace.nodes)) == (4, (), 8)
    assert task.token(1) == ""
    assert all(isinstance(node.source.place, str) for node in task.trace.nodes[1:])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "an answer with a wrong one, or a latent, expected"),
        ({"answer": " are", "feature": Feature(Site("resid_post", 1), 0)}, "an answer with a wrong one, or a latent"),
        ({"answer": " are"}, "give both"),
        ({"answer": " are", "wrong": " are"}, "go on after the prompt with different tokens"),
    ],
)
def test_bad_requests_are_one_line(spool, asked, message):
    with pytest.raises(UsageError, match=message):
        trace_prompt(*spool, PROMPT, **asked)
    with pytest.raises(UsageError, match="prompts: at least 1"):
        trace_task(*spool, "ioi", prompts=0)
