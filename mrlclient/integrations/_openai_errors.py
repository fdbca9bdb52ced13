"""Our errors as errors of the `openai` package too, so that code which was written against it catches them."""

from __future__ import annotations

from functools import cache
from typing import Any

import httpx2
import openai

from mrlclient import errors
from mrlclient.errors import MRLError

#: What an error is over there. The first that fits; `_OF_STATUS` knows it better where there was a status.
_KINDS: tuple[tuple[type[MRLError], type[openai.OpenAIError]], ...] = (
    (errors.ProviderTimeoutError, openai.APITimeoutError),
    (errors.ProviderConnectionError, openai.APIConnectionError),
    (errors.ResponseContractError, openai.APIResponseValidationError),
    (errors.RateLimitError, openai.RateLimitError),
    (errors.AuthenticationError, openai.AuthenticationError),
    (errors.ServerError, openai.InternalServerError),
    (errors.BadRequestError, openai.APIStatusError),
    (errors.ProviderError, openai.APIError),
    # What the API would refuse is refused here, before it is sent.
    (errors.InputError, openai.BadRequestError),
    (errors.DimensionsError, openai.BadRequestError),
    (errors.UnknownModelError, openai.NotFoundError),
    (errors.UnknownProviderError, openai.NotFoundError),
    (MRLError, openai.OpenAIError),
)
#: The statuses for which there is a class of its own.
_OF_STATUS: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
}
#: The status of a class that names none.
_USUAL = {openai.APIStatusError: 400, openai.InternalServerError: 500, openai.APIResponseValidationError: 200}


def as_openai(error: MRLError, url: str) -> MRLError:
    """The same error, with the attributes it has, as an instance of its own class and of `openai`'s.

    Its request and response hold neither headers of ours nor a text: only what happened.

    Args:
        error: Ours.
        url: Where the client seems to send to.
    """
    theirs = next(theirs for ours, theirs in _KINDS if isinstance(error, ours))
    if issubclass(theirs, openai.APIStatusError):
        theirs = _OF_STATUS.get(getattr(error, "status", None) or 0, theirs)
    both: Any = _joined(type(error), theirs)  # type: ignore[arg-type]  # classes hash, whatever their instances do
    made = both.__new__(both, *error.args)
    made.__dict__ |= _attributes(error, theirs, url) | error.__dict__ | {"_made_of": (error, url)}
    joined: MRLError = made
    return joined


def _attributes(error: MRLError, theirs: type[openai.OpenAIError], url: str) -> dict[str, Any]:
    """What an instance of the class is expected to have."""
    if not issubclass(theirs, openai.APIError):
        return {}
    request = httpx2.Request("POST", url)
    found: dict[str, Any] = {"message": str(error), "request": request, "body": None}
    found |= {"code": None, "param": None, "type": None}
    if issubclass(theirs, openai.APIStatusError | openai.APIResponseValidationError):
        status = getattr(error, "status", None) or _USUAL.get(theirs) or theirs.status_code
        retry_after = getattr(error, "retry_after", None)
        headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
        response = httpx2.Response(status, headers=headers, request=request)
        found |= {"status_code": status, "response": response, "request_id": None}
    return found


@cache
def _joined(ours: type[MRLError], theirs: type[openai.OpenAIError]) -> type[MRLError]:
    names = {"__module__": ours.__module__, "__doc__": ours.__doc__, "__reduce__": _reduce}
    return type(ours.__name__, (ours, theirs), names)


def _reduce(self: Any) -> tuple[Any, ...]:
    # The class is made when it is needed, so that pickle cannot find it by its name.
    return as_openai, self._made_of
