import re
import sys
import sysconfig

import pytest

from tests.cli.running import run


@pytest.fixture(scope="module")
def demo():
    done = run("demo")
    assert (done.status, done.err) == (0, "")
    return done.text


def losses(text):
    """Width -> (marked as narrow, bytes, nDCG, share kept)."""
    rows = re.findall(r"^ *(\* )?(\d+) +([\d,]+) +([01]\.\d{3}) +([\d.]+) %$", text, re.MULTILINE)
    return {
        int(width): (bool(mark), int(size.replace(",", "")), float(n), float(kept))
        for mark, width, size, n, kept in rows
    }


def test_the_figures(demo):
    found = losses(demo)
    assert list(found) == [256, 128, 64, 32]
    scores = [score for _, _, score, _ in found.values()]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4
    assert [size for _, size, _, _ in found.values()] == [1024, 512, 256, 128]
    for _, _, score, kept in found.values():
        assert kept == pytest.approx(100 * score / scores[0], abs=0.3)
    assert [mark for mark, *_ in found.values()] == [False, False, False, True]


def test_the_examples_are_found_at_the_full_width(demo):
    examples = re.split(r"^dimensions  own text at rank  found first *$", demo, flags=re.MULTILINE)[1:]
    assert len(examples) == 3
    ranks_at_32 = []
    for example in examples:
        rows = re.findall(r"^ +(\d+) +(\d+)  (\S.*?) *$", example.partition("\n\n")[0], re.MULTILINE)
        assert [row[0] for row in rows] == ["256", "128", "64", "32"]
        assert rows[0][1] == "1"
        # What is found first is the own text exactly where that is at rank 1.
        assert all((found == rows[0][2]) == (rank == "1") for _, rank, found in rows)
        ranks_at_32.append(int(rows[-1][1]))
    # They show what is lost, and are ordered by it.
    assert ranks_at_32 == sorted(ranks_at_32)
    assert ranks_at_32[-1] > 1


def test_the_refusal(demo):
    assert "NotMatryoshkaError: openai:text-embedding-ada-002 is not a Matryoshka model" in demo


def test_it_fits(demo):
    assert max(map(len, demo.splitlines())) <= 80
    assert "\x1b" not in demo


@pytest.fixture
def small_library(tmp_path, monkeypatch):
    """A standard library of a few docstrings, to be quick."""
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    texts = [f"Summary of the topic {word}.\n\n    All of {f'{word} ' * 20}" for word in ("one", "two", "three")]
    code = "".join(f"def f{i}():\n    '''{text}'''\n" for i, text in enumerate(texts))
    (tmp_path / "a.py").write_text(code, encoding="utf-8")


def test_a_hosted_model_is_asked_for_its_full_width(cli, openai, small_library):
    done = cli("demo", "--model", "openai:text-embedding-3-small")
    assert (done.status, done.err) == (0, "")
    assert list(losses(done.text)) == [1536, 256, 128, 64, 32]
    assert "(512)" in done.text
    assert [request.body.get("dimensions", 1536) for request in openai.requests] == [1536, 1536]


@pytest.mark.parametrize("model", ["openai:text-embedding-ada-002", "nonsense"])
def test_a_model_that_cannot_be_shown(cli, model):
    done = cli("demo", "--model", model)
    done.refusal()
    assert done.out == b""


def test_without_the_package_of_the_default_model(cli, monkeypatch, small_library):
    monkeypatch.setitem(sys.modules, "wordllama", None)
    assert "pip install 'mrlclient[wordllama]'" in cli("demo").refusal()
