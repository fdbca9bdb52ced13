"""`Emulator`: the server, its settings, its log and its faults."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Self

from mrlclient.testing.emulator import openai_service, voyage_service
from mrlclient.testing.emulator.faults import Fault, FaultQueue
from mrlclient.testing.emulator.limits import RateLimits, count_tokens
from mrlclient.testing.emulator.openai_service import OpenAIService
from mrlclient.testing.emulator.records import Answer, RecordedRequest
from mrlclient.testing.emulator.voyage_service import VoyageService
from mrlclient.testing.emulator.wire import LoopbackServer

#: Nothing goes wrong.
_NO_FAULT = Fault()


class Emulator:
    """The OpenAI and Voyage embedding APIs on a free loopback port.

    A context manager; `start` and `close` do the same by hand. Safe to use from any thread.

    Args:
        openai_keys: The keys that OpenAI's side accepts, at least one.
        voyage_keys: The keys that Voyage's side accepts, at least one.
        requests_per_minute: A real limit for each provider and model, answered with 429. None: no limit.
        tokens_per_minute: Likewise for tokens.
        latency: Seconds before each answer.
        retired: Voyage models that answer 410, and what replaces each.
        clock: Seconds for the limits, never running backwards.
        count_tokens: The tokens of a text, as its tokenizer would have them.

    Attributes:
        faults: What goes wrong next: `append` a `Fault`.
        openai_key: A key that OpenAI's side accepts.
        voyage_key: A key that Voyage's side accepts.
    """

    def __init__(
        self,
        *,
        openai_keys: Sequence[str] = ("test-openai-key",),
        voyage_keys: Sequence[str] = ("test-voyage-key",),
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        latency: float = 0.0,
        retired: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        count_tokens: Callable[[str], int] = count_tokens,
    ) -> None:
        def limits(shown: tuple[int, int]) -> RateLimits:
            return RateLimits(requests_per_minute, tokens_per_minute, shown=shown, clock=clock)

        self.faults = FaultQueue()
        self.openai_key = openai_keys[0]
        self.voyage_key = voyage_keys[0]
        self._latency = latency
        self._openai = OpenAIService(openai_keys, limits(openai_service.TIER_1), count_tokens)
        self._voyage = VoyageService(
            voyage_keys,
            limits(voyage_service.TIER_1),
            {"voyage-01": "voyage-4"} if retired is None else retired,
            count_tokens,
        )
        self._requests: list[RecordedRequest] = []
        self._lock = threading.Lock()
        self._server: LoopbackServer | None = None

    def start(self) -> Self:
        """Binds a port and serves, until `close`."""
        if self._server is None:
            self._server = LoopbackServer(self._respond)
        return self

    def close(self) -> None:
        """Ends the server, its connections and its threads. The log can still be read."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, which is also the `azure_endpoint`."""
        if self._server is None:
            raise RuntimeError("The emulator is not running: use it as a context manager, or call start().")
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def openai_base_url(self) -> str:
        """What OpenAI's clients take as `base_url`."""
        return f"{self.url}/openai/v1"

    @property
    def voyage_base_url(self) -> str:
        """What Voyage's clients take as `base_url`."""
        return f"{self.url}/voyage/v1"

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests so far, in the order of their answers; a copy."""
        with self._lock:
            return list(self._requests)

    def clear(self) -> None:
        """Empties the log and the faults. The limits keep what they counted."""
        self.faults.clear()
        with self._lock:
            self._requests.clear()

    def _respond(self, request: RecordedRequest) -> tuple[Answer, Fault]:
        fault = self.faults.take(request) or _NO_FAULT
        answer = self._answer(request, fault)
        status = None if fault.close == "before" else answer.status
        # Logged before it is sent, so that whoever has the answer also finds it here.
        with self._lock:
            self._requests.append(dataclasses.replace(request, status=status))
        return answer, dataclasses.replace(fault, delay=fault.delay + self._latency)

    def _answer(self, request: RecordedRequest, fault: Fault) -> Answer:
        service = self._voyage if request.provider == "voyage" else self._openai
        if fault.status is not None or fault.body is not None:
            answer = Answer(fault.status or 200, service.headers(), b"" if fault.body is None else fault.body)
        else:
            answer = service.answer(_as_read(request, fault))
            if fault.edit is not None and answer.status == 200:
                answer.body = fault.edit(answer.body)
        answer.write_body()
        if fault.rewrite is not None:
            answer.body = fault.rewrite(answer.body)
        answer.headers = {
            name: value
            for name, value in (answer.headers | dict(fault.headers)).items()
            if not any(fnmatchcase(name, pattern) for pattern in fault.drop_headers)
        }
        return answer


def _as_read(request: RecordedRequest, fault: Fault) -> RecordedRequest:
    """The request without the fields that the server is to ignore."""
    if not (fault.ignore_fields and isinstance(request.body, dict)):
        return request
    body = {name: value for name, value in request.body.items() if name not in fault.ignore_fields}
    return dataclasses.replace(request, body=body)
