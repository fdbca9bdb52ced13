"""Every error and warning that mrlclient raises.

::

    MRLError
    ├── ConfigurationError            a setting is wrong; nothing was sent
    │   ├── UnknownProviderError      there is no such provider; see `suggestions`
    │   ├── UnknownModelError         neither in the catalogue nor declared; see `suggestions`
    │   ├── MissingExtraError         a package is not installed; the message has the pip command
    │   └── MissingCredentialsError   there is no key; see `variable`
    ├── DimensionsError               the model cannot give these dimensions
    │   ├── NotMatryoshkaError        the model must not be truncated
    │   └── DimensionsOutOfRangeError not an integer from 1 to the native width
    ├── InputError                    a text cannot be embedded; see `index`
    ├── ProviderError                 the provider did not answer, or refused
    │   ├── AuthenticationError
    │   ├── RateLimitError
    │   │   └── QuotaError            out of credit: waiting does not help
    │   ├── BadRequestError
    │   ├── ServerError
    │   ├── ProviderTimeoutError
    │   ├── ProviderConnectionError
    │   └── ResponseContractError     the answer was 200, but unusable
    │       ├── DimensionsMismatchError
    │       └── ModelMismatchError    another model answered
    ├── DriftError                    the model behind a name has changed; see `Canary`
    └── IncompatibleSpaceError        vectors of two spaces would be mixed

    NarrowDimensionsWarning           narrower than the model's authors evaluated
    ClippingWarning                   numbers were outside the int8 ranges, and were clipped
    CacheWarning                      the cache failed; the vectors are right, but not kept
    LimiterWarning                    a shared limit failed; each process keeps to the limits on its own
    ServerBehaviorWarning             the server ignored a parameter, and the result was corrected here

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
        partial: The result of the call so far, if it has any: `partial.errors` names the missing texts, and their rows
            are NaN. Otherwise None.
    """

    partial: EmbeddingResult | None = None


class ConfigurationError(MRLError):
    """A setting is wrong. Nothing was sent."""


class _NearMissError(ConfigurationError):
    """An unknown name, with the known names that look like it."""

    def __init__(self, message: str, *, suggestions: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.suggestions = tuple(suggestions)


class UnknownProviderError(_NearMissError):
    """There is no provider of that name. `suggestions` holds similar names."""


class UnknownModelError(_NearMissError):
    """The model is neither in the catalogue nor declared by a `ModelSpec`. `suggestions` holds similar names."""


class MissingExtraError(ConfigurationError):
    """A package that is needed is not installed. The message ends with the pip command; `extra` is the extra's name."""

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
    """The model cannot give these dimensions.

    Attributes:
        model: The model's address, `provider:name`.
        dimensions: The requested width.
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
    """The model was not trained as a Matryoshka model, so its vectors must not be truncated."""


class DimensionsOutOfRangeError(DimensionsError):
    """The width is not an integer from 1 to the native width, or `on_narrow="error"` refuses it."""


class InputError(MRLError):
    """A text cannot be embedded.

    Attributes:
        index: The text's position in your list, or None if the list itself is wrong.
    """

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class ProviderError(MRLError):
    """The provider did not answer, or answered with an error.

    Attributes:
        provider: The provider's name, such as `"openai"`.
        status: The HTTP status, if there was one.
        code: The provider's own error code, if it gave one.
        request_id: The provider's id of the request, to quote to its support.
        retryable: Whether the same request may succeed later.
        retry_after: Seconds that the server asked to wait, if it did.
        scope: What was refused: `"request"`, the request as a whole; `"size"`, so that smaller requests may succeed; or
            `"text"`, one of its texts may be to blame.
        index: The position in your list of the text that it concerns; None if it concerns several.
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
    """Too many requests or tokens: the server answered 429, or the limits leave no room before the deadline."""


class QuotaError(RateLimitError):
    """The account is out of credit. Waiting does not help, so it is not retried."""


class BadRequestError(ProviderError):
    """The provider refused the request itself (other 4xx)."""


class ServerError(ProviderError):
    """The provider failed (5xx)."""


class ProviderTimeoutError(ProviderError):
    """The provider did not answer in time, or the deadline passed before it could be asked."""


class ProviderConnectionError(ProviderError):
    """The provider could not be reached, or the connection broke."""


class ResponseContractError(ProviderError):
    """The provider answered 200, but not with one usable vector for each text. No unusable vector was used."""


class DimensionsMismatchError(ResponseContractError):
    """The vectors do not have the requested width, and truncation cannot correct them."""


class ModelMismatchError(ResponseContractError):
    """The answer names another model than the requested one. It was not used: its vectors may be of another space."""


class DriftError(MRLError):
    """The model behind a name has changed: a canary's texts no longer give the recorded vectors.

    Attributes:
        model: The model's address, `provider:name`.
        cosine: The worst cosine between new and recorded vectors.
        recorded_at: When the vectors were recorded, in seconds since 1970.
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
    """Incompatible vectors would be mixed: of models of two spaces, or of an index and another model.

    Nothing was sent, except a canary's texts when an index's contract was checked.
    """


class NarrowDimensionsWarning(UserWarning):
    """The width is narrower than any that the model's authors evaluated."""


class ClippingWarning(UserWarning):
    """Numbers were outside the ranges for quantisation, and were clipped."""


class ServerBehaviorWarning(UserWarning):
    """The server ignored a request parameter. The result was corrected here, and is right."""


class CacheWarning(UserWarning):
    """The cache failed. The vectors are right; they are just not kept, or not found."""


class LimiterWarning(UserWarning):
    """The server of a shared limit failed. Until it is back, each process keeps to the limits on its own."""
