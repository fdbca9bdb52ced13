"""An embedder for DSPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mrlclient._frames import discreet
from mrlclient.errors import ConfigurationError
from mrlclient.integrations._embedder import Model, embedder_of, missing
from mrlclient.models import InputType

try:
    # From where it lives: a checker without DSPy would take `dspy` itself for this file.
    from dspy.clients import Embedder
except ModuleNotFoundError as error:
    raise missing(error, "dspy") from None

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class MRLEmbedder(Embedder):  # type: ignore[misc]
    """An `Embedder` as DSPy's: a text gives (d,), a list of n texts (n, d) float32, unit rows; no texts give (0, d).

    DSPy's cache stays off: its key for a custom embedder holds neither the model nor the width. DSPy's batches are not
    used either: all texts of a call go out in requests as large as the provider takes, several at once. `acall` does
    not block the event loop. DSPy has no roles: if the model distinguishes queries from documents, use an embedder for
    each.

    Args:
        model: An address, a profile's values, or an embedder, which you close yourself. By default the address in
            `MRLCLIENT_MODEL`, else the embedded default.
        dimensions: The width of the embeddings. A profile or an embedder has its own, so leave it out with these.
        input_type: The role of the texts, `"query"` or `"document"`; by default the model's default.

    Attributes:
        embedder: The embedder. If it was made here, close it with `embedder.embedder.close()`.

    Raises:
        MRLError: As `Embedder`; so do the calls.
        ConfigurationError: If a call sets `batch_size`, `caching` or any other option.
    """

    @discreet
    def __init__(
        self, model: Model = None, *, dimensions: int | None = None, input_type: InputType | None = None
    ) -> None:
        self.embedder = embedder_of(model, dimensions)
        self._input_type: InputType | None = input_type
        self.embedder.embed((), input_type=input_type)  # refuses a role that the model does not have
        super().__init__(self._rows, caching=False)

    @discreet
    def __call__(
        self, inputs: str | Sequence[str], batch_size: int | None = None, caching: bool | None = None, **kwargs: Any
    ) -> NDArray[np.float32]:
        _check_options(batch_size, caching, kwargs)
        if isinstance(inputs, str):
            row: NDArray[np.float32] = self._rows([inputs])[0]
            return row
        return self._rows(inputs)

    @discreet
    async def acall(
        self, inputs: str | Sequence[str], batch_size: int | None = None, caching: bool | None = None, **kwargs: Any
    ) -> NDArray[np.float32]:
        _check_options(batch_size, caching, kwargs)
        texts = [inputs] if isinstance(inputs, str) else inputs
        rows = (await self.embedder.aembed(texts, input_type=self._input_type, dtype="float32")).embeddings
        return rows[0] if isinstance(inputs, str) else rows

    @discreet
    def _rows(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embedder.embed(texts, input_type=self._input_type, dtype="float32").embeddings

    def __repr__(self) -> str:
        return f"MRLEmbedder({self.embedder!r}, input_type={self._input_type!r})"


def _check_options(batch_size: int | None, caching: bool | None, others: dict[str, Any]) -> None:
    if caching:
        raise ConfigurationError(
            "DSPy's cache would confuse the vectors of two models: it knows an embedder by its name only. Leave "
            "caching out, and give the embedder a cache: MRLEmbedder(Embedder(..., cache='vectors.db'))."
        )
    if batch_size is not None:
        raise ConfigurationError("Leave batch_size out: batches are packed by what the provider takes.")
    if others:
        raise ConfigurationError(f"Say {', '.join(sorted(others))} where the embedder is made, not at the call.")
