"""What a provider is: a pure dialect (encode, decode, translate), and the sending."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import anyio.to_thread

from mrlclient.errors import ConfigurationError, MRLError, ProviderError
from mrlclient.models import ModelSpec, catalogue, find_model
from mrlclient.operations import Answer
from mrlclient.packing import Packing
from mrlclient.plan import Batch

if TYPE_CHECKING:
    from mrlclient.limits import Quota


class Provider(ABC):
    """What computes the embeddings of one model.

    To add a provider, write a subclass, name it by an entry point of the group `mrlclient.providers`, and test it with
    `mrlclient.testing.ProviderContract`.

    Attributes:
        name: The part of an address before the colon.
        spec: The model.
        counts_tokens: Whether `count_tokens` works.
        encoding_formats: The formats in which a server is asked for vectors, such as `"base64"`; for telemetry.
        truncates_input: Whether it can embed the beginning of a text that is too long.
        quantizes: Whether it can ask its server for the types in `ModelSpec.server_dtypes`.
        model_settings: Arguments of the constructor that are about one model, such as where its files are. The others
            hold for all models of the provider.
    """

    name: ClassVar[str]
    counts_tokens: bool = False
    encoding_formats: tuple[str, ...] = ()
    truncates_input: bool = True
    quantizes: bool = False
    model_settings: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, model: str | ModelSpec) -> None:
        self.spec = model if isinstance(model, ModelSpec) else self.find_spec(model)
        if catalogue().aliases.get(self.spec.provider, self.spec.provider) != self.name:
            raise ConfigurationError(f"{self.spec.address} is not a model of the provider {self.name!r}.")
        if self.spec.server_dtypes and not self.quantizes:
            raise ConfigurationError(
                f"{self.name} cannot ask a server for {self.spec.server_dtypes[0]}: leave server_dtypes out of the "
                f"ModelSpec of {self.spec.address}. embed(dtype=...) makes codes here."
            )

    @classmethod
    def find_spec(cls, model: str) -> ModelSpec:
        """The model of that name, from the catalogue. Override it in a provider with models of its own.

        Args:
            model: A name, or an address whose provider is this one.

        Raises:
            UnknownModelError: If there is none; near misses are named.
        """
        return find_model(model if ":" in model else f"{cls.name}:{model}")

    @property
    def declared(self) -> ModelSpec:
        """The model as it was declared; `spec` may have more, where something is known of the server."""
        return self.spec

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments besides the model, as the plain values of a profile.

        Raises:
            ConfigurationError: If they are no plain values, or one of them is a secret.
        """
        raise ConfigurationError(
            f"{type(self).__name__} does not say its settings as plain values. Pass the address {self.spec.address!r} "
            "instead, or define settings() on the class, without a key in what it returns."
        )

    @property
    def identity(self) -> tuple[str, ...]:
        """What a vector depends on besides the model and its revision, for cache keys: the origin, the file."""
        return ()

    @property
    def revision(self) -> str | None:
        """The commit of the model's files; None where it is not known."""
        return self.spec.revision

    @property
    def origin(self) -> str | None:
        """Where requests go, as a URL; None for what is computed here."""
        return None

    @property
    def account(self) -> tuple[str, ...] | None:
        """Whose rate limits apply: the origin, the key's fingerprint, the model. None without limits."""
        return None

    @property
    def assumed_quota(self) -> Quota | None:
        """The rate limits to assume until an answer tells them; None if they are unknown."""
        return None

    @property
    @abstractmethod
    def packing(self) -> Packing:
        """How batches are packed."""

    @abstractmethod
    def encode(self, batch: Batch) -> Any:
        """The request for a batch. Pure."""

    @abstractmethod
    def decode(self, reply: Any, batch: Batch) -> Answer:
        """The answer in a reply. Pure.

        Raises:
            ProviderError: If the reply is an error, or does not hold one vector for each text.
            InputError: If one text is refused; `index` counts within the batch.
        """

    def translate(self, failure: Exception) -> MRLError:
        """Our error for what sending raised. Pure. It leaves the failure's own message out, which may hold a text."""
        return ProviderError(f"{self.spec.address} failed: {type(failure).__name__}", provider=self.name)

    def quota(self, reply: Any) -> Quota | None:
        """The rate limits that a reply tells; None if it tells none. Pure."""
        return None

    @abstractmethod
    def send(self, request: Any, timeout: float | None = None) -> Any:
        """Sends a request, or computes it, and returns the reply. Called from several threads at once.

        Args:
            request: What `encode` made.
            timeout: Seconds that it may take, if that is less than the provider's own timeout.
        """

    @abstractmethod
    async def asend(self, request: Any, timeout: float | None = None) -> Any:
        """The same for the running event loop."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens included; only where `counts_tokens`."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None:
        """Lets go of connections and memory. Further calls do nothing."""

    async def aclose(self) -> None:
        """The same for the running event loop, where connections belong to it."""
        self.close()

    def __reduce__(self) -> Any:
        # Left to itself, pickle would take everything along: a key, a connection, a loaded model.
        raise ConfigurationError(
            f"{type(self).__name__} does not say how it is pickled. Pass the address {self.spec.address!r} to the "
            "other process instead, or define __reduce__ on the class, without a key in what it returns."
        )

    def __repr__(self) -> str:
        spec = getattr(self, "spec", None)
        return f"{type(self).__name__}({'...' if spec is None else repr(spec.name)})"


class LocalProvider(Provider):
    """A provider that computes in this process: a request is a batch, and an async call takes a thread.

    Timeouts are ignored: a running computation cannot be stopped, and abandoning it would save nothing.
    """

    def __init__(self, model: str | ModelSpec) -> None:
        super().__init__(model)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._model: Any = None

    @abstractmethod
    def load(self) -> Any:
        """Loads the model from disk."""

    @abstractmethod
    def compute(self, model: Any, batch: Batch) -> Answer:
        """Embeds a batch at full width: (n, D) float32, and the tokens read."""

    def _loaded(self) -> Any:
        """The model, loaded once, by whichever thread needs it first."""
        if self._pid != os.getpid():
            # Another thread may have held the lock at the fork, and is not in this process to let go of it.
            self._pid, self._lock = os.getpid(), threading.Lock()
        with self._lock:
            if self._model is None:
                problem = ""
                try:
                    self._model = self.load()
                except MRLError:
                    raise
                except Exception as error:
                    # While loading there is no text that the error could hold.
                    problem = f"{type(error).__name__}: {error}"
                if problem:
                    raise ConfigurationError(f"{self.spec.address} could not be loaded: {problem}")
            return self._model

    def encode(self, batch: Batch) -> Batch:
        return batch

    def decode(self, reply: Answer, batch: Batch) -> Answer:
        return reply

    def send(self, request: Batch, timeout: float | None = None) -> Answer:
        return self.compute(self._loaded(), request)

    async def asend(self, request: Batch, timeout: float | None = None) -> Answer:
        return await anyio.to_thread.run_sync(self.send, request)

    def close(self) -> None:
        with self._lock:
            self._model = None
