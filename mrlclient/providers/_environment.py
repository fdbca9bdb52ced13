"""What the environment says of the way to a server: the certificates to trust, and the proxy to go through."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from mrlclient.errors import ConfigurationError

#: Where OpenSSL, and httpx2 with it, is told other certificates; the first one counts.
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def context_for(url: str) -> ssl.SSLContext:
    """The certificates to trust on the way to a server.

    Raises:
        ConfigurationError: If they cannot be read.
    """
    # Nobody is trusted where there is nothing to encrypt: to read certificates takes tens of milliseconds.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if urlsplit(url).scheme == "http" else _tls_context()


def _tls_context() -> ssl.SSLContext:
    """The certificates of `SSL_CERT_FILE` or `SSL_CERT_DIR` where one is set, else the system's.

    Raises:
        ConfigurationError: If they cannot be read.
    """
    problem = ""
    try:
        return _read_certificates(*(os.environ.get(name) for name in _CERTIFICATE_VARIABLES))
    except OSError as error:
        problem = type(error).__name__
    raise ConfigurationError(
        f"The certificates that {' or '.join(_CERTIFICATE_VARIABLES)} names could not be read ({problem})."
    )


@lru_cache(maxsize=8)
def _read_certificates(*named: str | None) -> ssl.SSLContext:
    """Read once for each setting: any number of clients may share it."""
    return httpx2.create_ssl_context()


def proxy_for(url: str) -> httpx2.Proxy | None:
    """The proxy of `HTTPS_PROXY` or `ALL_PROXY`, unless `NO_PROXY` names the host; on some systems, that of the system.

    Raises:
        ConfigurationError: If it is no address of a proxy.
    """
    parts = urlsplit(url)
    if parts.scheme == "http":
        # It would see the key of an unencrypted request, and a loopback address is not its business.
        return None
    proxies = getproxies()
    address = proxies.get("https") or proxies.get("all")
    if not address or proxy_bypass(parts.netloc):
        return None
    proxy: httpx2.Proxy | None = None
    with suppress(ValueError, httpx2.InvalidURL):
        # Their message quotes the address, which may hold a password.
        proxy = httpx2.Proxy(address if "://" in address else f"http://{address}")
    if proxy is None or not proxy.url.host:
        raise ConfigurationError(
            "HTTPS_PROXY or ALL_PROXY is not the URL of a proxy, such as 'http://proxy.example.com:3128'."
        )
    if proxy.url.scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigurationError("HTTPS_PROXY or ALL_PROXY names a SOCKS proxy. Install: pip install 'httpx2[socks]'")
    if proxy.url.scheme == "https":
        proxy.ssl_context = _tls_context()
    return proxy
