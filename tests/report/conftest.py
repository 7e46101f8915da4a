"""What the tests of pages share: files, opened in the machine's Chromium."""

import pytest


@pytest.fixture
def open_page(browser):
    """Open a file; whatever the page asks for or says is wrong fails the test."""
    wrong: list[str] = []
    opened = []

    def open_page(path, **how):
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, "accept_downloads": True, **how})
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on(
            "request", lambda request: None if request.url.startswith(("file:", "blob:")) else wrong.append(request.url)
        )
        page.goto(path.as_uri())
        opened.append(page)
        return page

    yield open_page
    for page in opened:
        page.close()
    assert wrong == []
