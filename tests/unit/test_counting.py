import base64
import dataclasses
import hashlib
import pickle

import pytest

from mrlclient import ModelSpec, OpenAI
from mrlclient.providers._counting import CL100K_BASE, find_counter

#: A vocabulary of single bytes and one word.
FILE = b"".join(base64.b64encode(bytes([byte])) + b" %d\n" % byte for byte in range(256)) + b"YWI= 256\n"
TINY = dataclasses.replace(CL100K_BASE, sha256=hashlib.sha256(FILE).hexdigest())
NAME = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where tiktoken looks, and nowhere else."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("DATA_GYM_CACHE_DIR", raising=False)
    return tmp_path


def test_a_vocabulary_on_this_disk_counts(folder):
    pytest.importorskip("tiktoken")
    (folder / NAME).write_bytes(FILE)
    count = find_counter(TINY)
    # Read once: what becomes of the file later changes nothing.
    (folder / NAME).unlink()
    assert count(["abc", "é", "<|endoftext|>"]) == [2, 2, 13]
    assert count([]) == []


def test_none_where_there_is_no_such_file(folder, monkeypatch):
    assert find_counter(TINY) is None
    (folder / NAME).mkdir()
    assert find_counter(TINY) is None
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder / "missing"))
    assert find_counter(TINY) is None


def test_a_damaged_file_is_neither_used_nor_touched(folder):
    (folder / NAME).write_bytes(FILE[:-5])
    assert find_counter(TINY) is None
    assert (folder / NAME).read_bytes() == FILE[:-5]


@pytest.mark.parametrize("variables", [{"DATA_GYM_CACHE_DIR": "here"}, {"TMPDIR": "here"}, {"TIKTOKEN_CACHE_DIR": ""}])
def test_places(tmp_path, monkeypatch, variables):
    pytest.importorskip("tiktoken")
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "data-gym-cache").mkdir()
    for place in (tmp_path, tmp_path / "data-gym-cache"):
        (place / NAME).write_bytes(FILE)
    for name, value in variables.items():
        monkeypatch.setenv(name, value and str(tmp_path))
    assert (find_counter(TINY) is None) == ("TIKTOKEN_CACHE_DIR" in variables)


def test_only_models_of_the_catalogue_have_a_known_tokenizer(folder, monkeypatch):
    monkeypatch.setattr("mrlclient.providers.openai.CL100K_BASE", TINY)
    pytest.importorskip("tiktoken")
    (folder / NAME).write_bytes(FILE)
    declared = ModelSpec(provider="openai", name="text-embedding-3-small", native_dimensions=8, matryoshka=False)
    assert OpenAI("text-embedding-3-small", api_key="k").counts_tokens
    assert not OpenAI(declared, api_key="k").counts_tokens


def test_a_given_count_is_pickled_with_the_provider(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    provider = pickle.loads(pickle.dumps(OpenAI("text-embedding-3-small", count_tokens=lengths)))
    assert provider.counts_tokens
    assert provider.count_tokens(["ab", "c"]) == [2, 1]


def lengths(texts):
    return [len(text) for text in texts]
