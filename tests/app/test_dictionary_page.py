"""Dictionaries, latents, search and comparison in a browser: every part on a real run, narrow and wide, and by keys."""

import shutil

import pytest
from workbench_run import TEXT, TOKEN, grave_findings, no_sideways_scroll, serving

from gossamer.store import FeatureStore

SET, SITE = "dictionaries~dictionaries", "resid_post.2"


@pytest.fixture(scope="module")
def address(built, stored, tmp_path_factory):
    folder = shutil.copytree(stored, tmp_path_factory.mktemp("served") / "run")
    with serving(folder) as found:
        yield found


@pytest.fixture(scope="module")
def busiest(stored):
    with FeatureStore(stored / "store") as store:
        query = f"SELECT latent FROM statistics WHERE site = '{SITE}' ORDER BY density DESC, latent LIMIT 1"
        return f"{SITE}/{store.sql(query).to_pylist()[0]['latent']}"


@pytest.mark.parametrize(("width", "scheme"), [(420, "dark"), (1400, "light")])
def test_from_a_dictionary_to_a_latent_and_back(visit, busiest, width, scheme):
    page = visit(f"/dictionary/{SET}?site={SITE}", width, scheme)
    page.wait_for_selector("h2:has-text('Latents')")
    page.wait_for_selector(f"a:has-text('{busiest}')")
    assert page.locator("figure.histogram svg[role=img]").count() == 1
    assert "active on no token" in page.inner_text("main")
    assert no_sideways_scroll(page)
    page.fill("[name=q]", "several boys")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=1 to 1 of 1 latent")
    page.click(f"a:has-text('{busiest}')")
    page.wait_for_selector("h1:has-text('nouns of several boys')")
    page.wait_for_selector("h2:has-text('Tokens it is active on')")
    page.wait_for_selector("dt:has-text('cosine of encoder and decoder')")
    assert page.locator(".examples h4:has-text('group')").count() == 5
    assert no_sideways_scroll(page)
    page.click(f"text=All latents of {SITE}")
    page.wait_for_selector("h2:has-text('Latents')")


def test_parts_of_a_long_list_by_keys(visit):
    page = visit(f"/dictionary/{SET}?site={SITE}")
    page.wait_for_selector("text=/1 to 50 of/")
    page.focus("button:has-text('After')")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=/51 to 100 of/")
    page.select_option("select >> nth=1", "name")
    page.wait_for_selector("text=/1 to 50 of/")
    page.wait_for_selector(f"td a:has-text('{SITE}/0')")


@pytest.mark.parametrize("width", [420, 1400])
def test_search(visit, busiest, width):
    page = visit("/search", width)
    page.fill("#q", "boys")
    page.keyboard.press("Enter")
    page.wait_for_selector("h2:has-text('Labels and explanations')")
    page.wait_for_selector(f"section:has(h2:has-text('Labels')) a:has-text('{busiest}')")
    page.wait_for_selector("h2:has-text('Latents most active on that token')")
    assert no_sideways_scroll(page)
    page.fill("#text", TEXT)
    page.click("button:has-text('Find')")
    page.wait_for_selector("text=/Specificity: largest activation/")
    assert page.locator("section:has(h2:has-text('say most')) tbody tr").count() > 10
    assert no_sideways_scroll(page)


@pytest.mark.parametrize("width", [420, 1400])
def test_two_dictionaries_are_compared(visit, width):
    page = visit("/compare/dictionaries", width)
    page.wait_for_selector("text=/have their own counterpart/")
    page.wait_for_selector("polyline.control")
    assert no_sideways_scroll(page)
    page.click("nav[aria-label='What to compare'] >> text=Circuits")
    page.wait_for_selector("text=Two circuits are needed")


def test_the_overview_says_which_models(visit):
    page = visit("/")
    page.wait_for_selector("h2:has-text('Models')")
    assert "bundled:spool" in page.inner_text("section:has(h2:has-text('Models')) tbody")


def test_what_is_copied_as_python_runs(visit, busiest, capsys):
    views = {
        f"/dictionary/{SET}?site={SITE}": ["DictionarySet(", "latent"],
        f"/latent/{SET}/{busiest.replace('/', '%2F')}": ["FeatureCard("],
        "/search?q=boys": ["kind='token'"],
        f"/search?text={TEXT.replace(' ', '+')}&set={SET}": ["SpecificLatent("],
        "/compare/dictionaries": ["LatentMatches("],
    }
    for where, expected in views.items():
        page = visit(where)
        page.wait_for_selector("text=Copy as Python")
        page.wait_for_load_state("networkidle")
        for place in range(page.locator("text=Copy as Python").count()):
            page.click(f"text=Copy as Python >> nth={place}")
            page.wait_for_selector("text=copied")
            exec(page.evaluate("navigator.clipboard.readText()"), {})
        said = capsys.readouterr().out
        for one in expected:
            assert one in said, where


def test_a_run_without_a_store_says_what_is_not_known(built, made, browser, tmp_path):
    folder = shutil.copytree(made[0], tmp_path / "run")
    with serving(folder) as address:
        page = browser.new_page()
        page.goto(f"{address}/#token={TOKEN}&/dictionary/circuit")
        page.wait_for_selector("text=/How often they are active is not known/")
        assert page.locator("figure.histogram").count() == 0
        page.goto(f"{address}/#/search?text=The+boys&set=circuit")
        page.wait_for_selector("[role=alert]:has-text('store build')")
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("where", "there"),
    [
        (f"/dictionary/{SET}?site={SITE}", "text=/1 to 50 of/"),
        (f"/latent/{SET}/{SITE}%2F5", "dt:has-text('cosine')"),
        (f"/search?q=boys&text={TEXT.replace(' ', '+')}", "text=/Specificity/"),
        ("/compare/dictionaries", "polyline.control"),
    ],
)
def test_axe_finds_nothing_grave(visit, where, there, scheme):
    page = visit(where, 1400, scheme)
    page.wait_for_selector(there)
    assert grave_findings(page) == {}
