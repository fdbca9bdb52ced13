"""The emulator over bare HTTP: its answers, limits, log and shutdown."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx2
import pytest

from mrlclient.testing.emulator import FAULTS, Emulator, count_tokens

MODELS = {"openai": "text-embedding-3-small", "voyage": "voyage-4-large"}
WIDTH_FIELD = {"openai": "dimensions", "voyage": "output_dimension"}
TEXTS = ["the cat sat", "on the mat", "and purred"]


@pytest.fixture(scope="module", name="http")
def http_client():
    with httpx2.Client(timeout=10, trust_env=False) as client:
        yield client


@pytest.fixture(name="ask")
def asking(http, emulator):
    """Sends one request to a provider of the emulator, or of another one."""

    def ask(provider, body=None, *, to=emulator, key=None, raw=None, path="/embeddings", timeout=10, **fields):
        base, good_key = {
            "openai": (to.openai_base_url, to.openai_key),
            "voyage": (to.voyage_base_url, to.voyage_key),
        }[provider]
        if body is None:
            body = {"model": MODELS[provider], "input": TEXTS} | fields
        headers = {"authorization": f"Bearer {good_key if key is None else key}"} if key != "" else {}
        content = json.dumps(body).encode() if raw is None else raw
        return http.post(base + path, content=content, headers=headers, timeout=timeout)

    return ask


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 1), ("a", 1), ("abcd", 1), ("abcde", 2), ("éé", 1), ("東京", 2), ("\ud800", 1)]
)
def test_count_tokens(text, tokens):
    assert count_tokens(text) == tokens


def test_usage_and_payload(ask):
    openai = ask("openai", input=["abcde", "a"]).json()
    assert {k: v for k, v in openai.items() if k != "data"} == {
        "object": "list",
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    assert [(row["object"], row["index"], len(row["embedding"])) for row in openai["data"]] == [
        ("embedding", 0, 1536),
        ("embedding", 1, 1536),
    ]
    voyage = ask("voyage", input="abcde", input_type="document").json()
    assert voyage["usage"] == {"total_tokens": count_tokens("Represent the document for retrieval: abcde")}
    assert len(voyage["data"][0]["embedding"]) == 1024
    assert ask("openai", input=[[1, 2, 3], [4]]).json()["usage"]["total_tokens"] == 4


# Limits and headers

RATE_HEADERS = {f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")}


def test_azure_takes_the_model_from_the_path(http, emulator):
    response = http.post(
        f"{emulator.url}/openai/deployments/text-embedding-3-large/embeddings?api-version=2024-10-21",
        json={"model": "text-embedding-3-small", "input": "a"},
        headers={"api-key": emulator.openai_key},
    )
    assert response.json()["model"] == "text-embedding-3-large"
    assert len(response.json()["data"][0]["embedding"]) == 3072


def test_headers(ask):
    for response in (ask("openai"), ask("openai", key="wrong"), ask("openai", raw=b"")):
        assert {"x-request-id", "openai-organization", "openai-processing-ms"} | RATE_HEADERS <= set(response.headers)
        assert response.headers["openai-version"] == "2020-10-01"
        assert response.headers["x-ratelimit-limit-requests"] == "3000"
        assert response.headers["x-ratelimit-limit-tokens"] == "1000000"
    for response in (ask("voyage"), ask("voyage", key="wrong")):
        assert response.headers["server"] == "uvicorn"
        assert response.headers["x-request-id"]
        assert not RATE_HEADERS & set(response.headers)
    assert ask("voyage").headers["x-request-id"] != ask("voyage").headers["x-request-id"]


def test_requests_per_minute(ask):
    now = [0.0]
    with Emulator(requests_per_minute=60, clock=lambda: now[0]) as own:
        for left in range(59, -1, -1):
            response = ask("openai", to=own)
            assert response.headers["x-ratelimit-remaining-requests"] == str(left)
        assert response.headers["x-ratelimit-reset-requests"] == "1m0s"
        refused = ask("openai", to=own)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert ask("openai", to=own, model="text-embedding-3-large").status_code == 200  # a bucket for each model
        now[0] += 0.9
        assert ask("openai", to=own).status_code == 429
        now[0] += 0.1
        assert [ask("openai", to=own).status_code for _ in range(2)] == [200, 429]


def test_tokens_per_minute_with_the_captured_numbers(ask):
    with Emulator(tokens_per_minute=1_000_000, clock=lambda: 0.0) as own:
        for total in (300_000, 300_000, 300_000, 74_150):
            whole, rest = divmod(total, 5000)
            texts = ["a" * 4 * 5000] * whole + ["a" * 4 * rest] * bool(rest)
            response = ask("openai", to=own, input=texts)
        assert response.headers["x-ratelimit-remaining-tokens"] == "25850"
        refused = ask("openai", to=own, input=["a" * 4 * 5000] * 6 + ["a" * 4 * 4558])
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"] == {
        "message": "Rate limit reached for text-embedding-3-small in organization org-emulator on tokens per min "
        "(TPM): Limit 1000000, Used 974150, Requested 34558. Please try again in 522ms.",
        "type": "tokens",
        "param": None,
        "code": "rate_limit_exceeded",
    }


def test_one_request_over_the_limit_has_no_retry_after(ask):
    with Emulator(tokens_per_minute=100) as own:
        refused = ask("openai", to=own, input="a" * 4 * 101)
    assert refused.status_code == 429
    assert "Request too large" in refused.json()["error"]["message"]
    assert "Limit 100, Requested 101" in refused.json()["error"]["message"]
    assert "retry-after" not in refused.headers


def test_voyage_limit(ask):
    with Emulator(requests_per_minute=3, tokens_per_minute=10_000, clock=lambda: 0.0) as own:
        statuses = [ask("voyage", to=own).status_code for _ in range(3)]
        refused = ask("voyage", to=own)
    assert statuses == [200, 200, 200]
    assert refused.status_code == 429
    assert "reduced rate limits of 3 RPM and 10K TPM" in refused.json()["detail"]
    assert "retry-after" not in refused.headers


# The log, connections, latency and shutdown


def test_log(ask, emulator):
    ask("openai", input="a")
    ask("voyage", key="wrong")
    ask("openai", raw=b"no json")
    emulator.faults.append(FAULTS["closed_before_answer"])
    with pytest.raises(httpx2.RemoteProtocolError):
        ask("openai")
    first, second, third, last = emulator.requests
    assert (first.provider, first.path, first.status) == ("openai", "/openai/v1/embeddings", 200)
    assert first.body == {"model": "text-embedding-3-small", "input": "a"}
    assert json.loads(first.raw) == first.body
    assert first.headers["authorization"] == f"Bearer {emulator.openai_key}"
    assert (second.provider, second.status) == ("voyage", 401)
    assert (third.body, third.raw, third.status) == (None, b"no json", 400)
    assert last.status is None
    assert first.connection == second.connection == third.connection  # kept alive by the client's pool


def test_connections_are_told_apart_and_served_at_once(emulator):
    def one(_):
        with httpx2.Client(trust_env=False) as client:
            client.post(
                f"{own.voyage_base_url}/embeddings",
                json={"model": "voyage-4", "input": "a"},
                headers={"authorization": f"Bearer {own.voyage_key}"},
            ).raise_for_status()

    with Emulator(latency=0.5) as own, ThreadPoolExecutor(8) as pool:
        began = time.perf_counter()
        list(pool.map(one, range(8)))
        took = time.perf_counter() - began
        assert len({request.connection for request in own.requests}) == 8
    # One after the other they take eight times as long.
    assert 0.5 <= took < 4


def descriptors():
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="counts the files under /dev/fd")
def test_close_leaves_no_thread_and_no_socket_even_in_a_slow_answer(ask):
    # An earlier test's may still be ending.
    threads, files = set(threading.enumerate()), descriptors()
    own = Emulator().start()
    with httpx2.Client(trust_env=False) as idle, ThreadPoolExecutor(2) as pool:
        idle.get(own.url)
        own.faults.extend([FAULTS["slow_headers"], FAULTS["slow_body"]])
        waiting = [pool.submit(ask, "openai", to=own) for _ in range(2)]
        while len(own.requests) < 3:
            time.sleep(0.01)
        began = time.perf_counter()
        own.close()
        assert time.perf_counter() - began < 10
        assert all(isinstance(future.exception(), httpx2.TransportError) for future in waiting)
        own.close()
    assert set(threading.enumerate()) <= threads
    assert descriptors() <= files
    with pytest.raises(RuntimeError, match="not running"):
        _ = own.url
    assert len(own.requests) == 3


def test_from_a_shell(http):
    command = [sys.executable, "-m", "mrlclient.testing.emulator"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    # Tests that run in the background of a shell inherit that an interrupt is ignored.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=heard
    ) as own:
        told = dict(own.stdout.readline().strip().split("=", 1) for _ in range(4))
        for name in ("OPENAI", "VOYAGE"):
            response = http.post(
                told[f"{name}_BASE_URL"] + "/embeddings",
                json={"model": MODELS[name.lower()], "input": "a"},
                headers={"authorization": f"Bearer {told[f'{name}_API_KEY']}"},
            )
            assert response.status_code == 200
        own.send_signal(signal.SIGINT)
        assert own.wait(5) == 0
        assert own.stderr.read() == ""
