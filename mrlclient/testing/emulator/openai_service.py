"""OpenAI's `POST /v1/embeddings`: its checks in their order, its texts, its headers.

A text marked "stand-in" is not a captured one: only its status, and the fragment named beside it, are known.
"""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Callable, Collection
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from mrlclient.models import ModelSpec, catalogue
from mrlclient.testing.emulator.limits import Admission, Gauge, RateLimits, count_tokens
from mrlclient.testing.emulator.records import Answer, RecordedRequest, RefusedError
from mrlclient.testing.emulator.vectors import embed, encode

#: Requests and tokens per minute of tier 1, both text-embedding-3 models.
TIER_1 = (3_000, 1_000_000)

_ORGANIZATION = "org-emulator"
_FIELDS = ("model", "input", "user", "dimensions", "encoding_format")
_PATH = re.compile(r"/openai/v1/embeddings|/openai/deployments/(?P<deployment>[^/]+)/embeddings")


class OpenAIService:
    """Answers for OpenAI, and for Azure's paths, whose deployments bear the models' names."""

    name = "openai"

    def __init__(self, keys: Collection[str], limits: RateLimits, count: Callable[[str], int] = count_tokens) -> None:
        self._count = count
        self._keys = frozenset(keys)
        self._limits = limits

    def answer(self, request: RecordedRequest) -> Answer:
        """The answer to one request, without faults."""
        began = time.perf_counter()
        model = ""
        try:
            deployment = self._route(request)
            self._check_key(request)
            body = _checked_fields(request.body)
            # Azure takes the model from the path, whatever the body says.
            model = deployment or body["model"]
            spec = _known_model(model)
            texts, tokens = _checked_input(body["input"], spec, self._count)
            dimensions = _checked_dimensions(body.get("dimensions"), spec)
            total = _checked_tokens(tokens, body["input"], spec)
            self._check_rate(model, total)
            rows = encode(
                embed(spec, texts, dimensions).astype("<f4", copy=False),
                as_base64=body.get("encoding_format") == "base64",
            )
            answer = Answer(200, body=_payload(rows, model, total))
        except RefusedError as refused:
            answer = refused.answer
        answer.headers.update(self.headers(model, time.perf_counter() - began))
        return answer

    def headers(self, model: str = "", seconds: float = 0.0) -> dict[str, str]:
        """What every answer carries. The limits are the model's as they now stand."""
        state = self._limits.look(model)
        return {
            "x-request-id": f"req_{uuid.uuid4().hex}",
            "openai-organization": _ORGANIZATION,
            "openai-processing-ms": str(round(seconds * 1000)),
            "openai-version": "2020-10-01",
            **_limit_headers("requests", state.requests),
            **_limit_headers("tokens", state.tokens),
        }

    def _route(self, request: RecordedRequest) -> str | None:
        match = _PATH.fullmatch(urlsplit(request.path).path)
        if match is None:
            _refuse("Invalid URL", status=404)  # stand-in
        if request.method != "POST":
            _refuse("Not allowed to use this method on this endpoint.", status=405)  # stand-in
        deployment = match["deployment"]
        return unquote(deployment) if deployment else None

    def _check_key(self, request: RecordedRequest) -> None:
        key = request.bearer or request.headers.get("api-key")
        if not key:
            _refuse("You didn't provide an API key.", status=401)  # stand-in
        if key not in self._keys:
            # The real text shows a masked key and goes on with where to find one.
            _refuse(f"Incorrect API key provided: {key[:3]}…", status=401, code="invalid_api_key")

    def _check_rate(self, model: str, tokens: int) -> None:
        admission = self._limits.admit(model, tokens)
        if admission.refused_by:
            message, retry_after = _rate_text(model, admission, tokens)
            headers = {} if retry_after is None else {"retry-after": str(retry_after)}
            _refuse(message, status=429, kind=admission.refused_by, code="rate_limit_exceeded", headers=headers)


def _refuse(
    message: str,
    *,
    status: int = 400,
    kind: str = "invalid_request_error",
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> NoReturn:
    raise RefusedError(
        status, {"error": {"message": message, "type": kind, "param": None, "code": code}}, headers=headers
    )


def _checked_fields(body: Any) -> dict[str, Any]:
    """The body's shape, as the published schema has it. All of its texts are stand-ins."""
    if not isinstance(body, dict):
        _refuse("We could not parse the JSON body of your request.")
    unknown = [name for name in body if name not in _FIELDS]
    if unknown:
        _refuse(f"Unrecognized request argument supplied: {', '.join(unknown)}")
    for name in ("model", "input"):
        if name not in body:
            _refuse(f"Missing required parameter: '{name}'.")
    fits = {
        "model": isinstance(body["model"], str),
        "input": _is_input(body["input"]),
        "user": isinstance(body.get("user", ""), str),
        "dimensions": _is_integer(body.get("dimensions", 1)),
        "encoding_format": body.get("encoding_format", "float") in ("float", "base64"),
    }
    for name, good in fits.items():
        if not good:
            _refuse(f"Invalid value for '{name}'.")
    return body


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_integer, value))


def _is_input(value: Any) -> bool:
    """A string, or a list that is not empty: of strings, of token ids, or of lists of token ids."""
    if isinstance(value, str) or _is_ids(value):
        return True
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(item, str) for item in value) or all(map(_is_ids, value))


def _known_model(name: str) -> ModelSpec:
    spec = catalogue().models.get(f"openai:{name}")
    if spec is None:
        # Stand-in: neither status nor text is captured.
        _refuse(f"The model `{name}` does not exist.", status=404, code="model_not_found")
    return spec


def _checked_input(value: Any, spec: ModelSpec, count: Callable[[str], int]) -> tuple[list[str], list[int]]:
    """The texts to embed and the tokens of each."""
    if value == "" or (isinstance(value, list) and "" in value):
        _refuse("input cannot be an empty string")
    # The limit is on any array, so on a flat one of token ids too.
    if isinstance(value, list) and spec.max_inputs is not None and len(value) > spec.max_inputs:
        _refuse(f"Invalid 'input': array length must be {spec.max_inputs} or less")
    inputs = [value] if isinstance(value, str) or isinstance(value[0], int) else value
    texts = [item if isinstance(item, str) else " ".join(map(str, item)) for item in inputs]
    return texts, [count(item) if isinstance(item, str) else len(item) for item in inputs]


def _checked_dimensions(dimensions: int | None, spec: ModelSpec) -> int:
    native = spec.native_dimensions
    if dimensions is None:
        return native
    if spec.server_dimensions is None:
        _refuse("This model does not support specifying dimensions.")
    # Stand-ins around the captured "Must be less than or equal to N".
    if dimensions < 1:
        _refuse(f"Invalid value for 'dimensions' = {dimensions}. Must be greater than or equal to 1.")
    if dimensions > native:
        _refuse(f"Invalid value for 'dimensions' = {dimensions}. Must be less than or equal to {native}.")
    return dimensions


def _checked_tokens(tokens: list[int], value: Any, spec: ModelSpec) -> int:
    """The sum of the tokens."""
    single = isinstance(value, str) or isinstance(value[0], int)
    for index, count in enumerate(tokens):
        if spec.max_input_tokens is not None and count > spec.max_input_tokens:
            limit = f"length is {spec.max_input_tokens} tokens."
            _refuse(
                f"Invalid 'input': maximum context {limit}"
                if single
                else f"Invalid 'input[{index}]': maximum input {limit}"
            )
    total, most = sum(tokens), spec.max_request_tokens
    if most is not None and total > most:
        code = "max_tokens_per_request"
        _refuse(f"Requested {total} tokens, max {most} tokens per request", kind=code, code=code)
    return total


def _payload(rows: list[Any], model: str, tokens: int) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _rate_text(model: str, admission: Admission, tokens: int) -> tuple[str, int | None]:
    """The message of a 429, and `Retry-After` in seconds: None where no wait would help."""
    if admission.refused_by == "tokens":
        gauge, requested, unit = admission.tokens, tokens, "tokens per min (TPM)"
    else:  # Stand-in: the captured text is of tokens.
        gauge, requested, unit = admission.requests, 1, "requests per min (RPM)"
    where = f"for {model} in organization {_ORGANIZATION} on {unit}: Limit {gauge.limit}"
    if requested > gauge.limit:
        return f"Request too large {where}, Requested {requested}.", None
    wait = f"Please try again in {_duration(gauge.wait)}."
    return f"Rate limit reached {where}, Used {gauge.used}, Requested {requested}. {wait}", math.ceil(gauge.wait)


def _limit_headers(name: str, gauge: Gauge) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{name}": str(gauge.limit),
        f"x-ratelimit-remaining-{name}": str(gauge.remaining),
        f"x-ratelimit-reset-{name}": _duration(gauge.reset),
    }


def _duration(seconds: float) -> str:
    """A duration as the headers have it: `"522ms"`, `"1s"`, `"1.5s"`, `"6m0s"`."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return (f"{minutes}m" if minutes else "") + f"{rest / 1000:g}s"
