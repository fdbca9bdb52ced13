"""From what an `Embedder` is given to what it works with: specs, providers, routes, a cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mrlclient import registry
from mrlclient._codes import SCALED, code_width
from mrlclient.dimensions import Dimensions, OnNarrow, check_widths, resolve
from mrlclient.endpoints import Endpoint, Route
from mrlclient.errors import ConfigurationError, IncompatibleSpaceError
from mrlclient.gates import gate_for
from mrlclient.limits import Limits, Quota, Window, check_seconds
from mrlclient.models import ModelSpec, is_width
from mrlclient.providers.base import Provider
from mrlclient.result import check_narrow
from mrlclient.tokens import TokenEstimator

if TYPE_CHECKING:
    from mrlclient.cache.base import Cache
    from mrlclient.cache.guarded import GuardedCache
    from mrlclient.output_type import OutputType

#: How a model is named: an address, a declared model, or a provider with settings of its own.
Model = str | ModelSpec | Provider


def spec_of(model: Model | None) -> ModelSpec:
    """What is known of a model; of the default one for None.

    Raises:
        UnknownProviderError: If nobody offers the provider.
        UnknownModelError: If the catalogue does not hold the model.
        ConfigurationError: If it is none of the ways to name a model.
    """
    if isinstance(model, Provider):
        return model.spec
    if isinstance(model, ModelSpec):
        return model
    if model is None or isinstance(model, str):
        return registry.find_spec(registry.default_model() if model is None else model)
    raise ConfigurationError(
        f"A model is an address such as 'openai:text-embedding-3-small', a ModelSpec or a provider, "
        f"not {type(model).__name__}."
    )


def widths_of(specs: Sequence[ModelSpec], dimensions: Dimensions, on_narrow: OnNarrow) -> list[int]:
    """The widths asked for, widest first, each one looked at for each model that may answer.

    Raises:
        DimensionsError: If one of the models cannot give one of them, or may not.
    """
    widths = check_widths(specs[0], dimensions)
    for spec in dict.fromkeys(specs):
        for width in check_widths(spec, widths):
            check_narrow(spec, width, on_narrow)
    return widths


def check_codes(
    output: OutputType, specs: Sequence[ModelSpec], widths: Sequence[int], *, cached: bool, fetch_native: bool
) -> None:
    """Refuses to ask servers for codes that they do not make, or that would be mixed up with others.

    Args:
        output: What is wanted.
        specs: The models that may answer.
        widths: The widths asked for, widest first.
        cached: Whether there is a cache.
        fetch_native: Whether the full width is to be asked for.

    Raises:
        ConfigurationError: If a model has no such codes, or a cache is to keep them.
        DimensionsOutOfRangeError: If it has none at these widths.
        IncompatibleSpaceError: If those of the models may not be compared.
    """
    dtype = output.asked
    if dtype == "float32":
        return
    if cached or fetch_native:
        given = "A cache keeps floats" if cached else "fetch='native' is for a cache, which keeps floats"
        raise ConfigurationError(
            f"{given}: every type and width is made of them, where a server's {dtype} serves itself only. Leave "
            f"quantization='server' out, or take an embedder without {'cache' if cached else 'fetch'}."
        )
    for width in widths:
        code_width(dtype, width)
    if dtype in SCALED and len(widths) > 1:
        raise ConfigurationError(
            f"A server's {dtype} cannot be cut, so one request cannot serve the widths {', '.join(map(str, widths))}. "
            f"Ask for one, or leave quantization='server' out."
        )
    for spec in dict.fromkeys(specs):
        if dtype in SCALED and spec.address != specs[0].address:
            raise IncompatibleSpaceError(
                f"{spec.address} cannot stand in for {specs[0].address} in {dtype} of a server: nobody says that their "
                f"codes stand for the same numbers. Leave quantization='server' out, or take one model."
            )
        resolve(spec, widths[0], dtype=dtype)


def check_space(specs: Sequence[ModelSpec]) -> None:
    """Refuses models whose vectors may not be compared.

    Raises:
        IncompatibleSpaceError: If they are not of one space.
    """
    for spec in specs[1:]:
        if spec.space != specs[0].space:
            raise IncompatibleSpaceError(
                f"{spec.address} (space {spec.space!r}) cannot stand in for {specs[0].address} (space "
                f"{specs[0].space!r}): their vectors may not be compared. Name a model of the same space; for a server "
                "that serves the same model under another name, declare it: ModelSpec(..., space=...)."
            )


def check_choice(name: str, value: object, known: tuple[object, ...]) -> None:
    """Refuses what is none of the values that an argument can have."""
    if value not in known:
        *others, last = map(repr, known)
        raise ConfigurationError(f"{name} must be {', '.join(others)} or {last}, not {value!r}.")


def check_bounds(*, max_attempts: object, max_concurrency: object, deadline: object) -> None:
    """Refuses bounds that bound nothing, or everything."""
    for name, value in (("max_attempts", max_attempts), ("max_concurrency", max_concurrency)):
        if not is_width(value):
            raise ConfigurationError(f"{name} must be a positive integer, not {value!r}.")
    check_seconds("deadline", deadline)


def check_kinds(*, endpoints: object, fallback: object, limits: object, canary: object) -> None:
    """Refuses arguments of another kind than meant."""
    for name, several in (("endpoints", endpoints), ("fallback", fallback)):
        if not isinstance(several, Sequence) or isinstance(several, str):
            raise ConfigurationError(f"{name} must be a list of models, not {type(several).__name__}.")
    if not (limits is None or isinstance(limits, Limits)):
        raise ConfigurationError(f"limits must be mrlclient.Limits(...), not {type(limits).__name__}.")
    if canary is not None:
        from mrlclient.canary import Canary

        if not isinstance(canary, Canary):
            raise ConfigurationError(f"canary must be mrlclient.Canary(...), not {type(canary).__name__}.")


def check_truncation(provider: type[Provider] | Provider, truncate_input: bool) -> None:
    """Refuses to have over-long texts cut by a provider that does not."""
    if truncate_input and not provider.truncates_input:
        raise ConfigurationError(
            f"{provider.name} does not cut over-long texts. Cut them yourself, and leave truncate_input out."
        )


def make_routes(
    model: Model | None,
    endpoints: Sequence[Model],
    fallback: Sequence[Model],
    query_model: Model | None,
    truncate_input: bool,
    limits: Limits,
) -> tuple[Route, Route]:
    """The routes of documents and of queries over the providers of these models, each behind the gate of its account.

    Raises:
        MissingCredentialsError: If a provider needs a key and there is none.
        ConfigurationError: If one of them cannot cut over-long texts though that is wanted.
    """
    known = dict[ModelSpec, TokenEstimator]()
    others = [[_endpoint(each, limits, known)] for each in fallback]
    documents = Route([[_endpoint(each, limits, known) for each in (model, *endpoints)], *others])
    queries = documents
    if query_model is not None:
        queries = Route([[_endpoint(query_model, limits, known)], *others])
    for endpoint in (*documents.endpoints, *queries.endpoints):
        provider = endpoint.provider
        assert isinstance(provider, Provider)
        check_truncation(provider, truncate_input)
    return documents, queries


def _endpoint(model: Model | None, limits: Limits, known: dict[ModelSpec, TokenEstimator]) -> Endpoint:
    provider = model if isinstance(model, Provider) else registry.create(spec_of(model))
    label, gate, host, port = provider.spec.address, None, None, None
    if provider.origin is not None:
        label = f"{label} at {provider.origin}"
        parts = urlsplit(provider.origin)
        host, port = parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    if provider.account is not None:
        gate = gate_for(provider.account, limits)
        assumed = provider.assumed_quota
        if assumed is not None:
            # Whoever says what his account may do knows better than the catalogue.
            requests = assumed.requests if limits.requests_per_minute is None else Window()
            gate.assume(Quota(requests, assumed.tokens if limits.tokens_per_minute is None else Window()))
    estimator = known.setdefault(provider.spec, TokenEstimator())
    return Endpoint(provider, label, gate, host, port, estimator)


def portable_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """An embedder's arguments as they may travel to another process, whatever folder that runs in.

    Raises:
        ConfigurationError: If the address of a cache or of shared limits holds a user name or a password.
    """
    from mrlclient.cache.address import portable

    cache, limits = arguments["cache"], arguments["limits"]
    if limits is not None and limits.shared is not None:
        portable(limits.shared)
    return dict(arguments) | {"cache": portable(cache) if isinstance(cache, str | Path) else cache}


def guarded(cache: str | Path | Cache) -> GuardedCache:
    """A cache that an embedder can use whatever becomes of it."""
    from mrlclient.cache import open_cache
    from mrlclient.cache.guarded import GuardedCache

    return GuardedCache(open_cache(cache))
