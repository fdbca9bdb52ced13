"""What every vector store takes: vectors of the index's own model and width, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mrlclient._frames import discreet
from mrlclient.chunk import Chunk
from mrlclient.contract import IndexContract
from mrlclient.dimensions import check_width
from mrlclient.embedder import Embedder
from mrlclient.errors import ConfigurationError, DimensionsOutOfRangeError, InputError
from mrlclient.vectors import truncate_dimensions, unusable_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class IndexVectors:
    """An embedder's vectors as one index takes them: of its width, unit length, float32, C-contiguous, finite.

    Use `new` for a new index, and `open` for an existing one, whose contract it checks.

    Attributes:
        embedder: The embedder, which you close yourself.
        contract: What the index holds.
    """

    embedder: Embedder
    contract: IndexContract

    @classmethod
    def new(cls, embedder: Embedder, dimensions: int | None = None) -> IndexVectors:
        """The vectors for a new index, after one request; see `Embedder.contract`.

        Raises:
            MRLError: As `Embedder.contract`.
        """
        return cls(embedder, _checked(embedder).contract(dimensions))

    @classmethod
    async def anew(cls, embedder: Embedder, dimensions: int | None = None) -> IndexVectors:
        """`new` for the running event loop.

        Raises:
            MRLError: As `new`.
        """
        return cls(embedder, await _checked(embedder).acontract(dimensions))

    @classmethod
    def open(cls, embedder: Embedder, contract: IndexContract, *, canary: bool = True) -> IndexVectors:
        """The vectors for an existing index; see `IndexContract.check`.

        Raises:
            IncompatibleSpaceError: If the embedder's vectors do not belong to the index.
            MRLError: As `IndexContract.check`.
        """
        contract.check(embedder, canary=canary)
        return cls(embedder, contract)

    @classmethod
    async def aopen(cls, embedder: Embedder, contract: IndexContract, *, canary: bool = True) -> IndexVectors:
        """`open` for the running event loop.

        Raises:
            MRLError: As `open`.
        """
        await contract.acheck(embedder, canary=canary)
        return cls(embedder, contract)

    @property
    def dimensions(self) -> int:
        """The width of the index."""
        return self.contract.dimensions

    @discreet
    def batches(self, texts: Iterable[str], *, batch_size: int = 1024) -> Iterator[Chunk]:
        """Embeds any number of documents in constant memory, in their order; see `Embedder.embed_iter`.

        Returns:
            An iterator over chunks: `chunk.start`, `chunk.texts`, and `chunk.embeddings`, ready to be inserted.

        Raises:
            MRLError: As `Embedder.embed_iter`.
        """
        return self.embedder.embed_iter(
            texts,
            dimensions=self.dimensions,
            input_type=self.contract.input_type,
            chunk_size=batch_size,
            dtype="float32",
        )

    @discreet
    def abatches(self, texts: Iterable[str] | AsyncIterable[str], *, batch_size: int = 1024) -> AsyncIterator[Chunk]:
        """`batches` for the running event loop.

        Raises:
            MRLError: As `batches`.
        """
        return self.embedder.aembed_iter(
            texts,
            dimensions=self.dimensions,
            input_type=self.contract.input_type,
            chunk_size=batch_size,
            dtype="float32",
        )

    @discreet
    def query(self, text: str) -> NDArray[np.float32]:
        """Embeds one text to search with.

        Returns:
            (d,) float32, unit length, of the index's width; a wider embedder's vector is cut.

        Raises:
            MRLError: As `Embedder.embed`.
        """
        if self.embedder.dimensions == self.dimensions:
            return self.embedder.embed_query(text)
        return self.embedder.embed([text], dimensions=self.dimensions, input_type="query", dtype="float32")[0]

    @discreet
    async def aquery(self, text: str) -> NDArray[np.float32]:
        """`query` for the running event loop.

        Raises:
            MRLError: As `query`.
        """
        if self.embedder.dimensions == self.dimensions:
            return await self.embedder.aembed_query(text)
        return (await self.embedder.aembed([text], dimensions=self.dimensions, input_type="query", dtype="float32"))[0]

    def fit(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Existing vectors of the index's model, made ready to be inserted.

        A store may accept NaN, or a view of wider vectors, without an error, and then find the wrong documents.

        Args:
            rows: (n, D) floats, D >= the index's width, such as an `EmbeddingResult`. Not changed.

        Returns:
            (n, d) float32, C-contiguous, unit rows.

        Raises:
            InputError: If they are not such a matrix, or a row cannot be used; `index` says which.
            NotMatryoshkaError: If the model may not be cut to the index's width.
            DimensionsOutOfRangeError: If they are narrower than the index, or wider than the model.
        """
        given: NDArray[Any] = np.asarray(rows)
        if given.ndim != 2 or given.dtype.kind != "f":
            raise InputError(f"Vectors are an (n, d) matrix of floats, not {given.dtype} {given.shape}.")
        spec, width = self.embedder.spec, given.shape[1]
        if width != self.dimensions:
            check_width(spec, width)
            check_width(spec, self.dimensions)
        if width < self.dimensions:
            raise DimensionsOutOfRangeError(
                f"The vectors are {width} wide, and the index takes {self.dimensions}. Embed the texts again at "
                f"dimensions={self.dimensions}.",
                model=spec.address,
                dimensions=width,
                native_dimensions=spec.native_dimensions,
            )
        with np.errstate(over="ignore"):
            single = given.astype(np.float32, copy=False)
        for row, problem in unusable_rows(single[:, : self.dimensions]).items():
            raise InputError(f"Row {row} is {problem}. Leave it out: nothing can be found by it.", index=row)
        return truncate_dimensions(single, self.dimensions)


def _checked(embedder: Embedder) -> Embedder:
    if not isinstance(embedder, Embedder):
        raise ConfigurationError(
            f"IndexVectors takes an Embedder, not {type(embedder).__name__}: Embedder('openai:text-embedding-3-small')."
        )
    return embedder


def held_contract(held: object, where: str, width: int | None = None) -> IndexContract:
    """The contract that a store has kept, as a dictionary or as JSON.

    Args:
        held: What is kept; None where nothing is.
        where: What the store calls it, for messages.
        width: The width that the store itself knows; None where it knows none.

    Raises:
        ConfigurationError: If there is none, or it is of no index of that width.
    """
    if held is None:
        raise ConfigurationError(
            f"{where} has no contract, so nobody can tell what its vectors are. If you know which embedder filled it, "
            "keep the contract of IndexVectors.new(embedder) with it. Otherwise embed the index again."
        )
    contract = IndexContract.from_dict(held) if isinstance(held, Mapping) else IndexContract.from_json(held)  # type: ignore[arg-type]  # what is no text is refused there
    check_same_width(contract, where, width)
    return contract


def check_same_width(contract: IndexContract, where: str, width: int | None) -> None:
    """Refuses a contract of an index of another width.

    Raises:
        ConfigurationError: If it is.
    """
    if width not in (None, contract.dimensions):
        raise ConfigurationError(
            f"{where} is {width} wide, and the contract is of an index {contract.dimensions} wide: it belongs to"
            " another index."
        )
