"""An emulator that takes the canary keys, and a watch over logs and warnings."""

from __future__ import annotations

import logging
import warnings

import pytest

from mrlclient.testing import Emulator
from tests.secrets.scanning import KEY, PLAIN_KEY, heard

#: Loggers of the official clients, which print requests at DEBUG. Left out only where the caller brought the client.
VENDORS = ("openai", "voyage", "voyageai")


@pytest.fixture
def emulator():
    with Emulator(openai_keys=(KEY, PLAIN_KEY), voyage_keys=(KEY, PLAIN_KEY)) as emulator:
        yield emulator


@pytest.fixture
def listening(caplog):
    """All loggers at DEBUG, and all warnings: nothing of the canaries is in them. Set `listening.vendors` to leave
    out the loggers of an official client."""
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        watch = _Watch()
        yield watch
        for warning in told:
            assert not heard(str(warning.message)), warning
        for record in caplog.records:
            if watch.vendors and record.name.split(".")[0] in VENDORS:
                continue
            words = f"{record.getMessage()} {record.exc_text or ''} {record.args!r}"
            assert not heard(words), (record.name, words)


class _Watch:
    vendors = False
