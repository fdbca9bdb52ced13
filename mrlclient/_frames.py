"""What stays in the frames of an error that leaves the package: no text, no key."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, ParamSpec, TypeVar, cast

from mrlclient._warn import PACKAGE
from mrlclient.errors import MRLError

P = ParamSpec("P")
T = TypeVar("T")


def discreet(call: Callable[P, T]) -> Callable[P, T]:
    """Makes a function, plain or `async`, leave no local variable behind in the traceback of an error.

    Loggers and error trackers show the local variables of every frame. Those of a call hold the caller's texts, and
    below it lie an HTTP client's, which hold the request with its key.
    """
    if iscoroutinefunction(call):

        @wraps(call)
        async def acalled(*arguments: P.args, **options: P.kwargs) -> Any:
            try:
                return await call(*arguments, **options)
            except BaseException as error:
                _forget(error)
                raise
            finally:
                del arguments, options

        return cast("Callable[P, T]", acalled)

    @wraps(call)
    def called(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return call(*arguments, **options)
        except BaseException as error:
            _forget(error)
            raise
        finally:
            del arguments, options

    return called


def _forget(error: BaseException) -> None:
    """Clears the frames below this package's edge; of an error of the caller's own code, as of his generator, ours."""
    ours_only = isinstance(error, Exception) and not isinstance(error, MRLError)
    trace = error.__traceback__
    while trace is not None:
        if not ours_only or trace.tb_frame.f_code.co_filename.startswith(PACKAGE):
            # The frame that this was called from is still running.
            with suppress(RuntimeError):
                trace.tb_frame.clear()
        trace = trace.tb_next
