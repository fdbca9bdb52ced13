"""Provider-neutral Matryoshka embeddings: one `Embedder`, any provider, any dimension of the model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mrlclient.errors import (
    AuthenticationError,
    BadRequestError,
    CacheWarning,
    ClippingWarning,
    ConfigurationError,
    DimensionsError,
    DimensionsMismatchError,
    DimensionsOutOfRangeError,
    DriftError,
    IncompatibleSpaceError,
    InputError,
    LimiterWarning,
    MissingCredentialsError,
    MissingExtraError,
    ModelMismatchError,
    MRLError,
    NarrowDimensionsWarning,
    NotMatryoshkaError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
    ResponseContractError,
    ServerBehaviorWarning,
    ServerError,
    UnknownModelError,
    UnknownProviderError,
)

if TYPE_CHECKING:
    from mrlclient.canary import Canary
    from mrlclient.chunk import Chunk
    from mrlclient.contract import IndexContract
    from mrlclient.embedder import Embedder
    from mrlclient.limits import Limits
    from mrlclient.models import ModelSpec, catalogue
    from mrlclient.providers.base import Provider
    from mrlclient.providers.nomic import Nomic
    from mrlclient.providers.openai import OpenAI
    from mrlclient.providers.openai_compatible import OpenAICompatible
    from mrlclient.providers.voyage import Voyage
    from mrlclient.providers.wordllama import WordLlama
    from mrlclient.result import EmbeddingResult, Usage
    from mrlclient.vectors import l2_normalize, truncate_dimensions

#: Where the other public names live. Their modules are imported when they are first used.
_HOME_OF = {
    "Canary": "mrlclient.canary",
    "Embedder": "mrlclient.embedder",
    "IndexContract": "mrlclient.contract",
    "Limits": "mrlclient.limits",
    "ModelSpec": "mrlclient.models",
    "catalogue": "mrlclient.models",
    "Provider": "mrlclient.providers.base",
    "Nomic": "mrlclient.providers.nomic",
    "OpenAI": "mrlclient.providers.openai",
    "OpenAICompatible": "mrlclient.providers.openai_compatible",
    "Voyage": "mrlclient.providers.voyage",
    "WordLlama": "mrlclient.providers.wordllama",
    "EmbeddingResult": "mrlclient.result",
    "Usage": "mrlclient.result",
    "Chunk": "mrlclient.chunk",
    "l2_normalize": "mrlclient.vectors",
    "truncate_dimensions": "mrlclient.vectors",
}

__all__ = [
    "AuthenticationError",
    "BadRequestError",
    "CacheWarning",
    "Canary",
    "Chunk",
    "ClippingWarning",
    "ConfigurationError",
    "DimensionsError",
    "DimensionsMismatchError",
    "DimensionsOutOfRangeError",
    "DriftError",
    "Embedder",
    "EmbeddingResult",
    "IncompatibleSpaceError",
    "IndexContract",
    "InputError",
    "LimiterWarning",
    "Limits",
    "MRLError",
    "MissingCredentialsError",
    "MissingExtraError",
    "ModelMismatchError",
    "ModelSpec",
    "NarrowDimensionsWarning",
    "Nomic",
    "NotMatryoshkaError",
    "OpenAI",
    "OpenAICompatible",
    "Provider",
    "ProviderConnectionError",
    "ProviderError",
    "ProviderTimeoutError",
    "QuotaError",
    "RateLimitError",
    "ResponseContractError",
    "ServerBehaviorWarning",
    "ServerError",
    "UnknownModelError",
    "UnknownProviderError",
    "Usage",
    "Voyage",
    "WordLlama",
    "catalogue",
    "l2_normalize",
    "truncate_dimensions",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
