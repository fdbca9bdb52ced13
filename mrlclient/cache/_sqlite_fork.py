"""Connections and forks: SQLite keeps its locks by process, so nothing of it may be open while a process forks."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from mrlclient.cache import _sqlite_file

if TYPE_CHECKING:
    import apsw


class _Holder(Protocol):
    """Who holds a connection."""

    _lock: threading.Lock

    def _disconnect(self) -> None: ...


_holders: weakref.WeakSet[_Holder] = weakref.WeakSet()
_registry = threading.Lock()
_held: list[threading.Lock] = []

#: Connections of another process: neither used nor closed, ever.
inherited: list[apsw.Connection] = []


def close_at_fork(holder: _Holder) -> None:
    """Has a cache's connection closed before each fork, for as long as the cache lives."""
    with _registry:
        _holders.add(holder)


def _before_fork() -> None:
    _registry.acquire()
    for holder in list(_holders):
        holder._lock.acquire()
        _held.append(holder._lock)
        with suppress(Exception):
            holder._disconnect()
    _sqlite_file.opening.acquire()


def _after_fork() -> None:
    _sqlite_file.opening.release()
    while _held:
        _held.pop().release()
    _registry.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
