import dataclasses
import pickle
import shutil
import sys

import pytest

from mrlclient import ConfigurationError, ModelSpec, OpenAI, OpenAICompatible, Voyage, catalogue
from mrlclient.providers._counting import find_counter
from tests.tokenizer_files import FILE, NAME, use_hub_cache, use_tiktoken_folder

ENCODING = "tiktoken:cl100k_base"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    use_tiktoken_folder(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The tokenizer of one of Voyage's models, as its own client leaves it."""
    pytest.importorskip("tokenizers")
    return use_hub_cache(tmp_path, "voyageai/voyage-4", monkeypatch)


def test_a_vocabulary_on_this_disk_counts(folder):
    pytest.importorskip("tiktoken")
    (folder / NAME).write_bytes(FILE)
    count = find_counter(ENCODING)
    assert count is not None
    # Read once: what becomes of the file later changes nothing.
    (folder / NAME).unlink()
    assert count(["abc", "é", "<|endoftext|>"]) == [2, 2, 13]
    assert count([]) == []


def test_none_where_there_is_no_such_file(folder, monkeypatch):
    assert find_counter(ENCODING) is None
    (folder / NAME).mkdir()
    assert find_counter(ENCODING) is None
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder / "missing"))
    assert find_counter(ENCODING) is None


def test_a_damaged_file_is_neither_used_nor_touched(folder):
    (folder / NAME).write_bytes(FILE[:-5])
    assert find_counter(ENCODING) is None
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
    assert (find_counter(ENCODING) is None) == ("TIKTOKEN_CACHE_DIR" in variables)


def test_a_run_of_blanks_that_tiktoken_cannot_count_is_left_to_the_server(folder):
    pytest.importorskip("tiktoken")
    (folder / NAME).write_bytes(FILE)
    assert OpenAI("text-embedding-3-small", api_key="k").count_tokens([" " * 1_100_000 + "a", "abc"]) == [0, 2]


def test_a_tokenizer_in_the_cache_of_the_hub_counts_as_the_vendors_client_does(hub):
    from tokenizers import Tokenizer

    provider, texts = Voyage("voyage-4", api_key="k"), ["flour " * 40_000, "[CLS] é 東京", "x" * 5_000]
    assert provider.counts_tokens
    theirs = Tokenizer.from_file(str(hub))
    theirs.no_truncation()
    assert provider.count_tokens(texts) == [len(encoding) for encoding in theirs.encode_batch(texts)]
    assert provider.count_tokens([]) == []
    assert not Voyage("voyage-4-large", api_key="k").counts_tokens


@pytest.mark.parametrize("missing", ["refs/main", "snapshots", "", "tokenizers", "huggingface_hub"])
def test_none_where_the_cache_of_the_hub_has_no_such_file(hub, missing, monkeypatch):
    if missing in ("tokenizers", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, missing, None)
    else:
        gone = hub.parents[2] / missing
        gone.unlink() if gone.is_file() else shutil.rmtree(gone)
    assert not Voyage("voyage-4", api_key="k").counts_tokens


def test_a_damaged_file_of_the_hub_is_named(hub):
    hub.write_bytes(hub.read_bytes()[:-5])
    with pytest.raises(ConfigurationError, match="is damaged") as caught:
        Voyage("voyage-4", api_key="k").count_tokens(["a"])
    assert str(hub) in str(caught.value)
    assert caught.value.__context__ is None


def test_a_tokenizer_is_looked_for_when_it_is_needed(folder):
    pytest.importorskip("tiktoken")
    provider = OpenAI("text-embedding-3-small", api_key="k")
    (folder / NAME).write_bytes(FILE)
    assert provider.counts_tokens


def test_a_declared_model_has_the_tokenizer_that_it_says(folder):
    pytest.importorskip("tiktoken")
    (folder / NAME).write_bytes(FILE)
    declared = ModelSpec(provider="openai", name="text-embedding-3-small", native_dimensions=8, matryoshka=False)
    assert not OpenAI(declared, api_key="k").counts_tokens
    assert OpenAI(dataclasses.replace(declared, tokenizer=ENCODING), api_key="k").count_tokens(["abc"]) == [2]
    served = dataclasses.replace(declared, provider="openai-compatible", tokenizer=ENCODING)
    assert OpenAICompatible(served, base_url="http://localhost/v1").count_tokens(["abc"]) == [2]


@pytest.mark.parametrize("tokenizer", ["", "cl100k_base", "tiktoken:other", "hub:name", "hub:../x/y", "hub:a/b\n", 7])
def test_other_tokenizers_are_refused(tokenizer):
    with pytest.raises(ConfigurationError, match="tokenizer must be 'tiktoken:cl100k_base' or 'hub:owner/name'"):
        ModelSpec(provider="openai", name="mine", native_dimensions=8, matryoshka=False, tokenizer=tokenizer)


def test_the_hosted_models_of_the_catalogue_say_their_tokenizer():
    for spec in catalogue().models.values():
        expected = {"openai": ENCODING, "voyage": f"hub:voyageai/{spec.name}"}.get(spec.provider)
        assert spec.tokenizer == expected


def test_a_given_count_is_pickled_with_the_provider(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    provider = pickle.loads(pickle.dumps(OpenAI("text-embedding-3-small", count_tokens=lengths)))
    assert provider.counts_tokens
    assert provider.count_tokens(["ab", "c"]) == [2, 1]


class PanicException(BaseException):
    """As PyO3 raises it."""


@pytest.mark.parametrize(
    ("failure", "seen"), [(PanicException, ConfigurationError), (KeyboardInterrupt, KeyboardInterrupt)]
)
def test_a_counter_that_gives_up(failure, seen):
    def count(texts):
        raise failure

    with pytest.raises(seen):
        OpenAI("text-embedding-3-small", api_key="k", count_tokens=count).count_tokens(["a"])


def test_our_own_errors_of_a_counter_are_seen_as_they_are():
    def count(texts):
        raise ConfigurationError("no file")

    with pytest.raises(ConfigurationError, match=r"^no file$"):
        OpenAI("text-embedding-3-small", api_key="k", count_tokens=count).count_tokens(["a"])


def lengths(texts):
    return [len(text) for text in texts]
