"""`gossamer steer`: one feature with its activation read back, and a sweep towards a concept that goes on."""

import json

import pytest
import torch
from scripted_server import ScriptedServer

from gossamer.dictionary import Dictionary, DictionaryConfig, DictionarySet
from gossamer.model import Site
from gossamer.steering import effects, load_sweep
from gossamer.steering.vector_notes import notes_of


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
    said = json.loads(ran.out)
    plain, two, other, drawn, four, *_ = said["rows"]
    assert (plain["method"], plain["coefficient"], plain["kl"]) == ("unsteered", None, pytest.approx(0, abs=1e-6))
    assert [one["method"] for one in (two, other, drawn)] == ["clamp", "random_feature", "random_direction"]
    assert (two["raw"], four["raw"]) == (2.0, 4.0)
    assert four["back"]["after"] > two["back"]["after"]
    assert drawn["relative_norm"] == pytest.approx(two["relative_norm"], rel=1e-3)
    assert set(plain["completions"]) == {"Mary went"}
    assert said["scores"][0]["feature"] == "resid_post.1/3"
    assert {"input_score", "output_score", "output_score_top1", "confidence_change"} <= set(said["scores"][0])
    assert len(said["rising"]) == 10
    ran = gossamer(*line)
    assert ran.code == 0, ran.err
    for part in ("unsteered", "before", "output score", "makes likelier", "random_direction", "nats a token"):
        assert part in ran.out


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
    report = (out / "steering.md").read_text()
    for part in ("AUROC of texts", "published finding", "Features before the sweep", "random_feature_0"):
        assert part in report
    assert "--effects 32" in said["absent"]["sae_ts"]
    before = (out / "sweep.json").read_bytes()
    ran = gossamer(*line)
    assert ran.code == 0, ran.err
    assert (out / "sweep.json").read_bytes() == before
    assert "diff_mean" in ran.out


def test_rows_that_were_chosen_and_effects_that_are_kept(gossamer, inputs, tmp_path, monkeypatch):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"positive": f"{a} was sad", "negative": f"{a} was"}) + "\n" for a in "xyz"))
    line = ("steer", *inputs, "--words", "sad", "-c", "1", "-p", "Mary went to", "-p", "she was at", "--samples", "1")
    line = (*line, "--neutral", "4", "--effects", "36", "--effects-folder", tmp_path / "kept", "--pairs", pairs)
    by = ("--by", "sae_ts", "--by", "act_add", "--by", "caa", "--by", "pca", "--act-add", "sad dog", "happy dog")
    ran = gossamer(*line, *by, "--out", tmp_path / "one", "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert {"sae_ts", "act_add", "caa", "pca", "diff_mean"} <= set(said["methods"])
    assert not {"pursuit", "gradient_clean_up", "fgaa"} & {*said["methods"], *said["absent"]}
    # What the fit explains is in the JSON and in the record; a fit that predicts is not warned of.
    row = said["methods"]["sae_ts"]
    assert row["effects_explained"] > 0.01
    assert row["warning"] is None
    assert "effects_explained" not in said["methods"]["caa"]
    kept = notes_of(load_sweep(tmp_path / "one"))
    assert kept.effects_explained == {"sae_ts": row["effects_explained"]}
    assert {"diff_mean", "sae_ts"} <= set(kept.fits)
    assert kept.absent == {"cleaned": "every feature's difference comes back on held-out texts"} or not kept.absent
    assert "WARNING" not in (tmp_path / "one" / "steering.md").read_text()
    parts = sorted((tmp_path / "kept").glob("effects-*.safetensors"))
    assert len(parts) == 2
    written = [path.stat().st_mtime_ns for path in parts]
    # Another concept reads what was measured.
    ran = gossamer(*line, "--by", "sae_ts", "--words", "happy", "--out", tmp_path / "two", "--json")
    assert ran.code == 0, ran.err
    assert [path.stat().st_mtime_ns for path in parts] == written
    assert "sae_ts" in json.loads(ran.out)["methods"]
    # Where no fit is taken for one that predicts: said in the terminal, in the JSON and on the page.
    monkeypatch.setattr(effects, "_PREDICTS", 1.0)
    ran = gossamer(*line, *by, "--out", tmp_path / "one", "--json")
    again, warning = json.loads(ran.out)["methods"]["sae_ts"], "WARNING: sae_ts rests on a fit of effects"
    assert again["warning"].startswith(f"{warning} that explains {row['effects_explained']:.1%} of them")
    assert warning in " ".join(ran.err.split())
    assert warning in (tmp_path / "one" / "steering.md").read_text()
    ran = gossamer(*line, "--by", "sae_ts", "--words", "happy", "--out", tmp_path / "two")
    assert "sae_ts (!)" in ran.out


def test_a_judge_at_a_server_is_counted_apart(gossamer, inputs, tmp_path):
    """Ratings make a benefit with curves of its own, a second run asks nothing, and a rude server loses nothing."""
    out = tmp_path / "out"
    line = ("steer", *inputs, "--words", "sad", "-c", "1", "-p", "Mary went", "-p", "she", "--samples", "2")
    line = (*line, "--neutral", "4", "--effects", "36", "--judge", "scripted", "--out", out)
    with ScriptedServer((400, {}, b'{"error": "go away"}')) as server:
        ran = gossamer(*line, "--endpoint", server.url)
    assert ran.code == 1, ran.err
    said = " ".join(ran.err.split())
    assert "judge scripted: answers expected, found none" in said
    assert "go away" in said
    with ScriptedServer(answer=lambda body: f"Rating: {'sad' in body['messages'][-1]['content']:d}") as server:
        reply = server.reply
        server.reply = lambda *given: {**reply(*given), "model": "another"}
        ran = gossamer(*line, "--endpoint", server.url, "--json")
        asked = len([one for one in server.requests if one[2]])
        assert ran.code == 0, ran.err
        assert "asked for scripted, answered by another" in ran.err
        said = json.loads(ran.out)
        assert gossamer(*line, "--endpoint", server.url).code == 0
        assert len([one for one in server.requests if one[2]]) == asked
    record = load_sweep(out)
    assert {"sae_ts", "prompt"} <= set(said["methods"])
    # All features of this dictionary are dense.
    assert "rare" in said["absent"]["fgaa"]
    assert said["judge"]["rated"] == 4 * len(record.rows)
    assert (said["judge"]["unparsed"], said["judge"]["error"]) == (0, 0)
    assert said["judge"]["agrees"][0] == said["judge"]["agrees"][1]
    assert "harmonic mean of the judge" in (out / "steering.md").read_text()


def test_a_transcoder_cannot_be_steered_along(gossamer, tiny, inputs, tmp_path):
    site, to = Site("mlp_in", 1), Site("mlp_out", 1)
    config = DictionaryConfig(architecture="relu", d_in=32, n_latents=8, site=site, site_out=to, model_name="tiny")
    one = Dictionary(config)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.fill_(0.1)
    one.save(folder := tmp_path / "transcoder")
    line = ("steer", tiny, "--text", inputs[2], "-d", folder, "--allow-other-model", "--out", tmp_path / "x")
    for more in (("--feature", "mlp_in.1/3"), ("--words", "sad")):
        ran = gossamer(*line, *more)
        assert ran.code == 2, (more, ran.err)
        assert "found a transcoder" in " ".join(ran.err.split())


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
        (
            ("--words", "sad", "--effects", "19", "--out", tmp_path / "none"),
            "at least 20 directions expected, found 19",
        ),
        (("--words", "sad", "-c", "nan", "--out", tmp_path / "none"), "coefficients: positive ones expected"),
        (("--words", "sad", "--judge", "scripted"), "--judge: --endpoint or --local"),
        (("--words", "sad", "--endpoint", "http://127.0.0.1:9/v1", "--judge", "x"), "a server expected, found none"),
        (("--feature", "resid_post.1/3", "--effects", "40"), "--effects: for sweeps"),
        (("--feature", "resid_post.1/3", "--by", "pca"), "--by: for sweeps"),
        (("--words", "sad", "--by", "dowsing"), "--by: expected one of"),
        (("--words", "sad", "--by", "fgaa"), "--by fgaa: --effects expected"),
        (("--words", "sad", "--by", "act_add"), "--by act_add: --act-add expected"),
        (("--words", "sad", "--by", "caa"), "--by caa: --pairs expected"),
        (("--words", "sad", "--pairs", "nothing"), "nothing: no such file"),
        (("--feature", "resid_post.1/3", "-c", "inf", "--unit", "raw"), "a finite value"),
        (("--feature", "resid_post.1/3", "-p", "Mary " * 90), "at most 64"),
        (("--feature", "resid_post.1"), "is no feature"),
        (("--words", "sad", "--positive", "nothing"), "nothing: no such file"),
    ):
        ran = gossamer("steer", *inputs, *more)
        assert ran.code == 2, (more, ran.err)
        assert said in " ".join(ran.err.split()), (more, ran.err)
    for more in (("--words", "sad", "--out", tmp_path / "none"), ("--feature", "resid_post.1/3", "--samples", "1")):
        ran = gossamer("steer", *inputs, *more, "-c", "1e38")
        assert ran.code == 1, (more, ran.err)
        assert "take smaller coefficients" in " ".join(ran.err.split())
