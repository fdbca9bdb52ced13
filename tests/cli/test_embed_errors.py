"""What cannot be done is said in one line, with exit status 2, and never with a text in it."""

import json
import re
import sys

import pytest

from mrlclient.testing.emulator import FAULTS, Fault
from tests.cli.running import run


def test_in_a_process_of_its_own():
    line = run("embed", "canary", "-m", "openai:text-embedding-ada-002", "-d", "256").refusal()
    assert "not a Matryoshka model" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-d", "foo"], "such as 64,256"),
        (["-d", ""], "such as 64,256"),
        (["-d", "1_0"], "such as 64,256"),
        (["-d", "٦٤"], "such as 64,256"),
        (["-d", "-5"], "such as 64,256"),
        (["-d", "9" * 5000], "such as 64,256"),
        (["-d", "0"], "--dimensions 0 is not positive"),
        (["-d", "0"], "1 to 256"),
        (["-d", "64,512"], "1 to 256"),
        (["-d", "8", "--on-narrow", "error"], "evaluated is 64"),
        (["-m", "wordlama:l2-supercat-256"], "wordllama"),
        (["-m", "nonsense"], "provider:model"),
        (["-m", "voyage:voyage-4"], "VOYAGE_API_KEY"),
        (["--input-type", "querry"], "--input-type"),
        (["--task", "clustering"], "task"),
        (["--on-narrow", "maybe"], "--on-narrow"),
        (["--format", "csv"], "'table', 'json', 'jsonl', 'npy'"),
        (["--format", "npy", "-d", "64,128"], "2 widths"),
        (["--nonsense"], "mrlclient embed --help"),
        (["-o", "nowhere/vectors.npy"], "nowhere/vectors.npy: No such file"),
        (["-o", ".", "--format", "json"], "Is a directory"),
        (["--field", "body"], "--field names a field of a .jsonl file"),
        (["-f", "texts.txt"], "the one or the other"),
        (["-f", "-"], "the one or the other"),
    ],
)
def test_bad_options(cli, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in cli("embed", "canary", *arguments).refusal()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.txt", "canary\n\ncanary\n", "a.txt, line 2 is blank"),
        ("a.txt", "canary\n \t\n", "a.txt, line 2 is blank"),
        ("a.txt", "", "a.txt is empty"),
        ("a.txt", b"canary\r\ncanary\xff\n", "a.txt, line 2 is not UTF-8"),
        ("a.txt", "canary\n".encode("utf-16"), "a.txt is UTF-16"),
        ("a.txt", "canary\n".encode("utf-16-le"), "a.txt, line 1 holds a zero byte"),
        ("a.txt", b"one\rtwo\n" * 2000 + b"canary\xff\n", "a.txt, line 4001 is not UTF-8"),
        ("a.csv", "canary", "a.csv is neither"),
        ("a.jsonl", '{"text": "canary"}\n\n', "a.jsonl, line 2 is blank"),
        ("a.jsonl", '{"text": "canary"}\n{canary\n', "a.jsonl, line 2 is not JSON"),
        ("a.jsonl", "[" * 100_000, "a.jsonl, line 1 is not JSON"),
        ("a.jsonl", '"canary"\n', "a.jsonl, line 1 is not a JSON object"),
        ("a.jsonl", '{"body": "canary"}\n', "a.jsonl, line 1 has no field 'text'"),
        ("a.jsonl", '{"text": 7}\n', "a.jsonl, line 1 has a field 'text' that is not a string"),
        ("a.jsonl", '{"text": " "}\n', "a.jsonl, line 1 has a blank field 'text'"),
        ("a.jsonl", '{"text": "canary"}\n{"text": "canary \\ud800"}\n', "a.jsonl, line 2 holds a lone surrogate"),
        ("a.jsonl", '{"text": "one", "text": "canary"}\n', "a.jsonl, line 1 has a key twice"),
    ],
)
def test_bad_files(cli, tmp_path, monkeypatch, name, data, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    assert says in cli("embed", "-f", name, "-o", "out.npy").refusal()
    assert not (tmp_path / "out.npy").exists()


@pytest.mark.parametrize(("data", "says"), [(b"", "empty"), (b"canary\n\n", "line 2"), (b"\xff", "UTF-8")])
def test_bad_input(cli, data, says):
    assert says in cli("embed", stdin=data).refusal()


def test_a_file_that_is_not_there(cli):
    assert "nowhere.txt: No such file" in cli("embed", "-f", "nowhere.txt").refusal()


#: Words that only Python has.
_PYTHON = re.compile(r"\w=|ModelSpec|True|\bpass\b|input_type|truncate_input|on_narrow")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-d", "0"], "--dimensions 0 is not positive. wordllama:l2-supercat-256 gives 1 to 256."),
        (["-d", "8", "--on-narrow", "error"], "on your own data, or give --on-narrow allow."),
        (["-m", "openai:text-embedding-ada-002", "-d", "8"], "Its only width is 1536: leave --dimensions out."),
        (["-m", "openai:text-embedding-3-small", "--truncate-input"], "yourself, and leave --truncate-input out."),
        (["--task", "clustering"], "It knows none: leave --task out."),
        (["--task", "clustering", "--input-type", "query"], "Give --input-type or --task, not both"),
        (["-m", "voyage:voyage-4"], "Set VOYAGE_API_KEY."),
        (["-m", "openai:nothing-of-the-kind"], "'mrlclient models' lists what it has."),
        (["-m", "nomic:nomic-embed-text-v1"], "Only Python can name one"),
        (["--cache", ""], "'sqlite:PATH' or 'redis://HOST'."),
    ],
)
def test_a_shell_is_told_what_to_type(cli, openai, arguments, says):
    line = cli("embed", "canary", *arguments).refusal()
    assert says in line
    assert not _PYTHON.search(line.partition("Nomic(")[0])


def test_a_base_url_is_the_environments(cli, openai, monkeypatch):
    for url in ("nonsense", "https://name:canary@example.org"):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        line = cli("embed", "canary", "-m", "openai:text-embedding-3-small").refusal()
        assert "The base URL in the environment" in line
        assert not _PYTHON.search(line)
        assert "api_key" not in line


def test_a_warning_too(cli):
    assert cli("embed", "a", "-d", "8").err.endswith("or give --on-narrow allow.\n")


def test_an_option_that_the_command_has_not_is_not_advised(cli):
    assert "Its only width is 1536. Matryoshka" in cli("demo", "-m", "openai:text-embedding-ada-002").refusal()


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_line_that_is_too_long_is_counted_once(cli, others, tmp_path, name):
    long = "word " * 3000
    text = long if name == "a.txt" else json.dumps({"text": long})
    (tmp_path / name).write_text(text + "\n")
    line = cli("embed", "-m", "local:nomic-embed-text-v1.5", "-f", tmp_path / name).refusal()
    assert re.search(r"a\.\w+, line 1 has \d+ tokens; ", line)
    assert line.endswith("Split it, or give --truncate-input to embed its beginning only.")


def test_an_argument_in_another_encoding(cli):
    assert "LANG=C.UTF-8" in cli("embed", "a", "caf\udce9").refusal()


def test_a_blank_argument(cli):
    assert "Text 1 is empty or blank" in cli("embed", "canary", " ").refusal()


@pytest.mark.parametrize("file", [[], ["-f", "-"]])
def test_a_field_of_what_has_none(cli, file):
    assert "--field names a field" in cli("embed", *file, "--field", "text", stdin=b"canary\n").refusal()


def test_nothing_to_embed_on_a_terminal(cli):
    assert "nothing to embed" in cli("embed", tty=["stdin"]).refusal()


def test_npy_on_a_terminal(cli):
    assert "--output" in cli("embed", "canary", "--format", "npy", tty=["stdout"]).refusal()


def test_what_a_server_refuses(cli, openai, tmp_path):
    output = tmp_path / "out.json"
    output.write_text("as before")
    openai.faults.append(FAULTS["openai_413"])
    cli("embed", "canary", "-m", "openai:text-embedding-3-small", "-o", output).refusal()
    assert output.read_text() == "as before"
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        (Fault(status=401, body={"error": {"message": "Wrong key"}}), "Wrong key. Check the key in the environment."),
        (FAULTS["openai_insufficient_quota"], "You exceeded your current quota. Check the account's credit."),
        (FAULTS["openai_x_should_retry_false"], "Slow down. Run it again later."),
    ],
)
def test_what_to_do_about_what_a_server_says(cli, openai, fault, advice):
    openai.faults.append(fault)
    assert cli("embed", "canary", "-m", "openai:text-embedding-3-small").refusal().endswith(advice)


def test_a_server_that_is_not_there(cli, openai, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    line = cli("embed", "canary", "-m", "openai:text-embedding-3-small").refusal()
    assert line.endswith("Check the network, and the base URL where one is set.")


def test_a_path_that_cannot_be_written_costs_nothing(cli, openai):
    cli("embed", "canary", "-m", "openai:text-embedding-3-small", "-o", "nowhere/a.json").refusal()
    assert openai.requests == []


def test_without_the_package_of_the_default_model(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "wordllama", None)
    assert "pip install 'mrlclient[wordllama]'" in cli("embed", "canary").refusal()


@pytest.mark.parametrize("arguments", [["--debug", "embed", "canary"], ["embed", "canary", "--debug"]])
def test_debug_shows_the_traceback(cli, arguments):
    done = cli(*arguments, "-m", "nonsense")
    assert done.status == 2
    assert done.err.startswith("Traceback")
    assert "UnknownModelError" in done.err
    assert done.err.splitlines()[-1].startswith("error: ")


def test_debug_of_a_good_run_says_nothing(cli):
    done = cli("--debug", "embed", "a", "--format", "json")
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out)
