"""What is known of each model: `ModelSpec`, and the catalogue of them (`catalogue.toml` beside this file).

The file has more than 300 lines because a third of them document the fields of `ModelSpec`.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal, get_args

from mrlclient.errors import ConfigurationError, UnknownModelError, UnknownProviderError
from mrlclient.servers import Server

InputType = Literal["query", "document"]
Task = Literal["clustering", "classification"]
Recipe = Literal["slice_l2", "center_slice_l2"]
#: Types of numbers that a server may send, beside float32.
ServerDType = Literal["int8", "uint8", "binary", "ubinary"]

#: Fields that hold a positive integer, or None.
_OPTIONAL_COUNTS = (
    "max_inputs",
    "max_input_tokens",
    "max_request_tokens",
    "requests_per_minute",
    "tokens_per_minute",
    "smallest_evaluated",
)
#: Fields that hold a name, or None.
_OPTIONAL_NAMES = ("space", "score_name", "repository", "revision", "status")

#: As `ModelSpec.tokenizer` has it.
_TOKENIZER = re.compile(r"tiktoken:cl100k_base|hub:\w[\w.-]*/\w[\w.-]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model: its widths, how it is truncated, and its limits.

    Declare one to use a model that is not in the catalogue. Nothing is guessed from a name: a model is truncated only
    if `matryoshka` says that it was trained for it.

    Attributes:
        provider: The provider's name, such as `"openai"`.
        name: The name sent to the provider.
        native_dimensions: The full width.
        matryoshka: Whether a prefix of a vector is itself an embedding.
        space: Two vectors can be compared only if this is equal. By default `provider/name`.
        server_dimensions: Widths that the provider's dimension parameter accepts: `"any"` for 1 to native, or a tuple.
            None: the parameter is never sent; the full width is requested and truncated here.
        server_cut_is_prefix: Whether vectors truncated by the server equal slice + L2, so that a cache may keep all
            widths together.
        server_dtypes: Types that the provider can send besides float32, at the widths of `server_dimensions`: some of
            `"int8"`, `"uint8"`, `"binary"` and `"ubinary"`, the latter two as `mrlclient.quantize` makes them.
        smallest_evaluated: The narrowest width that the authors evaluated; narrower ones give a warning.
        scores: Published (dimensions, score) pairs of the measure `score_name`.
        recipe: How a full vector is truncated. `"center_slice_l2"` subtracts the mean over the full width first.
        unit_length: Whether the provider's own vectors have unit length, so that any other length is a sign of damage.
        prompts: What is put before each text here, by input type or task.
        default_input_type: The input type that the model assumes if none is given.
        max_inputs: Texts in one request.
        max_input_tokens: Tokens in one text.
        max_request_tokens: Tokens in one request, in all.
        requests_per_minute: Requests per minute that the provider allows a new paying account.
        tokens_per_minute: Tokens per minute, likewise.
        usd_per_million_tokens: List price in USD.
        answers_as: Other names that answers may give this model.
        repository: Where a local model's files are on the hub.
        revision: The commit of those files.
        checksums: SHA-256 of those files, by path.
        tokenizer: What counts a hosted model's tokens locally, if its file is on this disk already:
            `"tiktoken:cl100k_base"`, or `"hub:owner/name"` for the `tokenizer.json` of a repository of the hub.
        status: The provider's status for it: `"active"`, `"legacy"` or `"unlisted"`.
        sources: For a catalogue row, the source and date of each value.

    Raises:
        ConfigurationError: If the values contradict each other.
    """

    provider: str
    name: str
    native_dimensions: int
    matryoshka: bool
    space: str = ""
    server_dimensions: Literal["any"] | tuple[int, ...] | None = None
    server_cut_is_prefix: bool = False
    server_dtypes: tuple[ServerDType, ...] = ()
    smallest_evaluated: int | None = None
    scores: tuple[tuple[int, float], ...] = ()
    score_name: str | None = None
    recipe: Recipe = "slice_l2"
    unit_length: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict, hash=False)
    default_input_type: InputType | None = None
    max_inputs: int | None = None
    max_input_tokens: int | None = None
    max_request_tokens: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    usd_per_million_tokens: float | None = None
    answers_as: tuple[str, ...] = ()
    repository: str | None = None
    revision: str | None = None
    checksums: Mapping[str, str] = field(default_factory=dict, hash=False)
    tokenizer: str | None = None
    status: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        def refuse(problem: str) -> ConfigurationError:
            return ConfigurationError(f"ModelSpec {self.provider!r}:{self.name!r}: {problem}")

        for name in ("provider", "name"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value) or (name == "provider" and ":" in value):
                raise refuse(f"{name} must be a name, not {value!r}")
        for name in ("native_dimensions", *_OPTIONAL_COUNTS):
            value = getattr(self, name)
            optional = name != "native_dimensions"
            if not (is_width(value) or (optional and value is None)):
                raise refuse(f"{name} must be a positive integer, not {value!r}")
        for name in ("matryoshka", "server_cut_is_prefix", "unit_length"):
            if not isinstance(getattr(self, name), bool):
                raise refuse(f"{name} must be True or False")
        for name in _OPTIONAL_NAMES:
            if not isinstance(getattr(self, name), str | None):
                raise refuse(f"{name} must be a name, not {getattr(self, name)!r}")
        for name in ("checksums", "sources"):
            if not isinstance(getattr(self, name), Mapping):
                raise refuse(f"{name} must be a table")
        if not _are_all(self.answers_as, lambda name: isinstance(name, str)):
            raise refuse(f"answers_as must be names, such as ('model-v2',), not {self.answers_as!r}")
        object.__setattr__(self, "answers_as", tuple(self.answers_as))
        if not _are_all(self.server_dtypes, get_args(ServerDType).__contains__):
            types = ", ".join(get_args(ServerDType))
            raise refuse(f"server_dtypes must be some of {types}, such as ('int8',), not {self.server_dtypes!r}")
        object.__setattr__(self, "server_dtypes", tuple(self.server_dtypes))
        try:
            scores = tuple((int(width), float(score)) for width, score in self.scores)
        except (TypeError, ValueError):
            raise refuse("scores must be pairs of a width and a score") from None
        object.__setattr__(self, "scores", scores)
        if self.smallest_evaluated is not None and self.smallest_evaluated > self.native_dimensions:
            raise refuse(f"smallest_evaluated must be at most native_dimensions, {self.native_dimensions}")
        if self.default_input_type not in (None, *get_args(InputType)):
            raise refuse(f"default_input_type must be 'query', 'document' or None, not {self.default_input_type!r}")
        price = self.usd_per_million_tokens
        if price is not None and not (isinstance(price, int | float) and 0 <= price < math.inf):
            raise refuse(f"usd_per_million_tokens must be a price, not {price!r}")
        if self.tokenizer is not None and not _TOKENIZER.fullmatch(str(self.tokenizer)):
            raise refuse(f"tokenizer must be 'tiktoken:cl100k_base' or 'hub:owner/name', not {self.tokenizer!r}")
        if self.recipe not in get_args(Recipe):
            raise refuse(f"recipe must be one of {', '.join(get_args(Recipe))}, not {self.recipe!r}")
        widths = self.server_dimensions
        if widths is not None and not self.matryoshka:
            raise refuse("server_dimensions needs matryoshka=True: a model with one width takes no parameter")
        if widths is not None and widths != "any":
            if not widths or not _are_all(widths, self._gives):
                raise refuse(f"server_dimensions must lie in 1 to {self.native_dimensions}, not {widths!r}")
            object.__setattr__(self, "server_dimensions", tuple(sorted(set(widths))))
        if widths is not None and self.recipe == "center_slice_l2":
            raise refuse("center_slice_l2 needs server_dimensions=None: the mean is taken over the full width")
        known = (*get_args(InputType), *get_args(Task))
        are_prompts = isinstance(self.prompts, Mapping) and set(self.prompts) <= set(known)
        if not are_prompts or not all(isinstance(prompt, str) for prompt in self.prompts.values()):
            raise refuse(f"prompts must map some of {', '.join(known)} to what is put before a text")
        object.__setattr__(self, "space", self.space or f"{self.provider}/{self.name}")
        for name in ("prompts", "checksums", "sources"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def _gives(self, width: object) -> bool:
        return is_width(width) and isinstance(width, int) and width <= self.native_dimensions

    def __reduce__(self) -> tuple[Any, ...]:
        # A mappingproxy does not pickle, so the plain values travel.
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return _rebuild, ({k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()},)

    @property
    def is_centered(self) -> bool:
        """Whether the mean over the full width must be subtracted before truncation."""
        return self.recipe == "center_slice_l2"

    @property
    def address(self) -> str:
        """The model's address, `provider:name`."""
        return f"{self.provider}:{self.name}"


def _rebuild(values: dict[str, Any]) -> ModelSpec:
    return ModelSpec(**values)


def _are_all(values: object, condition: Callable[[Any], bool]) -> bool:
    """Whether `values` is a list of which all are so."""
    return isinstance(values, Sequence) and not isinstance(values, str | bytes) and all(map(condition, values))


def is_width(value: object) -> bool:
    """Whether `value` can be a width at all: a positive integer, and not True."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The models, providers and servers that ship with the package."""

    models: Mapping[str, ModelSpec]
    providers: Mapping[str, str]
    """Provider name -> "module:Class"."""
    aliases: Mapping[str, str]
    """Other name -> provider name."""
    servers: Mapping[str, Server]
    """Servers with OpenAI's API, by name."""


@cache
def catalogue() -> Catalogue:
    """The catalogue, read once from `catalogue.toml`."""
    data = tomllib.loads(resources.files("mrlclient").joinpath("catalogue.toml").read_text("utf-8"))
    specs = [_read_row(row, data["source"]) for row in data["model"]]
    providers = data["provider"]
    servers = {name: Server(name=name, **_with_sources(row, data["source"])) for name, row in data["server"].items()}
    return Catalogue(
        models=MappingProxyType({spec.address: spec for spec in specs}),
        providers=MappingProxyType({name: row["class"] for name, row in providers.items()}),
        aliases=MappingProxyType({alias: name for name, row in providers.items() for alias in row["aliases"]}),
        servers=MappingProxyType(servers),
    )


def _with_sources(row: Mapping[str, Any], sources: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """A row with the source of each value in words."""
    named = {
        name: f"{sources[tag]['title']} ({sources[tag]['date']})"
        for tag, names in row["sources"].items()
        for name in names
    }
    return {**row, "sources": named}


def _read_row(row: Mapping[str, Any], sources: Mapping[str, Mapping[str, str]]) -> ModelSpec:
    values = _with_sources(row, sources)
    if isinstance(values.get("server_dimensions"), list):
        values["server_dimensions"] = tuple(values["server_dimensions"])
    return ModelSpec(**values)


def split_address(address: str) -> tuple[str, str]:
    """Splits `"provider:model"` at the first colon, and puts an alias right.

    Raises:
        UnknownModelError: If there is no provider in the address; near misses are named.
    """
    provider, colon, name = address.partition(":")
    if not (colon and provider and name):
        known = [a for a, spec in catalogue().models.items() if spec.name == address] or _near(address)
        raise UnknownModelError(
            f"{address!r} is not a model address. Write 'provider:model', "
            + (f"such as {_quoted(known)}." if known else "such as 'openai:text-embedding-3-small'."),
            suggestions=known,
        )
    return catalogue().aliases.get(provider, provider), name


def find_model(address: str) -> ModelSpec:
    """The catalogue's row of `"provider:model"`.

    Raises:
        UnknownModelError: If the catalogue does not hold it; near misses are named.
    """
    provider, name = split_address(address)
    try:
        return catalogue().models[f"{provider}:{name}"]
    except KeyError:
        pass
    known = _near(f"{provider}:{name}")
    raise UnknownModelError(
        f"The catalogue has no model '{provider}:{name}'."
        + (f" Did you mean {_quoted(known)}?" if known else " 'mrlclient models' lists what it has.")
        + " To use another, declare it: ModelSpec(provider=..., name=..., native_dimensions=..., matryoshka=...).",
        suggestions=known,
    )


def unknown_provider(name: str, known: list[str]) -> UnknownProviderError:
    """The error for a provider that nobody offers."""
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {_quoted(near)}?" if near else f"Known are {', '.join(sorted(known))}."
    return UnknownProviderError(f"There is no provider {name!r}. {hint}", suggestions=near)


def matryoshka_models(provider: str) -> list[ModelSpec]:
    """The catalogue's Matryoshka models of one provider."""
    return [spec for spec in catalogue().models.values() if spec.provider == provider and spec.matryoshka]


def _near(address: str) -> list[str]:
    known = list(catalogue().models)
    by_name = {a.partition(":")[2]: a for a in known}
    near = difflib.get_close_matches(address, known, n=3, cutoff=0.6)
    return near or [by_name[n] for n in difflib.get_close_matches(address.partition(":")[2] or address, by_name, n=3)]


def _quoted(names: list[str]) -> str:
    return " or ".join(repr(name) for name in names)
