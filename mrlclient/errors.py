"""Every error and warning that mrlclient raises.

::

    MRLError
    ├── ConfigurationError            something to put right before anything is sent
    │   ├── UnknownProviderError      no provider of that name; `suggestions`
    │   ├── UnknownModelError         not in the catalogue and not declared; `suggestions`
    │   ├── MissingExtraError         a package is not installed; the message has the pip line
    │   └── MissingCredentialsError   no key; the message names the variable
    ├── DimensionsError               the width asked for cannot be had
    │   ├── NotMatryoshkaError        the model was not trained to be cut
    │   └── DimensionsOutOfRangeError not an integer of 1 to the native width
    ├── InputError                    a text cannot be embedded; `index` says which
    ├── ProviderError                 the provider did not answer, or refused
    │   ├── AuthenticationError
    │   ├── RateLimitError
    │   │   └── QuotaError            out of credit: waiting does not help
    │   ├── BadRequestError
    │   ├── ServerError
    │   ├── ProviderTimeoutError
    │   ├── ProviderConnectionError
    │   └── ResponseContractError     it answered 200, but the answer cannot be used
    │       ├── DimensionsMismatchError
    │       └── ModelMismatchError    it named another model than the one asked for
    ├── DriftError                    the model behind a name has changed; see `Canary`
    └── IncompatibleSpaceError        vectors of two spaces would meet

    NarrowDimensionsWarning           narrower than the model's authors evaluated
    ClippingWarning                   numbers were outside the ranges of int8, and were set to the nearest end
    CacheWarning                      the cache failed; the vectors are right, they are just not kept
    LimiterWarning                    a shared limit could not be kept; the limits hold for each process by itself
    ServerBehaviorWarning             the server ignored a parameter, and it was put right here

No message, attribute or pickle of these holds a key or a text. All of them pickle with their attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mrlclient.result import EmbeddingResult

#: What a refusal is about: the request as a whole, its size, or what one of its texts may be to blame for.
Scope = Literal["request", "size", "text"]


class MRLError(Exception):
    """Base of every error that mrlclient raises.

    Attributes:
        partial: What the call had got when it failed, where that was anything: `partial.errors` names the texts that
            are missing, and their rows are NaN. None where there is nothing.
    """

    partial: EmbeddingResult | None = None


class ConfigurationError(MRLError):
    """Something in the configuration has to be put right; nothing was sent."""


class _NearMissError(ConfigurationError):
    """A name that is not known, with the known names that look like it."""

    def __init__(self, message: str, *, suggestions: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.suggestions = tuple(suggestions)


class UnknownProviderError(_NearMissError):
    """There is no provider of that name. `suggestions` holds the near misses."""


class UnknownModelError(_NearMissError):
    """The model is neither in the catalogue nor declared by a `ModelSpec`. `suggestions` holds the near misses."""


class MissingExtraError(ConfigurationError):
    """A package that this needs is not installed. The message ends with the pip line; `extra` is the extra's name."""

    def __init__(self, message: str, *, extra: str | None = None) -> None:
        super().__init__(message)
        self.extra = extra


def missing_extra(what: str, extra: str) -> MissingExtraError:
    """The error where a package that a provider needs is not installed."""
    return MissingExtraError(f"{what} is not installed. Install it with: pip install 'mrlclient[{extra}]'", extra=extra)


class MissingCredentialsError(ConfigurationError):
    """No key was given or found. `variable` names the environment variable to set."""

    def __init__(self, message: str, *, variable: str | None = None) -> None:
        super().__init__(message)
        self.variable = variable


class DimensionsError(MRLError):
    """The width asked for cannot be had from this model.

    Attributes:
        model: The model's address, `provider:name`.
        dimensions: What was asked for.
        native_dimensions: The model's full width.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str | None = None,
        dimensions: object = None,
        native_dimensions: int | None = None,
    ) -> None:
        super().__init__(message)
        self.model = model
        self.dimensions = dimensions
        self.native_dimensions = native_dimensions


class NotMatryoshkaError(DimensionsError):
    """The model was not trained so that a prefix of its vectors is an embedding. It is not cut."""


class DimensionsOutOfRangeError(DimensionsError):
    """The width is not an integer between 1 and the native width, or the authors' smallest where that is enforced."""


class InputError(MRLError):
    """A text cannot be embedded.

    Attributes:
        index: The text's position in the list that was given, or None where the list itself is at fault.
    """

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class ProviderError(MRLError):
    """The provider did not answer, or answered with an error.

    Attributes:
        provider: The provider's name, such as `"openai"`.
        status: The HTTP status, where there was one.
        code: The provider's own error code, where it gave one.
        request_id: The provider's id of the request, to quote to its support.
        retryable: Whether the same request may succeed later.
        retry_after: Seconds that the server asked to wait, where it did.
        scope: What was refused: `"request"` as a whole; `"size"`, so that smaller requests may succeed; or `"text"`,
            where one of its texts may be to blame.
        index: The position in the caller's list of the one text that it is about; None where it is about more.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        scope: Scope = "request",
        index: int | None = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retryable = retryable
        self.retry_after = retry_after
        self.scope: Scope = scope
        self.index = index


class AuthenticationError(ProviderError):
    """The provider refused the key (401, 403)."""


class RateLimitError(ProviderError):
    """Too many requests or tokens: the server said so (429), or `Limits` have no room before the deadline."""


class QuotaError(RateLimitError):
    """The account is out of credit. Waiting does not help, so it is not retried."""


class BadRequestError(ProviderError):
    """The provider refused the request itself (other 4xx)."""


class ServerError(ProviderError):
    """The provider failed (5xx)."""


class ProviderTimeoutError(ProviderError):
    """The provider did not answer within the time allowed, or the deadline passed before it could be asked."""


class ProviderConnectionError(ProviderError):
    """The provider could not be reached, or the connection broke."""


class ResponseContractError(ProviderError):
    """The provider answered 200, but not with one usable vector for each text. Nothing unusable of it is used."""


class DimensionsMismatchError(ResponseContractError):
    """The vectors that came back have another width than the one asked for, and cannot be put right by a cut."""


class ModelMismatchError(ResponseContractError):
    """The answer names another model than the one asked for. It is not used: its vectors may be of another space."""


class DriftError(MRLError):
    """The model behind a name has changed: a canary's texts no longer give the vectors that they gave.

    Attributes:
        model: The model's address, `provider:name`.
        cosine: The worst cosine of the texts' vectors with what they were.
        recorded_at: When those were recorded, in seconds since 1970.
        checked_at: When the model was last seen unchanged, in seconds since 1970.
        identity: What was checked: origin, address, revision, prompt, recipe.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str | None = None,
        cosine: float | None = None,
        recorded_at: float | None = None,
        checked_at: float | None = None,
        identity: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.model = model
        self.cosine = cosine
        self.recorded_at = recorded_at
        self.checked_at = checked_at
        self.identity = identity


class IncompatibleSpaceError(MRLError):
    """Vectors that may not be compared would meet: of models of two spaces, or an index's and another model's.

    Nothing was sent but a canary's texts, where an index's contract was checked.
    """


class NarrowDimensionsWarning(UserWarning):
    """The width is narrower than any that the model's authors evaluated."""


class ClippingWarning(UserWarning):
    """Numbers were outside the ranges that they were quantised with, and were set to the nearest end."""


class ServerBehaviorWarning(UserWarning):
    """The server ignored a request parameter; the answer was put right here and is correct."""


class CacheWarning(UserWarning):
    """The cache failed. The vectors are right; they are just not kept, or not found."""


class LimiterWarning(UserWarning):
    """The server of a shared limit failed. Until it is back, each process keeps to the limits by itself."""
