"""Views that a reader keeps: what is kept comes back, and nothing is written elsewhere."""

import pytest
from workbench_run import bench_of, client_of

URL = "/api/v1/circuits/circuit/views"


@pytest.fixture
def names(made):
    return [str(node.node) for node in made[2].nodes]


def kept(names):
    return {
        "pinned": names[:2],
        "groups": [{"name": "<b>plural</b>", "nodes": names[2:4]}],
        "labels": {names[0]: "\u202eis"},
    }


def test_what_is_kept_comes_back(run, names):
    bench = bench_of(run)
    with bench.holding_views():
        client = client_of(bench)
        assert client.get(URL).json()["names"] == []
        assert client.put(f"{URL}/first-one", json=kept(names)).status_code == 200
        said = client.get(f"{URL}/first-one").json()
        assert {name: said[name] for name in ("pinned", "groups", "labels")} == kept(names)
        assert client.get(URL).json()["names"] == ["first-one"]
    assert [path.name for path in (run / "views").iterdir()] == ["first-one.json"]
    # The overview shows it, and a later server finds it.
    assert client_of(bench_of(run)).get(f"{URL}/first-one").json()["pinned"] == names[:2]


def test_who_comes_second_can_look_and_not_save(run, names):
    first, second = bench_of(run), bench_of(run)
    with first.holding_views(), second.holding_views():
        assert first.read_only is None
        assert "another process" in second.read_only
        assert client_of(second).get("/api/v1/run").json()["read_only"] == second.read_only
        refused = client_of(second).put(f"{URL}/one", json=kept(names))
        assert refused.status_code == 422
        assert "another process" in refused.json()["detail"]
        assert client_of(first).put(f"{URL}/one", json=kept(names)).status_code == 200
        assert client_of(second).get(f"{URL}/one").json()["pinned"] == names[:2]


def test_a_folder_without_views_is_left_as_it_was(run):
    before = sorted(path.name for path in run.iterdir())
    with bench_of(run).holding_views():
        # Not while it is shown either: a server that is killed leaves nothing behind.
        assert sorted(path.name for path in run.iterdir()) == before
    assert sorted(path.name for path in run.iterdir()) == before


@pytest.mark.parametrize("name", ["..", "../circuit", "a/b", "a.json", "%2e%2e", "ä", "x" * 65, "a b"])
def test_names_that_are_no_names_of_files_are_refused(run, names, name):
    bench = bench_of(run)
    with bench.holding_views():
        found = client_of(bench).put(f"{URL}/{name}", json=kept(names))
    assert found.status_code in (404, 405, 422)
    assert sorted(path.name for path in run.iterdir()) == ["circuit.json", "findings.json"]


def test_links_are_not_written_through(run, names, tmp_path):
    target = tmp_path / "target.json"
    target.write_text("mine")
    (run / "views").mkdir()
    (run / "views" / "one.json").symlink_to(target)
    bench = bench_of(run)
    with bench.holding_views():
        client = client_of(bench)
        assert client.put(f"{URL}/one", json=kept(names)).status_code == 422
        assert client.get(f"{URL}/one").status_code in (404, 422)
        assert client.get(URL).json()["names"] == []
    assert target.read_text() == "mine"


def test_nodes_that_are_none_and_views_of_other_circuits_are_refused(run, names):
    bench = bench_of(run)
    with bench.holding_views():
        client = client_of(bench)
        wrong = {**kept(names), "pinned": ["resid_post.1/5@nowhere"]}
        assert "resid_post.1/5@nowhere" in client.put(f"{URL}/one", json=wrong).json()["detail"]
        client.put(f"{URL}/one", json=kept(names))
        path = run / "views" / "one.json"
        path.write_text(path.read_text().replace('"pinned"', '"pinnde"'))
        assert client.get(f"{URL}/one").status_code == 422
        assert client.get(URL).json()["names"] == []
