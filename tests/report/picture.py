"""The picture of the how-to page. ``python -m tests.report.picture`` makes it anew, in a minute or two.

It is of a real sweep: WordLlama on the docstrings of this Python's standard library.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from mrlclient import Embedder
from mrlclient.evaluate import docstrings, sweep
from mrlclient.evaluate.report import write
from tests.report.conftest import CHROMIUM

PICTURE = Path(__file__).parents[2] / "docs" / "how-to" / "sweep-report.png"


def main() -> None:
    from playwright.sync_api import sync_playwright

    with Embedder(on_narrow="allow") as embedder:
        outcome = sweep(embedder, docstrings())
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder) / "report.html"
        write(outcome, page)
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        tab = browser.new_page(viewport={"width": 900, "height": 800}, color_scheme="light")
        tab.goto(page.as_uri())
        figure = tab.locator("figure").first.bounding_box()
        assert figure
        end = figure["y"] + figure["height"] + 12
        tab.screenshot(path=PICTURE, full_page=True, clip={"x": 0, "y": 0, "width": 900, "height": end})
        browser.close()


if __name__ == "__main__":
    main()
