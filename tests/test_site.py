"""The site as it is read from a disk."""

import shutil
from pathlib import Path

ASSETS = Path(__file__).resolve().parents[1] / "docs" / "assets"
PAGE = """<!doctype html><title>page</title><body><script src="iframe-worker.js"></script><script>
const worker = new Worker("worker.js"), said = [];
worker.addEventListener("message", ({ data }) => said.push(data.words));
worker.postMessage({ words: ["first"] });
worker.postMessage({ words: ["second"] });
</script>"""
WORKER = """addEventListener("message", async ({ data }) => {
  await importScripts("more.js");
  postMessage({ words: [...data.words, added, typeof document] });
});"""


def test_what_searches_runs_without_a_server(browser, tmp_path):
    shutil.copy(ASSETS / "iframe-worker.js", tmp_path)
    for name, text in (("page.html", PAGE), ("worker.js", WORKER), ("more.js", "var added = 'more';")):
        (tmp_path / name).write_text(text)
    page, wrong = browser.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_function("said.length === 2")
    # What a script brings along comes when it is loaded: in no order.
    assert sorted(page.evaluate("said")) == [["first", "more", "object"], ["second", "more", "object"]]
    # Frames do not show.
    assert page.evaluate("document.querySelector('iframe').offsetHeight") == 0
    page.evaluate("worker.terminate()")
    assert page.locator("iframe").count() == 0
    page.close()
    assert wrong == []
