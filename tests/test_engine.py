"""Engines, with a real Ray cluster of two workers: what is computed there is what is computed here, whoever dies."""

import dataclasses
import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
import torch
from engine_work import doubled, killed_always, killed_once, place_of, refused
from fragile_work import FragileDictionary, FragileLatents
from planted_relations import random_latents
from store_fixtures import SETTINGS, dictionaries, texts
from word_model import NAMES, WORDS, tiny_gpt2_model

from gossamer import cli
from gossamer.dictionary import Dictionary, DictionaryConfig, DictionarySet
from gossamer.engine import RayCluster, ThisProcess, ray_cluster
from gossamer.errors import GossamerError, UsageError
from gossamer.relations import ActiveAbove, SitePair, relate, relate_in_folder
from gossamer.sparse.latents import SparseLatents
from gossamer.store import build_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    """With workers that import from this folder what tests give them to do."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        # Ray's workers stand behind all other work of a machine, as the other tests are.
        patch.setenv("RAY_worker_niceness", "0")
        with ray_cluster(workers=2, object_store=100 << 20) as engine:
            yield engine


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_cluster_of_our_own_listens_on_the_loopback_interface_alone_and_reports_nothing(cluster):
    assert list(cluster.map(doubled, range(2))) == [0, 2]
    ours = [psutil.Process(), *psutil.Process().children(recursive=True)]
    addresses = {
        one.laddr.ip for process in ours for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN
    }
    assert addresses
    assert {address.removeprefix("::ffff:") for address in addresses} <= {"127.0.0.1", "::1"}
    servers = [process for process in ours if process.name() in ("gcs_server", "raylet")]
    assert len(servers) == 2
    assert {process.environ()["RAY_USAGE_STATS_ENABLED"] for process in servers} == {"0"}


@pytest.mark.parametrize("kind", ["here", "ray"])
def test_results_come_in_the_order_of_the_items_and_shared_objects_go_to_a_worker_once(cluster, kind):
    engine = ThisProcess() if kind == "here" else cluster
    assert list(engine.map(doubled, iter(range(12)))) == list(range(0, 24, 2))
    shared = torch.ones(1000)
    found = list(engine.map(place_of, [shared] * 6, [shared]))
    assert {total for *_, total in found} == {1000.0}
    assert len({(process, place) for process, place, _ in found}) == len({process for process, *_ in found})


def test_a_killed_worker_is_survived_and_workers_that_all_die_are_one_line(cluster, tmp_path):
    found = list(cluster.map(killed_once, [tmp_path / "first"] * 4))
    assert len(found) == 4
    assert int((tmp_path / "first").read_text()) not in found
    with pytest.raises(GossamerError, match=r"ray: a worker that does its work expected, found 4 in a row that died"):
        list(cluster.map(killed_always, range(4)))
    assert list(cluster.map(doubled, [4])) == [8]


def test_what_work_raises_comes_as_it_is(cluster):
    with pytest.raises(UsageError) as raised:
        list(cluster.map(refused, [7]))
    assert type(raised.value) is UsageError
    assert str(raised.value) == "7: something else expected than this"


def test_what_cannot_be_had_is_one_line(cluster, monkeypatch):
    for engine in (RayCluster(gpus=1.0), RayCluster(threads=3)):
        with pytest.raises(GossamerError, match="found none among the 1 of the cluster"):
            list(engine.map(doubled, [1]))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"a cluster at {address} expected, found none"), ray_cluster(address):
            pass
    for options, said in (
        ({"address": "nowhere"}, "HOST:PORT of a running cluster expected, found 'nowhere'"),
        ({"workers": 0}, "at least 1 worker expected"),
        ({"threads": 0}, "threads >= 1"),
    ):
        with pytest.raises(UsageError, match=said), ray_cluster(**options):
            pass
    monkeypatch.setitem(sys.modules, "ray", None)
    said = r'needs ray, which is not installed; pip install "gossamer\[ray\]"'
    with pytest.raises(UsageError, match=said), ray_cluster():
        pass


def test_a_store_has_the_same_bytes_though_a_worker_is_killed(cluster, tiny_gpt2, tmp_path):
    settings = dataclasses.replace(SETTINGS, shard_tokens=40)
    build_store(tiny_gpt2, dictionaries(), texts(8), tmp_path / "here", settings=settings)
    made = dictionaries()
    first = next(iter(made))
    fragile = FragileDictionary(made[first].config)
    fragile.load_state_dict(made[first].state_dict())
    made[first] = fragile.requires_grad_(False).fragile(tmp_path / "killed")
    build_store(tiny_gpt2, made, texts(8), tmp_path / "there", settings=settings, engine=cluster)
    assert (tmp_path / "killed").exists()
    assert _files(tmp_path / "there") == _files(tmp_path / "here")


def test_relations_have_the_same_bytes_though_a_worker_is_killed(cluster, tmp_path):
    dense = {"a": random_latents(11), "b": random_latents(7, seed=1), "c": random_latents(9, rate=0.4, seed=2)}
    latents = {name: SparseLatents.from_dense(torch.as_tensor(one)) for name, one in dense.items()}
    pairs, options = [SitePair("a", "b"), SitePair("b", "c")], {"block_rows": 5}
    stream = FragileLatents(latents, batch_size=2).fragile(tmp_path / "killed")
    relate_in_folder(stream, pairs, tmp_path / "here", **options)
    assert not (tmp_path / "killed").exists()
    relate_in_folder(stream, pairs, tmp_path / "there", engine=cluster, **options)
    assert (tmp_path / "killed").exists()
    assert _files(tmp_path / "there") == _files(tmp_path / "here")
    # Without files of one's own, with sums that do not stay in memory, and with thresholds from a pass of their own.
    for more in ({"entries": 64}, {"activity": ActiveAbove(relative=0.5)}):
        here, there = (relate(stream, pairs, engine=one, **options, **more) for one in (None, cluster))
        for pair, relation in there.items():
            assert (relation.kept.c == here[pair].kept.c).all()
            assert (relation.kept.products == here[pair].kept.products).all()
            assert (relation.upstream.active == here[pair].upstream.active).all()


def test_the_command_line_reaches_the_cluster(cluster, tokenizer, tmp_path, monkeypatch, capsys):
    tiny_gpt2_model(tokenizer).save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    draw = random.Random(0)
    rows = [{"text": "".join(f" {draw.choice((*NAMES, *WORDS))}" for _ in range(20))} for _ in range(12)]
    (tmp_path / "text.jsonl").write_text("\n".join(map(json.dumps, rows)))
    generator = torch.Generator().manual_seed(0)
    several = []
    for layer in (0, 1):
        made = Dictionary(DictionaryConfig("relu", 32, 24, site=f"resid_post.{layer}", model_name="tiny"))
        for parameter in made.parameters():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        several.append(made)
    DictionarySet(several).save(tmp_path / "dictionaries")
    given = ("--text", tmp_path / "text.jsonl", "-d", tmp_path / "dictionaries", "--allow-other-model")
    used, real = [], RayCluster.map
    monkeypatch.setattr(RayCluster, "map", lambda self, *given: used.append(given[0].__name__) or real(self, *given))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gossamer", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.run()
        assert not ended.value.code, capsys.readouterr().err

    def store(folder):
        return "store", "build", tmp_path / "tiny", folder / "store", *given, "--context", 16

    def relate(folder):
        more = ("--out", folder / "relations", "--block-rows", 4, "--threshold", 0.3, "--context", 16)
        return "relate", tmp_path / "tiny", *given, *more

    here, there = tmp_path / "here", tmp_path / "there"
    run(*store(here))
    run(*relate(here))
    assert used == []
    run(*store(there), "--engine", "ray", "--workers", 2)
    run(*relate(there), "--engine", "ray")
    assert used == ["shard_tables", "_counted"]
    assert _files(there) == _files(here)
    # What was connected before is used, and left as it was.
    assert ray.is_initialized()


def test_another_process_joins_a_cluster_by_its_address(cluster):
    address = ray.get_runtime_context().gcs_address
    program = (
        "from engine_work import doubled\n"
        "from gossamer.engine import ray_cluster\n"
        f"with ray_cluster({address!r}) as engine:\n"
        "    print(list(engine.map(doubled, range(3))))\n"
    )
    # Ray takes a loopback address for another one, unless it knows no clusters.
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip() == "[0, 2, 4]"


def test_models_go_to_other_processes_without_open_edits(tiny_gpt2):
    from ray import cloudpickle

    other = cloudpickle.loads(cloudpickle.dumps(tiny_gpt2))
    tokens = tiny_gpt2.tokenize([" Mary went to the store"])
    assert torch.equal(other.logits(tokens), tiny_gpt2.logits(tokens))
    with tiny_gpt2.edit({"resid_post.0": lambda value: 0 * value}), pytest.raises(UsageError, match="open edits"):
        cloudpickle.dumps(tiny_gpt2)
    assert np.isfinite(other.logits(tokens).detach().numpy()).all()
