"""Everything to test against: the loopback emulator, the provider and cache contracts, the scripted driver."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mrlclient.testing.cache_contract import CacheContract
    from mrlclient.testing.emulator import Emulator
    from mrlclient.testing.provider_contract import ProviderContract
    from mrlclient.testing.scripted import ScriptedDriver

__all__ = ["CacheContract", "Emulator", "ProviderContract", "ScriptedDriver"]

#: Where each name lives; the contracts need pytest, the others do not.
_HOME_OF = {
    "CacheContract": "mrlclient.testing.cache_contract",
    "Emulator": "mrlclient.testing.emulator",
    "ProviderContract": "mrlclient.testing.provider_contract",
    "ScriptedDriver": "mrlclient.testing.scripted",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
