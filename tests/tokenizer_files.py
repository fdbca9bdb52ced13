"""Tokenizers as they lie on a user's disk: tiktoken's vocabulary, and the hub's cache."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import shutil

import pytest

from mrlclient.providers._counting import VOCABULARIES
from tests.conftest import TINY_NOMIC

#: A vocabulary of single bytes and one word.
FILE = b"".join(base64.b64encode(bytes([byte])) + b" %d\n" % byte for byte in range(256)) + b"YWI= 256\n"
#: What tiktoken calls it.
NAME = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"


def use_tiktoken_folder(folder, monkeypatch):
    """Where tiktoken looks, and nowhere else, for a file of ours."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
    monkeypatch.delenv("DATA_GYM_CACHE_DIR", raising=False)
    tiny = dataclasses.replace(VOCABULARIES["cl100k_base"], sha256=hashlib.sha256(FILE).hexdigest())
    monkeypatch.setitem(VOCABULARIES, "cl100k_base", tiny)


def use_hub_cache(folder, repository, monkeypatch):
    """The hub's cache with a repository's tokenizer, as the hub's client leaves it; the path of the file."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    place = folder / f"models--{repository.replace('/', '--')}"
    file = place / "snapshots" / ("0" * 40) / "tokenizer.json"
    file.parent.mkdir(parents=True)
    shutil.copy(TINY_NOMIC / "tokenizer.json", file)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)
    return file
