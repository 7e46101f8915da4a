"""A page that needs no server: opened from a disk, it shows what the run's page shows, and asks nobody."""

import re

import pytest
from workbench_run import TOKEN

from gossamer.app.exported_page import export_page
from gossamer.errors import UsageError


@pytest.fixture(scope="module")
def exported(built, made, tmp_path_factory):
    """The page in one file, and as a folder."""
    folder = tmp_path_factory.mktemp("exported")
    return export_page(made[0], folder / "one.html"), export_page(made[0], folder / "parts.html", largest=1000)


@pytest.fixture
def open_file(browser):
    """Open a page from the disk; whatever it asks for beside files, or says is wrong, fails the test."""
    wrong, opened = [], []

    def open_file(path, where="", **how):
        page = browser.new_page(**{"viewport": {"width": 1400, "height": 900}, "accept_downloads": True, **how})
        opened.append(page)
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        own = ("file:", "blob:", "data:")
        page.on("request", lambda asked: None if asked.url.startswith(own) else wrong.append(asked.url))
        page.goto(path.as_uri() + where)
        return page

    yield open_file
    for page in opened:
        page.close()
    assert wrong == []


@pytest.mark.parametrize("number", [0, 1])
def test_views_are_there_without_a_server(exported, open_file, made, number):
    page = open_file(exported[number].page)
    page.wait_for_selector("h1:has-text('run')")
    page.click("nav[aria-label='Views'] >> text=Circuit")
    page.wait_for_selector("h1:has-text('sva-simple in bundled:spool')")
    page.locator(".map-host button.box:not(.metric)").nth(0).click()
    page.wait_for_selector(".latent .examples")
    page.keyboard.press("p")
    page.wait_for_selector(".pinned h3:has-text('1 node pinned')")
    assert "this page was exported" in page.inner_text(".pinned")
    page.click(".tabs >> text=Nodes")
    page.wait_for_selector("table tbody tr")
    assert page.locator("table tbody tr").count() == len(made[2].nodes)
    page.click(".tabs >> text=How it was tested")
    page.wait_for_selector("h2:has-text('Where the behaviour is lost')")
    page.click("nav[aria-label='Views'] >> text=Your text")
    page.wait_for_selector("text=The model cannot be asked: this page was exported")


def test_an_address_opens_its_place_and_data_can_be_saved(exported, open_file, tmp_path):
    page = open_file(exported[0].page, "#/circuit/circuit/edges", viewport={"width": 420, "height": 900})
    page.wait_for_selector(".tabs [aria-current]:has-text('Edges')")
    with page.expect_download() as saved:
        page.click("text=CSV")
    saved.value.save_as(tmp_path / "edges.csv")
    assert len((tmp_path / "edges.csv").read_text().splitlines()) > 1
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_it_holds_no_secret_and_names_nobody_else(exported, made):
    text = exported[0].page.read_text(encoding="utf-8")
    assert TOKEN not in text
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "connect-src" not in policy
    assert not re.search(r"""(?:src|href)=["']https?://""", text)
    assert exported[0].bytes == exported[0].page.stat().st_size
    assert exported[0].answers == exported[1].answers > len(made[2].nodes)
    assert (exported[1].page.parent / "data" / "0.js").is_file()


def test_a_hostile_name_stays_text(built, run, tmp_path, open_file):
    hostile = run.rename(run.parent / "<script>alert(1)<!--&")
    page = open_file(export_page(hostile, tmp_path / "page.html").page)
    page.wait_for_selector("h1:has-text('<script>alert(1)<!--&')")


@pytest.mark.parametrize(("run", "target", "said"), [("nothing", "a.html", "nothing"), (".", "a.txt", "NAME.html")])
def test_what_cannot_be_written_is_said(tmp_path, monkeypatch, run, target, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        export_page(run, target)
