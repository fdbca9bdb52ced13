"""Haystack: `MRLTextEmbedder` for queries, `MRLDocumentEmbedder` for documents.

Pipelines know them as `haystack_integrations.components.embedders.mrlclient`, for Haystack loads no others. The file
has more than 300 lines because both components have the same face, which is documented at each.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from inspect import signature
from typing import Any, Self

from mrlclient import registry
from mrlclient._frames import discreet
from mrlclient.dimensions import check_width
from mrlclient.embedder import Embedder
from mrlclient.errors import ConfigurationError, InputError
from mrlclient.integrations._embedder import Model, embedder_of, missing
from mrlclient.result import EmbeddingResult
from mrlclient.wiring import spec_of

try:
    # From where they live: a checker without Haystack would take `haystack` itself for this file.
    from haystack.core.component import component
    from haystack.core.serialization import default_from_dict, default_to_dict
    from haystack.dataclasses import Document
    from haystack.utils.auth import Secret, SecretType
except ModuleNotFoundError as error:
    raise missing(error, "haystack") from None

_HOME = "haystack_integrations.components.embedders.mrlclient"


class _Component:
    """What both components share: the embedder, made when it is needed and closed where it was made."""

    def __init__(self, model: Model, dimensions: int | None, api_key: Secret | None, prefix: str, suffix: str) -> None:
        if api_key is not None and not isinstance(api_key, Secret):
            # It would be written down with the pipeline.
            raise ConfigurationError(
                f"api_key takes a Secret, not {type(api_key).__name__}: Secret.from_env_var('OPENAI_API_KEY'), the "
                "name of the variable that holds the key. Leave it out where that is the provider's own."
            )
        if model is None or isinstance(model, str):
            spec = spec_of(model)
            # The environment of another process may name another default.
            model = spec.address
            if dimensions is not None:
                check_width(spec, dimensions)
        self.model = model
        self.dimensions = dimensions
        self.api_key = api_key
        self.prefix = prefix
        self.suffix = suffix
        self._embedder: Embedder | None = None

    @discreet
    def warm_up(self) -> None:
        """Makes the embedder: here a missing key is an error.

        Raises:
            MRLError: As `Embedder`.
        """
        if self._embedder is None:
            self._embedder = _embedder(self.model, self.dimensions, self.api_key)

    async def warm_up_async(self) -> None:
        """`warm_up`; one embedder serves both."""
        self.warm_up()

    def close(self) -> None:
        """Closes the connections; another run makes new ones. An `Embedder` that you passed stays open."""
        embedder, self._embedder = self._embedder, None
        if embedder is not None and embedder is not self.model:
            embedder.close()

    async def close_async(self) -> None:
        """`close`, with the connections of the running event loop."""
        embedder, self._embedder = self._embedder, None
        if embedder is not None and embedder is not self.model:
            await embedder.aclose()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component that `to_dict` has written."""
        made: Self = default_from_dict(cls, data)
        return made

    def _to_dict(self, **more: Any) -> dict[str, Any]:
        # An embedder among the values is written by its own `to_dict`.
        written: dict[str, Any] = default_to_dict(
            self,
            model=dict(self.model) if isinstance(self.model, Mapping) else self.model,
            dimensions=self.dimensions,
            api_key=self.api_key,
            prefix=self.prefix,
            suffix=self.suffix,
            **more,
        )
        return written

    def _warm(self) -> Embedder:
        self.warm_up()
        assert self._embedder is not None
        return self._embedder


# `@component` makes each class anew, so that `super()` would not find it.
@component
class MRLTextEmbedder(_Component):
    """Embeds a query, for Haystack.

    Args:
        model: An address, a profile's values as from `Embedder.to_dict`, or an `Embedder`, which you close yourself. By
            default as `Embedder`.
        dimensions: The width of the embedding; the native width by default. A profile or an `Embedder` has its own.
        api_key: `Secret.from_env_var(...)`: the variable that holds the key. By default the provider's own variable. A
            token works with an address only, and cannot be serialised.
        prefix: Goes before the text.
        suffix: Goes after the text.

    Raises:
        MRLError: As `Embedder`. What an address does not show, such as a missing key, or a mistake in a profile, comes
            from `warm_up`.
    """

    __module__ = _HOME

    @discreet
    def __init__(
        self,
        model: Model = None,
        dimensions: int | None = None,
        *,
        api_key: Secret | None = None,
        prefix: str = "",
        suffix: str = "",
    ) -> None:
        _Component.__init__(self, model, dimensions, api_key, prefix, suffix)

    def to_dict(self) -> dict[str, Any]:
        """The settings, without a secret.

        Raises:
            ConfigurationError: If the model is an `Embedder` that cannot be written down.
            ValueError: Haystack's own, if the key is a token.
        """
        return self._to_dict()

    @component.output_types(embedding=list[float], meta=dict[str, Any])  # type: ignore[untyped-decorator]
    @discreet
    def run(self, text: str) -> dict[str, Any]:
        """Embeds a query.

        Args:
            text: The query.

        Returns:
            `embedding`: a unit vector. `meta`: the model, the width, and what it cost.

        Raises:
            MRLError: As `Embedder.embed`. A pipeline raises its own error from it.
        """
        result = self._warm().embed([self._text(text)], input_type="query", dtype="float32")
        return {"embedding": result[0].tolist(), "meta": _meta(result)}

    @component.output_types(embedding=list[float], meta=dict[str, Any])  # type: ignore[untyped-decorator]
    @discreet
    async def run_async(self, text: str) -> dict[str, Any]:
        """`run` for the running event loop."""
        result = await self._warm().aembed([self._text(text)], input_type="query", dtype="float32")
        return {"embedding": result[0].tolist(), "meta": _meta(result)}

    def _text(self, text: str) -> str:
        if not isinstance(text, str):
            raise InputError(
                f"MRLTextEmbedder embeds a string, not {type(text).__name__}. For documents there is "
                "MRLDocumentEmbedder."
            )
        if not text.strip():
            # With a prefix the provider would embed that alone.
            raise InputError("The text is empty or blank: there is nothing to embed. Leave it out.", index=0)
        return self.prefix + text + self.suffix


@component
class MRLDocumentEmbedder(_Component):
    """Embeds documents, for Haystack.

    Args:
        model: As for `MRLTextEmbedder`.
        dimensions: As for `MRLTextEmbedder`.
        api_key: As for `MRLTextEmbedder`.
        prefix: Goes before each text.
        suffix: Goes after each text.
        meta_fields_to_embed: Meta fields whose values are put before a document's content, if it has them.
        embedding_separator: Separates these values and the content.

    Raises:
        MRLError: As `MRLTextEmbedder`.
    """

    __module__ = _HOME

    @discreet
    def __init__(
        self,
        model: Model = None,
        dimensions: int | None = None,
        *,
        api_key: Secret | None = None,
        prefix: str = "",
        suffix: str = "",
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        _Component.__init__(self, model, dimensions, api_key, prefix, suffix)
        self.meta_fields_to_embed = meta_fields_to_embed or []
        self.embedding_separator = embedding_separator

    def to_dict(self) -> dict[str, Any]:
        """The settings, without a secret.

        Raises:
            ConfigurationError: If the model is an `Embedder` that cannot be written down.
            ValueError: Haystack's own, if the key is a token.
        """
        return self._to_dict(
            meta_fields_to_embed=self.meta_fields_to_embed, embedding_separator=self.embedding_separator
        )

    @component.output_types(documents=list[Document], meta=dict[str, Any])  # type: ignore[untyped-decorator]
    @discreet
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embeds all of the documents, or raises an error.

        Args:
            documents: Any number of documents. They are not changed.

        Returns:
            `documents`: copies with their embeddings, unit vectors. `meta`: the model, the width, and what it cost.

        Raises:
            InputError: If a document has neither content nor one of the meta fields; `index` says which.
            MRLError: As `Embedder.embed`. A pipeline raises its own error from it.
        """
        result = self._warm().embed(self._texts(documents), input_type="document", dtype="float32")
        return {"documents": _embedded(documents, result), "meta": _meta(result)}

    @component.output_types(documents=list[Document], meta=dict[str, Any])  # type: ignore[untyped-decorator]
    @discreet
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run` for the running event loop."""
        result = await self._warm().aembed(self._texts(documents), input_type="document", dtype="float32")
        return {"documents": _embedded(documents, result), "meta": _meta(result)}

    def _texts(self, documents: list[Document]) -> list[str]:
        if not isinstance(documents, list) or not all(isinstance(each, Document) for each in documents):
            raise InputError("MRLDocumentEmbedder embeds a list of documents. For a string there is MRLTextEmbedder.")
        return [self._text(index, document) for index, document in enumerate(documents)]

    def _text(self, index: int, document: Document) -> str:
        fields = [document.meta.get(field) for field in self.meta_fields_to_embed]
        parts = [*(str(value) for value in fields if value is not None), document.content or ""]
        if not any(part.strip() for part in parts):
            # With a prefix the provider would embed that alone.
            raise InputError(
                f"Document {index} has nothing to embed: neither content nor a value in meta_fields_to_embed.",
                index=index,
            )
        return self.prefix + self.embedding_separator.join(parts) + self.suffix


def _embedded(documents: list[Document], result: EmbeddingResult) -> list[Document]:
    # By position: two documents may have the same id.
    return [replace(each, embedding=row.tolist()) for each, row in zip(documents, result, strict=True)]


def _embedder(model: Model, dimensions: int | None, api_key: Secret | None) -> Embedder:
    """The embedder that is meant, with the key that is meant."""
    if api_key is None:
        return embedder_of(model, dimensions)
    if isinstance(model, Embedder) or (isinstance(model, Mapping) and "api_key_env" in model):
        raise ConfigurationError("api_key is given twice. Say it here, or where the embedder is made.")
    spec = spec_of(model) if isinstance(model, str) else None
    if spec is not None and "api_key" not in signature(registry.provider_class(spec.provider)).parameters:
        raise ConfigurationError(f"{model} takes no key. Leave api_key out.")
    if api_key.type is SecretType.ENV_VAR:
        variables = api_key.to_dict()["env_vars"]
        variable = next((each for each in variables if os.environ.get(each)), variables[0])
        return embedder_of(_profile(model, dimensions) | {"api_key_env": variable})
    if spec is None:
        raise ConfigurationError("A token works with an address only. Take Secret.from_env_var(...) as api_key.")
    provider = registry.provider_class(spec.provider)
    return Embedder(provider(spec, api_key=api_key.resolve_value()), dimensions=dimensions)  # type: ignore[call-arg]


def _profile(model: Model, dimensions: int | None) -> dict[str, Any]:
    if isinstance(model, Mapping):
        if dimensions is not None:
            raise ConfigurationError("dimensions is given twice. Say it where the embedder is made.")
        return dict(model)
    return {"model": model} if dimensions is None else {"model": model, "dimensions": dimensions}


def _meta(result: EmbeddingResult) -> dict[str, Any]:
    usage = result.usage
    counts = {"prompt_tokens": usage.tokens, "total_tokens": usage.tokens}  # by the names that tracers look for
    return {
        "model": result.spec.address,
        "dimensions": result.dimensions,
        "usage": counts | {"usd": usage.usd, "cached_texts": usage.cached_texts},
    }
