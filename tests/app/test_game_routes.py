"""The game over the routes: nothing told before the end, the library's own numbers after it."""

import json
import shutil

import pytest
from explain_fixtures import Script, planted_store
from workbench_run import bench_of, client_of

from gossamer.explain import ChatJudge
from gossamer.explain.game import drawn_round
from gossamer.explain.metrics import balanced_accuracy
from gossamer.store import FeatureStore

ROUND, ANSWER = "/api/v1/game/round", "/api/v1/game/answer"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("played") / "run"
    planted_store(folder / "store", count=400)
    return folder


@pytest.fixture
def bench(stored, tmp_path):
    made = bench_of(shutil.copytree(stored, tmp_path / "run"))
    with made.holding_views():
        yield made


def store_of(bench):
    (found,) = (part.id for part in bench.run.parts().values() if part.kind == "feature store")
    return found


def own_round(bench, seed=0, count=3):
    with FeatureStore(bench.run.path / "store") as store:
        return drawn_round(store, count, seed)


def said_of(bench, made, right, **more):
    """Answers of which those that `right` says are right."""
    items = [
        {"choice": item.right, "written": "", "answers": [one if right(place) else not one for one in item.truths]}
        for place, item in enumerate(made.items)
    ]
    return {"store": store_of(bench), "seed": 0, "count": 3, "round": made.name, "items": items, **more}


def test_a_round_tells_nothing_and_is_the_library_s(bench):
    ask, made = client_of(bench), own_round(bench)
    answer = ask.get(ROUND, params={"store": store_of(bench), "seed": 0, "count": 3})
    shown = answer.json()
    assert shown["round"] == made.name
    for item, own in zip(shown["items"], made.items, strict=True):
        assert set(item) == {"blind", "shown", "choices", "sorted"}
        assert item["choices"] == list(own.choices)
        assert [one["tokens"] for one in item["sorted"]] == [list(one.tokens) for one in own.sorted]
        assert all(one["marks"] == [] for one in item["sorted"])
        assert all(one["marks"] for one in item["shown"])
        assert str(own.feature) not in answer.text
    assert ask.get(ROUND, params={"store": store_of(bench), "seed": 0, "count": 3}).json()["items"] == shown["items"]


def test_who_knows_all_is_right_and_the_interval_is_wilson_s(bench):
    ask, made = client_of(bench), own_round(bench)
    found = ask.post(ANSWER, json=said_of(bench, made, lambda place: place > 0, player="Ada")).json()
    mine, rule = found["players"]
    assert (mine["player"], rule["player"]) == ("Ada", "rule")
    # Of three times five active and five silent texts those of the first latent are all wrong.
    expected = balanced_accuracy(10, 5, 10, 5)
    assert mine["sorting"] == pytest.approx({"value": expected.value, "low": expected.low, "high": expected.high})
    assert mine["choosing"]["value"] == 1.0
    assert rule["sorting"]["value"] == 1.0
    for item, own in zip(found["items"], made.items, strict=True):
        assert (item["feature"], item["text"]) == (str(own.feature), own.choices[own.right])
        assert item["truths"] == list(own.truths)
    assert [row["player"] for row in found["board"]] == ["rule", "Ada"]
    again = ask.post(ANSWER, json=said_of(bench, made, lambda _: True, player="rule")).json()
    assert {row["player"] for row in again["board"]} == {"rule", "Ada", "rule (a person)"}
    kept = json.loads((bench.views / "game" / "board.json").read_text())
    assert [row["player"] for row in kept["rows"]] == ["Ada", "rule (a person)"]


def test_a_language_model_gets_the_same_texts_in_the_same_order(stored, tmp_path):
    script = Script("[1, 1, 1, 1, 1]")
    made = bench_of(shutil.copytree(stored, tmp_path / "run"))
    made.judge = ChatJudge(script, logprobs=False)
    ask = client_of(made)
    shown = ask.get(ROUND, params={"store": store_of(made), "seed": 0, "count": 3}).json()
    assert shown["machines"] == ["rule", "script"]
    asked = "".join(str(one.user) for one in script.requests)
    places = [asked.index("".join(text["tokens"]).strip()[:40]) for text in shown["items"][0]["sorted"]]
    assert places == sorted(places)
    questions = len(script.requests)
    # The round is kept: nothing is asked twice.
    found = ask.post(ANSWER, json=said_of(made, own_round(made), lambda _: True)).json()
    assert len(script.requests) == questions
    (machine,) = (one for one in found["players"] if one["player"] == "script")
    # Who always says yes is right of every active text and of no silent one.
    assert machine["sorting"]["value"] == 0.5


def test_a_second_server_judges_and_keeps_nothing(bench):
    second = bench_of(bench.run.path)
    with second.holding_views():
        assert second.read_only is not None
        found = client_of(second).post(ANSWER, json=said_of(second, own_round(second), lambda _: True)).json()
    assert "not kept" in found["kept"]
    assert {row["player"] for row in found["board"]} == {"rule", "you"}
    assert not (bench.views / "game" / "board.json").exists()


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"round": "00000000"}, 422, "begin it again"),
        ({"items": [{"choice": 0, "answers": []}]}, 422, "answers"),
        ({"store": "nothing"}, 404, "store"),
        ({"seed": -1}, 422, "seed"),
        ({"count": 21}, 422, "count"),
        ({"player": ""}, 422, "player"),
    ],
)
def test_what_does_not_fit_is_refused(bench, changes, status, said):
    answer = client_of(bench).post(ANSWER, json=said_of(bench, own_round(bench), lambda _: True) | changes)
    assert answer.status_code == status
    assert said in answer.text


def test_a_damaged_store_is_named(bench):
    part = bench.run.part(store_of(bench))
    part.path.write_text(part.path.read_text()[:-40])
    answer = client_of(bench).get(ROUND, params={"store": store_of(bench)})
    assert answer.status_code == 422
    assert part.path.name in answer.json()["detail"]
