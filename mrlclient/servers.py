"""What is known of servers that speak OpenAI's API: a row of `catalogue.toml` each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

#: What a server does with the parameter `dimensions`.
Cut = Literal["honours", "ignores", "slices_without_l2", "pads", "refuses"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server with OpenAI's `/embeddings`. What is None is not known.

    Attributes:
        name: How it is called here.
        dimensions: What it does with the parameter of that name. Only `"honours"` is trusted: slice, then L2.
        base_url: Where it is found unless it was told otherwise.
        truncates_input: Whether it embeds the beginning of an over-long text, without a word.
        centers_nomic: Whether it puts the layer norm of Nomic Embed v1.5 before the cut.
        answers_with: Whose name for the model stands in its answers: the one that was asked for, or its own. Only of
            the latter an answer of another model can be known.
        max_inputs: Texts that it takes in one request, unless it was told otherwise.
        sources: The source and date of each value.
    """

    name: str
    dimensions: Cut | None = None
    base_url: str | None = None
    truncates_input: bool | None = None
    centers_nomic: bool | None = None
    answers_with: Literal["asked", "own"] | None = None
    max_inputs: int | None = None
    sources: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)
