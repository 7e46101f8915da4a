"""The relations view: graphs in columns, latents, pairs, and what is said of folders that lack something."""

import json
import shutil

import pytest
from planted_relations import planted
from relations_run import NAMES, THRESHOLD, first_row, write_relations
from workbench_run import bench_of, client_of

from gossamer.app.columns import MEDIA_TYPE, decode_columns
from gossamer.relations import DrawnGraph, GraphLayout, GraphView, RelationsData, SitePair, layout_graph, pair_table
from gossamer.relations.graph_files import read_communities

PAGE, BARE = "relations~page", "bare~resid_post.0-resid_post.1.relation"


@pytest.fixture(scope="module")
def related(tmp_path_factory):
    """A run with relations and their page, and a folder with the relations alone."""
    folder = tmp_path_factory.mktemp("related") / "run"
    found = write_relations(folder / "relations")
    (folder / "bare").mkdir()
    for path in (folder / "relations").glob("*.safetensors"):
        shutil.copy(path, folder / "bare" / path.name)
    return folder, *found


@pytest.fixture(scope="module")
def asked(related):
    return client_of(bench_of(related[0]))


def columns_of(answer):
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    return decode_columns(answer.content)


def test_the_overview_has_one_part_for_each_folder_of_relations(asked):
    parts = {part["id"]: part["kind"] for part in asked.get("/api/v1/run").json()["parts"]}
    assert parts == {PAGE: "relations", BARE: "relation"}


def test_the_page_has_the_files_data_and_the_measures(asked, related, tmp_path):
    page = asked.get(f"/api/v1/relations/{PAGE}").json()
    (tmp_path / "data.json").write_text(json.dumps(page["data"]))
    assert RelationsData.load(tmp_path / "data.json") == related[3]
    assert page["measures"][0]["name"] == "jaccard"
    assert page["graph"] is None
    assert page["dictionaries"] == list(NAMES)
    bare = asked.get(f"/api/v1/relations/{BARE}").json()
    assert bare["measures"][0]["name"] == "pearson"
    assert bare["data"]["prompts"] == []


@pytest.mark.parametrize(
    ("query", "view"),
    [
        ("", GraphView(THRESHOLD)),
        ("&tau=0.6", GraphView(0.6)),
        ("&detail=communities", GraphView(THRESHOLD, detail="communities")),
        ("&community=1", GraphView(THRESHOLD, community=1)),
        ("&viewport=0.1,0.2,0.6,0.9&detail=latents", GraphView(THRESHOLD, (0.1, 0.2, 0.6, 0.9), detail="latents")),
    ],
)
def test_a_graph_is_what_the_library_draws(asked, related, query, view):
    folder, _, graph, _ = related
    layout = layout_graph(graph, read_communities(folder / "relations" / "graph.json"))
    expected = DrawnGraph(graph, layout).at(view)
    header, columns = columns_of(asked.get(f"/api/v1/relations/{PAGE}/graph?measure=jaccard{query}"))
    assert header["counts"] == expected.counts
    assert header["detail"] == expected.detail
    for name in ("ids", "x", "y", "size", "colour", "members", "bundled"):
        assert columns[name].tolist() == getattr(expected, name).tolist()
    assert columns["edges"].reshape(-1, 2).tolist() == expected.edges.tolist()
    assert columns["weight"] == pytest.approx(expected.weight, rel=1e-3)
    if expected.detail == "latents":
        pairs = zip(columns["dictionary"], columns["latent"], strict=True)
        names = [f"{header['dictionaries'][d]}/{n}" for d, n in pairs]
        assert names == [f"{graph.names[graph.sources[one]]}/{graph.latents[one]}" for one in expected.ids]


def test_a_layout_is_kept_where_views_are_and_made_once(related):
    bench = bench_of(related[0])
    with bench.holding_views():
        ask, before = client_of(bench), set(bench.views.glob("*"))
        first = columns_of(ask.get(f"/api/v1/relations/{BARE}/graph?measure=cosine"))
        (kept,) = set(bench.views.glob("layout-*.safetensors")) - before
        moved = GraphLayout.load(kept)
        GraphLayout(moved.x * 0, moved.y, moved.labels, moved.tiles).save(kept)
        again = columns_of(client_of(bench).get(f"/api/v1/relations/{BARE}/graph?measure=cosine&detail=latents"))
        assert (again[1]["x"] == 0).all()
        kept.write_bytes(b"damaged")
        third = columns_of(client_of(bench).get(f"/api/v1/relations/{BARE}/graph?measure=cosine"))
        assert third[1]["x"].tolist() == first[1]["x"].tolist()
    shutil.rmtree(bench.views)


def test_a_latent_with_its_partners(asked, related):
    _, relations, graph, _ = related
    node = graph.node("1_0")
    page = asked.get(f"/api/v1/relations/{PAGE}/latent?name=resid_post.1/0&measure=jaccard").json()
    above = {graph.ids[one]: value for one, value in graph.neighbours(node)}
    shown = {
        f"{one['name'].split('/')[0][-1]}_{one['name'].split('/')[1]}": one["similarity"]
        for side in ("upstream", "downstream")
        for one in page[side]
    }
    assert shown == pytest.approx(above)
    assert {one["name"].split("/")[0] for one in page["upstream"]} == {"resid_post.0"}
    relation = relations[SitePair(*NAMES[:2])]
    assert page["active"] == relation.downstream.active[0]
    assert page["upstream"][0]["both"] == pair_table(relation, 0, 0).both
    assert asked.get(f"/api/v1/relations/{PAGE}/latent?name=resid_post.1/999&measure=jaccard").status_code == 404
    assert asked.get(f"/api/v1/relations/{PAGE}/latent?name=nothing&measure=jaccard").status_code == 422


def test_a_pair_is_the_librarys_table_either_way_round(asked, related):
    _, relations, _, data = related
    expected = pair_table(relations[SitePair(*NAMES[:2])], 0, 0)
    pages = [
        asked.get(f"/api/v1/relations/{PAGE}/pair?a={a}&b={b}").json()
        for a, b in (("resid_post.0/0", "resid_post.1/0"), ("resid_post.1/0", "resid_post.0/0"))
    ]
    for page in pages:
        page.pop("generated_at")
    assert pages[0] == pages[1]
    page = pages[0]
    assert page["table"] == [[expected.both, expected.upstream_only], [expected.downstream_only, expected.neither]]
    assert page["lift"]["value"] == expected.lift.value
    assert page["phi"]["low"] == expected.phi.low
    # The first of the ablated pairs is this one.
    own = data.effects[0]
    assert (own.i[0], own.j[0]) == (0, 0)
    assert page["causal"] == {"effect": 0.0, "absolute": 0.0, "tokens": 5, "rank": 0.0, "pairs": 8}
    up, down = planted()
    row = first_row(up)
    expected = {
        f" t{at}": [pytest.approx(float(one[row, at, 0])) for one in (up, down)]
        for at in range(10)
        if up[row, at, 0] > 0 and down[row, at, 0] > 0
    }
    assert expected
    assert {one["token"]: [one["upstream"], one["downstream"]] for one in page["joint"]} == expected


@pytest.mark.parametrize(
    ("where", "status", "said"),
    [
        ("/nothing/graph?measure=jaccard", 404, "not in run"),
        (f"/{PAGE}/graph?measure=unknown", 422, "measure: one of jaccard"),
        (f"/{PAGE}/graph?measure=jaccard&viewport=1,1,0,0", 422, "left,bottom,right,top"),
        (f"/{PAGE}/graph?measure=jaccard&viewport=1.1.1,0,0,0", 422, "left,bottom,right,top"),
        (f"/{PAGE}/graph?measure=jaccard&community=9999", 422, "community: 0 to"),
        (f"/{PAGE}/pair?a=resid_post.0/0&b=resid_post.2/0", 404, "were not related"),
        (f"/{PAGE}/pair?a=resid_post.0/0&b=resid_post.1/99", 422, "a latent from 0 to 22"),
        (f"/{PAGE}/pair?a=resid_post.0/%C2%B2&b=resid_post.1/9", 422, "DICTIONARY/LATENT expected"),
    ],
)
def test_what_cannot_be_answered_is_said(asked, where, status, said):
    answer = asked.get(f"/api/v1/relations{where}")
    assert answer.status_code == status
    assert said in answer.json()["detail"]


def test_a_page_whose_relations_are_gone_is_shown_without_a_graph(related, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(related[0] / "relations" / "page.json", tmp_path / "run" / "page.json")
    ask = client_of(bench_of(tmp_path / "run"))
    page = ask.get("/api/v1/relations/page").json()
    assert "relations expected, found none" in page["graph"]
    assert page["measures"] == []
    assert ask.get("/api/v1/relations/page/graph?measure=jaccard").status_code == 422
    (tmp_path / "run" / "page.json").write_text('{"format": "gossamer.relations.2", "model": 3')
    assert ask.get("/api/v1/relations/page").status_code == 422
