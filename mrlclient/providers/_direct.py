"""A long body goes from the socket straight to its place.

On the usual way through the layers of HTTP each byte is copied four times, and each piece passes a dozen calls. h11 is
told how much of the body was read beside it. The last byte takes the usual way again: with it comes whatever stands
behind the body, and the end.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
import httpcore2

#: Bytes asked of an event loop's socket at once: what asyncio reads.
_LARGEST_READ = 256 * 1024


@dataclass(eq=False, slots=True)
class Rest:
    """What is missing of a body whose length is known.

    Attributes:
        place: Where it goes.
        filled: How much of it is there.
    """

    place: memoryview
    filled: int = 0

    def is_awaited(self, state: h11.Connection) -> bool:
        """Whether h11 holds nothing, and waits for just as much of a body."""
        remaining = getattr(_reader(state), "_remaining", None)
        return remaining == len(self.place) and not state.trailing_data[0]

    def fill(self, connection: socket.socket, state: h11.Connection, seconds_left: Callable[[], float]) -> None:
        """Reads all but the last byte, or what there is before the connection ends.

        Raises:
            TimeoutError: If no seconds are left.
            httpcore2.ReadError: If the connection breaks.
        """
        problem = ""
        try:
            with self.place[:-1] as wanted:
                while self.filled < len(wanted):
                    connection.settimeout(seconds_left())
                    read = connection.recv_into(wanted[self.filled :])
                    if not read:
                        break
                    self.filled += read
        except TimeoutError:
            raise
        except OSError as error:
            problem = str(error) or type(error).__name__
        if problem:
            raise httpcore2.ReadError(problem)
        _reader(state)._remaining -= self.filled

    async def afill(self, stream: httpcore2.AsyncNetworkStream, state: h11.Connection) -> None:
        """The same in an event loop, until its caller gives up."""
        with self.place[:-1] as wanted:
            while self.filled < len(wanted):
                chunk = await stream.read(min(len(wanted) - self.filled, _LARGEST_READ))
                if not chunk:
                    break
                wanted[self.filled : self.filled + len(chunk)] = chunk
                self.filled += len(chunk)
        _reader(state)._remaining -= self.filled


def _reader(state: h11.Connection) -> Any:
    """What counts the bytes of a body."""
    return getattr(state, "_reader", None)
