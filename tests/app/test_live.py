"""Models and dictionaries of a run without a circuit: found, loaded once, shared, and refused with a reason."""

import shutil

import pytest
import torch
from workbench_run import TEXT, bench_of, client_of

from gossamer import LanguageModel, bundled
from gossamer.app.live import LiveModels
from gossamer.app.memory import require_memory
from gossamer.app.run_folder import RunFolder
from gossamer.app.workbench import Workbench
from gossamer.dictionary.formats.weights import sha256
from gossamer.dictionary.set import DictionarySet
from gossamer.errors import GossamerError, UsageError
from gossamer.features.prompt_latents import prompt_latents
from gossamer.files import read_json, write_json
from gossamer.model.fingerprint import weights_sha256
from gossamer.results import Record
from gossamer.training.request import FORMAT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that holds nothing but dictionaries."""
    return shutil.copytree(bundled.path("spool") / "dictionaries", tmp_path_factory.mktemp("sets") / "dictionaries")


@pytest.fixture(scope="module")
def sets(folder):
    return bench_of(folder)


def test_a_set_without_a_circuit_is_found_with_its_model(sets, folder):
    said = client_of(sets).get("/api/v1/dicts").json()["sets"]
    assert [one["id"] for one in said] == ["dictionaries"]
    assert said[0]["model"] == "bundled:spool"
    known = DictionarySet.load(folder)
    assert [one["site"] for one in said[0]["dictionaries"]] == list(map(str, known))
    assert [one["n_latents"] for one in said[0]["dictionaries"]] == [one.n_latents for one in known.values()]
    assert [one["l0"] for one in said[0]["dictionaries"]] == [one.reported.l0 for one in known.values()]


def test_a_text_is_read_as_the_library_reads_it(sets):
    said = client_of(sets).post("/api/v1/dicts/dictionaries/prompt", json={"text": TEXT}).json()
    with sets.model("dictionaries") as (model, dictionaries, bos):
        found = prompt_latents(model, dictionaries, TEXT, bos=bos)
    for site, one in zip(said["sites"], found.sites.values(), strict=True):
        active = [token["active"] for token in site["tokens"]]
        assert active == (one.activations > 0).sum(dim=1).tolist()


def test_without_a_text_a_latent_has_what_its_weights_say(sets):
    said = client_of(sets).get("/api/v1/dicts/dictionaries/latent", params={"feature": "resid_post.2/5"}).json()
    assert said["card"]["tokens"] == 0
    assert said["card"]["text"].startswith("no text")
    assert len(said["card"]["promotes"]) == 8
    with sets.model("dictionaries") as (_, dictionaries, _bos):
        rows = torch.cat([one.W_dec for one in dictionaries.values()])
        cosines = torch.cosine_similarity(rows, dictionaries["resid_post.2"].W_dec[5][None], dim=1)
    # The nearest but itself.
    assert said["card"]["neighbours"][0]["value"] == pytest.approx(cosines.topk(2).values[1].item(), abs=1e-5)


def test_one_model_is_loaded_for_all_parts(made, folder, tmp_path):
    run = shutil.copytree(made[0], tmp_path / "run")
    shutil.copytree(folder, run / "dictionaries")
    bench = bench_of(run)
    with bench.model("circuit") as first:
        assert bench.live._working.locked()
    with bench.model("dictionaries~dictionaries") as other:
        assert other.model is first.model
        assert list(other.dictionaries) == list(first.dictionaries)
    with bench.model("findings") as alone:
        assert alone.model is first.model
        assert not alone.dictionaries
    with bench.restored("circuit") as restored:
        assert restored.study.model is first.model


@pytest.fixture
def elsewhere(folder, tmp_path):
    """A run of dictionaries that name their model by a title which is nothing here, and where that model is."""
    run = shutil.copytree(folder, tmp_path / "run" / "dictionaries")
    index = read_json(run / "dictionaries.json")
    for entry in index["dictionaries"]:
        config = run / entry["folder"] / "cfg.json"
        config.write_text(config.read_text().replace("bundled:spool", "a-model"))
        entry["sha256"] = {name: sha256(run / entry["folder"] / name) for name in entry["sha256"]}
    write_json(run / "dictionaries.json", index)
    return run.parent, shutil.copytree(bundled.path("spool"), tmp_path / "elsewhere" / "a-model")


def ask_prompt(bench):
    return client_of(bench).post("/api/v1/dicts/dictionaries~dictionaries/prompt", json={"text": TEXT})


def test_a_title_alone_is_looked_up_among_the_models_that_are_given(elsewhere):
    run, model = elsewhere
    said = ask_prompt(bench_of(run))
    assert said.status_code == 422
    assert "a-model" in said.json()["detail"]
    assert "--model" in said.json()["detail"]
    bench = Workbench(RunFolder(run), LiveModels("cpu", (str(model),)))
    assert ask_prompt(bench).status_code == 200
    with bench.model("dictionaries~dictionaries") as live:
        assert live.model.name == str(model)


def test_a_training_run_says_where_its_model_is_and_which_it_was(elsewhere):
    run, model = elsewhere
    known = weights_sha256(LanguageModel.load(model, device="cpu").hf)
    settings = {"model": "a-model", "weights_sha256": known, "dtype": "float32"}
    FORMAT.save(run / "settings.json", Record(settings, provenance={"model": str(model)}))
    assert ask_prompt(bench_of(run)).status_code == 200
    FORMAT.save(run / "settings.json", Record({**settings, "weights_sha256": "0" * 64}, (), {"model": str(model)}))
    said = ask_prompt(bench_of(run))
    assert said.status_code == 422
    assert "have changed since" in said.json()["detail"]


def test_shapes_are_read_without_the_weights(folder, tmp_path):
    run = shutil.copytree(folder, tmp_path / "sets")
    weights = next(run.glob("*/sae_weights.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert len(DictionarySet.load(run, device="meta")) == 3
    with pytest.raises(GossamerError, match="changed after saving"):
        DictionarySet.load(run)


def test_what_names_no_model_is_said(run):
    (run / "task.json").write_text('{"format": "gossamer.task.1"}')
    with pytest.raises((GossamerError, UsageError)), bench_of(run).model("task"):
        pass


def test_a_model_larger_than_the_memory_is_refused_before_it_is_loaded():
    folder = str(bundled.path("spool"))
    size = sum(path.stat().st_size for path in bundled.path("spool").glob("*.safetensors"))
    require_memory(folder, available=size)
    with pytest.raises(GossamerError, match="do not fit"):
        require_memory(folder, available=size - 1)
    require_memory("an/id-of-the-hub", available=0)
