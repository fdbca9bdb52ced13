"""What is made from the code stands in the pages as the code is now."""

from __future__ import annotations

import re

import pytest
from typer.main import get_command

import mrlclient
from mrlclient.cli.app import app
from tests.docs.generated import GENERATORS, regenerated
from tests.docs.running import PAGES, ROOT


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_page_is_up_to_date(path):
    text = path.read_text("utf-8")
    assert text == regenerated(text), "stale: run python -m tests.docs.generated"


def test_every_generated_part_is_used():
    used = {name for path in PAGES for name in re.findall(r"<!-- generated:([\w-]+) -->", path.read_text("utf-8"))}
    assert used == set(GENERATORS)


def test_every_public_name_is_documented():
    headings = re.findall(r"^#+ `(\w+)`$", (ROOT / "docs/reference/api.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(mrlclient.__all__)


def test_every_model_is_documented():
    text = (ROOT / "docs/reference/catalogue.md").read_text("utf-8")
    for address in mrlclient.catalogue().models:
        assert f"### `{address}`" in text


def test_every_command_and_option_is_documented():
    page = (ROOT / "docs/how-to/command-line.md").read_text("utf-8")
    commands = get_command(app).commands
    assert commands
    for name, command in commands.items():
        assert f"`mrlclient {name}`" in page
        for parameter in command.params:
            for option in parameter.opts:
                assert not option.startswith("--") or re.search(rf"(?<![\w-]){option}(?![\w-])", page), (name, option)
