"""``python -m mrlclient.testing.emulator``: serves until Ctrl-C, and prints where and with which keys."""

from __future__ import annotations

import contextlib
import threading

from mrlclient.testing.emulator.emulator import Emulator


def main() -> None:
    """Prints the base URLs and the keys as lines that a shell can read, and serves until Ctrl-C."""
    with Emulator() as emulator:
        print(f"OPENAI_BASE_URL={emulator.openai_base_url}")
        print(f"OPENAI_API_KEY={emulator.openai_key}")
        print(f"VOYAGE_BASE_URL={emulator.voyage_base_url}")
        print(f"VOYAGE_API_KEY={emulator.voyage_key}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
