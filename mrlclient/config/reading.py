"""From a profile to an embedder's arguments, with all that is wrong with it at once."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

from mrlclient import registry, wiring
from mrlclient.cache.address import kind_of
from mrlclient.canary import Canary
from mrlclient.config import tables
from mrlclient.config.files import Place, expanded
from mrlclient.config.problems import Problem, raised
from mrlclient.config.writing import SECRET
from mrlclient.dimensions import OnNarrow
from mrlclient.errors import ConfigurationError, DimensionsError, MissingCredentialsError, MRLError
from mrlclient.limits import Limits
from mrlclient.models import ModelSpec, catalogue, split_address
from mrlclient.output_type import OutputType
from mrlclient.providers.base import Provider
from mrlclient.quantize import Ranges

T = TypeVar("T")

#: Settings of a provider that declare its model, in the place of a `spec`.
DECLARING = ("native_dimensions", "matryoshka")

_BOUNDS = {"max_attempts": 1, "max_concurrency": 1, "deadline": 1.0}


def arguments_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """An embedder's arguments out of a profile's values.

    Raises:
        ConfigurationError: With all that is wrong; one problem that another of our errors tells is that error.
    """
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"A profile is a mapping of keys to values, not {type(values).__name__}.")
    reader = Reader()
    arguments = reader.profile(values, ())
    if reader.problems:
        raise raised(reader.problems)
    return arguments


class Reader:
    """Reads profiles, and gathers what is wrong with them.

    Args:
        folder: What relative paths are relative to; by default the working folder.
        needs_keys: Whether a key that is not in the environment is a problem.
    """

    def __init__(self, folder: Path | None = None, needs_keys: bool = True) -> None:
        self.problems: list[Problem] = []
        #: Declared models, by address.
        self.models: Mapping[str, ModelSpec] = {}
        #: The models of the profile, its own first.
        self.specs: list[ModelSpec] = []
        #: The widths of the profile, widest first.
        self.widths: list[int] = []
        #: Tables whose key was refused, so that it is not missed as well.
        self._without_key: set[Place] = set()
        self._folder = folder
        self._needs_keys = needs_keys

    def profile(self, values: Mapping[str, Any], at: Place) -> dict[str, Any]:
        """The arguments of one embedder; only those of a profile without problems can be used."""
        if not isinstance(values, Mapping):
            return {}
        good = self._model_table(values, at, tables.EMBEDDER)
        arguments = {name: good[name] for name in tables.EMBEDDER if name in good}
        arguments["model"] = self._model(good, at)
        is_known = bool(self.specs)
        for name in ("endpoints", "fallback"):
            if name in arguments:
                given = enumerate(arguments[name])
                arguments[name] = [self._any_model(each, (*at, name, place)) for place, each in given]
        if "query_model" in arguments:
            arguments["query_model"] = self._any_model(arguments["query_model"], (*at, "query_model"))
        if "limits" in arguments:
            arguments["limits"] = self._limits(arguments["limits"], (*at, "limits"))
        if "canary" in arguments:
            arguments["canary"] = self._canary(arguments["canary"], (*at, "canary"))
        if "ranges" in arguments:
            table = self.checked(tables.kinds_of(Ranges), arguments["ranges"], (*at, "ranges"))
            arguments["ranges"] = self._made(Ranges, table, (*at, "ranges"))
        if "cache" in arguments:
            arguments["cache"] = self._made(self._cache, {"cache": arguments["cache"]}, at)
        bounds = {name: good[name] for name in _BOUNDS if name in good}
        self._made(partial(wiring.check_bounds, **_BOUNDS), bounds, at)
        if is_known and ("dimensions" in good or "dimensions" not in values):
            self._check_together(arguments, at)
        return arguments

    def spec(self, address: str, values: object, at: Place) -> ModelSpec | None:
        """A declared model."""
        provider, colon, name = address.partition(":")
        if not (colon and provider and name):
            self.tell(at, "must be named by its address, as in [models.'openai:mine']")
            return None
        table = self.checked(tables.spec_kinds(), values, at)
        return self._made(partial(ModelSpec, provider=provider, name=name), table, at)

    def _check_together(self, arguments: Mapping[str, Any], at: Place) -> None:
        """What is wrong with the models together, and with the widths."""
        narrow: OnNarrow = "error" if arguments.get("on_narrow") == "error" else "allow"
        try:
            others = [*arguments.get("endpoints", ()), *arguments.get("fallback", ()), arguments.get("query_model")]
            for each in (arguments["model"], *others):
                # Where a provider has settings, these may decide it.
                who = registry.provider_class(each.provider) if isinstance(each, ModelSpec) else each
                if who is not None:
                    wiring.check_truncation(who, bool(arguments.get("truncate_input")))
        except MRLError as error:
            self.tell((*at, "truncate_input"), str(error), error)
        try:
            wiring.check_space(self.specs)
            self.widths = wiring.widths_of(self.specs, arguments.get("dimensions"), narrow)
        except DimensionsError as error:
            self.tell((*at, "dimensions"), str(error), error)
        except MRLError as error:
            self.tell(at, str(error), error)
        else:
            named = [name for name in ("quantization", "ranges", "dtype") if name in arguments]
            try:
                output = OutputType(**{name: arguments[name] for name in named})
                output.check(self.widths[0])
                kept, native = "cache" in arguments, arguments.get("fetch") == "native"
                wiring.check_codes(output, self.specs, self.widths, cached=kept, fetch_native=native)
            except MRLError as error:
                self.tell((*at, *named[:1]), str(error), error)

    def _any_model(self, value: str | Mapping[str, Any], at: Place) -> ModelSpec | Provider | None:
        table = {"model": value} if isinstance(value, str) else value
        return self._model(self._model_table(table, at, {}), at)

    def _model_table(self, values: Mapping[str, Any], at: Place, more: tables.Kinds) -> dict[str, Any]:
        """What is right of a table of a model: its keys, and `more`."""
        provider = provider_of(values.get("model"))
        settings: tables.Kinds = {}
        if provider is None:
            # Nobody knows which settings it has: what another provider knows may be right.
            others = map(registry.provider_class, catalogue().providers)
            settings = {name: Any for each in others for name in tables.kinds_of(each)}
        kinds = {**settings, **tables.model_kinds(provider), **more}
        secrets = [name for name in values if name not in kinds and SECRET.search(str(name))]
        variable = getattr(provider, "key_variable", "OPENAI_API_KEY") or "SERVER_API_KEY"
        for name in secrets:
            self._without_key.add(at)
            self.tell(
                (*at, name),
                "a key does not stand in a profile. Set it in an environment variable, and write the variable's name "
                f'here: api_key_env = "{variable}"',
            )
        good = self.checked(kinds, {name: value for name, value in values.items() if name not in secrets}, at)
        for name in [name for name in good if name.endswith("_env") and not _names_a_variable(good[name])]:
            self.tell(
                (*at, name),
                f"must be the name of an environment variable: in capital letters, such as {variable}, or of one that "
                "is set here. What stands there is not shown, for it may be a key. A key that was written down should "
                "be replaced by a new one",
            )
            self._without_key.add(at)
            del good[name]
        return good

    def _model(self, table: Mapping[str, Any], at: Place) -> ModelSpec | Provider | None:
        """The model of a table, with its provider's settings where it has any."""
        if "model" not in table:
            return None
        address = table["model"]
        made = provider_of(address)
        beside = {name: table[name] for name in DECLARING if name in table}
        spec: ModelSpec | None = None
        try:
            if "spec" in table:
                spec = self.spec(address, table["spec"], (*at, "spec"))
            elif beside and address not in self.models:
                spec, beside = self.spec(address, beside, at), {}
            else:
                spec = self.models.get(address) or registry.find_spec(address)
        except MRLError as error:
            if self._folder is not None:
                how = f'[models."{address}"] with native_dimensions and matryoshka'
                error.args = (re.sub(r"ModelSpec\(.*?\)", lambda _: how, str(error)),)
            self.tell((*at, "model"), str(error), error)
        if spec is None or made is None:
            return None
        self.specs.append(spec)
        settings = {
            name: self._path(value) if name in tables.paths_of(made) else value
            for name, value in table.items()
            if name in tables.kinds_of(made) and name not in ("model", "spec", *DECLARING)
        }
        settings |= beside
        return self._made(partial(made, spec), settings, at) if settings else spec

    def _limits(self, values: object, at: Place) -> Limits | None:
        table = self.checked(tables.limits_kinds(), values, at)
        return self._made(Limits, {name: math.inf if each == "inf" else each for name, each in table.items()}, at)

    def _canary(self, values: object, at: Place) -> Canary | None:
        table = self.checked(tables.canary_kinds(), values, at)
        if "path" in table:
            table["path"] = self._path(table["path"])
        return self._made(Canary, table, at)

    def _cache(self, cache: str) -> str:
        """The address, where it is a file relative to the configuration."""
        if self._folder is None or kind_of(cache) != "file":
            return cache
        return f"sqlite:{self._path(cache.removeprefix('sqlite:'))}"

    def _path(self, path: str) -> str:
        return path if self._folder is None else str(self._folder / expanded(path))

    def checked(self, kinds: tables.Kinds, values: object, at: Place) -> dict[str, Any]:
        """What is right of a table."""
        if not isinstance(values, Mapping):
            self.tell(at, "must be a table")
            return {}
        wrong = tables.problems_of(kinds, values)
        for place, message in wrong.items():
            self.tell((*at, *place), message)
        return {name: value for name, value in values.items() if all(place[0] != name for place in wrong)}

    def _made(self, make: Callable[..., T], values: Mapping[str, Any], at: Place) -> T | None:
        """What is made of the values. One at fault is told, then left out, until nothing more is wrong."""
        left, failed = dict(values), False
        while _can_be_called(make, left):
            try:
                made = make(**left)
            except MRLError as error:
                if isinstance(error, MissingCredentialsError) and at in self._without_key:
                    return None
                if isinstance(error, MissingCredentialsError) and error.variable is not None:
                    # It is looked for last: all the rest is well.
                    if self._needs_keys:
                        named = "api_key_env" if "api_key_env" in left else "model"
                        self.tell((*at, named), str(error), error)
                    return None
                # By custom, a message begins with the argument that it is about.
                blamed = next((word for word in re.findall(r"\w+", str(error)) if word in left), None)
                if blamed is None and failed:
                    # Nothing of what is there is at fault: it is what was left out that is missed.
                    return None
                self.tell((*at, blamed) if blamed else at, str(error).removeprefix(f"{blamed} "), error)
                if blamed is None:
                    return None
                failed = True
                del left[blamed]
            else:
                return None if failed else made
        return None

    def tell(self, at: Place, message: str, error: MRLError | None = None) -> None:
        """Notes a problem."""
        self.problems.append(Problem(at, message, error))


def provider_of(address: object) -> type[Provider] | None:
    """The class of an address's provider; None where it is no address, or nobody offers it."""
    if not isinstance(address, str):
        return None
    try:
        return registry.provider_class(split_address(address)[0])
    except MRLError:
        return None


def _can_be_called(make: Callable[..., object], values: Mapping[str, Any]) -> bool:
    """Whether nothing is missing that has no default."""
    try:
        signature(make).bind(**values)
    except TypeError:
        return False
    return True


def _names_a_variable(value: object) -> bool:
    """Whether it looks like a variable's name, and not like a key: in capital letters, or there."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        return False
    return value == value.upper() or value in os.environ
