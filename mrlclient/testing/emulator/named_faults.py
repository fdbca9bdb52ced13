"""`FAULTS`: the faults that happen, by name. `dataclasses.replace(FAULTS[name], times=3)` for more of one."""

from __future__ import annotations

import base64
from typing import Any

from mrlclient.testing.emulator import edits
from mrlclient.testing.emulator.faults import Expectation, Fault

_OPENAI = ("openai",)
_VOYAGE = ("voyage",)
_HTML = b"<html><head><title>Sorry</title></head><body><h1>Please try again</h1></body></html>"
_IS_HTML = {"content-type": "text/html"}


def _openai(
    status: int,
    message: str,
    *,
    code: str | None,
    expects: Expectation,
    kind: str = "server_error",
    headers: dict[str, str] | None = None,
    note: str = "",
) -> Fault:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return Fault(
        status=status, headers=headers or {}, body={"error": error}, expects=expects, providers=_OPENAI, note=note
    )


def _rate_limited(retry_after: int | None, note: str = "") -> Fault:
    message = (
        "Rate limit reached for text-embedding-3-small in organization org-emulator on tokens per min (TPM): "
        "Limit 1000000, Used 974150, Requested 34558. Please try again in 522ms."
    )
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return _openai(
        429, message, kind="tokens", code="rate_limit_exceeded", headers=headers, expects="retryable", note=note
    )


def _voyage(status: int, detail: str, expects: Expectation) -> Fault:
    return Fault(status=status, body={"detail": detail}, expects=expects, providers=_VOYAGE)


def _wrong(edit: edits.Edit, expects: Expectation = "contract_error", note: str = "") -> Fault:
    return Fault(edit=edit, expects=expects, note=note)


def _wrong_number(value: float) -> Fault:
    return _wrong(edits.of_row(edits.set_number(value)), "bad_row")


def _duplicated(data: list[Any]) -> list[Any]:
    return [row | {"index": 0} if row["index"] == 1 else row for row in data]


# Refusals. Of OpenAI's, the statuses and codes are documented, and of the texts that of the limit per minute; the
# other texts are stand-ins. For 413 and 529 there is no captured body of either provider.
_REFUSALS = {
    "openai_rate_limited": _rate_limited(1),
    "openai_rate_limited_121": _rate_limited(121, "the official SDK gives up at once above 120 s"),
    "openai_rate_limited_no_header": _rate_limited(None),
    "openai_request_too_large": _openai(
        429,
        "Request too large for text-embedding-3-small in organization org-emulator on tokens per min (TPM): "
        "Limit 1000000, Requested 1200000.",
        kind="tokens",
        code="rate_limit_exceeded",
        expects="permanent",
        note="no wait helps, a smaller request does",
    ),
    "openai_insufficient_quota": _openai(
        429,
        "You exceeded your current quota.",
        kind="insufficient_quota",
        code="insufficient_quota",
        expects="permanent",
        note="the official SDK retries it all the same",
    ),
    "openai_slow_down": _openai(503, "Slow down.", code="slow_down", expects="retryable"),
    "openai_overloaded": _openai(503, "The server is overloaded.", code="server_is_overloaded", expects="retryable"),
    "openai_x_should_retry_false": _openai(
        503, "Slow down.", code="slow_down", headers={"x-should-retry": "false"}, expects="permanent"
    ),
    "openai_500": _openai(500, "The server had an error.", code=None, expects="retryable"),
    "openai_413": _openai(413, "Too large.", kind="invalid_request_error", code=None, expects="permanent"),
    "voyage_rate_limited": _voyage(
        429,
        "You have not yet added your payment method in the billing page and will have reduced rate limits of 3 RPM and "
        "10K TPM. To unlock our standard rate limits, …",
        "retryable",
    ),
    "voyage_500": _voyage(500, "Internal Server Error", "retryable"),
    "voyage_403": _voyage(403, "Forbidden", "permanent"),
    "voyage_400_without_detail": Fault(
        status=400, body={"message": "Bad Request"}, expects="permanent", providers=_VOYAGE
    ),
    "bad_gateway_502": Fault(status=502, expects="retryable"),
    "unavailable_503": Fault(status=503, expects="retryable"),
    "gateway_timeout_504": Fault(status=504, expects="retryable"),
    "overloaded_529": Fault(status=529, body={"detail": "Overloaded"}, expects="retryable"),
    "html_413": Fault(status=413, headers=_IS_HTML, body=_HTML, expects="permanent"),
    "html_502": Fault(status=502, headers=_IS_HTML, body=_HTML, expects="retryable"),
}

_BROKEN_CONNECTIONS = {
    "closed_before_answer": Fault(close="before", expects="retryable"),
    "reset_before_answer": Fault(close="before", reset=True, expects="retryable"),
    "closed_after_headers": Fault(close="headers", expects="retryable"),
    "truncated_body": Fault(close="body", expects="retryable"),
    "reset_in_body": Fault(close="body", reset=True, expects="retryable"),
    "slow_headers": Fault(delay=60.0, expects="retryable", note="for a client with a shorter timeout"),
    "stalled_body": Fault(stall=60.0, expects="retryable", note="for a client with a shorter timeout"),
    "slow_body": Fault(
        dribble=0.5, expects="retryable", note="no single read times out: it takes a deadline for the whole"
    ),
}

_NOT_AN_ANSWER = {
    "truncated_json": Fault(rewrite=lambda body: body[: len(body) // 2], expects="contract_error"),
    "empty_body": Fault(status=200, expects="contract_error"),
    "html_body": Fault(body=_HTML, headers=_IS_HTML, expects="contract_error"),
    "error_object": _wrong(
        lambda _: {"error": {"message": "Slow down.", "type": "server_error", "param": None, "code": "slow_down"}}
    ),
    "empty_object": _wrong(lambda _: {}),
    "list_for_object": _wrong(lambda payload: payload["data"]),
    "byte_order_mark": Fault(rewrite=lambda body: b"\xef\xbb\xbf" + body, expects="contract_error"),
    "duplicate_keys": Fault(rewrite=lambda body: body[:-1] + b',"data":[]}', expects="contract_error"),
    "deep_nesting": Fault(body=b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", expects="contract_error"),
    "data_missing": _wrong(edits.without("data")),
    "data_null": _wrong(lambda payload: payload | {"data": None}),
    "renamed_model": _wrong(lambda payload: payload | {"model": "another-model"}),
}

_WRONG_ROWS = {
    "count_minus_one": _wrong(edits.of_data(lambda data: data[:-1])),
    "count_plus_one": _wrong(edits.of_data(lambda data: [*data, data[-1] | {"index": len(data)}])),
    "count_zero": _wrong(edits.of_data(lambda _: [])),
    "order_reversed": _wrong(edits.of_data(lambda data: data[::-1]), "ok", "each index is right: put in order"),
    "order_random": _wrong(edits.of_data(edits.shuffled), "ok", "each index is right: put in order"),
    "index_duplicate": _wrong(edits.of_data(_duplicated), note="needs two texts"),
    "index_missing": _wrong(edits.without_index),
    "index_negative": _wrong(edits.of_index(lambda index: -1 - index)),
    "index_too_large": _wrong(edits.of_index(lambda index: index + 1)),
    "index_string": _wrong(edits.of_index(str)),
    "index_float": _wrong(edits.of_index(float)),
    "index_bool": _wrong(edits.of_index(lambda index: bool(index) if index < 2 else index)),
    "ragged": _wrong(edits.of_row(edits.numbers(lambda vector: vector[:-1]))),
    "wrong_width": _wrong(edits.of_rows(edits.numbers(lambda vector: vector[:-1]))),
    "embedding_null": _wrong(edits.of_row(lambda _: None)),
    "embedding_missing": _wrong(edits.of_data(lambda data: [{"object": "embedding", "index": 0}, *data[1:]])),
    "embedding_strings": _wrong(edits.of_rows(lambda row: [str(number) for number in edits.as_list(row)])),
    "embedding_nested": _wrong(edits.of_rows(lambda row: [edits.as_list(row)])),
    "base64_bad": _wrong(edits.of_row(lambda row: "!" + edits.as_base64(edits.read(row))[1:])),
    "base64_bad_length": _wrong(
        edits.of_row(lambda row: base64.b64encode(edits.read(row).tobytes()[:-1]).decode("ascii"))
    ),
    "float16": _wrong(edits.of_rows(edits.stored_as("<f2"))),
    "int8": _wrong(edits.of_rows(edits.stored_as("i1"))),
    "big_endian": _wrong(edits.of_rows(edits.stored_as(">f4"))),
    "nan_literals": _wrong(edits.of_rows(lambda row: [float("nan"), *edits.as_list(row)[1:]])),
    "zero_vectors": _wrong(edits.of_rows(edits.numbers(lambda vector: vector * 0))),
}

_BAD_ROW = {
    "nan": _wrong_number(float("nan")),
    "infinity": _wrong_number(float("inf")),
    "minus_infinity": _wrong_number(float("-inf")),
    "zero_vector": _wrong(edits.of_row(edits.numbers(lambda vector: vector * 0)), "bad_row"),
    "denormal_vector": _wrong(edits.of_row(edits.numbers(lambda vector: vector * 1e-40)), "bad_row"),
    "norm_3": _wrong(edits.of_row(edits.numbers(lambda vector: vector * 3)), "bad_row"),
}

_PUT_RIGHT = {
    "no_headers": Fault(drop_headers=("x-*", "openai-*", "server"), note="community reports: headers may be missing"),
    "ignores_dimensions": Fault(
        ignore_fields=("dimensions", "output_dimension"),
        note="the default width comes back (Voyage: 1024); a Matryoshka client cuts it",
    ),
    "ignores_base64": Fault(ignore_fields=("encoding_format",), note="lists of numbers come back"),
    "not_normalized": _wrong(
        edits.of_rows(edits.numbers(lambda vector: vector * 0.7)),
        "ok",
        "as from a server that cuts and does not renormalise",
    ),
}

#: By name; for the wrong answers, the request must hold at least three texts. `Fault.expects` says what a strict client
#: makes of one occurrence, `Fault.providers` whose answers it fits.
FAULTS: dict[str, Fault] = {
    **_REFUSALS,
    **_BROKEN_CONNECTIONS,
    **_NOT_AN_ANSWER,
    **_WRONG_ROWS,
    **_BAD_ROW,
    **_PUT_RIGHT,
}
