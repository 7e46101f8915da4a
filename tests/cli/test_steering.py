"""`gossamer steer`: one feature with its activation read back, and a sweep towards a concept that goes on."""

import json

import pytest
import torch

from gossamer.dictionary import Dictionary, DictionaryConfig, DictionarySet
from gossamer.model import Site
from gossamer.steering import load_sweep


@pytest.fixture
def inputs(tiny, tmp_path):
    """A model, a dictionary, and text half of which is sad."""
    torch.manual_seed(0)
    site = Site("resid_post", 1)
    one = Dictionary(DictionaryConfig(architecture="relu", d_in=32, n_latents=24, site=site, model_name="tiny"))
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    folder = DictionarySet([one]).save(tmp_path / "dictionaries")
    words = ["Mary", "John", "went", "to", "the", "store", "dog", "likes", "milk", "she", "was", "happy"]
    picks = torch.randint(len(words), (60, 8)).tolist()
    texts = [
        " ".join([*(words[one] for one in row), "sad" if number % 2 else "ball"]) for number, row in enumerate(picks)
    ]
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return tiny, "--text", text, "-d", folder, "--allow-other-model", "--tokens", "5"


def test_one_feature(gossamer, inputs):
    line = ("steer", *inputs, "--feature", "resid_post.1/3", "-c", "2,4", "--unit", "raw", "-p", "Mary went")
    ran = gossamer(*line, "--samples", "1", "--json")
    assert ran.code == 0, ran.err
    plain, two, four = json.loads(ran.out)
    assert plain["coefficient"] is None
    assert (two["raw"], four["raw"]) == (2.0, 4.0)
    assert four["activation_after"] > two["activation_after"]
    assert set(plain["completions"]) == {"Mary went"}
    ran = gossamer(*line)
    assert ran.code == 0, ran.err
    assert "unsteered" in ran.out
    assert "before" in ran.out


def test_a_concept(gossamer, inputs, tmp_path):
    out = tmp_path / "out"
    line = ("steer", *inputs, "--words", "sad", "-c", "0.5,2", "-p", "Mary went", "-p", "she", "--samples", "2")
    line = (*line, "--prefix", "sad sad ", "--neutral", "4", "--out", out)
    ran = gossamer(*line, "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    record = load_sweep(out)
    assert said["cells"] == len(record.rows)
    assert {"prompt", "diff_mean", "single_feature", "single_feature_clamp", "random_direction_0"} <= set(
        said["methods"]
    )
    assert {"sweep.json", "steering.md", "pareto.png", "pareto.svg"} <= {path.name for path in out.iterdir()}
    assert "AUROC of texts" in (out / "steering.md").read_text()
    before = (out / "sweep.json").read_bytes()
    ran = gossamer(*line)
    assert ran.code == 0, ran.err
    assert (out / "sweep.json").read_bytes() == before
    assert "diff_mean" in ran.out


def test_requests_that_cannot_be_meant_are_refused(gossamer, inputs, tmp_path):
    for more, said in (
        ((), "either --feature SITE/LATENT or --words"),
        (("--feature", "resid_post.1/3", "--words", "sad"), "either --feature"),
        (("--feature", "resid_post.2/3"), "--feature: a site of resid_post.1"),
        (("--feature", "resid_post.1/99"), "from 0 to 23"),
        (("--feature", "resid_post.1/3", "--kind", "push"), "--kind: expected one of"),
        (("--feature", "resid_post.1/3", "--unit", "volts"), "--unit: expected one of"),
        (("--words", "sad", "--unit", "raw"), "--unit: residual_norm expected"),
        (("--words", "sad", "--site", "resid_post.2"), "--site: one of resid_post.1"),
        (("--words", "zebra", "--out", tmp_path / "none"), "none with it"),
        (("--words", "sad", "--positive", "nothing"), "nothing: no such file"),
    ):
        ran = gossamer("steer", *inputs, *more)
        assert ran.code == 2, (more, ran.err)
        assert said in " ".join(ran.err.split()), (more, ran.err)
