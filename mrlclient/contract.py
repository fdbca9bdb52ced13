"""The contract of an index: what its vectors are, and whether an embedder's belong with them.

An index outlives the program that filled it, and a store knows no more of its vectors than their width. Vectors of
another model of the same width are taken without an error, and every search is wrong from then on.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from mrlclient._frames import discreet
from mrlclient.canary import CANARY_TEXTS, SAME_MODEL, compare
from mrlclient.dimensions import check_width
from mrlclient.engine import Engine
from mrlclient.errors import ConfigurationError, DimensionsError, IncompatibleSpaceError
from mrlclient.models import InputType, ModelSpec, Recipe, is_width
from mrlclient.vectors import truncate_dimensions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mrlclient.embedder import Embedder
    from mrlclient.endpoints import Endpoint
    from mrlclient.operations import Speaker

_FORMAT = "mrlclient index contract"
_VERSION = 1
#: Numbers of a canary vector that are kept: enough to know a model by.
_KEPT = 64
#: How far the squared length of a kept vector may be from 1.
_UNIT = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexContract:
    """Describes the vectors of an index. Keep it beside the index, and check embedders against it.

    `Embedder.contract` makes one. It is a few kilobytes of JSON and holds neither a key nor a text of yours.

    Attributes:
        space: Two vectors can be compared only if this is equal.
        model: The address of the model that embedded the documents.
        revision: The commit of the model's files; None if it is not known.
        dimensions: The width of the index.
        recipe: How the vectors were truncated.
        input_type: The input type that the documents were embedded with. Queries then take the other one.
        document_prompt: What is put before a document here; empty if nothing is, or if the provider does it.
        query_prompt: The same for a query.
        canary: The vectors of a few fixed texts, embedded as documents: the first 64 numbers of each, or fewer if the
            index is narrower, scaled to unit length, as little-endian float32.

    Raises:
        ConfigurationError: If a value is not valid.
    """

    space: str
    model: str
    revision: str | None
    dimensions: int
    recipe: Recipe
    input_type: InputType = "document"
    document_prompt: str = ""
    query_prompt: str = ""
    canary: bytes = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("space", "model"):
            if not (isinstance(getattr(self, name), str) and getattr(self, name)):
                raise _foreign(f"{name} must be a name, not {getattr(self, name)!r}")
        if not (self.revision is None or isinstance(self.revision, str)):
            raise _foreign(f"revision must be a name or None, not {self.revision!r}")
        if not is_width(self.dimensions):
            raise _foreign(f"dimensions must be a positive integer, not {self.dimensions!r}")
        if self.recipe not in get_args(Recipe):
            raise _foreign(f"recipe must be one of {', '.join(get_args(Recipe))}, not {self.recipe!r}")
        if self.input_type != "document":
            raise _foreign(f"input_type must be 'document', not {self.input_type!r}")
        if not (isinstance(self.document_prompt, str) and isinstance(self.query_prompt, str)):
            raise _foreign("document_prompt and query_prompt must be strings")
        width = min(self.dimensions, _KEPT)
        if not isinstance(self.canary, bytes) or len(self.canary) != 4 * width * len(CANARY_TEXTS):
            raise _foreign(f"canary must be {len(CANARY_TEXTS)} vectors of {width} float32 numbers")
        with np.errstate(all="ignore"):
            squares = np.vecdot(self._vectors, self._vectors)
            if not (np.abs(squares - 1.0) < _UNIT).all():
                raise _foreign("canary must be unit vectors")

    @discreet
    def check(self, embedder: Embedder, *, canary: bool = True) -> None:
        """Refuses an embedder whose vectors do not belong in the index.

        First, what is known of the models is compared, which costs nothing. Then each model with the index's own
        address embeds the canary's texts, in one request, past every cache: `model`, and `query_model` if it has that
        address too. Another model of the same space has different vectors, so there is nothing to compare.

        An embedder may be wider than the index if its models may be truncated: ask it for `contract.dimensions`.

        Args:
            embedder: The embedder; its `query_model`, `endpoints` and `fallback` must belong as well.
            canary: Whether to embed the canary's texts. Without it, nothing is sent.

        Raises:
            IncompatibleSpaceError: If its vectors do not belong in the index.
            ProviderError: If the provider failed or refused.
            ConfigurationError: If it is not an embedder, or closed.
        """
        for endpoint in self._to_compare(embedder, canary):
            self._compare(endpoint, embedder._engine.canary_rows(endpoint, self.dimensions))

    @discreet
    async def acheck(self, embedder: Embedder, *, canary: bool = True) -> None:
        """`check` on the running event loop.

        Raises:
            MRLError: As `check`.
        """
        for endpoint in self._to_compare(embedder, canary):
            self._compare(endpoint, await embedder._engine.acanary_rows(endpoint, self.dimensions))

    def to_dict(self) -> dict[str, Any]:
        """The contract as plain JSON values."""
        values = asdict(self) | {"canary": base64.b64encode(self.canary).decode()}
        return {"format": _FORMAT, "version": _VERSION, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IndexContract:
        """Reads what `to_dict` returned.

        Raises:
            ConfigurationError: If it is not exactly what `to_dict` returns.
        """
        if not isinstance(values, Mapping) or values.get("format") != _FORMAT:
            raise _foreign(f"it has no format {_FORMAT!r}")
        if values.get("version") != _VERSION or isinstance(values["version"], bool):
            raise _foreign(f"its version is {values.get('version')!r}, and this reads {_VERSION}. Update mrlclient")
        names = {each.name for each in fields(cls)}
        found = set(values) - {"format", "version"}
        if found != names:
            odd = ", ".join(sorted(map(str, found ^ names)))
            raise _foreign(f"its values are not those of version {_VERSION}: {odd}")
        taken = {name: values[name] for name in names}
        try:
            taken["canary"] = base64.b64decode(taken["canary"], validate=True)
        except (TypeError, ValueError):
            raise _foreign("canary is not base64") from None
        return cls(**taken)

    def to_json(self) -> str:
        """The contract as one line of JSON, ASCII only."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str | bytes) -> IndexContract:
        """Reads what `to_json` returned.

        Raises:
            ConfigurationError: If it is not exactly what `to_json` returns.
        """
        try:
            values = json.loads(text)
        except (TypeError, ValueError, RecursionError):
            raise _foreign("it is not JSON") from None
        return cls.from_dict(values)

    @property
    def _vectors(self) -> NDArray[np.float32]:
        return np.frombuffer(self.canary, dtype="<f4").reshape(len(CANARY_TEXTS), -1)

    def _to_compare(self, embedder: Embedder, canary: bool) -> list[Endpoint]:
        """Looks at all that is known of an embedder; whose canary vectors have to be compared then."""
        engine = getattr(embedder, "_engine", None)
        if not isinstance(engine, Engine):
            raise ConfigurationError(f"check takes an Embedder, not {type(embedder).__name__}.")
        embedder._check_open()
        for endpoint in engine.endpoints:
            for problem in self._problems(endpoint.provider):
                raise self._refusal(problem)
        if engine.widths[0] < self.dimensions:
            raise self._refusal(f"the embedder gives {engine.widths[0]} dimensions")
        mains = dict.fromkeys((engine.documents.main, engine.queries.main))
        return [each for each in mains if canary and each.provider.spec.address == self.model]

    def _problems(self, provider: Speaker) -> Iterator[str]:
        """What is known to be wrong with a provider."""
        spec = provider.spec
        if spec.space != self.space:
            yield f"{spec.address} has a space of its own, {spec.space!r}, where the index has {self.space!r}"
        if spec.address == self.model:
            yield from self._differences(spec, provider.revision)
        try:
            check_width(spec, self.dimensions)
        except DimensionsError:
            yield f"{spec.address} has {spec.native_dimensions} dimensions and cannot give {self.dimensions}" + (
                "" if spec.matryoshka else ": it may not be cut"
            )

    def _differences(self, spec: ModelSpec, revision: str | None) -> Iterator[str]:
        """Where the index's own model was declared otherwise, or has other files."""
        # Of a revision that is not known nothing can be said before the canary.
        if None not in (revision, self.revision) and revision != self.revision:
            yield f"the embedder has it at revision {revision}, and the index at {self.revision}"
        if spec.recipe != self.recipe:
            yield f"the embedder cuts by {spec.recipe!r}, and the index was cut by {self.recipe!r}"
        for role, mine in (("document", self.document_prompt), ("query", self.query_prompt)):
            theirs = spec.prompts.get(role, "")
            if theirs != mine:
                yield f"the embedder puts {theirs!r} before a {role}, and the index has {mine!r}"

    def _compare(self, endpoint: Endpoint, rows: NDArray[np.float32]) -> None:
        cosine = compare(self._vectors, rows)
        if cosine < SAME_MODEL:
            raise self._refusal(
                f"{endpoint.label} is no longer that model: the worst cosine of the canary's texts with their vectors "
                f"in the contract is {cosine:.6f}, and less than {SAME_MODEL} is another model",
                "find the server or the files that it was made with.",
            )

    def _refusal(self, problem: str, instead: str | None = None) -> IncompatibleSpaceError:
        held = self.model if self.revision is None else f"{self.model} at revision {self.revision}"
        return IncompatibleSpaceError(
            f"The index holds vectors of {held}, {self.dimensions} wide, but {problem}. Embed the index again with "
            "this embedder, or " + (instead or f"make one of {held} with dimensions={self.dimensions}.")
        )


def contract_of(provider: Speaker, dimensions: int, rows: NDArray[np.float32]) -> IndexContract:
    """The contract of an index that a provider's vectors go into.

    Args:
        provider: Who embeds the documents.
        dimensions: The width of the index.
        rows: (8, dimensions) the vectors of `CANARY_TEXTS`, embedded as documents, straight from the provider.
    """
    spec = provider.spec
    return IndexContract(
        space=spec.space,
        model=spec.address,
        revision=provider.revision,
        dimensions=dimensions,
        recipe=spec.recipe,
        document_prompt=spec.prompts.get("document", ""),
        query_prompt=spec.prompts.get("query", ""),
        canary=truncate_dimensions(rows, min(dimensions, _KEPT)).astype("<f4").tobytes(),
    )


def _foreign(problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"This is not the contract of an index, or it is damaged: {problem}. Where it cannot be had again, embed the "
        "index again, and keep embedder.contract() beside it."
    )
