"""Spans and metrics, read back from the real SDK; and that without it nothing is imported and nothing breaks."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import warnings

import pytest
import trio
from opentelemetry import metrics, trace
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import SpanKind, StatusCode

from mrlclient import BadRequestError, ModelSpec, catalogue, telemetry
from mrlclient.telemetry import embedding_span

with warnings.catch_warnings():
    # The names have moved to a package of their own, which is not released yet.
    warnings.simplefilter("ignore")
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
    from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
    from opentelemetry.semconv.attributes import error_attributes, server_attributes

SPEC = catalogue().models["openai:text-embedding-3-small"]
SECRET = "canary-text-in-a-message"


class Collected:
    """What an application would export."""

    def __init__(self):
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)

    @property
    def spans(self):
        return self.exporter.get_finished_spans()

    @property
    def span(self):
        [span] = self.spans
        return span

    def points(self):
        """Data points by metric: unit, attributes, count, sum, bounds."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        [resource] = data.resource_metrics
        [scope] = resource.scope_metrics
        assert (scope.scope.name, scope.schema_url) == ("mrlclient", Schemas.V1_41_0.value)
        return {metric.name: (metric.unit, list(metric.data.data_points)) for metric in scope.metrics}


def set_providers(monkeypatch, tracers, meters):
    """As `set_tracer_provider` and `set_meter_provider` do, which can be called once in a process only."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", tracers)
    monkeypatch.setattr(metrics_internal, "_METER_PROVIDER", meters)


@pytest.fixture
def collected(monkeypatch):
    found = Collected()
    set_providers(monkeypatch, found.tracers, found.meters)
    yield found
    found.tracers.shutdown()
    found.meters.shutdown()


def test_a_call_that_succeeds(collected):
    where = {"server_address": "api.openai.com", "server_port": 443}
    with embedding_span(SPEC, dimensions=256, input_count=3, encoding_formats=("base64",), **where) as span:
        span.succeeded(tokens=12, cached_texts=1, requests=2, answered_by="text-embedding-3-small")
    found = collected.span
    assert (found.name, found.kind) == ("embeddings text-embedding-3-small", SpanKind.CLIENT)
    assert (found.status.status_code, found.events) == (StatusCode.UNSET, ())
    assert dict(found.attributes) == {
        gen_ai.GEN_AI_OPERATION_NAME: gen_ai.GenAiOperationNameValues.EMBEDDINGS.value,
        gen_ai.GEN_AI_PROVIDER_NAME: gen_ai.GenAiProviderNameValues.OPENAI.value,
        gen_ai.GEN_AI_REQUEST_MODEL: "text-embedding-3-small",
        gen_ai.GEN_AI_RESPONSE_MODEL: "text-embedding-3-small",
        gen_ai.GEN_AI_EMBEDDINGS_DIMENSION_COUNT: 256,
        gen_ai.GEN_AI_REQUEST_ENCODING_FORMATS: ("base64",),
        gen_ai.GEN_AI_USAGE_INPUT_TOKENS: 12,
        server_attributes.SERVER_ADDRESS: "api.openai.com",
        server_attributes.SERVER_PORT: 443,
        "mrlclient.texts": 3,
        "mrlclient.cached_texts": 1,
        "mrlclient.requests": 2,
    }
    assert found.instrumentation_scope.name == "mrlclient"
    assert found.instrumentation_scope.version == "0.1.0"
    assert found.instrumentation_scope.schema_url == Schemas.V1_41_0.value


def test_its_metrics(collected):
    for tokens in (12, 30):
        with embedding_span(SPEC, dimensions=256, input_count=3, server_address="h", server_port=80) as span:
            span.succeeded(tokens=tokens, answered_by="text-embedding-3-small")
    points = collected.points()
    shared = {
        gen_ai.GEN_AI_OPERATION_NAME: "embeddings",
        gen_ai.GEN_AI_PROVIDER_NAME: "openai",
        gen_ai.GEN_AI_REQUEST_MODEL: "text-embedding-3-small",
        gen_ai.GEN_AI_RESPONSE_MODEL: "text-embedding-3-small",
        server_attributes.SERVER_ADDRESS: "h",
        server_attributes.SERVER_PORT: 80,
    }
    unit, [duration] = points.pop(gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION)
    assert (unit, duration.count, dict(duration.attributes)) == ("s", 2, shared)
    assert 0 < duration.sum < 10
    assert duration.explicit_bounds == tuple(0.01 * 2**power for power in range(14))
    unit, [tokens] = points.pop(gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE)
    assert (unit, tokens.count, tokens.sum) == ("{token}", 2, 42)
    assert dict(tokens.attributes) == shared | {gen_ai.GEN_AI_TOKEN_TYPE: gen_ai.GenAiTokenTypeValues.INPUT.value}
    assert tokens.explicit_bounds == tuple(4**power for power in range(14))
    assert points == {}


def test_units_and_descriptions_are_the_conventions(collected):
    with embedding_span(SPEC, dimensions=8, input_count=1) as span:
        span.succeeded(tokens=1)
    data = collected.reader.get_metrics_data()
    ours = {(m.name, m.unit, m.description) for m in data.resource_metrics[0].scope_metrics[0].metrics}
    theirs = Collected()
    meter = theirs.meters.get_meter("theirs")
    gen_ai_metrics.create_gen_ai_client_operation_duration(meter).record(1)
    gen_ai_metrics.create_gen_ai_client_token_usage(meter).record(1)
    data = theirs.reader.get_metrics_data()
    assert ours == {(m.name, m.unit, m.description) for m in data.resource_metrics[0].scope_metrics[0].metrics}


def test_what_is_not_known_is_left_out(collected):
    local = ModelSpec(provider="mine", name="m", native_dimensions=8, matryoshka=False)
    with embedding_span(local, dimensions=8, input_count=1, server_port=80) as span:
        span.succeeded()
    assert set(collected.span.attributes) == {
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.embeddings.dimension.count",
        "mrlclient.texts",
        "mrlclient.cached_texts",
    }
    assert collected.span.attributes["gen_ai.provider.name"] == "mine"
    assert set(collected.points()) == {"gen_ai.client.operation.duration"}


def test_a_call_from_the_cache_says_nothing_of_usage(collected):
    with embedding_span(SPEC, dimensions=8, input_count=1) as span:
        span.succeeded(tokens=0, cached_texts=1, requests=0)
    assert collected.span.attributes["gen_ai.usage.input_tokens"] == 0
    assert set(collected.points()) == {"gen_ai.client.operation.duration"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequestError(SECRET, status=400), "BadRequestError"),
        (ValueError(SECRET), "ValueError"),
        (KeyboardInterrupt(SECRET), "KeyboardInterrupt"),
        (asyncio.CancelledError(SECRET), "CancelledError"),
    ],
)
def test_an_error_leaves_its_class_and_no_word(collected, error, kind):
    with pytest.raises(type(error)) as caught, embedding_span(SPEC, dimensions=8, input_count=1):
        raise error
    assert caught.value is error
    found = collected.span
    assert (found.status.status_code, found.status.description) == (StatusCode.ERROR, None)
    assert found.attributes[error_attributes.ERROR_TYPE] == kind
    _, [duration] = collected.points()["gen_ai.client.operation.duration"]
    assert duration.attributes[error_attributes.ERROR_TYPE] == kind
    assert SECRET not in found.to_json()
    assert SECRET not in collected.reader.get_metrics_data().to_json()


def test_spans_inside_nest(collected):
    application = trace.get_tracer("application")
    with application.start_as_current_span("outer"), embedding_span(SPEC, dimensions=8, input_count=1) as span:
        with application.start_as_current_span("HTTP POST"):
            pass
        span.succeeded()
    request, ours, outer = collected.spans
    assert [s.name for s in collected.spans] == ["HTTP POST", "embeddings text-embedding-3-small", "outer"]
    assert (request.parent.span_id, ours.parent.span_id) == (ours.context.span_id, outer.context.span_id)
    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.mark.parametrize("run", [asyncio.run, lambda flow: trio.run(lambda: flow)], ids=["asyncio", "trio"])
def test_tasks_at_once_keep_their_own_spans(collected, run):
    import anyio

    application = trace.get_tracer("application")

    async def call(name):
        spec = ModelSpec(provider="mine", name=name, native_dimensions=8, matryoshka=False)
        with embedding_span(spec, dimensions=8, input_count=1) as span:
            await anyio.sleep(0.01)
            with application.start_as_current_span(name):
                await anyio.sleep(0.01)
            span.succeeded()

    async def main():
        async with anyio.create_task_group() as tasks:
            for name in "abc":
                tasks.start_soon(call, name)

    run(main())
    spans = {span.name: span for span in collected.spans}
    for name in "abc":
        assert spans[name].parent.span_id == spans[f"embeddings {name}"].context.span_id


def test_before_the_application_has_set_anything_up(monkeypatch):
    """Calls before are lost, calls after are recorded, and nothing is there twice."""
    # The proxy keeps what it is given, and a process has one: this test has its own.
    proxy = metrics_internal._ProxyMeterProvider()
    monkeypatch.setattr(metrics_internal, "_PROXY_METER_PROVIDER", proxy)
    set_providers(monkeypatch, None, None)
    with embedding_span(SPEC, dimensions=8, input_count=1) as span:
        span.succeeded(tokens=1)
    assert metrics.get_meter_provider() is proxy
    later = Collected()
    set_providers(monkeypatch, later.tracers, later.meters)
    proxy.on_set_meter_provider(later.meters)
    with embedding_span(SPEC, dimensions=8, input_count=1) as span:
        span.succeeded(tokens=2)
    assert len(later.spans) == 1
    assert {name: [point.count for point in points] for name, (_, points) in later.points().items()} == {
        "gen_ai.client.operation.duration": [1],
        "gen_ai.client.token.usage": [1],
    }


def test_one_set_of_instruments_for_each_provider(collected):
    with embedding_span(SPEC, dimensions=8, input_count=1):
        first = telemetry._instruments(trace.get_tracer_provider(), metrics.get_meter_provider())
    assert telemetry._instruments(trace.get_tracer_provider(), metrics.get_meter_provider()) is first


_WITHOUT = """
import json, sys
if {blocked}:
    sys.modules["opentelemetry"] = None
import mrlclient, mrlclient.telemetry
from mrlclient import Embedder, catalogue
from mrlclient.telemetry import embedding_span
with embedding_span(next(iter(catalogue().models.values())), dimensions=8, input_count=1) as span:
    span.succeeded(tokens=1, cached_texts=1, requests=1, answered_by="m")
try:
    with embedding_span(next(iter(catalogue().models.values())), dimensions=8, input_count=1):
        raise KeyError("k")
except KeyError as error:
    assert error.args == ("k",)
with Embedder(dimensions=64) as embedder:
    assert embedder.embed_query("a").shape == (64,)
print(json.dumps(sorted(name for name in sys.modules if name.startswith("opentelemetry"))))
"""


@pytest.mark.parametrize("blocked", [True, False])
def test_without_opentelemetry(blocked):
    """Not installed, or installed and not used: everything works and nothing of it is imported."""
    code = _WITHOUT.format(blocked=blocked)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == (["opentelemetry"] if blocked else [])


def test_half_an_installation_is_none(monkeypatch):
    """The application's own module of that name, or a package that is broken."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with embedding_span(SPEC, dimensions=8, input_count=1) as span:
        span.succeeded(tokens=1)
