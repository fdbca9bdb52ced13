"""An answer's body, read within its bound and never unpacked."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping

import anyio
import httpx2

from mrlclient.errors import ResponseContractError
from mrlclient.providers._direct import Rest
from mrlclient.providers._exchange import Reply, Request
from mrlclient.providers._network import read_directly

#: Bytes read of an error's body at most.
_MAX_ERROR_BODY = 64 * 1024


#: Bytes that are read at once anyway.
_FEW = 64 * 1024


class Body:
    """Collects a body. Where its bound is hit the rest is not read: the connection has to be dropped.

    Raises:
        ResponseContractError: If a good answer is compressed, or says that it is longer than its bound.
    """

    def __init__(self, status: int, headers: Mapping[str, str], request: Request, provider: str) -> None:
        self._status = status
        self._headers = headers
        self._provider = provider
        self._is_error = status != 200
        self._limit = _MAX_ERROR_BODY if self._is_error else request.max_response_bytes
        self._chunks: list[bytes] = []
        self._whole: bytearray | None = None
        self._rest: Rest | None = None
        self._size = 0
        if headers.get("content-encoding", "identity").lower() != "identity":
            if self._is_error:
                # The status and the headers say enough; nothing is unpacked.
                self._limit = -1
                return
            raise self._unusable("it is compressed, though identity was asked for")
        announced = headers.get("content-length", "")
        if self._is_error or not announced.isdecimal():
            return
        if int(announced) > self._limit:
            raise self._too_long()
        if int(announced) > _FEW:
            # Filled in place: chunks that are kept until the end would take the memory twice, and another copy.
            self._whole = bytearray(int(announced))

    def add(self, chunk: bytes) -> bool:
        """Takes a chunk; true where no more is wanted."""
        if self._rest is not None:
            self._size += self._rest.filled
            self._rest.place.release()
            self._rest = None
        begin = self._size
        if begin <= self._limit:
            self._size += len(chunk)
            if self._whole is None:
                self._chunks.append(chunk)
            else:
                self._whole[begin : self._size] = chunk
        return self._size > self._limit

    def rest(self) -> Rest | None:
        """What is missing of it, where that is known to be much. What is filled of that counts with the next chunk."""
        if self._whole is None or len(self._whole) - self._size < _FEW:
            return None
        self._rest = Rest(memoryview(self._whole)[self._size :])
        return self._rest

    def reply(self) -> Reply:
        """What has been read: all of a good answer, and of an error's body the beginning.

        Raises:
            ResponseContractError: If a good answer is longer than its bound.
        """
        if not self._is_error and self._size > self._limit:
            raise self._too_long()
        if self._whole is None:
            return Reply(self._status, self._headers, b"".join(self._chunks))
        if self._size < len(self._whole):
            del self._whole[self._size :]
        return Reply(self._status, self._headers, self._whole)

    def _too_long(self) -> ResponseContractError:
        return self._unusable(f"it is longer than {self._limit} bytes")

    def _unusable(self, problem: str) -> ResponseContractError:
        return ResponseContractError(
            f"The answer of {self._provider} cannot be used: {problem}",
            provider=self._provider,
            status=self._status,
            retryable=True,
        )


async def collect(response: httpx2.Response, chunks: AsyncIterable[bytes], body: Body) -> None:
    """Reads a body until it ends, or no more is wanted."""
    with anyio.CancelScope() as reading:
        async for chunk in chunks:
            if body.add(chunk):
                # Ended from within. To leave would leave generators behind, in the middle, of which trio complains.
                reading.cancel()
            elif (rest := body.rest()) is not None:
                read_directly(response, rest)
