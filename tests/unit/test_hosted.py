import email.utils
import time
import traceback

import pytest

from mrlclient import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    Embedder,
    InputError,
    MissingCredentialsError,
    OpenAI,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
    ResponseContractError,
    ServerError,
    Voyage,
)
from mrlclient.dimensions import resolve
from mrlclient.plan import Batch
from mrlclient.providers._credentials import Secret, check_base_url
from mrlclient.providers._exchange import Reply
from mrlclient.providers._refusals import retry_after

RETRYABLE = {408, 409, 424, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}


def error_of(status, body=b"", headers=None, kind=OpenAI, texts=("canary text",)):
    model = "text-embedding-3-small" if kind is OpenAI else "voyage-4"
    provider = kind(model, api_key="sk-canary-key")
    batch = Batch(list(texts), range(len(texts)), resolve(provider.spec, None), None, False)
    return provider._error(Reply(status, headers or {}, body), batch)


@pytest.mark.parametrize("status", range(201, 600))
def test_every_status_has_a_class(status):
    error = error_of(status, {"error": {"message": "no"}}, {"x-request-id": "r-1"})
    expected = {401: AuthenticationError, 403: AuthenticationError, 408: ProviderTimeoutError, 429: RateLimitError}.get(
        status,
        ResponseContractError if status < 300 else BadRequestError if status < 500 and status != 424 else ServerError,
    )
    assert type(error) is expected
    assert error.retryable == (status in RETRYABLE or status < 300)
    assert (error.status, error.request_id, error.provider) == (status, "r-1", "openai")


def test_out_of_credit_is_not_tried_again():
    error = error_of(429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}})
    assert type(error) is QuotaError
    assert not error.retryable


@pytest.mark.parametrize(
    ("kind", "body", "index"),
    [
        (OpenAI, {"error": {"message": "Invalid 'input[1]': maximum input length is 8192 tokens."}}, 1),
        (
            Voyage,
            {"detail": "Request to model 'voyage-4' failed. The example at index 0 in your batch has too many"},
            0,
        ),
    ],
)
def test_a_refused_text_is_an_input_error(kind, body, index):
    error = error_of(400, body, kind=kind, texts=("a", "b"))
    assert type(error) is InputError
    assert error.index == index


def test_an_index_that_was_not_sent_is_no_input_error():
    assert type(error_of(400, {"error": {"message": "Invalid 'input[7]'"}})) is BadRequestError


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Incorrect API key provided: sk-canary-key. canary text is no good"}},
        {"error": {"message": "canary text " * 400}},
        {"error": {"message": "Invalid input: A canary that a server sho..."}},
        {"error": {"message": r"Invalid input: says \"canary\" and more"}},
    ],
)
def test_what_a_server_echoes_is_left_out(body):
    texts = ("canary text", "A canary that a server shortens", 'it says "canary" and more')
    error = error_of(401, body, texts=texts)
    assert "canary" not in str(error)
    assert len(str(error)) < 500


def test_a_servers_words_are_kept_whole_where_they_echo_nothing():
    said = "Your account is not active, please check your billing details on our website."
    assert str(error_of(403, {"error": {"message": said}}, texts=("e", "a"))).endswith(said)


@pytest.mark.parametrize("body", [b"", b"<html>canary</html>", b"[1]", b'{"error": "canary"}', b"[" * 99_999])
def test_any_error_body_is_survived(body):
    error = error_of(500, body)
    assert type(error) is ServerError
    assert "canary" not in str(error)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "1"}, 1.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "3600"}, 3600.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        *(
            ({"retry-after": nonsense}, None)
            for nonsense in ("0", "-5", "nan", "inf", "1e999", "soon", "", "1 2", "1_0")
        ),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:09 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 9.0),
        ({"retry-after": "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"}, None),
        # The two older forms of a date; the last of them names no zone, and means Greenwich.
        ({"retry-after": "Wednesday, 21-Oct-15 07:28:09 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 9.0),
        ({"retry-after": "Wed Oct 21 07:28:09 2015", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 9.0),
    ],
)
def test_retry_after(headers, expected, monkeypatch):
    if hasattr(time, "tzset"):
        monkeypatch.setenv("TZ", "America/New_York")
        time.tzset()
    try:
        assert retry_after(headers) == expected
    finally:
        monkeypatch.undo()
        if hasattr(time, "tzset"):
            time.tzset()


def test_retry_after_a_date():
    assert 1.0 < retry_after({"retry-after": email.utils.formatdate(time.time() + 3, usegmt=True)}) <= 3.0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com/v1",
        "ftp://example.com",
        "http://example.com/v1",
        "https://user:pw@example.com",
        "https://",
        "http://[::1",
        "https://example.com/v1?key=pw",
        "https://example.com/v1#pw",
        "https://exa mple.com/v1",
        "https://example.com/v1?",
        "https://example.com:443443/v1",
        "https://example.com:port/v1",
        "https://example.com/v1\x00",
        "https://example.com/\ud800",
        "https://\ud800.com/v1",
        "https://[v1.pw]/",
        "http://localhost\\@example.com/v1",
        b"https://example.com",
        443,
    ],
)
def test_base_urls_refused(url):
    with pytest.raises(ConfigurationError) as caught:
        check_base_url(url)
    assert "pw" not in str(caught.value)


def test_without_a_key_nothing_secret_travels():
    assert check_base_url("http://ollama:11434/v1/", has_key=False) == "http://ollama:11434/v1"
    with pytest.raises(ConfigurationError):
        check_base_url("ftp://ollama/v1", has_key=False)


@pytest.mark.parametrize(
    "url", ["https://example.com/v1/", "http://127.0.0.1:8000", "http://localhost/v1", "http://[::1]:8000/v1"]
)
def test_base_urls_taken(url):
    assert check_base_url(url) == url.rstrip("/")


@pytest.mark.parametrize("seconds", [0, -1, True, "5", float("nan"), float("inf"), 1e10])
def test_seconds_that_bound_nothing(seconds):
    with pytest.raises(ConfigurationError, match="timeout must be a positive number of seconds"):
        OpenAI("text-embedding-3-small", api_key="sk-canary-key", timeout=seconds)
    with pytest.raises(ConfigurationError, match="deadline must be a positive number of seconds"):
        Embedder("wordllama:l2-supercat-256", deadline=seconds)


def test_what_is_no_model_is_told_of():
    for model in (5, None, b"text-embedding-3-small"):
        with pytest.raises(ConfigurationError, match="ModelSpec or a name"):
            OpenAI(model, api_key="sk-canary-key")
    with pytest.raises(ConfigurationError, match="deployment must be a name"):
        OpenAI("text-embedding-3-small", api_key="sk-canary-key", deployment=5)


def url_of(provider):
    return provider._transport._url


def test_keys_and_addresses_of_the_environment_belong_together(monkeypatch):
    with pytest.raises(MissingCredentialsError, match="OPENAI_API_KEY") as caught:
        OpenAI("text-embedding-3-small")
    assert caught.value.variable == "OPENAI_API_KEY"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    assert url_of(OpenAI("text-embedding-3-small")) == "https://api.openai.com/v1/embeddings"
    monkeypatch.setenv("OPENAI_BASE_URL", "https://example.com/v1/")
    assert url_of(OpenAI("text-embedding-3-small")) == "https://example.com/v1/embeddings"
    assert url_of(OpenAI("text-embedding-3-small", api_key="sk-other")) == "https://example.com/v1/embeddings"
    named = OpenAI("text-embedding-3-small", api_key="sk-other", base_url="https://example.org/v1")
    assert url_of(named) == "https://example.org/v1/embeddings"
    with pytest.raises(MissingCredentialsError, match="not sent to another host"):
        OpenAI("text-embedding-3-small", base_url="https://example.org/v1")


@pytest.mark.parametrize(("kind", "model"), [(OpenAI, "text-embedding-3-small"), (Voyage, "voyage-4")])
def test_a_key_of_a_variable_that_is_named(kind, model, monkeypatch):
    monkeypatch.setenv(kind.key_variable, "sk-vendors")
    with pytest.raises(MissingCredentialsError, match="Set GATEWAY_KEY") as caught:
        kind(model, api_key_env="GATEWAY_KEY")
    assert caught.value.variable == "GATEWAY_KEY"
    monkeypatch.setenv("GATEWAY_KEY", " sk-gateways\n")
    provider = kind(model, api_key_env="GATEWAY_KEY", base_url="https://gateway.example/v1")
    assert url_of(provider) == "https://gateway.example/v1/embeddings"
    assert provider._transport._key.reveal() == "sk-gateways"
    assert url_of(kind(model, api_key_env="GATEWAY_KEY")) == url_of(kind(model))
    with pytest.raises(ConfigurationError, match="not both"):
        kind(model, api_key="sk-canary-key", api_key_env="GATEWAY_KEY")
    # A name that is empty names nothing: the vendor's key is not sent in its place.
    with pytest.raises(ConfigurationError, match="api_key_env"):
        kind(model, api_key_env="", base_url="https://gateway.example/v1")
    monkeypatch.setenv("GATEWAY_KEY", "sk canary-key")
    with pytest.raises(MissingCredentialsError) as caught:
        kind(model, api_key_env="GATEWAY_KEY")
    assert "canary" not in str(caught.value)


def test_voyage_keys_know_their_host(monkeypatch):
    with pytest.raises(MissingCredentialsError, match="VOYAGE_API_KEY"):
        Voyage("voyage-4")
    monkeypatch.setenv("VOYAGE_API_KEY", "pa-test")
    assert url_of(Voyage("voyage-4")) == "https://api.voyageai.com/v1/embeddings"
    assert url_of(Voyage("voyage-4", api_key="al-test")) == "https://ai.mongodb.com/v1/embeddings"


@pytest.mark.parametrize("key", ["", " ", "sk-a b", "sk-a\n", "sk-é", "sk-\0", "sk-\x7f"])
def test_a_key_that_cannot_be_one(key):
    with pytest.raises(MissingCredentialsError):
        OpenAI("text-embedding-3-small", api_key=key)


def test_a_key_shows_itself_to_nobody():
    import pickle

    secret = Secret("sk-canary-key")
    assert "canary" not in f"{secret!r} {secret}"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)


def test_a_model_of_another_provider_is_refused():
    with pytest.raises(ConfigurationError, match="voyage:voyage-4"):
        OpenAI("voyage:voyage-4", api_key="sk-test")


def test_openai_says_that_it_does_not_cut_texts():
    with pytest.raises(ConfigurationError, match="truncate_input"):
        Embedder(OpenAI("text-embedding-3-small", api_key="sk-test"), truncate_input=True)


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": 7},
        {"api_key_env": 7},
        {"api_key": "sk", "api_key_env": ""},
        {"api_key": "sk", "timeout": None},
        {"api_key": "sk", "timeout": 0},
    ],
)
def test_options_of_the_wrong_kind(options):
    with pytest.raises(ConfigurationError):
        OpenAI("text-embedding-3-small", **options)


@pytest.mark.parametrize("variables", [{"OPENAI_BASE_URL": "ftp://x"}, {"OPENAI_API_KEY": "sk-canary–key"}])
def test_a_key_of_the_environment_stands_in_no_frame(variables, monkeypatch):
    for name, value in ({"OPENAI_API_KEY": "sk-canary-key"} | variables).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        Embedder("openai:text-embedding-3-small")
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "canary" not in shown.replace("variables", "").split("monkeypatch = ", 1)[-1].split("mrlclient", 1)[-1]


@pytest.mark.parametrize("make", [lambda: Embedder("openai:text-embedding-3-small"), lambda: OpenAI("nope")])
def test_a_failed_constructor_can_be_shown_with_its_locals(make):
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert "(...)" in "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
