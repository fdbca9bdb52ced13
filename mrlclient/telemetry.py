"""OpenTelemetry spans and metrics, with the names of the GenAI semantic conventions (version 1.41).

Nothing of it is imported until the application has imported OpenTelemetry itself; where it has not, a span costs a
look into a dictionary. Neither keys nor texts nor messages of errors are recorded.

https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/gen-ai/gen-ai-spans.md
https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/gen-ai/gen-ai-metrics.md
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, MeterProvider
    from opentelemetry.trace import Tracer, TracerProvider

    from mrlclient.models import ModelSpec

_SCHEMA = "https://opentelemetry.io/schemas/1.41.0"
#: The buckets that the conventions advise, in seconds and in tokens.
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(4**power for power in range(14))


class EmbeddingSpan:
    """What came of a call. Where OpenTelemetry is not in use it goes nowhere."""

    __slots__ = ("_attributes", "_metric_attributes", "_tokens")

    def __init__(self) -> None:
        self._attributes: dict[str, Any] = {}
        self._metric_attributes: dict[str, Any] = {}
        self._tokens: int | None = None

    def succeeded(
        self,
        *,
        tokens: int | None = None,
        cached_texts: int = 0,
        requests: int | None = None,
        answered_by: str | None = None,
    ) -> None:
        """Says what came of the call.

        Args:
            tokens: Tokens paid for, where the provider said.
            cached_texts: Texts that were not paid for.
            requests: Requests that were sent, every attempt counted.
            answered_by: The name of the model that answered, where that is known.
        """
        self._tokens = tokens
        self._attributes["mrlclient.cached_texts"] = cached_texts
        if tokens is not None:
            self._attributes["gen_ai.usage.input_tokens"] = tokens
        if requests is not None:
            self._attributes["mrlclient.requests"] = requests
        if answered_by is not None:
            self._metric_attributes["gen_ai.response.model"] = answered_by

    def _failed(self, error: BaseException) -> None:
        self._metric_attributes["error.type"] = type(error).__name__


@contextmanager
def embedding_span(
    spec: ModelSpec,
    *,
    dimensions: int,
    input_count: int,
    server_address: str | None = None,
    server_port: int | None = None,
    encoding_formats: Sequence[str] = (),
) -> Iterator[EmbeddingSpan]:
    """A span around one call, retries included, which is current inside: spans of HTTP clients nest in it.

    For sync and async code alike. An exception passes through; its class is recorded, its message is not.

    Args:
        spec: The model.
        dimensions: The width asked for.
        input_count: How many texts were given.
        server_address: The host that is asked, where there is one.
        server_port: Its port.
        encoding_formats: The encodings that the server is asked for, such as `"base64"`.

    Yields:
        The span, to be told what came of it.
    """
    outcome = EmbeddingSpan()
    found = _instruments_in_use()
    if found is None:
        yield outcome
        return
    from opentelemetry.trace import SpanKind, StatusCode

    shared: dict[str, Any] = {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": spec.provider,
        "gen_ai.request.model": spec.name,
    }
    if server_address is not None:
        shared["server.address"] = server_address
        if server_port is not None:
            shared["server.port"] = server_port
    own: dict[str, Any] = {"gen_ai.embeddings.dimension.count": dimensions, "mrlclient.texts": input_count}
    if encoding_formats:
        own["gen_ai.request.encoding_formats"] = list(encoding_formats)
    # The exception is not left to OpenTelemetry: it would record the message and the traceback.
    with found.tracer.start_as_current_span(
        f"embeddings {spec.name}",
        kind=SpanKind.CLIENT,
        attributes=shared | own,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        start = time.perf_counter()
        try:
            yield outcome
        except BaseException as error:
            outcome._failed(error)
            span.set_status(StatusCode.ERROR)
            raise
        finally:
            span.set_attributes(outcome._attributes | outcome._metric_attributes)
            measured = shared | outcome._metric_attributes
            found.duration.record(time.perf_counter() - start, measured)
            # A call that the cache answered used none, and says nothing about usage.
            if outcome._tokens:
                found.tokens.record(outcome._tokens, measured | {"gen_ai.token.type": "input"})


class _Instruments(NamedTuple):
    tracer: Tracer
    duration: Histogram
    tokens: Histogram


def is_in_use() -> bool:
    """Whether the application has imported OpenTelemetry: nobody else can have set it up."""
    return "opentelemetry.trace" in sys.modules or "opentelemetry.metrics" in sys.modules


def _instruments_in_use() -> _Instruments | None:
    if not is_in_use():
        return None
    try:
        from opentelemetry import metrics, trace
    except ImportError:
        return None
    return _instruments(trace.get_tracer_provider(), metrics.get_meter_provider())


@lru_cache(maxsize=4)
def _instruments(tracers: TracerProvider, meters: MeterProvider) -> _Instruments:
    version = _version()
    meter = meters.get_meter("mrlclient", version, schema_url=_SCHEMA)
    return _Instruments(
        tracers.get_tracer("mrlclient", version, schema_url=_SCHEMA),
        meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        ),
        meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        ),
    )


def _version() -> str | None:
    # Imported here: it costs as much as the rest of a first call.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mrlclient")
    except PackageNotFoundError:
        return None
