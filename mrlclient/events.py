"""What is written to the log: logger `mrlclient`, of the standard library.

DEBUG for each request and for the cache, INFO for a further attempt, WARNING for an endpoint that is taken out. The
application decides what becomes of it: the library adds no handler and sets no level.

Each record carries its values as attributes too, for formatters that write JSON:

| Attribute | Of | Meaning |
| --- | --- | --- |
| `mrl_event` | every record | `sent`, `answered`, `found`, `kept`, `retry`, `endpoint_out`, `endpoint_back` |
| `mrl_model` | every record | the model's address |
| `mrl_texts` | `sent`, `answered`, `found`, `kept` | texts sent, answered, found in the cache, or stored in it |
| `mrl_missing` | `found` | texts not found in the cache |
| `mrl_tokens` | `answered` | tokens counted, or None |
| `mrl_attempt` | `sent`, `retry` | the number of the attempt, from 1; for `retry`, of the next one |
| `mrl_wait` | `retry`, `endpoint_out` | seconds to the next attempt, or until the endpoint is asked again |
| `mrl_error` | `retry`, `endpoint_out` | the class of the error |
| `mrl_status` | `retry`, `endpoint_out` | its HTTP status, or None |
| `mrl_endpoint` | `endpoint_out`, `endpoint_back` | the endpoint's name |

No record holds a key, a text, or an error's message.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mrlclient.models import ModelSpec

_log = logging.getLogger("mrlclient")


def log_sent(spec: ModelSpec, texts: int, attempt: int) -> None:
    """A request goes out."""
    message = "%(model)s: sends %(texts)d texts, attempt %(attempt)d"
    _write(logging.DEBUG, "sent", message, spec, texts=texts, attempt=attempt)


def log_answered(spec: ModelSpec, texts: int, tokens: int | None) -> None:
    """A request was answered, and the answer is good."""
    message = "%(model)s: answered for %(texts)d texts, tokens: %(tokens)s"
    _write(logging.DEBUG, "answered", message, spec, texts=texts, tokens=tokens)


def log_found(spec: ModelSpec, texts: int, missing: int) -> None:
    """A cache was asked."""
    message = "%(model)s: the cache has %(texts)d texts, and misses %(missing)d"
    _write(logging.DEBUG, "found", message, spec, texts=texts, missing=missing)


def log_kept(spec: ModelSpec, texts: int) -> None:
    """A cache was given vectors."""
    _write(logging.DEBUG, "kept", "%(model)s: the cache keeps %(texts)d texts", spec, texts=texts)


def log_retry(spec: ModelSpec, attempt: int, wait: float, error: Exception) -> None:
    """A request failed, and is sent again.

    Args:
        spec: The model.
        attempt: The attempt to come: 2 after the first failed.
        wait: Seconds until then.
        error: Why; only its class and status are written.
    """
    kind, status = type(error).__name__, getattr(error, "status", None)
    message = "%(model)s: attempt %(attempt)d in %(wait).1f s after %(error)s, status: %(status)s"
    _write(logging.INFO, "retry", message, spec, attempt=attempt, wait=wait, error=kind, status=status)


def log_endpoint_out(spec: ModelSpec, endpoint: str, wait: float, error: Exception) -> None:
    """An endpoint failed so often that it is left alone for a while.

    Args:
        spec: The model.
        endpoint: Its name or origin, without credentials.
        wait: Seconds until it is tried again.
        error: What it failed with last; only its class and status are written.
    """
    kind, status = type(error).__name__, getattr(error, "status", None)
    message = "%(model)s: %(endpoint)s is left alone for %(wait).1f s after %(error)s, status: %(status)s"
    _write(logging.WARNING, "endpoint_out", message, spec, endpoint=endpoint, wait=wait, error=kind, status=status)


def log_endpoint_back(spec: ModelSpec, endpoint: str) -> None:
    """An endpoint that was left alone answers again."""
    _write(logging.INFO, "endpoint_back", "%(model)s: %(endpoint)s answers again", spec, endpoint=endpoint)


def _write(level: int, event: str, message: str, spec: ModelSpec, **values: float | str | None) -> None:
    if _log.isEnabledFor(level):
        values = {"model": spec.address, **values}
        # With a prefix, because a name that the record has already would be an error.
        extra = {"mrl_event": event, **{f"mrl_{name}": value for name, value in values.items()}}
        _log.log(level, message, values, extra=extra, stacklevel=3)
