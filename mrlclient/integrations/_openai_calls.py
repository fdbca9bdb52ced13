"""What a call of `embeddings.create` means to an `Embedder`, and the answer in the types of `openai`."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral
from threading import Lock
from typing import Any, get_args

from openai import NotGiven, Omit
from openai.types import CreateEmbeddingResponse, Embedding
from openai.types.create_embedding_response import Usage

from mrlclient._frames import discreet
from mrlclient.dimensions import check_width
from mrlclient.embedder import Embedder
from mrlclient.errors import ConfigurationError, InputError, MRLError, UnknownModelError
from mrlclient.integrations._embedder import Model, embedder_of
from mrlclient.integrations._openai_errors import as_openai
from mrlclient.models import InputType
from mrlclient.plan import iterator_of
from mrlclient.result import EmbeddingResult
from mrlclient.wiring import check_choice

#: Where the client seems to send to: a host that can never exist (RFC 6761).
BASE_URL = "https://mrlclient.invalid/v1"

#: A width in a model's name. A version such as that of `gecko@003` is none.
_WIDTH = re.compile(r"(?P<name>.+)@(?P<width>[1-9]\d*)", re.DOTALL)

#: Why an argument of the client would be lost.
_LOST = {
    "user": "providers other than OpenAI do not take it",
    "extra_headers": "the answer may come from a cache or from this machine, and there is no raw response either",
    "extra_query": "the answer may come from a cache or from this machine",
    "timeout": "say it where the embedder is made: Embedder(..., deadline=...)",
}


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked for."""

    embedder: Embedder
    texts: Sequence[str] = field(repr=False)
    dimensions: int | None
    input_type: InputType | None
    as_base64: bool


class Calls:
    """Reads calls: which embedder a name means, and what of it.

    Attributes:
        made: The embedders that were made here, to be closed.
    """

    def __init__(self, models: Mapping[str, Model] | None, input_type: InputType | None) -> None:
        if not isinstance(models, Mapping | None):
            raise ConfigurationError(
                f"models must map the names that callers use to models, not be {type(models).__name__}: "
                "MRLOpenAI({'text-embedding-3-small': 'voyage:voyage-4'})."
            )
        _check_role(input_type)
        self.made: list[Embedder] = []
        self._input_type: InputType | None = input_type
        self._lock = Lock()
        self._embedders: dict[str, Embedder] = {}
        for name, model in (models or {}).items():
            self._add(name, model)

    @discreet
    def read(
        self,
        texts: object,
        model: str,
        dimensions: object,
        encoding_format: object,
        extra_body: object,
        lost: Mapping[str, object],
    ) -> Call:
        """The call that these arguments make.

        Raises:
            InputError: If the texts are token ids, or no texts at all; or the name is no string.
            UnknownModelError: If the name is neither an alias nor an address.
            DimensionsError: If the model cannot give the width.
            ConfigurationError: If an argument would be lost, or two say different things.
        """
        for name, value in lost.items():
            # A timeout of None is one too: none at all.
            if _is_given(value) and (value or name == "timeout"):
                raise ConfigurationError(f"{name} cannot be passed on: {_LOST[name]}. Leave it out.")
        if _is_given(encoding_format):
            check_choice("encoding_format", encoding_format, ("float", "base64"))
        embedder, width = self._find(model)
        wanted: Any = dimensions if _is_given(dimensions) and dimensions is not None else width
        if width is not None and wanted != width:
            raise ConfigurationError(f"dimensions={wanted!r} contradicts the width in the name {model!r}.")
        if wanted is not None:
            check_width(embedder.spec, wanted)
        return Call(embedder, _checked(texts), wanted, self._role(extra_body), encoding_format == "base64")

    def _find(self, name: str) -> tuple[Embedder, int | None]:
        """The embedder of that name, and the width that the name asks for."""
        if not isinstance(name, str):
            raise InputError(f"model must be a name or an address, not {type(name).__name__}.")
        width = None
        if name not in self._embedders and (match := _WIDTH.fullmatch(name)):
            name, width = match["name"], int(match["width"])
        with self._lock:
            if name not in self._embedders:
                self._add(name, _address(name))
            return self._embedders[name], width

    def _add(self, name: str, model: Model) -> None:
        self._embedders[name] = embedder_of(model)
        if not isinstance(model, Embedder):
            self.made.append(self._embedders[name])

    def _role(self, extra_body: object) -> InputType | None:
        if not extra_body:
            return self._input_type
        if not isinstance(extra_body, Mapping) or set(extra_body) != {"input_type"}:
            raise ConfigurationError("extra_body may hold input_type and nothing else: the rest would be lost.")
        role: InputType | None = extra_body["input_type"]
        _check_role(role)
        return role


def as_response(result: EmbeddingResult, as_base64: bool) -> CreateEmbeddingResponse:
    """A result in the client's own types, as the client itself fills them."""
    rows: Iterable[Any] = result.embeddings.tolist()
    if as_base64:
        rows = (base64.b64encode(row.astype("<f4").tobytes()).decode("ascii") for row in result.embeddings)
    tokens = result.usage.tokens
    response = CreateEmbeddingResponse.construct(
        data=[],
        model=result.spec.address,
        object="list",
        usage=None if tokens is None else Usage(prompt_tokens=tokens, total_tokens=tokens),
    )
    for index, row in enumerate(rows):
        item: Any = Embedding.construct(embedding=[], index=index, object="embedding")
        # Set, not given to `construct`, which would look at each number.
        item.embedding = row
        response.data.append(item)
    response._request_id = None  # there may have been several requests, or none
    return response


@contextmanager
def translated() -> Iterator[None]:
    """Makes our errors the client's too."""
    try:
        yield
    except MRLError as error:
        raise as_openai(error, f"{BASE_URL}/embeddings") from None


def _address(name: str) -> str:
    """A name that stands for no model here, which then has to be an address."""
    if ":" not in name:
        raise UnknownModelError(
            f"{name!r} is neither an address nor a name in models. Say what it stands for where the client is made: "
            f"MRLOpenAI({{{name!r}: 'provider:model'}})."
        )
    return name


def _checked(given: Any) -> Sequence[str]:
    texts = [given] if isinstance(given, str) else list(iterator_of(given))
    for index, text in enumerate(texts):
        if isinstance(text, Integral | Iterable) and not isinstance(text, str | bytes):
            raise InputError(
                f"Input {index} is token ids, which no other model reads as OpenAI's do. Pass texts. With "
                "langchain-openai: OpenAIEmbeddings(..., check_embedding_ctx_length=False).",
                index=index,
            )
    return texts


def _check_role(role: object) -> None:
    if role is not None:
        check_choice("input_type", role, get_args(InputType))


def _is_given(value: object) -> bool:
    return not isinstance(value, Omit | NotGiven)
