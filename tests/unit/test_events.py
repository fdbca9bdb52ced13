"""The log: what is written, at which level, and what is never in it."""

from __future__ import annotations

import inspect
import logging
import re

import pytest

from mrlclient import RateLimitError, catalogue, events

SPEC = catalogue().models["openai:text-embedding-3-small"]
SECRET = "sk-canary-secret"
ERROR = RateLimitError(f"a message that quotes {SECRET}", status=429, retryable=True)

CALLS = {
    "sent": (lambda: events.log_sent(SPEC, 3, 2), logging.DEBUG, {"texts": 3, "attempt": 2}),
    "answered": (lambda: events.log_answered(SPEC, 3, None), logging.DEBUG, {"texts": 3, "tokens": None}),
    "found": (lambda: events.log_found(SPEC, 3, 1), logging.DEBUG, {"texts": 3, "missing": 1}),
    "kept": (lambda: events.log_kept(SPEC, 3), logging.DEBUG, {"texts": 3}),
    "retry": (
        lambda: events.log_retry(SPEC, 2, 0.25, ERROR),
        logging.INFO,
        {"attempt": 2, "wait": 0.25, "error": "RateLimitError", "status": 429},
    ),
    "endpoint_out": (
        lambda: events.log_endpoint_out(SPEC, "https://eu.example.com", 30.0, ERROR),
        logging.WARNING,
        {"endpoint": "https://eu.example.com", "wait": 30.0, "error": "RateLimitError", "status": 429},
    ),
    "endpoint_back": (
        lambda: events.log_endpoint_back(SPEC, "https://eu.example.com"),
        logging.INFO,
        {"endpoint": "https://eu.example.com"},
    ),
}


def attributes(record):
    return {name: value for name, value in vars(record).items() if name.startswith("mrl_")}


@pytest.mark.parametrize("event", CALLS)
def test_each_event(event, caplog):
    call, level, values = CALLS[event]
    caplog.set_level(logging.DEBUG, "mrlclient")
    call()
    [record] = caplog.records
    assert (record.name, record.levelno) == ("mrlclient", level)
    assert attributes(record) == {
        "mrl_event": event,
        "mrl_model": "openai:text-embedding-3-small",
        **{f"mrl_{name}": value for name, value in values.items()},
    }
    message = record.getMessage()
    assert message.startswith("openai:text-embedding-3-small: ")
    assert all(str(value) in message for value in values.values() if not isinstance(value, float))
    assert SECRET not in repr(vars(record))
    # The line that is logged is the caller's.
    assert record.pathname == __file__
    caplog.clear()
    caplog.set_level(level + 1, "mrlclient")
    call()
    assert caplog.records == []


def test_every_function_is_tested_and_every_attribute_documented(caplog):
    functions = {name.removeprefix("log_") for name, _ in inspect.getmembers(events, inspect.isfunction)} - {"_write"}
    assert functions == set(CALLS)
    caplog.set_level(logging.DEBUG, "mrlclient")
    for call, _, _ in CALLS.values():
        call()
    used = {(name, record.mrl_event) for record in caplog.records for name in attributes(record)}
    rows = re.findall(r"^\| `(mrl_\w+)` \| (.*?) \|", events.__doc__, re.MULTILINE)
    documented = {
        (name, event)
        for name, cell in rows
        for event in (CALLS if cell == "every record" else re.findall(r"`(\w+)`", cell))
    }
    assert used == documented


def test_nothing_is_formatted_that_nobody_reads(caplog):
    class Spec:
        @property
        def address(self):
            raise AssertionError("asked for")

    caplog.set_level(logging.ERROR, "mrlclient")
    events.log_retry(Spec(), 2, 0.1, ERROR)


def test_the_library_configures_nothing():
    logger = logging.getLogger("mrlclient")
    assert (logger.handlers, logger.level, logger.propagate) == ([], logging.NOTSET, True)


def test_a_record_factory_of_the_application_is_no_hindrance(caplog):
    """One that sets attributes with common names, as structured loggers do."""
    before = logging.getLogRecordFactory()

    def factory(*args, **kwargs):
        record = before(*args, **kwargs)
        record.model = record.event = record.error = record.status = record.tokens = "theirs"
        return record

    logging.setLogRecordFactory(factory)
    try:
        events.log_retry(SPEC, 2, 0.1, ERROR)
        events.log_endpoint_out(SPEC, "e", 0.1, ERROR)
    finally:
        logging.setLogRecordFactory(before)
    assert caplog.records[-1].mrl_error == "RateLimitError"
