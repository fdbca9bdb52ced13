"""An answer that is kept back until a test says so: what has to happen meanwhile depends on no clock."""

from __future__ import annotations

import threading

from mrlclient.testing.emulator import Fault


class Held:
    """Holds back the answer to the next request.

    Attributes:
        fault: To be appended to an emulator's faults.
        asked: Set when the request has come.
        go: To be set by the test.
    """

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()
        self.fault = Fault(rewrite=self._hold)

    def _hold(self, body: bytes) -> bytes:
        self.asked.set()
        assert self.go.wait(30), "nobody let the answer go"
        return body
