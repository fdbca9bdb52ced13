"""More texts than one chunk: written as they come, in constant memory, and gone on with where a run ended early."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mrlclient import Embedder
from mrlclient.testing.emulator import Fault
from tests.cli.running import command, environment, run_in_bash

fcntl = pytest.importorskip("fcntl")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="bash, pipes and signals")

TEXTS = [f"text number {i}" for i in range(3000)]
HOSTED = ["-m", "openai:text-embedding-3-small", "-d", "512"]


@pytest.fixture(scope="module")
def expected():
    with Embedder() as embedder:
        return embedder.embed(TEXTS).embeddings


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text(lines(TEXTS))
    return tmp_path


def lines(texts):
    return "".join(f"{text}\n" for text in texts)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def rows_in(data):
    """The rows of JSON lines, which are numbered."""
    found = [json.loads(line) for line in data.splitlines()]
    assert [row["index"] for row in found] == list(range(found[0]["index"], found[0]["index"] + len(found)))
    return np.array([row["embeddings"]["256"] for row in found]).astype(np.float32)


def sent_since(before, openai):
    """The texts of the requests after so many. The end of an earlier run may be among them."""
    return {text for request in openai.requests[before:] for text in request.body["input"]}


def refused_in_the_middle(done, output, kept):
    """Two lines: what is wrong, and what is kept."""
    assert done.status == 2
    error, note = done.err.splitlines()
    assert note == f"note: {output}.part has the first {kept:,} texts. The same command again goes on from there."
    return error


def test_all_formats(cli, folder, expected):
    assert cli("embed", "-f", "texts.txt", "-o", "a.npy").err == ""
    np.testing.assert_array_equal(np.load("a.npy"), expected)
    assert cli("embed", "-f", "texts.txt", "-o", "a.jsonl").err == ""
    np.testing.assert_array_equal(rows_in((folder / "a.jsonl").read_text()), expected)
    whole = json.loads(cli("embed", "-f", "texts.txt", "--format", "json").out)
    np.testing.assert_array_equal(np.array(whole["embeddings"]["256"]).astype(np.float32), expected)
    with Embedder() as embedder:
        assert whole["usage"]["tokens"] == embedder.embed(TEXTS).usage.tokens
    assert "and 2,990 more texts" in cli("embed", "-f", "texts.txt").text
    assert names(folder) == ["a.jsonl", "a.npy", "texts.txt"]


@pytest.mark.parametrize("source", ["cat texts.txt | $MRL embed", "$MRL embed -f - < texts.txt"])
def test_pipes(folder, expected, source):
    found = run_in_bash(f"{source} --format npy", cwd=folder)
    assert (found.status, found.err) == (0, "")
    np.testing.assert_array_equal(np.load(io.BytesIO(found.out)), expected)
    np.testing.assert_array_equal(rows_in(run_in_bash(f"{source} --format jsonl", cwd=folder).text), expected)
    assert run_in_bash(f"{source} -o a.npy", cwd=folder).status == 0
    np.testing.assert_array_equal(np.load(folder / "a.npy"), expected)


def test_rows_come_while_texts_do():
    with subprocess.Popen(
        command("embed", "--format", "jsonl"), stdin=-1, stdout=-1, stderr=-1, env=environment()
    ) as process:
        process.stdin.write(lines(TEXTS[:2100]).encode())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["index"] == 0
        out, err = process.communicate(lines(TEXTS[2100:]).encode(), timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert len(out.splitlines()) == 2999


def test_a_reader_that_leaves_in_the_middle(folder):
    done = run_in_bash("$MRL embed -f texts.txt --format jsonl | head -1 | wc -l; echo ${PIPESTATUS[0]}", cwd=folder)
    assert (done.text.split(), done.err) == (["1", "1"], "")


@pytest.mark.parametrize("options", [[], ["-o", "a.npy"]])
def test_a_file_is_read_to_its_end_before_anything_is_sent(cli, folder, openai, options):
    (folder / "texts.txt").write_text(lines([*TEXTS, ""]))
    for more in (["-f", "texts.txt"], []):
        done = cli("embed", *HOSTED, *more, *options, stdin=(folder / "texts.txt").read_bytes())
        assert "line 3001 is blank" in done.refusal()
    assert openai.requests == []
    assert names(folder) == ["texts.txt"]


@pytest.mark.parametrize("output", ["a.npy", "a.jsonl"])
def test_a_pipe_with_a_bad_line_is_gone_on_with(cli, folder, expected, output):
    (folder / "bad.txt").write_text(lines([*TEXTS[:2500], ""]))
    done = run_in_bash(f"cat bad.txt | $MRL embed -o {output}", cwd=folder)
    assert "standard input, line 2501 is blank" in refused_in_the_middle(done, output, 2500)
    assert not (folder / output).exists()
    done = cli("embed", "-f", "texts.txt", "-o", output)
    assert (done.status, done.err) == (0, f"note: {output}.part has the first 2,500 texts. Going on from there.\n")
    found = np.load(output) if output == "a.npy" else rows_in((folder / output).read_text())
    np.testing.assert_array_equal(found, expected)
    assert names(folder) == sorted(["bad.txt", "texts.txt", output])


def test_a_text_that_the_provider_refuses(cli, folder, openai):
    texts = [*TEXTS[:1500], "word " * 9000, *TEXTS[1501:]]
    (folder / "texts.txt").write_text(lines(texts))
    command = ["embed", "-f", "texts.txt", *HOSTED, "-o", "a.npy"]
    error = refused_in_the_middle(cli(*command), "a.npy", 1500)
    assert error.startswith("error: texts.txt, line 1501: openai refused it")
    (folder / "texts.txt").write_text(lines(TEXTS))
    before = len(openai.requests)
    assert cli(*command).status == 0
    assert sent_since(before, openai).isdisjoint(TEXTS[:1500])
    with Embedder("openai:text-embedding-3-small", dimensions=512) as embedder:
        np.testing.assert_allclose(np.load("a.npy"), embedder.embed(TEXTS).embeddings, atol=1e-6)
    # The rows that were skipped count in what is said of those that follow.
    (folder / "texts.txt").write_text(lines(texts))
    done = cli(*command[:-2], "--skip", "1000", "--format", "jsonl")
    assert "texts.txt, line 1501: openai refused it" in done.err
    assert "note: The first 500 rows are written. The same command with --skip 1500 gives the others." in done.err
    assert json.loads(done.text.splitlines()[0])["index"] == 1000


def test_what_is_not_gone_on_with(cli, folder):
    (folder / "bad.txt").write_text(lines([*TEXTS[:2500], ""]))
    begun = "cat bad.txt | $MRL embed -d 128 -o a.npy"
    run_in_bash(begun, cwd=folder)
    before = (folder / "a.npy.part").read_bytes(), (folder / "a.npy.part.json").read_bytes()
    for options, says in (
        (["-d", "64"], "a.npy.part was made with dimensions [128]."),
        (["-d", "128", "--skip", "1"], "a.npy.part was made with skip 0."),
        (["-d", "128", "--format", "jsonl"], "a.npy.part was made with format npy."),
        (["-d", "128", "--input-type", "query"], "a.npy.part was made with other options."),
    ):
        assert says in cli("embed", "-f", "texts.txt", "-o", "a.npy", *options).refusal()
    (folder / "texts.txt").write_text(lines(["another", *TEXTS[1:]]))
    again = ["embed", "-f", "texts.txt", "-o", "a.npy", "-d", "128"]
    assert "a.npy.part was made of other texts." in cli(*again).refusal()
    (folder / "texts.txt").write_text(lines(TEXTS[:2000]))
    line = cli(*again).refusal()
    assert "a.npy.part was made of other texts." in line
    assert line.endswith("Go on with the same texts and options, or remove it to begin again.")
    assert before == ((folder / "a.npy.part").read_bytes(), (folder / "a.npy.part.json").read_bytes())
    (folder / "a.npy.part").unlink()
    assert cli(*again).err == ""
    assert len(np.load("a.npy")) == 2000
    assert names(folder) == ["a.npy", "bad.txt", "texts.txt"]


@pytest.mark.parametrize(
    ("part", "log"),
    [
        (b"mine", None),
        (b"mine", b"mine too\n"),
        (b"mine", b"5\n6\n"),
        (b"mine", b'{"model": "", "dimensions": [], "format": "", "skip": 0}\n[1, 400, ""]\n'),
    ],
)
def test_a_part_that_no_run_left(cli, folder, part, log):
    (folder / "a.npy.part").write_bytes(part)
    if log is not None:
        (folder / "a.npy.part.json").write_bytes(log)
    assert "a.npy.part is damaged, or no run left it." in cli("embed", "a", "-o", "a.npy").refusal()
    assert (folder / "a.npy.part").read_bytes() == part
    assert (folder / "a.npy.part.json").exists() is (log is not None)


def test_a_link_in_the_place_of_a_part_is_not_followed(cli, folder):
    (folder / "mine").write_text("mine")
    (folder / "a.npy.part").symlink_to("mine")
    cli("embed", "a", "-o", "a.npy").refusal()
    assert (folder / "mine").read_text() == "mine"


def test_two_at_once(cli, folder):
    with (folder / "a.npy.part.json").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "Another run is writing a.npy." in cli("embed", "a", "-o", "a.npy").refusal()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended(cli, folder, openai, how):
    def heed():
        signal.signal(signal.SIGINT, signal.default_int_handler)

    openai.faults.append(Fault(delay=30, when=lambda request: "text number 2500" in request.body["input"], times=9))
    arguments = ["embed", "-f", "texts.txt", *HOSTED, "-o", "a.jsonl"]
    with subprocess.Popen(
        command(*arguments), stdout=-1, stderr=-1, cwd=folder, env=environment(), preexec_fn=heed
    ) as process:
        log = folder / "a.jsonl.part.json"
        while not log.exists() or b"[1024, " not in log.read_bytes():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(how)
        _, err = process.communicate(timeout=30)
    records = [json.loads(line) for line in log.read_text().splitlines()[1:]]
    if how == signal.SIGINT:
        note = (
            f"note: a.jsonl.part has the first {records[-1][0]:,} texts. The same command again goes on from there.\n"
        )
        assert (process.returncode, err.decode()) == (130, note)
    else:
        assert (process.returncode, err) == (-how, b"")
    openai.faults.clear()
    before = len(openai.requests)
    # As if it had ended while it wrote.
    with log.open("a") as file:
        file.write("[2500, 1")
    with (folder / "a.jsonl.part").open("a") as file:
        file.write('{"index": 2500, "pro')
    assert cli(*arguments).status == 0
    assert sent_since(before, openai).isdisjoint(TEXTS[: records[-1][0]])
    found = [json.loads(line) for line in (folder / "a.jsonl").read_text().splitlines()]
    assert [row["index"] for row in found] == list(range(3000))
    assert names(folder) == ["a.jsonl", "texts.txt"]


def test_a_full_disk_in_the_middle(cli, folder, expected):
    done = run_in_bash("ulimit -f 2000; $MRL embed -f texts.txt -o a.npy", cwd=folder)
    error = refused_in_the_middle(done, "a.npy", 1024)
    assert error == "error: File too large. Check where the output goes."
    assert names(folder) == ["a.npy.part", "a.npy.part.json", "texts.txt"]
    assert cli("embed", "-f", "texts.txt", "-o", "a.npy").status == 0
    np.testing.assert_array_equal(np.load("a.npy"), expected)


def test_a_full_disk_in_the_middle_of_a_pipe(folder, expected):
    done = run_in_bash("ulimit -f 4000; $MRL embed -f texts.txt --format jsonl > a.jsonl", cwd=folder)
    assert (done.status, done.err.splitlines()) == (
        2,
        [
            "error: File too large. Check where the output goes.",
            "note: The first 1,024 rows are written. The same command with --skip 1024 gives the others.",
        ],
    )
    written = (folder / "a.jsonl").read_text().splitlines()[:1024]
    rest = run_in_bash("$MRL embed -f texts.txt --format jsonl --skip 1024", cwd=folder).text.splitlines()
    np.testing.assert_array_equal(rows_in("\n".join(written + rest)), expected)


def test_all_rows_are_there_and_the_file_is_not(cli, folder, expected):
    """What is left of a run that ends between its last row and its end."""
    (folder / "bad.txt").write_text(lines([*TEXTS, ""]))
    refused_in_the_middle(run_in_bash("cat bad.txt | $MRL embed -o a.npy", cwd=folder), "a.npy", 3000)
    assert cli("embed", "-f", "texts.txt", "-o", "a.npy").status == 0
    np.testing.assert_array_equal(np.load("a.npy"), expected)


def test_skip(cli, folder, expected):
    assert cli("embed", "-f", "texts.txt", "--skip", "2990", "-o", "a.npy").status == 0
    np.testing.assert_array_equal(np.load("a.npy"), expected[2990:])
    first = cli("embed", *TEXTS[:3], "--skip", "1", "--format", "npy").out
    np.testing.assert_array_equal(np.load(io.BytesIO(first)), expected[1:3])
    line = cli("embed", "-f", "texts.txt", "--skip", "3000", "-o", "b.npy").refusal()
    assert "--skip 3000 leaves no text of 3,000." in line
    assert names(folder) == ["a.npy", "texts.txt"]


def test_what_is_no_row_says_that_nothing_is_kept(folder):
    (folder / "bad.txt").write_text(lines([*TEXTS[:2500], ""]))
    done = run_in_bash("cat bad.txt | $MRL embed --format json", cwd=folder)
    assert done.out == b""
    assert "note: A json is written when all is there, so nothing was." in done.err


@pytest.mark.parametrize(("command", "drawn"), [("-o a.jsonl", True), ("--format jsonl | cat > a.jsonl", True)])
def test_a_bar_on_a_terminal(folder, command, drawn):
    pytest.importorskip("pty")
    done = run_in_bash(f"script -qec '$MRL embed -f texts.txt {command}' /dev/null", cwd=folder, TERM="xterm")
    assert done.status == 0
    assert ("3000/3000" in done.text) is drawn


@pytest.mark.soak
@pytest.mark.parametrize("output", ["a.npy", "a.jsonl"])
def test_memory_stays_flat(folder, output):
    program = (
        "import resource, sys; from mrlclient.__main__ import main; assert main(sys.argv[1:]) == 0; "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for count in (20_000, 200_000):
        (folder / "texts.txt").write_text("".join(f"text number {i}\n" for i in range(count)))
        arguments = ["embed", "-f", "texts.txt", "-d", "128", "-o", output]
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, env=environment(), check=True
        )
        peaks.append(int(done.stdout))
    # The matrix alone is 100 MB.
    assert peaks[1] - peaks[0] < 20_000
