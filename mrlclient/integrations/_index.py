"""An index whose store keeps who embeds for it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mrlclient._frames import discreet
from mrlclient.contract import IndexContract
from mrlclient.embedder import Embedder
from mrlclient.integrations._embedder import Model, embedder_of
from mrlclient.models import InputType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Index:
    """Who embeds for an index, and what the index holds.

    Of an index that is there already the embedder is made when it is first needed, and checked then. Threads may share
    one.

    Args:
        model: Who embeds.
        dimensions: The width, where `model` is an address.
        contract: What the index holds; None where this embedder begins it.
    """

    def __init__(self, model: Model, dimensions: int | None = None, contract: IndexContract | None = None) -> None:
        self._model = model
        self._dimensions = dimensions
        self._contract = contract
        # Who begins an index is made at once, so that it is refused where the index is described.
        self._embedder = self._made() if contract is None else None
        self._turn = threading.RLock()

    @property
    def dimensions(self) -> int:
        """The width of the index. Nothing is sent for it."""
        return self.embedder.dimensions if self._contract is None else self._contract.dimensions

    @property
    def embedder(self) -> Embedder:
        """The embedder, which belongs to the index.

        Raises:
            IncompatibleSpaceError: If its vectors do not belong to the index.
            MRLError: As `Embedder` and `IndexContract.check`.
        """
        with self._turn:
            if self._embedder is None:
                made = self._made()
                try:
                    self.contract.check(made)
                except BaseException:
                    self._let_go(made)
                    raise
                self._embedder = made
            return self._embedder

    async def aembedder(self) -> Embedder:
        """`embedder` for the running event loop."""
        if self._embedder is None:
            made = self._made()
            try:
                await self.contract.acheck(made)
            except BaseException:
                self._let_go(made)
                raise
            self._embedder = made
        return self._embedder

    @property
    def contract(self) -> IndexContract:
        """What the index holds; where this embedder begins it, the provider is asked the first time."""
        with self._turn:
            if self._contract is None:
                self._contract = self.embedder.contract()
            return self._contract

    @discreet
    def embed(self, texts: Iterable[str], input_type: InputType) -> list[NDArray[np.float32]]:
        """A unit vector of the index's width for each text.

        Raises:
            MRLError: As `embedder` and `Embedder.embed`.
        """
        return list(
            self.embedder.embed(texts, dimensions=self.dimensions, input_type=input_type, dtype="float32").embeddings
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Index, (self._model, self._dimensions, self._contract)

    def _made(self) -> Embedder:
        return embedder_of(self._model, self._dimensions)

    def _let_go(self, made: Embedder) -> None:
        # It is made anew the next time: what was wrong may be put right by then, such as a key in the environment.
        if made is not self._model:
            made.close()
