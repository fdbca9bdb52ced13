"""Errors that signal handlers raise, as the time limits of job queues do: they are the caller's, not a provider's."""

from __future__ import annotations

import signal
import sys
import threading
from traceback import clear_frames


def raised_by_handler(error: BaseException) -> BaseException | None:
    """What a signal handler raised in the middle of a work that failed for it; None where none did.

    To be asked after the `except` that caught the error. What it gives has no variables in its frames any more: among
    them were an HTTP client's, which hold the request with its key.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    handlers = {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()}
    found: BaseException | None = None
    cause: BaseException | None = error
    # What the caller is dealing with at the moment was before.
    while cause is not None and cause is not sys.exc_info()[1]:
        trace = cause.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code in handlers:
                found = cause
            trace = trace.tb_next
        # HTTP clients make errors of their own of it, where it is one of the system's: the first of all is meant.
        cause = cause.__cause__ or cause.__context__
    if found is not None:
        clear_frames(found.__traceback__)
    return found
