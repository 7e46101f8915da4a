"""Steering, adversarial prompts, explanations and the game in a browser, by mouse and by keys."""

import json
import shutil
import time
from urllib.request import Request, urlopen

import pytest
from adversarial_run import BROKEN, write_adversarial
from explain_run import write_explanations
from sweep_run import write_sweep
from test_jobs import slowly
from test_page import SIZES
from workbench_run import TOKEN, grave_findings, no_sideways_scroll

from gossamer.app import live_work
from gossamer.explain.game import drawn_round
from gossamer.store import FeatureStore

STEERING, ADVERSARIAL = "/steering/steering~sweep", "/adversarial/adversarial~adversarial"
EXPLANATIONS, GAME = "/explanations/explain~explanations", "/game/store~store?count=2"
STEER = "/steer/circuit"
# Where each view is, and what says that it is there.
VIEWS = {
    STEERING: ".curves-host",
    ADVERSARIAL: ".failures li",
    EXPLANATIONS: "h2:has-text('By latent')",
    f"{EXPLANATIONS}/resid_pre.0%2F3": "table caption:has-text('Scores of rule')",
    GAME: ".game .choices button",
    STEER: "textarea[name=prompt]",
}


@pytest.fixture(scope="module")
def made(made, tmp_path_factory):
    """The run of the other tests with results of every kind beside its circuit."""
    folder = shutil.copytree(made[0], tmp_path_factory.mktemp("results") / "run")
    write_sweep(folder / "steering")
    write_adversarial(folder / "adversarial", made[1].circuit.sha256)
    write_explanations(folder)
    return folder, *made[1:]


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_every_view_is_there_and_fits(visit, width, scheme):
    page = visit("/", width, scheme)
    for where, there in VIEWS.items():
        page.goto(page.url.split("#")[0] + f"#{where}")
        page.wait_for_selector(there, state="attached")
        assert no_sideways_scroll(page), where
        assert page.locator("h1").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave(visit, scheme):
    page = visit("/", 1400, scheme)
    for where, there in VIEWS.items():
        page.goto(page.url.split("#")[0] + f"#{where}")
        page.wait_for_selector(there, state="attached")
        assert not grave_findings(page), where


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_steering_and_jobs_by_keys_alone_and_by_the_rules_of_axe(visit, made, scheme):
    """While there are texts, their price and tables; and a latent explained, in the list of jobs."""
    page = visit(f"{STEER}?feature={str(made[2].nodes[0].card.feature).replace('/', '%2F')}", 420, scheme)
    page.focus("input[name=n_tokens]")
    page.keyboard.press("Control+a")
    page.keyboard.type("3")
    page.focus("textarea[name=prompt]")
    page.keyboard.type("The boys near the")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("[role=status]:has-text('Done.')")
    page.focus("summary:has-text('Every token')")
    page.keyboard.press("Enter")
    page.wait_for_selector("table caption:has-text('Tokens of both texts')", state="attached")
    assert not grave_findings(page)
    assert no_sideways_scroll(page)
    page.goto(page.url.split("#")[0] + "#/jobs")
    page.wait_for_selector("tr:has-text('steer') .tag:has-text('done')")
    page.focus("input[name=feature]")
    page.keyboard.type("resid_pre.0/3")
    page.keyboard.press("Enter")
    page.wait_for_selector("section[aria-label=Explanation] table caption:has-text('Scores')", state="attached")
    page.wait_for_selector("tr:has-text('explain') .tag:has-text('done')")
    assert not grave_findings(page)
    assert no_sideways_scroll(page)


def test_the_list_of_methods_is_the_legend_by_keys(visit):
    page = visit(STEERING)
    page.wait_for_selector(".curves-host ol li")
    assert page.locator(".curves-host .series.control:visible path.line").count() == 0
    names = page.locator(".curves-host li b").all_inner_texts()
    assert sorted(names) == ["diff mean", "pca", "prompt", "random direction 0", "random feature 0", "single feature"]
    page.focus(".curves-host li button >> nth=0")
    assert names[0] in page.inner_text(".curves-host .said")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    # What is kept stays while the next one is reached.
    assert names[0] in page.inner_text(".curves-host .said b")
    page.keyboard.press("Escape")
    assert "Point at a method" in page.inner_text(".curves-host .said")


def test_another_benefit_and_reference_are_in_the_address(visit):
    page = visit(STEERING)
    page.select_option("label:has-text('Benefit') select", "words")
    page.wait_for_selector(".curves-host .head:has-text('words of the concept')")
    page.select_option("label:has-text('Held against') select", "pca")
    page.wait_for_selector("th:has-text('less pca')")
    assert "benefit=words" in page.url
    assert "reference=pca" in page.url
    assert "(!)" in page.inner_text("main")
    assert "no pairs were given" in page.inner_text("main")


def test_arms_and_marked_tokens_are_shown(visit):
    page = visit(ADVERSARIAL)
    page.wait_for_selector("table caption:has-text('Arms')", state="attached")
    said = page.locator(".datatable:has(caption:has-text('Arms')) tbody tr").all_inner_texts()
    assert [f"{count} of 4" in text for count, text in zip(BROKEN.values(), said, strict=True)] == [True] * 6
    assert page.locator(".failures li >> nth=0 >> .changed sup").count() == 2
    assert "b\\u202e" in page.inner_text(".failures")
    assert page.locator("img").count() == 0
    page.click("main a:has-text('the circuit')")
    page.wait_for_selector("h1:has-text('sva-simple')")


def test_a_failure_is_repaired_by_a_button_and_undone(visit):
    page = visit(ADVERSARIAL)
    failure = page.locator(".failures li").nth(0)
    button = failure.get_by_role("button", name="Repair", exact=True)
    button.click()
    failure.locator(".scale").wait_for()
    said = failure.locator("[aria-live]").inner_text().replace("−", "-")
    assert "Right again: putting 12 nodes back restores 75 % of the margin" in said
    assert "12 random active latents restore 10 %" in said
    for margin in ("+2.00", "-1.00", "+1.25", "-0.700"):
        assert f"margin {margin}" in said
    # All on one scale: the repaired bar ends at three quarters of the way from the failing margin to the clean one.
    start, end, mended, random = (
        float(failure.locator(f".scale .{look} .mark").get_attribute("x1").rstrip("%"))
        for look in ("failing", "whole", "repaired", "random")
    )
    assert (mended - start) / (end - start) == pytest.approx(0.75)
    assert (random - start) / (end - start) == pytest.approx(0.1)
    zero = float(failure.locator(".scale .whole .zero").get_attribute("x1").rstrip("%"))
    assert (zero - start) / (end - start) == pytest.approx(1 / 3)
    assert not grave_findings(page)
    failure.locator("select").select_option(label="detector 1: resid_post.1/3@S2 and 1 more, moved −1.25")
    said = failure.locator("[aria-live]").inner_text().replace("−", "-")
    assert "Still wrong: putting 2 nodes back restores 20 % of the margin" in said
    assert "2 random active latents restore -10 %" in said
    failure.locator("summary").click()
    assert failure.locator("tbody tr").count() == 2
    assert "detector 1" in failure.locator("tr.marked").inner_text()
    failure.get_by_role("button", name="Undo").press("Enter")
    assert failure.locator(".scale").count() == 0


def test_a_failure_that_is_not_repaired_says_why(visit):
    page = visit(ADVERSARIAL)
    page.wait_for_selector(".failures li")
    changed, older = (page.locator(".failures li").nth(place) for place in (1, 2))
    assert "the edits change the right answer" in changed.inner_text()
    assert "before single prompts were repaired" in older.inner_text()
    assert changed.locator("button").count() == older.locator("button").count() == 0


def test_explanations_are_searched_and_a_latent_is_opened(visit):
    page = visit(EXPLANATIONS)
    page.fill("input[name=q]", "school")
    page.keyboard.press("Enter")
    page.wait_for_selector("output:has-text('1 row')")
    page.click("td a >> nth=-1")
    page.wait_for_selector("h1:has-text('resid_pre.0/3')")
    text = page.inner_text("main")
    assert "shuffled" in text
    assert "did not answer" in text
    page.goto(page.url.split("#")[0] + f"#{EXPLANATIONS}?q=nothing+like+it")
    page.wait_for_selector(".empty:has-text('nothing like it')")


def test_the_game_is_played_by_keys_and_told_at_the_end(visit, made):
    with FeatureStore(made[0] / "store") as store:
        own = drawn_round(store, 2, 0)
    page = visit(GAME)
    for item in own.items:
        page.wait_for_selector(f"h2:has-text('{item.blind}')")
        assert str(item.feature) not in page.content()
        page.keyboard.press(str(item.right + 1))
        for place, truth in enumerate(item.truths):
            page.wait_for_selector(f"b:text-is('{place + 1} of {len(item.truths)}')")
            if place == 1:
                # A slip, taken back.
                page.keyboard.press("n" if truth else "y")
                page.wait_for_selector(f"b:text-is('3 of {len(item.truths)}')")
                page.keyboard.press("Backspace")
                page.wait_for_selector(f"b:text-is('2 of {len(item.truths)}')")
            page.keyboard.press("y" if truth else "n")
    page.wait_for_selector("h2:has-text('That is the round')")
    page.fill(".game form input", "Ada <b>")
    page.keyboard.press("Enter")
    page.wait_for_selector("h2:has-text('Leader board')")
    mine = page.inner_text("tr.marked")
    assert mine.startswith("Ada <b>")
    assert "1.00" in mine
    assert str(own.items[0].feature) in page.inner_text("main")


def test_steering_is_streamed_priced_and_cancelled(visit, made):
    feature = str(made[2].nodes[0].card.feature)
    page = visit(f"{STEER}?feature={feature.replace('/', '%2F')}")
    page.fill("textarea[name=prompt]", "The boys near the")
    page.fill("input[name=n_tokens]", "5")
    page.focus("textarea[name=prompt]")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("h2:has-text('What it costs')")
    page.wait_for_selector("[role=status]:has-text('Done.')")
    for side in ("default", "steered"):
        assert page.inner_text(f"section[aria-label={side}]").count("The boys near the") == 1
    assert "KL from the model" in page.inner_text("main")
    assert no_sideways_scroll(page)
    # A prompt and tokens that do not fit are refused in the server's words.
    page.fill("input[name=n_tokens]", "512")
    page.click("button:has-text('Steer')")
    page.wait_for_selector(".failed:has-text('at most')")
    page.click("text=Another latent")
    assert page.locator("fieldset .fields").count() == 2
    page.click("[aria-label^='Take latent'] >> nth=1")
    assert page.locator("fieldset .fields").count() == 1


def test_a_closed_tab_and_the_button_cancel(visit, made, address, monkeypatch):
    monkeypatch.setattr(live_work, "side_by_side", slowly)

    def states():
        asked = Request(f"{address}/api/v1/jobs", headers={"X-Gossamer-Token": TOKEN})
        with urlopen(asked) as answer:
            return [one["state"] for one in json.load(answer)["jobs"]]

    before = len(states())
    for how in ("button", "tab"):
        page = visit(f"{STEER}?feature={str(made[2].nodes[0].card.feature).replace('/', '%2F')}")
        page.fill("textarea[name=prompt]", "The boys")
        page.click("button:has-text('Steer')")
        page.wait_for_selector("section[aria-label=steered] bdi")
        if how == "button":
            page.click("button:has-text('Cancel')")
            page.wait_for_selector("[role=status]:has-text('Cancelled after')")
        else:
            page.close()
    for _ in range(200):
        if states()[before:] == ["cancelled", "cancelled"]:
            return
        time.sleep(0.05)
    pytest.fail(f"cancelled jobs expected, found {states()[before:]}")


def test_what_is_copied_as_python_runs(visit, made, capsys):
    feature = str(made[2].nodes[0].card.feature).replace("/", "%2F")
    for where in (STEERING, ADVERSARIAL, EXPLANATIONS, f"{EXPLANATIONS}/resid_pre.0%2F3", f"{STEER}?feature={feature}"):
        page = visit(where)
        if where.startswith(STEER):
            page.fill("textarea[name=prompt]", "The boys near the")
            page.fill("input[name=n_tokens]", "3")
            page.click("button:has-text('Steer')")
        page.click("text=Copy as Python")
        page.wait_for_selector("text=copied")
        exec(page.evaluate("navigator.clipboard.readText()"), {})
    said = capsys.readouterr().out
    assert "MethodCurve(diff_mean" in said
    assert "The circuit added nothing" in said
    assert "SummaryLine(" in said
    assert "ExplanationRow(" in said
