"""WordLlama: static Matryoshka embeddings that the `wordllama` wheel carries. No key, no network: the embedded default.

The wheel's own loader looks for the tokenizer in a folder where it is not, and then downloads it; importing the package
also configures logging. So the two files are found and read here, and the package itself is never imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrlclient.errors import ConfigurationError, missing_extra
from mrlclient.models import ModelSpec
from mrlclient.operations import Answer
from mrlclient.packing import Packing
from mrlclient.plan import Batch
from mrlclient.providers.base import LocalProvider

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"

#: Rows gathered at once, a KiB each: a text of any length takes no more memory.
_PIECE = 1 << 12


@dataclass(frozen=True, slots=True)
class _Model:
    table: NDArray[np.float32]
    tokenizer: Any


class WordLlama(LocalProvider):
    """WordLlama L2 Supercat, 256 dimensions, from the installed wheel.

    A text's embedding is the mean of its tokens' rows (tokens without special tokens), then the cut, then L2.

    Args:
        model: A model of the catalogue, or a declared one.

    Raises:
        UnknownModelError: If the catalogue does not hold the model.
    """

    name = "wordllama"

    def __init__(self, model: str | ModelSpec = "l2-supercat-256") -> None:
        super().__init__(model)

    def settings(self) -> dict[str, Any]:
        return {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.spec,)

    @property
    def identity(self) -> tuple[str, ...]:
        # Imported here: it costs as much as the rest of a first call.
        from importlib.metadata import PackageNotFoundError, version

        try:
            return (version("wordllama"),)
        except PackageNotFoundError:
            return ()

    @property
    def packing(self) -> Packing:
        # Enough for the tokenizer's threads, and what it tells of the tokens stays below some dozen MiB.
        return Packing(max_inputs=1024, max_tokens=1 << 18, serial=True)

    def load(self) -> _Model:
        package = find_spec("wordllama")
        if package is None or not package.submodule_search_locations:
            raise missing_extra("wordllama, which carries the embedded default model,", "wordllama")
        folder = Path(package.submodule_search_locations[0])
        try:
            from safetensors.numpy import load_file
            from tokenizers import Tokenizer
        except ImportError:
            raise missing_extra("a package that wordllama's files are read with", "wordllama") from None
        for file in (_WEIGHTS, _TOKENIZER):
            if not (folder / file).is_file():
                raise ConfigurationError(
                    f"The installed wordllama has no {file}. Install the release this was made for: "
                    "pip install 'mrlclient[wordllama]'"
                )
        tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return _Model(load_file(folder / _WEIGHTS)["embedding.weight"].astype(np.float32), tokenizer)

    def compute(self, model: _Model, batch: Batch) -> Answer:
        encodings = model.tokenizer.encode_batch_fast(list(batch.texts), add_special_tokens=False)
        vectors = np.empty((len(encodings), model.table.shape[1]), dtype=np.float32)
        tokens = 0
        for row, encoding in zip(vectors, encodings, strict=True):
            ids = encoding.ids
            write_mean(model.table, ids, row)
            tokens += len(ids)
        return Answer(vectors, tokens)


def write_mean(table: NDArray[np.float32], ids: Sequence[int], out: NDArray[np.float32]) -> None:
    """Writes the mean of the table's rows of these ids: (V, D), at least one id -> (D,).

    A text at a time: its rows are summed while they are in the processor's cache, and a vector does not depend on the
    other texts of the batch.
    """
    np.add.reduce(table.take(ids[:_PIECE], axis=0), axis=0, out=out)
    for start in range(_PIECE, len(ids), _PIECE):
        out += np.add.reduce(table.take(ids[start : start + _PIECE], axis=0), axis=0)
    out /= len(ids)
