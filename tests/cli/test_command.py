"""The command as a whole: help, version, how a run ends."""

import json
import os
import signal
import subprocess
import sys
from importlib.metadata import version

import pytest
import typer

from mrlclient.cli._messages import tell_error
from mrlclient.cli._options import Session
from mrlclient.cli.app import app
from tests.cli.running import command, environment, run, run_in_bash

COMMANDS = typer.main.get_command(app).commands


def test_help_loads_nothing_heavy():
    program = (
        "import sys; from mrlclient.__main__ import main; assert main(['--help']) == 0; "
        "print({'numpy', 'rich', 'httpx2', 'mrlclient.embedder'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment(), check=True)
    assert done.stderr.decode().strip() == "set()"
    for name in COMMANDS:
        assert f"  {name} " in done.stdout.decode()


def test_without_a_command_there_is_help(cli):
    assert cli().out == cli("--help").out
    assert cli().status == 0


def test_version(cli):
    assert cli("--version").text == f"mrlclient {version('mrlclient')}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(cli, name):
    shown = " ".join(cli(name, "--help").text.split())
    assert COMMANDS[name].help
    for parameter in COMMANDS[name].params:
        assert parameter.help, parameter.name
        assert " ".join(parameter.help.split()[:3]) in shown
        for option in parameter.opts:
            assert option in shown


def test_a_command_that_is_not_there(cli):
    assert "Did you mean 'embed'?" in cli("embd").refusal()


def test_without_the_extra():
    # -S leaves out everything that is installed.
    done = run("models", options=["-S"])
    assert "pip install 'mrlclient[cli]'" in done.refusal()


def test_a_fault_of_ours_does_not_quote_a_text(capsys):
    assert tell_error(ValueError("canary"), Session()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "canary" not in line
    assert "--debug" in line


@pytest.mark.skipif(os.name == "nt", reason="signals and pipes are POSIX's here")
def test_interrupted():
    def heed():
        # What runs the tests may have it ignored, and that is inherited.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    arguments = {"stdout": -1, "stderr": -1, "env": environment(), "preexec_fn": heed}
    with subprocess.Popen(command("demo"), **arguments) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")


@pytest.mark.skipif(os.name == "nt", reason="signals and pipes are POSIX's here")
@pytest.mark.parametrize("unbuffered", [{}, {"PYTHONUNBUFFERED": "1"}])
@pytest.mark.parametrize(
    "arguments",
    # Little is written when all is done, much while it is made.
    [["models", "--json"], ["models"], ["embed", "--format", "jsonl"], ["embed", "a", "--format", "json"], ["--help"]],
)
def test_a_reader_that_leaves(arguments, unbuffered):
    env = environment(**unbuffered)
    with subprocess.Popen(command(*arguments), stdin=-1, stdout=-1, stderr=-1, env=env) as process:
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(b"text\n" * 1000, timeout=30)
    assert (process.returncode, err) == (1, b"")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_that_cannot_show_every_sign(encoding):
    done = run("models", PYTHONIOENCODING=encoding)
    assert (done.status, done.err) == (0, "")
    assert b"openai:text-embedding-3-large" in done.out
    assert json.loads(run("models", "--json", PYTHONIOENCODING=encoding).out.decode(encoding))


def test_the_exit_statuses_are_told(cli):
    told = " ".join(cli("--help").text.split()).partition("The exit status is ")[2]
    assert [word for word in told.split() if word.isdigit()][:5] == ["0", "1", "2", "3", "130"]


posix = pytest.mark.skipif(os.name == "nt", reason="bash and devices")


@posix
@pytest.mark.parametrize("arguments", ["models", "models --json", "demo", "embed a", "embed a --format npy", "--help"])
def test_a_closed_stdout(arguments):
    assert "Standard output is closed" in run_in_bash(f"$MRL {arguments} >&-").refusal()


@posix
def test_a_closed_stdout_that_is_not_needed(tmp_path):
    done = run_in_bash("$MRL embed a -o a.npy >&-", cwd=tmp_path)
    assert (done.status, done.out, done.err) == (0, b"", "")
    assert (tmp_path / "a.npy").stat().st_size > 1000


@posix
def test_a_closed_stderr(tmp_path):
    done = run_in_bash("$MRL embed a -d 0 2>&-", cwd=tmp_path)
    assert (done.status, done.out) == (2, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
@pytest.mark.parametrize(
    "arguments", ["models", "models --json", "embed a --format npy", "embed a -o /dev/full --format json"]
)
@pytest.mark.parametrize("unbuffered", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_a_full_disk(arguments, unbuffered):
    assert "No space left on device" in run_in_bash(f"$MRL {arguments} > /dev/full", **unbuffered).refusal()
