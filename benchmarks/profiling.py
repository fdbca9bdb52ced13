"""Where a call's time goes, layer by layer, as Python's profiler sees it."""

from __future__ import annotations

import cProfile
import pstats
from collections import Counter
from collections.abc import Callable
from typing import Any

#: Layers, in the order in which they are looked for, and what a place's file or name has in it.
LAYERS: dict[str, tuple[str, ...]] = {
    "the system: sending and receiving": ("_socket.socket", "/select", "select.poll", "select.epoll"),
    "HTTP: httpx2, httpcore2, h11": ("/httpx2/", "/httpcore2/", "/h11/"),
    "HTTP: timeouts, connections, the body put together": (
        "/providers/_http",
        "/providers/_network",
        "/providers/_body",
    ),
    "the request: JSON": ("/json/", "c_make_encoder"),
    "decoding: base64 into rows": ("pybase64", "binascii", "/providers/_numbers", "/providers/_wire"),
    "decoding: finding the vectors, parsing the rest": ("/providers/_scan", "/providers/_json"),
    "checking and unit length": ("/vectors.py", "/answers.py"),
    "planning: texts, sizes, batches": ("/plan.py", "/packing.py", "/tokens.py"),
}
_OTHER = "everything else: the flow, retries, limits, the result"


def profile(work: Callable[[], Any], repeat: int) -> dict[str, float]:
    """Seconds of a call in each layer. A function of the interpreter or of numpy counts for whoever calls it."""
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(repeat):
        work()
    profiler.disable()
    seconds: Counter[str] = Counter(dict.fromkeys([*LAYERS, _OTHER], 0.0))
    stats: dict[Any, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    for place, (_, _, own, _, callers) in stats.items():
        layer = _layer_of(place)
        if layer is not None or place[0] != "~" or not callers:
            seconds[layer or _OTHER] += own
            continue
        for caller, (_, _, part, _) in callers.items():
            seconds[_layer_of(caller) or _OTHER] += part
    return {layer: spent / repeat for layer, spent in seconds.items()}


def _layer_of(place: tuple[str, int, str]) -> str | None:
    where = f"{place[0]} {place[2]}".replace("\\", "/")
    return next((layer for layer, signs in LAYERS.items() if any(sign in where for sign in signs)), None)
