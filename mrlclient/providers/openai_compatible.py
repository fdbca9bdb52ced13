"""Any other server with OpenAI's `/embeddings`: Ollama, TEI, vLLM, a gateway. What is known of each is a row."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mrlclient.errors import ConfigurationError, DimensionsMismatchError, UnknownModelError
from mrlclient.models import ModelSpec, catalogue
from mrlclient.operations import Answer
from mrlclient.plan import Batch
from mrlclient.providers._credentials import NO_KEY, hidden
from mrlclient.providers._exchange import Reply
from mrlclient.providers._openai_dialect import OpenAIDialect
from mrlclient.providers._refusals import BATCH_TOO_LARGE, INPUT_TOO_LARGE
from mrlclient.servers import Server
from mrlclient.tokens import token_bound

if TYPE_CHECKING:
    import openai
    from numpy.typing import NDArray

#: As many zeros at the end of all vectors of an answer are no accident.
_PADDING = 8

#: Words of an error that is about the width.
_ABOUT_WIDTH = re.compile(r"matryoshka|\bdimensions?\b", re.IGNORECASE)

#: What such servers say, whatever the status, and what it is called here.
_SAID = {"is too large to process": INPUT_TOO_LARGE, "maximum allowed batch size": BATCH_TOO_LARGE}

_DECLARE = (
    "OpenAICompatible({name!r}, base_url=..., native_dimensions=..., matryoshka=...), or a profile of the "
    "configuration with model, base_url or server, and spec"
)


class OpenAICompatible(OpenAIDialect):
    """A model on any server with OpenAI's API, such as one of your own.

    The server's parameter `dimensions` is used only if it can be trusted: if `server` names one that honours it and the
    model's recipe is a plain cut, or if the model's `server_dimensions` says so. Otherwise the full width is asked for,
    and cut here.

    Args:
        model: A declared model, `ModelSpec(provider="openai-compatible", ...)`; or its name on the server, together
            with `native_dimensions` and `matryoshka`.
        native_dimensions: With a name: the model's full width.
        matryoshka: With a name: whether the model was trained to be cut.
        base_url: The server's URL, such as `"http://localhost:8080/v1"`; requests go to `/embeddings` below it.
        server: The kind of server, such as `"ollama"`: a row of `catalogue().servers`. It says how far the server can
            be trusted, and its usual address.
        api_key: The key. By default none is sent, whatever the environment holds.
        api_key_env: Instead of the key, the environment variable that holds it.
        timeout: Seconds that one request may take, the body included.
        client: An official client to send through instead: `openai.OpenAI` or `AsyncOpenAI`. It has its own address
            and key; see `OpenAI`.
        count_tokens: As for `OpenAI`. With the model's `max_input_tokens`, texts that are too long are then refused
            here, also for a server that would cut them without a word.

    Raises:
        MissingCredentialsError: If the variable `api_key_env` is empty, or a key cannot be sent.
        ConfigurationError: If the declaration of the model is incomplete, there is no address, `server` is unknown, or
            a key would travel unencrypted.
    """

    name = "openai-compatible"
    key_variable: ClassVar[str | None] = None
    vendor_urls: ClassVar[tuple[str, ...]] = ()
    model_settings = frozenset({"native_dimensions", "matryoshka"})
    #: The least that a known server takes.
    default_max_inputs: ClassVar[int] = 32

    def __init__(
        self,
        model: str | ModelSpec,
        *,
        native_dimensions: int | None = None,
        matryoshka: bool | None = None,
        base_url: str | None = None,
        server: str | None = None,
        api_key: str | None = None,
        api_key_env: str | None = None,
        timeout: float = 60.0,
        client: openai.OpenAI | openai.AsyncOpenAI | None = None,
        count_tokens: Callable[[Sequence[str]], Sequence[int]] | None = None,
    ) -> None:
        key = hidden(api_key)
        # A frame shows its variables to whoever prints a traceback with them.
        del api_key
        self._server = _known(server)
        self.truncates_input = bool(self._server.truncates_input)
        self._declared = _declared(model, native_dimensions, matryoshka)
        super().__init__(
            _as_served(self._declared, self._server),
            key=key,
            api_key_env=api_key_env,
            base_url=base_url,
            timeout=timeout,
            client=client,
            count_tokens=count_tokens,
        )
        self._settings["server"] = server

    @classmethod
    def find_spec(cls, model: str) -> ModelSpec:
        name = model.removeprefix(f"{cls.name}:")
        raise UnknownModelError(
            f"Where {cls.name}:{name} is, and how wide, its name does not say. Declare it: "
            f"{_DECLARE.format(name=name)}."
        )

    @property
    def declared(self) -> ModelSpec:
        # What is known of servers may change; what was declared may not.
        return self._declared

    def _default_base_url(self, api_key: str) -> str:
        if self._server.base_url is None:
            known = [name for name, server in catalogue().servers.items() if server.base_url]
            raise ConfigurationError(
                f"Where the server of {self.spec.address} is, is not known. Pass base_url=, such as "
                f"'http://localhost:8080/v1', or server= for one with a usual address: {', '.join(known)}."
            )
        return self._server.base_url

    def decode(self, reply: Reply, batch: Batch) -> Answer:
        answer = super().decode(reply, batch)
        width, filled = answer.vectors.shape[1], _filled(answer.vectors)
        if 0 < filled <= width - _PADDING:
            raise DimensionsMismatchError(
                f"{self.spec.address} answered with vectors of {filled} dimensions, padded with zeros to {width}. "
                "Declare the model's real width as native_dimensions.",
                provider=self.name,
                status=reply.status,
            )
        note = self._maybe_cut(batch)
        return answer if note is None else replace(answer, notes=(*answer.notes, note))

    def _maybe_cut(self, batch: Batch) -> str | None:
        """What to tell where the server may have cut a text without a word; None where it has not."""
        limit = self.spec.max_input_tokens
        if not self.truncates_input or batch.truncate_input or limit is None:
            return None
        if all(token_bound(text) <= limit for text in batch.texts) or self.counts_tokens:
            return None
        return (
            f"{self.spec.address}: a text may have more than {limit} tokens, of which the server ignores the rest. "
            "Pass count_tokens= to have such texts refused, or truncate_input=True."
        )

    def _error_details(self, body: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
        message, code, parameter = super()._error_details({"error": _error_of(body)})
        code = next((name for words, name in _SAID.items() if words in message), code)
        if parameter is None and _ABOUT_WIDTH.search(message):
            parameter = "dimensions"
        return message, code, parameter

    def _advice(self, status: int, parameter: str | None) -> str:
        if status in (401, 403) and self._key is NO_KEY:
            return "No key was sent: pass api_key or api_key_env"
        if parameter == "dimensions" and self.spec.server_dimensions is not None:
            return "Leave server= and server_dimensions out: the full width is then asked for, and cut here"
        return ""


def _known(server: str | None) -> Server:
    """The row of that name; one that knows nothing for None."""
    if server is None:
        return Server(name="")
    servers = catalogue().servers
    if not isinstance(server, str) or server not in servers:
        near = difflib.get_close_matches(str(server), servers, n=1)
        raise ConfigurationError(
            f"There is no server {server!r}. "
            + (f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(servers)}.")
            + " For any other, pass base_url= alone."
        )
    return servers[server]


def _declared(model: str | ModelSpec, native_dimensions: int | None, matryoshka: bool | None) -> ModelSpec:
    if isinstance(model, ModelSpec):
        if native_dimensions is None and matryoshka is None:
            return model
        raise ConfigurationError("The ModelSpec says native_dimensions and matryoshka: leave them out beside it.")
    if not isinstance(model, str):
        raise ConfigurationError(f"A model is a ModelSpec or a name on the server, not {type(model).__name__}.")
    name = model.removeprefix(f"{OpenAICompatible.name}:")
    if native_dimensions is None or matryoshka is None:
        raise ConfigurationError(
            f"Of a name alone nothing is guessed: pass native_dimensions= and matryoshka= with {name!r}, or a "
            "ModelSpec."
        )
    return ModelSpec(
        provider=OpenAICompatible.name, name=name, native_dimensions=native_dimensions, matryoshka=matryoshka
    )


def _as_served(spec: ModelSpec, server: Server) -> ModelSpec:
    """The model with what is known of its server, where the declaration leaves that open."""
    if spec.max_inputs is None and server.max_inputs is not None:
        spec = replace(spec, max_inputs=server.max_inputs)
    is_plain = spec.matryoshka and spec.recipe == "slice_l2"
    if spec.server_dimensions is None and is_plain and server.dimensions == "honours":
        # Slice, then L2: the same as is done here.
        spec = replace(spec, server_dimensions="any", server_cut_is_prefix=True)
    return spec


def _filled(vectors: NDArray[np.float32]) -> int:
    """How many numbers there are before those that are zero in all vectors."""
    width: int = vectors.shape[1]
    if vectors[:, -_PADDING:].any():
        return width
    columns = np.flatnonzero(vectors.any(axis=0))
    return int(columns[-1]) + 1 if len(columns) else 0


def _error_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """An error in the shape of OpenAI's, whichever of these a server speaks.

    `{"error": {"message", "type", "param", "code"}}` as OpenAI; `{"message", "type", "code"}` as TEI and older vLLM;
    `{"error", "error_type"}` as TEI; `{"error"}` as Ollama; `{"detail"}` as FastAPI.
    """
    error, detail = body.get("error"), body.get("detail")
    if isinstance(error, Mapping):
        return error
    if isinstance(error, str):
        return {"message": error, "type": body.get("error_type")}
    if isinstance(detail, str):
        return {"message": detail}
    if isinstance(detail, list):
        # An item may hold what was sent beside these two.
        items = [item for item in detail if isinstance(item, Mapping)]
        places = [item["loc"][-1] for item in items if isinstance(item.get("loc"), list) and item["loc"]]
        return {
            "message": "; ".join(str(item["msg"]) for item in items if "msg" in item),
            "param": next((place for place in places if isinstance(place, str) and place != "body"), None),
        }
    return body
