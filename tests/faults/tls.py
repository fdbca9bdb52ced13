"""Certificates of the tests' own authority, good and bad."""

from __future__ import annotations

import datetime
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import trustme

Certificate = Literal["good", "self-signed", "of an unknown authority", "of another host", "expired", "not yet valid"]

_HOST = "127.0.0.1"


@cache
def _authority(name: str) -> trustme.CA:
    return trustme.CA(organization_name=name)


@cache
def server_context(certificate: Certificate) -> ssl.SSLContext:
    """The server's side of TLS with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours, other = _authority("ours"), _authority("another's")
    if certificate == "self-signed":
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "own.pem"
            file.write_bytes(other.private_key_pem.bytes() + other.cert_pem.bytes())
            context.load_cert_chain(file)
        return context
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    issued = {
        "good": lambda: ours.issue_cert(_HOST),
        "of an unknown authority": lambda: other.issue_cert(_HOST),
        "of another host": lambda: ours.issue_cert("other.invalid"),
        "expired": lambda: ours.issue_cert(_HOST, not_before=now - 2 * day, not_after=now - day),
        "not yet valid": lambda: ours.issue_cert(_HOST, not_before=now + day, not_after=now + 2 * day),
    }
    issued[certificate]().configure_cert(context)
    return context


@contextmanager
def trusted(**environment: str) -> Iterator[None]:
    """The tests' authority is trusted by what is made inside; no proxy is set but in `environment`."""
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, environment):
        for name in list(os.environ):
            if name.lower().endswith("_proxy") and name not in environment:
                del os.environ[name]
        file = Path(folder) / "authority.pem"
        file.write_bytes(_authority("ours").cert_pem.bytes())
        os.environ["SSL_CERT_FILE"] = str(file)
        yield
