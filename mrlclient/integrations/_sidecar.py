"""An index in a file, and its contract in a file beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mrlclient.contract import IndexContract
from mrlclient.errors import ConfigurationError
from mrlclient.integrations._index_vectors import held_contract


def sidecar(path: str | os.PathLike[str]) -> Path:
    """The file of an index's contract."""
    return Path(os.fspath(path) + ".contract.json")


def read_contract(path: str | os.PathLike[str]) -> IndexContract:
    """The contract beside an index's file.

    Args:
        path: The index's file.

    Raises:
        ConfigurationError: If there is no index or no contract, or it is damaged or cannot be read.
    """
    beside = sidecar(path)
    held = None
    try:
        held = beside.read_text(encoding="ascii")
    except FileNotFoundError:
        if not Path(path).exists():
            raise ConfigurationError(f"There is no index {os.fspath(path)}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(beside, error) from None
    return held_contract(held, f"The index {os.fspath(path)}")


def write_both(path: str | os.PathLike[str], contract: IndexContract, write: Callable[[str], object]) -> None:
    """Replaces an index and its contract.

    A reader in the meantime, or after the process was killed here, may find an index without a contract, but never one
    with the contract of another.

    Args:
        path: The index's file.
        contract: What its vectors are.
        write: Writes the index to a path.

    Raises:
        ConfigurationError: If they cannot be written.
    """
    index, beside = Path(path), sidecar(path)
    new, new_beside = Path(f"{index}.new"), Path(f"{beside}.new")
    text = contract.to_json()
    try:
        try:
            write(str(new))
            new_beside.write_text(text, encoding="ascii")
            if not _holds(beside, text):
                beside.unlink(missing_ok=True)
            new.replace(index)
            new_beside.replace(beside)
        finally:
            for left in (new, new_beside):
                with suppress(OSError):
                    left.unlink(missing_ok=True)
    # The stores' own code says RuntimeError where a file cannot be opened.
    except (OSError, RuntimeError) as error:
        raise _unusable(index, error) from None


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="ascii") == text
    except (OSError, UnicodeDecodeError):
        return False


def _unusable(path: Path, error: Exception) -> ConfigurationError:
    # FAISS's message begins with a place in its own code.
    reason = getattr(error, "strerror", None) or str(error).rpartition("Error: ")[2] or type(error).__name__
    return ConfigurationError(f"{path} cannot be used: {reason}.")
