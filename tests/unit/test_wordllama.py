import subprocess
import sys

import numpy as np
import pytest

from mrlclient import Embedder, MissingExtraError

TEXTS = ["the cat sat on the mat", "Zażółć gęślą jaźń 東京 🙂", "x", "a longer text about storage and latency " * 30]

REFERENCE = """
import json, pathlib, sys, numpy as np, wordllama
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from wordllama.inference import WordLlamaInference
folder = pathlib.Path(wordllama.__file__).parent
table = load_file(folder / "weights/l2_supercat_256.safetensors")["embedding.weight"]
tokenizer = Tokenizer.from_file(str(folder / "tokenizers/l2_supercat_tokenizer_config.json"))
rows = WordLlamaInference(table, tokenizer).embed(json.loads(sys.stdin.read()), norm=True)
print(json.dumps(rows.tolist()))
"""


def test_equals_the_packages_own_inference():
    """The package's own pooling, in a process of its own, because importing it configures logging."""
    import json

    run = subprocess.run(
        [sys.executable, "-c", REFERENCE], input=json.dumps(TEXTS), capture_output=True, text=True, check=True
    )
    with Embedder("wordllama:l2-supercat-256") as embedder:
        np.testing.assert_allclose(embedder.embed(TEXTS).embeddings, json.loads(run.stdout), atol=1e-5)


def test_the_package_is_never_imported():
    code = (
        "import sys, mrlclient\n"
        "mrlclient.Embedder('wordllama:l2-supercat-256').embed_query('a')\n"
        "print(*(m for m in ('wordllama', 'pydantic', 'requests', 'httpx2') if m in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_the_embedded_default(monkeypatch):
    assert Embedder().model == "wordllama:l2-supercat-256"
    monkeypatch.setenv("MRLCLIENT_MODEL", "nomic:nomic-embed-text-v1.5")
    assert Embedder().model == "nomic:nomic-embed-text-v1.5"


def test_related_texts_are_closer_than_unrelated_ones():
    with Embedder(dimensions=64) as embedder:
        query = embedder.embed_query("How much does it cost to ship a parcel?")
        documents = embedder.embed_documents(
            ["Delivery fees depend on the package's weight.", "The choir sang at dawn."]
        )
    assert documents[0] @ query > documents[1] @ query + 0.1


def test_a_missing_wheel_names_the_pip_line(monkeypatch):
    monkeypatch.setattr("mrlclient.providers.wordllama.find_spec", lambda name: None)
    with Embedder() as embedder, pytest.raises(MissingExtraError, match=r"pip install 'mrlclient\[wordllama\]'"):
        embedder.embed_query("a")


def test_one_text_of_any_length_is_read_a_piece_at_a_time():
    """Longer than a piece, and equal to the mean over its parts weighted by their tokens."""
    with Embedder() as embedder:
        long = embedder.embed(["word other thing " * 30_000])
    assert long.usage.tokens > 1 << 16
    with Embedder() as embedder:
        assert long[0] @ embedder.embed_query("word other thing word other thing") > 0.99
