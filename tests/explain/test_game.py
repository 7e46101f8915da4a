"""The game: the same items for all, nothing told before the end, scores as everywhere else."""

import io
import json

import pytest
from explain_fixtures import WINDOWS, Script, feature, planted_store

from gossamer.cli.playing import play
from gossamer.errors import GossamerError, UsageError
from gossamer.explain import ChatJudge, game
from gossamer.explain.game import add_to_board, drawn_round, machine_players, new_round, result
from gossamer.features import Feature
from gossamer.model import Site
from gossamer.report.game_page import game_page, write_game
from gossamer.store import FeatureStore

LATENTS = (2, 0, 3, 4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("game") / "store"
    _, dictionary = planted_store(folder)
    with FeatureStore(folder) as store:
        given = {dictionary.site: dictionary}
        found = new_round(store, [feature(one) for one in LATENTS], 3, dictionaries=given, windows=WINDOWS)
        yield machine_players(found, ChatJudge(Script("[1, 0, 1, 0, 1]"), logprobs=False)), store, given


def test_a_round_has_texts_sentences_and_a_name(made):
    found = made[0]
    # The dead latent is passed over.
    assert [one.feature.latent for one in found.items] == [0, 3, 4]
    for item in found.items:
        assert len(item.shown) == 8
        assert sorted(one.stratum for one in item.shown) == [0, 0, 1, 1, 2, 2, 3, 3]
        assert (len(item.sorted), sum(item.truths)) == (10, 5)
        assert {one.document for one in item.shown}.isdisjoint(one.document for one in item.sorted)
        assert str(item.feature) not in item.blind
        assert len(item.choices) == len(set(item.choices)) >= 3
    item = found.items[0]
    assert '" dog"' in item.choices[item.right]
    # The machines follow the rule itself, people read it without its numbers.
    assert item.sentence.startswith(f"{item.choices[item.right]} = ")
    again = new_round(made[1], [feature(one) for one in LATENTS], 3, windows=WINDOWS)
    assert [one.sorted for one in again.items] == [one.sorted for one in found.items]
    with pytest.raises(UsageError, match="texts enough"):
        new_round(made[1], [feature(2)], 1, windows=WINDOWS)


def test_a_feature_of_which_nothing_is_said_is_in_no_round_and_no_choice(made, monkeypatch):
    plain = game._said

    def said(store, one, finder):
        return "activates on nothing" if one == feature(3) else plain(store, one, finder)

    monkeypatch.setattr(game, "_said", said)
    # Neither where its texts are enough, nor as a decoder neighbour of one that is asked about.
    monkeypatch.setattr(game, "_neighbours", lambda given, features: {one: [feature(3)] for one in features})
    found = new_round(made[1], [feature(one) for one in LATENTS], 3, dictionaries=made[2], windows=WINDOWS)
    assert [one.feature.latent for one in found.items] == [0, 4]
    assert all("activates on nothing" not in item.choices for item in found.items)
    with pytest.raises(UsageError, match="texts enough and a rule expected for a game, found none among 1"):
        new_round(made[1], [feature(3)], 1, windows=WINDOWS)


def test_a_drawn_round_stops_at_its_count_and_is_of_all_sites(made, monkeypatch):
    store = made[1]
    sites = [Feature(Site(kind, 0), latent) for kind in ("resid_pre", "resid_post") for latent in range(20)]
    monkeypatch.setattr(game, "choose_features", lambda store, count, **given: sites)
    asked = []

    def round_of(store, features, count, **given):
        asked.extend(features)
        return made[0]

    monkeypatch.setattr(game, "new_round", round_of)
    drawn_round(store, 5, seed=1)
    assert sorted(asked) == sorted(sites)
    assert {one.site.kind for one in asked[:5]} == {"resid_pre", "resid_post"}


def test_the_rule_is_right_and_a_model_that_guesses_is_not(made):
    found = made[0]
    assert [one.player for one in found.machines] == ["rule", "script"]
    assert result(found, found.machines[0])[0].value == 1.0
    assert 0.2 < result(found, found.machines[1])[0].value < 0.8
    assert result(found, found.machines[0])[1] is None


def typed(made, *, choose=True):
    """What somebody types who knows everything, with a slip or two on the way."""
    lines = []
    for item in made.items:
        lines += [str(item.right + 1)] if choose else ["my own words"]
        lines += ["", "maybe", *("yn"[not truth] for truth in item.truths)]
    return io.StringIO("\n".join(lines) + "\n").readline


def test_the_terminal_game(made, capsys):
    played = play(made[0], "Ada", typed(made[0]))
    assert played.chosen == (True, True, True)
    sorting, choosing = result(made[0], played)
    assert (sorting.value, choosing.value) == (1.0, 1.0)
    assert sorting.low < 0.9
    said = capsys.readouterr().out
    before, _, after = said.partition("the round")
    assert not any(str(item.feature) in before for item in made[0].items)
    assert all(str(item.feature) in after for item in made[0].items)
    assert "[ dog]" in before


def test_own_words_are_kept_and_choose_nothing(made, capsys):
    played = play(made[0], "Ada", typed(made[0], choose=False))
    assert played.written == ("my own words",) * 3
    assert result(made[0], played)[1] is None
    with pytest.raises(GossamerError, match="end of the input"):
        play(made[0], "Ada", io.StringIO("1\ny\n").readline)
    capsys.readouterr()


def test_the_leader_board_is_a_file(made, capsys, tmp_path):
    path = tmp_path / "board.json"
    for name in ("Ada", "Bo"):
        board = add_to_board(path, made[0], play(made[0], name, typed(made[0])))
    capsys.readouterr()
    assert [row["player"] for row in board][-1] == "script"
    assert {row["player"] for row in board} == {"Ada", "Bo", "rule", "script"}
    assert [row["player"] for row in json.loads(path.read_text())["rows"]] == ["Ada", "Bo"]
    path.write_text("[]")
    with pytest.raises(UsageError, match="a leader board expected"):
        add_to_board(path, made[0], made[0].machines[0])


def test_the_page_stands_alone_and_escapes_what_texts_hold(made, tmp_path):
    text = write_game(made[0], tmp_path / "game.html").read_text()
    assert text == game_page(made[0])
    assert "http://" not in text
    assert "https://" not in text
    assert text.count("<script") == text.count("</script>") == 2
    record = json.loads(text.partition('id="record">')[2].partition("</script>")[0])
    assert [one["feature"] for one in record["items"]] == [str(one.feature) for one in made[0].items]
    assert [one["truths"] for one in record["items"]] == [list(one.truths) for one in made[0].items]


def test_the_page_is_played_by_keys(made, tmp_path, browser):
    path = write_game(made[0], tmp_path / "game.html")
    page = browser.new_page(viewport={"width": 390, "height": 800})
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(path.as_uri())
    assert str(made[0].items[0].feature) not in page.inner_text("body")
    for item in made[0].items:
        page.keyboard.press(str(item.right + 1))
        assert f"You said: {item.choices[item.right]}" in page.inner_text("#game")
        page.keyboard.press("n" if item.truths[0] else "y")
        page.keyboard.press("Backspace")
        for truth in item.truths:
            page.keyboard.press("y" if truth else "n")
    rows = page.inner_text("#scores").splitlines()
    expected = result(made[0], made[0].machines[0])[0]
    assert rows[1].split("\t") == ["you", "1.000", f"{expected.low:.3f} to 1.000"]
    assert rows[1].split("\t")[1:] == rows[2].split("\t")[1:]
    # What was silent and what was active is told at the end, with what everybody said.
    told = page.locator("details").nth(0)
    told.locator("summary").click()
    item, machine = made[0].items[0], made[0].machines[1]
    lines = told.locator("li").all_inner_texts()
    assert [("\nactive" in line, "\nsilent" in line) for line in lines] == [(one, not one) for one in item.truths]
    assert all(f"you: {'yes' if one else 'no'} ✓" in line for line, one in zip(lines, item.truths, strict=True))
    right = [
        f"script: {'yes' if one else 'no'} {'✓' if one == truth else '✗'}"
        for one, truth in zip(machine.answers[0], item.truths, strict=True)
    ]
    assert all(one in line for line, one in zip(lines, right, strict=True))
    marks = [len(window.strong(0.3 * window.maximum)) for window in item.sorted]
    assert [told.locator("li").nth(at).locator("mark").count() for at in range(len(marks))] == marks
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert faults == []
    page.close()
