"""What the environment says."""

from __future__ import annotations

import os

#: Real Matryoshka embeddings that a wheel carries: they work without a key and without a network.
EMBEDDED_DEFAULT = "wordllama:l2-supercat-256"


def default_model() -> str:
    """The address in `MRLCLIENT_MODEL`, else the embedded default."""
    return os.environ.get("MRLCLIENT_MODEL", "").strip() or EMBEDDED_DEFAULT
