"""The addresses of a host, within a deadline, which the system's resolver does not know of."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future
from ipaddress import ip_address


class Resolver:
    """Looks one host up, in a thread that is left behind where it takes too long.

    Calls at the same time share a thread: a resolver that is down holds each for half a minute, and its socket.
    """

    def __init__(self) -> None:
        self._lookup: Future[list[str]] | None = None
        self._lock = threading.Lock()

    def addresses(self, host: str, port: int, seconds: float) -> list[str]:
        """The addresses, in the order in which to try them.

        Raises:
            TimeoutError: If they are not there after so many seconds.
            OSError: If there are none.
        """
        try:
            return [str(ip_address(host))]
        except ValueError:
            pass
        with self._lock:
            lookup = self._lookup
            if lookup is None or lookup.done():
                lookup = self._lookup = _look_up(host, port)
        try:
            return lookup.result(seconds)
        except TimeoutError:
            # The resolver may be back, and this lookup still wait for what was lost.
            if self._lookup is lookup:
                self._lookup = None
            raise


def _look_up(host: str, port: int) -> Future[list[str]]:
    lookup: Future[list[str]] = Future()

    def work() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            lookup.set_result(list(dict.fromkeys(str(address[0]) for *_, address in found)))
        except Exception as error:
            lookup.set_exception(error)

    try:
        # A daemon: the end of the process does not wait for it.
        threading.Thread(target=work, name="mrlclient lookup", daemon=True).start()
    except RuntimeError:
        # No thread can be had, as in a process that is ending.
        work()
    return lookup
