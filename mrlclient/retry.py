"""Whether to try again, and how long to wait: tenacity decides, the driver sleeps.

tenacity is imported when something has failed: most processes never try anything again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mrlclient.errors import ProviderError, ResponseContractError

if TYPE_CHECKING:
    import tenacity

#: An unusable answer is asked for at most this many times.
_CONTRACT_ATTEMPTS = 3


@dataclass(frozen=True)
class RetryPolicy:
    """When to try again.

    Attributes:
        max_attempts: Attempts at one request, the first included.
        max_wait: Seconds to wait at most before an attempt. A server that asks for more gets no further attempt.
    """

    max_attempts: int = 5
    max_wait: float = 60.0

    @cached_property
    def retrying(self) -> tenacity.Retrying:
        """The policy as tenacity runs it; it is asked, and never sleeps."""
        import tenacity

        return tenacity.Retrying(stop=self._stop, wait=self._wait, retry=self._retry, reraise=True)

    @cached_property
    def _backoff(self) -> tenacity.wait_random_exponential:
        import tenacity

        # Full jitter: many clients that failed together do not come back together.
        return tenacity.wait_random_exponential(multiplier=0.5, max=8.0)

    def _retry(self, state: tenacity.RetryCallState) -> bool:
        error = _error(state)
        return error.retryable and (error.retry_after or 0.0) <= self.max_wait

    def _stop(self, state: tenacity.RetryCallState) -> bool:
        limit = self.max_attempts
        if isinstance(_error(state), ResponseContractError):
            limit = min(limit, _CONTRACT_ATTEMPTS)
        return state.attempt_number >= limit

    def _wait(self, state: tenacity.RetryCallState) -> float:
        asked = _error(state).retry_after
        return asked if asked is not None else self._backoff(state)


class Attempts:
    """The attempts at one request so far."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._state: tenacity.RetryCallState | None = None

    def wait_after(self, error: ProviderError) -> float | None:
        """Seconds to wait before the next attempt; None where there is to be none."""
        import tenacity

        retrying = self._policy.retrying
        state = self._state = self._state or tenacity.RetryCallState(retrying, None, (), {})
        state.set_exception((type(error), error, error.__traceback__))
        # tenacity keeps statistics for each thread, which have to exist.
        retrying.begin()
        try:
            wait = retrying.iter(state)
        except ProviderError:
            return None
        assert isinstance(wait, tenacity.DoSleep)
        state.prepare_for_next_attempt()
        return float(wait)


def _error(state: tenacity.RetryCallState) -> ProviderError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, ProviderError)
    return error
