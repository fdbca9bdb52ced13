"""Voyage's `POST /v1/embeddings`: its checks in their order (the body before the key), its texts, its headers.

A text marked "stand-in" is not a captured one: only its status is known.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

from mrlclient.models import ModelSpec, catalogue
from mrlclient.testing.emulator.limits import RateLimits, count_tokens, truncate_text
from mrlclient.testing.emulator.records import Answer, RecordedRequest, RefusedError
from mrlclient.testing.emulator.vectors import PROMPTS, embed, encode, quantize

#: Requests and tokens per minute of tier 1 (the tokens of the smallest of the models' limits). Voyage shows neither.
TIER_1 = (2_000, 3_000_000)

_FIELDS = ("input", "model", "input_type", "truncation", "output_dtype", "output_dimension", "encoding_format")
_DTYPES = ("float", "int8", "uint8", "binary", "ubinary")
_DEFAULT_DIMENSIONS = 1024

_IN_PARTICULAR = (
    "The request body is not valid JSON, or some arguments were not specified properly. In particular, {problem}"
)
_MISSING = "Your request body was missing one or more required arguments."


class VoyageService:
    """Answers for Voyage."""

    name = "voyage"

    def __init__(
        self,
        keys: Collection[str],
        limits: RateLimits,
        retired: Mapping[str, str],
        count: Callable[[str], int] = count_tokens,
    ) -> None:
        self._count = count
        self._keys = frozenset(keys)
        self._limits = limits
        self._retired = dict(retired)

    def answer(self, request: RecordedRequest) -> Answer:
        """The answer to one request, without faults."""
        try:
            answer = self._answer(request)
        except RefusedError as refused:
            answer = refused.answer
        answer.headers.update(self.headers())
        return answer

    def headers(self) -> dict[str, str]:
        """What every answer carries. No limits: it is not known whether Voyage shows them."""
        return {"x-request-id": uuid.uuid4().hex, "server": "uvicorn"}

    def _answer(self, request: RecordedRequest) -> Answer:
        if urlsplit(request.path).path != "/voyage/v1/embeddings":
            _refuse("Not Found", status=404)  # stand-in
        if request.method != "POST":
            _refuse("Method Not Allowed", status=405)  # stand-in
        body = request.body
        _check_fields(body)
        # A model that is not known has no widths to check; that it is not known comes after the key.
        spec = catalogue().models.get(f"voyage:{body['model']}")
        dtype = body.get("output_dtype") or "float"
        dimensions = body.get("output_dimension")
        if spec is not None:
            _check_dtype(dtype, spec)
            _check_dimensions(dimensions, spec)
        inputs = _checked_input(body["input"])
        if request.bearer not in self._keys:
            _refuse("Unauthorized", status=401)
        spec = self._served_model(body["model"], spec)
        texts, total = _checked_tokens(inputs, body, spec, self._count)
        self._check_rate(spec.name, total)
        rows = quantize(embed(spec, texts, dimensions or _default_dimensions(spec)), dtype)
        return Answer(200, body=_payload(encode(rows, as_base64=body.get("encoding_format") == "base64"), spec, total))

    def _served_model(self, name: str, spec: ModelSpec | None) -> ModelSpec:
        if name in self._retired:
            # Stand-in: known is that the text names the replacement.
            _refuse(f"Model '{name}' is retired. Please use '{self._retired[name]}' instead.", status=410)
        if spec is None:
            _refuse(f"Model '{name}' is not supported.")  # stand-in
        return spec

    def _check_rate(self, model: str, tokens: int) -> None:
        if self._limits.admit(model, tokens).refused_by:
            limits = ((self._limits.requests_per_minute, "RPM"), (self._limits.tokens_per_minute, "TPM"))
            rates = " and ".join(f"{_short(limit)} {unit}" for limit, unit in limits if limit is not None)
            # The one 429 that was captured, up to where the capture was shortened. Whether there is a Retry-After is
            # not known, so there is none.
            _refuse(
                "You have not yet added your payment method in the billing page and will have reduced rate limits of "
                f"{rates}. To unlock our standard rate limits, …",
                status=429,
            )


def _refuse(detail: str, *, status: int = 400, error_code: str | None = None) -> NoReturn:
    raise RefusedError(status, {"detail": detail} | ({"error_code": error_code} if error_code else {}))


def _refuse_in_particular(problem: str) -> NoReturn:
    _refuse(_IN_PARTICULAR.format(problem=problem))


def _refuse_value(value: Any, name: str, accepted: str) -> NoReturn:
    _refuse_in_particular(f"Value '{value}' supplied for argument '{name}' is not valid -- accepted values {accepted}.")


def _check_fields(body: Any) -> None:
    if not isinstance(body, dict):
        _refuse_in_particular("Error for argument '0': JSON decode error")
    if body.get("input") is None or body.get("model") is None:
        _refuse_in_particular(f"{_MISSING}; {_MISSING}")
    for name in body:
        if name not in _FIELDS:
            _refuse_in_particular(f"Argument '{name}' is not supported by our API")
    encoding = body.get("encoding_format")
    if encoding not in (None, "base64"):
        _refuse(f"Value '{encoding}' supplied for encoding_format is not allowed")
    # The texts of these three are stand-ins, made like that of output_dimension.
    if not isinstance(body["model"], str):
        _refuse_value(body["model"], "model", "are strings")
    if body.get("input_type") not in (None, *PROMPTS):
        _refuse_value(body["input_type"], "input_type", f"are {[None, *PROMPTS]}")
    if body.get("truncation") not in (None, True, False):
        _refuse_value(body["truncation"], "truncation", "are [true, false]")


def _check_dtype(dtype: Any, spec: ModelSpec) -> None:
    accepted = _DTYPES if spec.matryoshka else _DTYPES[:1]
    if dtype not in accepted:
        _refuse_value(dtype, "output_dtype", f"for '{spec.name}' are {list(accepted)}")  # stand-in


def _check_dimensions(dimensions: Any, spec: ModelSpec) -> None:
    if dimensions is None:
        return
    if not isinstance(spec.server_dimensions, tuple):
        # Stand-in: the status is captured for two models of this kind, and inferred for the others.
        _refuse_in_particular(f"Argument 'output_dimension' is not supported for '{spec.name}'")
    if not isinstance(dimensions, int) or dimensions not in spec.server_dimensions:
        _refuse_value(dimensions, "output_dimension", f"for '{spec.name}' are {list(spec.server_dimensions)}")


def _default_dimensions(spec: ModelSpec) -> int:
    widths = spec.server_dimensions
    return _DEFAULT_DIMENSIONS if isinstance(widths, tuple) else spec.native_dimensions


def _checked_input(value: Any) -> list[str]:
    inputs = [value] if isinstance(value, str) else value
    if not isinstance(inputs, list) or not all(isinstance(text, str) for text in inputs):
        _refuse_in_particular("Error for argument 'input': Value error, Input must be strings")  # stand-in
    if not inputs or "" in inputs:
        _refuse_in_particular(
            "Error for argument 'input': Value error, Input cannot contain empty strings or empty lists"
        )
    most = max(spec.max_inputs or 0 for spec in catalogue().models.values() if spec.provider == "voyage")
    if len(inputs) > most:
        _refuse_in_particular(
            f"Error for argument 'input': Value error, Input cannot be longer than {most}"
        )  # stand-in
    return inputs


def _checked_tokens(
    inputs: list[str], body: dict[str, Any], spec: ModelSpec, count: Callable[[str], int]
) -> tuple[list[str], int]:
    """The texts to embed, with the prompt before them and cut to the context window, and the sum of their tokens."""
    prompt = PROMPTS[body["input_type"]] if body.get("input_type") else ""
    texts = [prompt + text for text in inputs]
    window = spec.max_input_tokens
    if window is not None:
        if body.get("truncation") is False:
            _check_window(texts, window, spec.name, count)
        texts = [truncate_text(text, window, count) for text in texts]
    total, most = sum(map(count, texts)), spec.max_request_tokens
    if most is not None and total > most:
        _refuse(
            f"Request to model '{spec.name}' failed. The max allowed tokens per submitted batch is {most}. Your batch "
            f"has {total} tokens after truncation. Please lower the number of tokens in the batch.",
            error_code="TOO_MANY_TOKENS_IN_BATCH",
        )
    return texts, total


def _check_window(texts: list[str], window: int, model: str, count: Callable[[str], int]) -> None:
    for index, text in enumerate(texts):
        if count(text) > window:
            # The captured text is shortened between "the number of tokens" and "or use truncation".
            _refuse(
                f"Request to model '{model}' failed. The example at index {index} in your batch has too many tokens "
                f"and does not fit into the model's context window of {window} tokens. Please lower the number of "
                "tokens … or use truncation."
            )


def _payload(rows: list[Any], spec: ModelSpec, tokens: int) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [{"object": "embedding", "embedding": row, "index": index} for index, row in enumerate(rows)],
        "model": spec.name,
        "usage": {"total_tokens": tokens},
    }


def _short(limit: int) -> str:
    """10000 -> "10K"."""
    return f"{limit // 1000}K" if limit >= 1000 and limit % 1000 == 0 else str(limit)
