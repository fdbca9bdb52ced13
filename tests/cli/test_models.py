import json
from dataclasses import fields

import pytest

from mrlclient import ModelSpec, catalogue
from tests.cli.running import run

SPECS = list(catalogue().models.values())


def test_json_is_the_catalogue():
    done = run("models", "--json")
    assert (done.status, done.err) == (0, "")
    rows = json.loads(done.out)
    assert [set(row) for row in rows] == [{field.name for field in fields(ModelSpec)}] * len(SPECS)
    for row, spec in zip(rows, SPECS, strict=True):
        row["scores"] = tuple(map(tuple, row["scores"]))
        assert ModelSpec(**row) == spec
        assert row["sources"] == dict(spec.sources)


def test_the_table(cli):
    done = cli("models")
    assert (done.status, done.err) == (0, "")
    lines = done.text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in done.text
    assert "…" not in done.text
    for spec in SPECS:
        (line,) = [line for line in lines if line.split()[:1] == [spec.address]]
        assert line.split()[1:3] == ["yes" if spec.matryoshka else "no", str(spec.native_dimensions)]
        assert float(line.split()[-1]) == spec.usd_per_million_tokens
    (voyage,) = [line for line in lines if line.startswith("voyage:voyage-4 ")]
    assert voyage.split()[3:7] == ["256", "512", "1024", "2048"]


@pytest.mark.parametrize("tty", [[], ["stdout"]])
@pytest.mark.parametrize("columns", ["20", "60"])
def test_a_narrow_window_loses_nothing(cli, monkeypatch, tty, columns):
    monkeypatch.setenv("NO_COLOR", "1")
    wide = cli("models").out
    monkeypatch.setenv("COLUMNS", columns)
    assert cli("models", tty=tty).out == wide


@pytest.mark.parametrize("no_color", [True, False])
def test_colour_is_for_terminals_that_want_it(cli, monkeypatch, no_color):
    monkeypatch.setenv("TERM", "xterm-256color")
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    assert ("\x1b" in cli("models", tty=["stdout"]).text) is not no_color


def test_markdown(cli):
    heads, rule, *rows = cli("models", "--markdown").text.splitlines()
    assert heads.startswith("| Model | Matryoshka | Full width |")
    assert {line.count(" | ") for line in (heads, rule, *rows)} == {7}
    assert [row.split("`")[1] for row in rows] == [spec.address for spec in SPECS]
    (large,) = [row for row in rows if "text-embedding-3-large" in row]
    assert large == (
        "| `openai:text-embedding-3-large` | yes | 3072 | 1 to 3072 | 256 | `openai/text-embedding-3-large` "
        "| 0.13 | active |"
    )


@pytest.mark.parametrize("form", [[], ["--json"], ["--markdown"]])
def test_filters(cli, form):
    openai = cli("models", "--provider", "openai", *form).text
    assert "ada-002" in openai
    assert "voyage" not in openai
    assert "ada-002" not in cli("models", "--provider", "openai", "--matryoshka", *form).text


def test_servers_stand_where_the_catalogue_has_no_models(cli, tmp_path, monkeypatch):
    shown = cli("models", "-p", "openai-compatible").text
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    for server in catalogue().servers.values():
        (line,) = [line for line in shown.splitlines() if line.split()[:1] == [server.name]]
        assert server.base_url is None or server.base_url in line
    # What it says to write is right as it stands.
    pytest.importorskip("pydantic")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mrlclient.toml").write_text(shown[shown.index("[profiles.mine]") :])
    assert "mine: openai-compatible:NAME, dimensions 1024" in cli("config", "check").text
    assert json.loads(cli("models", "-p", "openai-compatible", "--json").out) == []
    line = cli("embed", "a", "-m", "openai-compatible:x").refusal()
    assert line.endswith("Declare it in a configuration: 'mrlclient models -p openai-compatible' shows how.")


def test_a_provider_by_its_other_name(cli):
    assert cli("models", "--provider", "voyageai").out == cli("models", "--provider", "voyage").out


@pytest.mark.parametrize(
    ("arguments", "says"), [(["--provider", "opena"], "'openai'"), (["--json", "--markdown"], "Give one")]
)
def test_refusals(cli, arguments, says):
    assert says in cli("models", *arguments).refusal()
