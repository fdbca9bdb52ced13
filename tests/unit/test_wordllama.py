import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrlclient import Embedder, MissingExtraError
from mrlclient.providers.wordllama import write_mean

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


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 19), min_size=1, max_size=40), st.integers(1, 7))
def test_a_mean_is_that_of_the_naive_loop(ids, piece):
    table = np.random.default_rng(0).standard_normal((20, 8), dtype=np.float32)
    out = np.full(8, np.nan, dtype=np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mrlclient.providers.wordllama._PIECE", piece)
        write_mean(table, ids, out)
    naive = sum(table[i].astype(np.float64) for i in ids) / len(ids)
    np.testing.assert_allclose(out, naive, atol=1e-5)


def test_a_vector_does_not_depend_on_the_other_texts():
    texts = [f"{n} parcels of {'very ' * (n % 13)}light goods" for n in range(300)]
    with Embedder() as embedder:
        together = embedder.embed(texts)
        alone = [embedder.embed([text]) for text in texts[:20]]
    for i, one in enumerate(alone):
        np.testing.assert_allclose(together[i], one[0], atol=1e-6)
    assert sum(one.usage.tokens for one in alone) == sum(tokens_of(texts[:20]))


def tokens_of(texts):
    """Counted by a tokenizer of its own, one text after the other."""
    from tokenizers import Tokenizer

    folder = find_spec("wordllama").submodule_search_locations[0]
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizers/l2_supercat_tokenizer_config.json")
    tokenizer.no_padding()
    return [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]
