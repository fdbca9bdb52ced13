"""Nomic Embed Text, run locally by ONNX Runtime.

Recipe (model card of nomic-ai/nomic-embed-text-v1.5): task prefix, mean pooling over the mask, layer norm without
affine over all 768, slice, L2. Of that layer norm only the centring outlives the L2, so the catalogue's recipe
`center_slice_l2` is the same thing; it is applied where all cuts are made.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrlclient.errors import ConfigurationError, missing_extra
from mrlclient.models import ModelSpec, is_width
from mrlclient.operations import Answer
from mrlclient.packing import Packing
from mrlclient.plan import Batch
from mrlclient.providers._cores import usual_threads
from mrlclient.providers.base import LocalProvider

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TOKENIZER = "tokenizer.json"

#: What the graph may ask for.
_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})

#: Tokens computed at once, padding included; a longer text goes alone: attention costs memory by the square of length.
#: Larger ones have more padding.
_RECTANGLE = 1024


@dataclass(frozen=True, slots=True)
class _Model:
    session: Any
    inputs: frozenset[str]
    output: str
    tokenizer: Any
    counter: Any


class Nomic(LocalProvider):
    """Nomic Embed Text v1.5, or v1, on this machine.

    Args:
        model: A model of the catalogue, or a declared one.
        model_path: A folder with `tokenizer.json` and the ONNX file, laid out as on the hub. By default the files are
            downloaded once from the hub at the pinned revision, checked against the catalogue's SHA-256, and kept in
            the hub's cache. `HF_HUB_OFFLINE=1` is respected.
        onnx_file: Which ONNX file to run, such as `"onnx/model_quantized.onnx"`. Quantised files give slightly
            different vectors, and theirs depend on the other texts of a batch.
        revision: A commit of the hub's repository instead of the catalogue's.
        threads: Threads for one batch. By default one for each physical core, and fewer where the process may use
            only some of the processors, or a container only part of their time.

    Raises:
        UnknownModelError: If the catalogue does not hold the model.
        ConfigurationError: If `model_path` is given and lacks a file, or `threads` is not a positive number.
    """

    name = "nomic"
    counts_tokens = True
    model_settings = frozenset({"model_path", "onnx_file", "revision"})

    def __init__(
        self,
        model: str | ModelSpec = "nomic-embed-text-v1.5",
        *,
        model_path: str | Path | None = None,
        onnx_file: str = "onnx/model.onnx",
        revision: str | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(model)
        self._folder = None if model_path is None else Path(model_path).expanduser()
        self._onnx_file = onnx_file
        self._revision = revision or self.spec.revision
        self._pinned = revision is None
        self._threads = threads
        self._settings: dict[str, Any] = {"onnx_file": onnx_file, "revision": revision, "threads": threads}
        if not (threads is None or is_width(threads)):
            raise ConfigurationError(
                f"threads must be a positive whole number, not {threads!r}. Leave it out for one a core."
            )
        for file in (_TOKENIZER, onnx_file) if self._folder else ():
            if not (self._folder / file).is_file():  # type: ignore[operator]  # a folder, or the loop is empty
                raise ConfigurationError(
                    f"model_path={str(self._folder)!r} has no {file}. It must be laid out as the hub's folder: "
                    f"{_TOKENIZER} and {onnx_file}."
                )

    def settings(self) -> dict[str, Any]:
        # Another process may run in another folder.
        folder = None if self._folder is None else str(self._folder.absolute())
        return {"model_path": folder, **self._settings}

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self.settings()), (self.spec,)

    @property
    def identity(self) -> tuple[str, ...]:
        if self._folder is None:
            return ("hub", self._onnx_file, self._revision or "")
        # Another file at the same path is another model.
        stat = (self._folder / self._onnx_file).stat()
        return ("folder", self._onnx_file, str(self._folder.resolve()), str(stat.st_size), str(stat.st_mtime_ns))

    @property
    def revision(self) -> str | None:
        # A folder does not say of which commit it is.
        return None if self._folder else self._revision

    @property
    def packing(self) -> Packing:
        # Bytes are counted here, of which a token has about four: several rectangles, which are cut by tokens.
        return Packing(max_inputs=128, max_tokens=1 << 16, padded=True, serial=True)

    def load(self) -> _Model:
        if "usearch.compiled" in sys.modules and "onnxruntime" not in sys.modules:
            raise ConfigurationError(
                "usearch was imported before onnxruntime, which then crashes the process (usearch 2.26, onnxruntime "
                "1.32). Write 'import onnxruntime' before 'import usearch'."
            )
        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError:
            raise missing_extra("onnxruntime or tokenizers, which run Nomic's models,", "nomic") from None
        tokenizer_file, onnx_file = (self._find(file) for file in (_TOKENIZER, self._onnx_file))
        counter = Tokenizer.from_file(str(tokenizer_file))
        counter.no_padding()
        counter.no_truncation()
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if self.spec.max_input_tokens:
            tokenizer.enable_truncation(self.spec.max_input_tokens)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads or usual_threads()
        options.log_severity_level = 3
        # Left to themselves, idle threads spin after each run. That takes processors from the rest of the program, and
        # was measured to make no batch faster.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(str(onnx_file), options, providers=["CPUExecutionProvider"])
        inputs = frozenset(node.name for node in session.get_inputs())
        if not {"input_ids", "attention_mask"} <= inputs:
            raise ConfigurationError(
                f"{onnx_file} is not a text encoder of this kind: it takes {sorted(inputs)}, without a mask"
            )
        if not inputs <= _INPUTS:
            raise ConfigurationError(
                f"{onnx_file} is not a text encoder of this kind: it asks for {sorted(inputs - _INPUTS)}"
            )
        output = session.get_outputs()[0]
        shape = output.shape
        if len(shape) != 3 or (shape[2] not in (None, self.spec.native_dimensions) and isinstance(shape[2], int)):
            raise ConfigurationError(
                f"{onnx_file} is not a text encoder of this kind: its first output is {shape}, not one vector a token"
            )
        return _Model(session, inputs, output.name, tokenizer, counter)

    def _find(self, file: str) -> Path:
        """The path of a file: in the given folder, or in the hub's cache, downloaded if need be."""
        if self._folder is not None:
            return self._folder / file
        if not (self.spec.repository and self._revision):
            raise ConfigurationError(
                f"No revision of {self.spec.address} is pinned in the catalogue. "
                "Pass revision= with a commit of its repository, or model_path= with its files."
            )
        try:
            from huggingface_hub import hf_hub_download
        except ImportError:
            raise missing_extra("huggingface-hub, which downloads Nomic's files,", "nomic") from None
        path, problem = None, ""
        try:
            path = Path(hf_hub_download(self.spec.repository, file, revision=self._revision))
        except Exception as error:
            problem = type(error).__name__
        if path is None:
            raise ConfigurationError(
                f"{file} of {self.spec.repository} at {self._revision} is not in the hub's cache and could not be "
                f"downloaded ({problem}). Connect to the network once, unset HF_HUB_OFFLINE if it is set, "
                "or pass model_path= with a folder that has the files."
            )
        expected = self.spec.checksums.get(file) if self._pinned else None
        if expected is not None:
            with path.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
            if found != expected:
                raise ConfigurationError(
                    f"{path} is damaged: its SHA-256 is not the catalogue's. Delete it; it is downloaded again."
                )
        return path

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(encoding.ids) for encoding in self._loaded().counter.encode_batch_fast(list(texts))]

    def compute(self, model: _Model, batch: Batch) -> Answer:
        encodings = [encoding.ids for encoding in model.tokenizer.encode_batch_fast(list(batch.texts))]
        lengths = np.array([len(ids) for ids in encodings])
        vectors = np.empty((len(encodings), self.spec.native_dimensions), dtype=np.float32)
        for rows in rectangles(lengths, _RECTANGLE):
            vectors[rows] = _mean_hidden(model, [encodings[row] for row in rows], lengths[rows])
        return Answer(vectors, int(lengths.sum()))


def rectangles(lengths: NDArray[np.intp], bound: int) -> Iterator[NDArray[np.intp]]:
    """Rows of like length, to be computed together: as many as make no more than `bound` tokens, padding included.

    One that is longer goes alone.
    """
    order = np.argsort(lengths, kind="stable")
    start = 0
    for stop, row in enumerate(order):
        if stop > start and lengths[row] * (stop - start + 1) > bound:
            yield order[start:stop]
            start = stop
    yield order[start:]


def _mean_hidden(model: _Model, encodings: list[list[int]], lengths: NDArray[np.intp]) -> NDArray[np.float32]:
    """The mean over each text's own tokens: (n, D)."""
    ids = np.zeros((len(encodings), int(lengths.max())), dtype=np.int64)
    for row, encoding in zip(ids, encodings, strict=True):
        row[: len(encoding)] = encoding
    mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    hidden = model.session.run([model.output], {name: feeds[name] for name in model.inputs})[0]
    weights = mask.astype(np.float32) / lengths[:, None].astype(np.float32)
    pooled: NDArray[np.float32] = np.matmul(weights[:, None, :], hidden)[:, 0]
    return pooled
