"""What a server does with the parameter for the width."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mrlclient.dimensions import Resolution, resolve
from mrlclient.embedder import Embedder
from mrlclient.errors import BadRequestError, ConfigurationError, DimensionsMismatchError, MRLError
from mrlclient.models import ModelSpec, is_width
from mrlclient.plan import Batch
from mrlclient.providers.base import Provider
from mrlclient.servers import Cut
from mrlclient.vectors import l2_normalize, truncate_dimensions

if TYPE_CHECKING:
    from numpy.typing import NDArray

Behaviour = Literal[Cut, "differs"]

#: What is sent: short sentences, unlike each other.
SENTENCES = (
    "Whales live in the sea and breathe air.",
    "The bakery on the corner opens at six in the morning.",
    "A matrix is symmetric if it equals its transpose.",
    "She repaired the old bicycle in an afternoon.",
)
#: How many requests are sent.
REQUESTS = 3
#: The largest distance of two vectors that count as the same: half precision and another batch make a difference.
TOLERANCE = 2e-3

_SAID: dict[str, str] = {
    "honours": "It cuts as is done here: slice, then L2. The model's server_dimensions may name this width.",
    "ignores": "It sends the full width all the same. Leave server_dimensions out: the cut is made here.",
    "slices_without_l2": "It cuts, and leaves the vectors too short. Here they are put right; elsewhere see to it.",
    "pads": "It fills the vectors up with zeros. Leave server_dimensions out.",
    "refuses": "It refuses the parameter. Leave server_dimensions out: the full width is asked for, and cut here.",
    "differs": "What it sends is no prefix of the full vector. Leave server_dimensions out, and do not mix the two.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerProbe:
    """What a server answers to a reduced width.

    Attributes:
        model: The model's address.
        origin: The server.
        native_dimensions: The full width.
        dimensions: The width that was asked for.
        received: The width of the answer; None without a usable answer.
        behaviour: `"honours"`: slice, then L2. `"ignores"`: the answer has the full width. `"slices_without_l2"`: cut,
            but not to unit length. `"pads"`: padded with zeros. `"refuses"`: an error. `"differs"`: anything else.
        distance: The largest distance between a text's vector and the prefix of its full vector, both of unit length;
            None if there is nothing to compare.
        noise: The largest distance between two answers at the full width: the server's own noise.
        length: The mean L2 norm of the vectors as the server sent them; None without a usable answer.
        requests: How many requests were sent.
    """

    model: str
    origin: str
    native_dimensions: int
    dimensions: int
    received: int | None
    behaviour: Behaviour
    distance: float | None
    noise: float
    length: float | None
    requests: int = REQUESTS

    @property
    def advice(self) -> str:
        """What to write into the model's declaration."""
        return _SAID[self.behaviour]

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values, ready for JSON."""
        return asdict(self) | {"advice": self.advice}


def probe_server(embedder: Embedder, dimensions: int | None = None) -> ServerProbe:
    """Finds out, by asking, what a server does with the parameter for the width.

    It sends three requests of four short sentences, about 40 tokens each: two for the full width, one for a reduced
    width. There is no cache, no fallback and no retry. The model need not be Matryoshka: the vectors are only compared.

    Args:
        embedder: An embedder of the model.
        dimensions: The reduced width. By default the widest of the model's `server_dimensions` below the full width,
            else half the full width.

    Raises:
        ConfigurationError: If there is no server, or the width is not below the full width.
        ProviderError: If a request fails. That a server refuses the reduced width is no error.
    """
    provider = provider_of(embedder)
    spec, width = provider.spec, reduced_width(provider.spec, dimensions)
    whole = resolve(spec, None)
    full, again = _asked(provider, whole), _asked(provider, whole)
    if not full.shape == again.shape == (len(SENTENCES), spec.native_dimensions):
        raise DimensionsMismatchError(
            f"{spec.address} answered with vectors of {full.shape[1]} dimensions, and is declared with "
            f"{spec.native_dimensions}. Declare the model's real width as native_dimensions.",
            provider=spec.provider,
        )
    noise = _distance(l2_normalize(full), l2_normalize(again))
    cut: NDArray[np.float32] | None = None
    behaviour: Behaviour = "differs"
    try:
        cut = _asked(provider, Resolution(width, width, width, "server"))
    except BadRequestError:
        # The same request without the width was taken twice.
        behaviour = "refuses"
    except DimensionsMismatchError:
        behaviour = "pads"
    distance = length = None
    if cut is not None:
        expected = truncate_dimensions(full, width, center=spec.is_centered)
        behaviour, distance = _compared(cut, full, expected, TOLERANCE + 2 * noise)
        length = float(np.linalg.norm(cut, axis=1).mean())
    return ServerProbe(
        model=spec.address,
        origin=provider.origin or "",
        native_dimensions=spec.native_dimensions,
        dimensions=width,
        received=None if cut is None else cut.shape[1],
        behaviour=behaviour,
        distance=distance,
        noise=noise,
        length=length,
    )


def provider_of(embedder: Embedder) -> Provider:
    """The provider of an embedder's own model.

    Raises:
        ConfigurationError: If it computes here.
    """
    provider = embedder._engine.documents.main.provider
    assert isinstance(provider, Provider)
    if provider.origin is None:
        raise ConfigurationError(f"{provider.spec.address} is computed here: there is no server to ask.")
    return provider


def reduced_width(spec: ModelSpec, dimensions: int | None) -> int:
    """The width to ask for.

    Raises:
        ConfigurationError: If it is not below the full one.
    """
    native = spec.native_dimensions
    if dimensions is None:
        listed = spec.server_dimensions if isinstance(spec.server_dimensions, tuple) else ()
        dimensions = max((width for width in listed if width < native), default=native // 2)
    if not is_width(dimensions) or not dimensions < native:
        raise ConfigurationError(f"The width to ask for is below the full one, {native}, not {dimensions!r}.")
    return dimensions


def _asked(provider: Provider, resolution: Resolution) -> NDArray[np.float32]:
    """What the server sends for the sentences, as it is."""
    batch = Batch(SENTENCES, range(len(SENTENCES)), resolution, provider.spec.default_input_type, False)
    request = provider.encode(batch)
    failure, reply = None, None
    try:
        reply = provider.send(request)
    except MRLError:
        raise
    except Exception as error:
        failure = provider.translate(error)
    if failure is not None:
        # Outside the except: the foreign error may hold what was sent.
        raise failure
    vectors: NDArray[np.float32] = provider.decode(reply, batch).vectors
    return vectors


def _compared(
    cut: NDArray[np.float32], full: NDArray[np.float32], expected: NDArray[np.float32], tolerance: float
) -> tuple[Behaviour, float | None]:
    width = expected.shape[1]
    if cut.shape[1] > width and not cut[:, width:].any():
        return "pads", None
    if cut.shape == full.shape:
        distance = _distance(l2_normalize(cut), l2_normalize(full))
        return ("ignores" if distance <= tolerance else "differs"), distance
    if cut.shape != expected.shape or not cut.any(axis=1).all():
        return "differs", None
    distance = _distance(l2_normalize(cut), expected)
    if distance > tolerance:
        return "differs", distance
    unit = np.abs(np.linalg.norm(cut, axis=1) - 1).max() <= tolerance
    return ("honours" if unit else "slices_without_l2"), distance


def _distance(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(left - right, axis=1).max())
