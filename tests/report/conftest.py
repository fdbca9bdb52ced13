"""A real browser, and pages opened in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mrlclient.evaluate.report import write

#: What Chromium is called here and there.
_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")

CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)


class Page:
    """A page in the browser.

    Attributes:
        tab: Playwright's page.
        console: What the page had to complain of, and the dialogs that it opened.
        requests: The addresses that it asked for.
    """

    def __init__(self, tab: Any) -> None:
        self.tab = tab
        self.console: list[str] = []
        self.requests: list[str] = []
        tab.on("console", lambda message: self.console.append(message.text))
        tab.on("pageerror", lambda error: self.console.append(str(error)))
        tab.on("dialog", self._close)
        tab.on("request", lambda request: self.requests.append(request.url))

    def _close(self, dialog):
        self.console.append(dialog.message)
        dialog.dismiss()

    def spills(self) -> list[str]:
        """What stands over the edge of the window, except what has a scroll bar of its own."""
        return self.tab.evaluate(
            """() => {
              const wide = document.documentElement.clientWidth;
              const over = [...document.querySelectorAll('body *')].filter(each => {
                const box = each.getBoundingClientRect();
                const shown = box.width && box.height && !each.closest('.skip');
                return shown && (box.right > wide + 0.5 || box.left < -0.5) && !each.parentElement.closest('.scroll');
              }).map(each => each.outerHTML.slice(0, 120));
              return document.documentElement.scrollWidth > wide ? ['the page scrolls', ...over] : over;
            }"""
        )


Opener = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: group `browser`")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path: Path) -> Iterator[Opener]:
    """Opens the page of an outcome, from a file."""
    contexts = []

    def open_(outcome, *, width=1440, scheme="light", media="screen") -> Page:
        path = tmp_path / f"{len(contexts)}.html"
        write(outcome, path)
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        page = Page(contexts[-1].new_page())
        page.tab.emulate_media(media=media)
        page.tab.goto(path.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
