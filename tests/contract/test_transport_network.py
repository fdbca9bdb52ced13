"""Certificates and proxies: what the environment names is used, what it does not is not, and no key goes astray."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import suppress

import pytest
import trustme

from mrlclient import ConfigurationError, ProviderConnectionError
from mrlclient.providers._environment import proxy_for
from mrlclient.providers._exchange import Reply
from tests.contract.exchanges import ANSWER, FACES, KEY, exchange
from tests.contract.raw_server import raw_server, read_request


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch):
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def certificates(authority, tmp_path):
    """The authority's certificate, in a file."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def tls_server(authority):
    """A server for `localhost` with a certificate of the authority; `heads` has what reached it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    heads = []

    def handle(server, connection):
        head, _ = read_request(connection)
        heads.append(head)
        connection.sendall(ANSWER)

    with raw_server(handle, context) as server:
        server.heads = heads
        server.url = f"https://localhost:{server.port}"
        yield server


@pytest.mark.parametrize("face", FACES)
def test_certificates_of_the_environment(face, tls_server, certificates, tmp_path, monkeypatch):
    """A changed variable holds for the next provider of the same process."""
    refused = exchange(tls_server.url, face)
    assert type(refused) is ProviderConnectionError
    assert not refused.retryable
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    assert exchange(tls_server.url, face).status == 200
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    assert not exchange(tls_server.url, face).retryable
    assert len(tls_server.heads) == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to name the file in the folder")
def test_a_folder_of_certificates(tls_server, certificates, tmp_path, monkeypatch):
    named = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", certificates], capture_output=True, text=True, check=True
    )
    folder = tmp_path / "certificates"
    folder.mkdir()
    shutil.copy(certificates, folder / f"{named.stdout.strip()}.0")
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    assert exchange(tls_server.url, "sync").status == 200


def test_a_certificate_of_another_host(tls_server, certificates, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    error = exchange(tls_server.url.replace("localhost", "127.0.0.1"), "sync")
    assert type(error) is ProviderConnectionError
    assert not error.retryable
    assert tls_server.heads == []


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_certificates_that_cannot_be_read(content, tmp_path, monkeypatch):
    path = tmp_path / "wrong.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    error = exchange("https://localhost:1", "sync")
    assert type(error) is ConfigurationError
    assert "SSL_CERT_FILE" in str(error)


@pytest.fixture
def proxy(tls_server):
    """A proxy that tunnels to the TLS server, whatever host it is asked for; `heads` has what it was told."""
    heads = []

    def pump(source, target):
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def handle(server, connection):
        heads.append(read_request(connection)[0])
        with socket.create_connection(("127.0.0.1", tls_server.port)) as upstream:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(upstream, connection), daemon=True)
            back.start()
            pump(connection, upstream)
            back.join(5)

    with raw_server(handle) as server:
        server.heads = heads
        server.url = f"http://127.0.0.1:{server.port}"
        yield server


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment(variable, face, proxy, tls_server, certificates, monkeypatch):
    """It is told the host, and sees neither the key nor the texts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    monkeypatch.setenv(variable, proxy.url.replace("//", "//user:pass%20word@"))
    assert exchange(tls_server.url, face).status == 200
    (head,) = proxy.heads
    assert head.startswith(b"CONNECT localhost:")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=" in head
    assert KEY.encode() not in head
    assert KEY.encode() in tls_server.heads[0]
    assert b"Proxy-" not in tls_server.heads[0]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize("value", ["localhost", "example.com, localhost", "*"])
def test_a_host_without_a_proxy(variable, value, face, proxy, tls_server, certificates, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv(variable, value)
    assert exchange(tls_server.url, face).status == 200
    assert proxy.heads == []


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    ("answer", "retryable"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", False),
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", True),
        (b"", True),
    ],
)
def test_a_proxy_that_refuses(answer, retryable, face, monkeypatch):
    def handle(server, connection):
        read_request(connection)
        connection.sendall(answer)

    with raw_server(handle) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:canary@127.0.0.1:{server.port}")
        error = exchange("https://mrlclient.invalid", face)
    assert type(error) is ProviderConnectionError
    assert error.retryable == retryable
    assert "canary" not in str(error)


@pytest.mark.parametrize(
    "value", ["ftp://user:canary@proxy", "http://", "http://user:canary@p:port", "socks5://user:canary@p"]
)
def test_what_is_no_proxy(value, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY") as caught:
        proxy_for("https://api.openai.com/v1/embeddings")
    assert "canary" not in str(caught.value)
    assert proxy_for("http://127.0.0.1:8000") is None


@pytest.mark.parametrize("face", FACES)
def test_a_proxy_reached_over_tls(face, authority, certificates, tls_server, monkeypatch):
    """The proxy's own certificate is looked at too, and with the same authorities."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    heads = []

    def handle(server, connection):
        heads.append(read_request(connection)[0])
        connection.sendall(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")

    with raw_server(handle, context) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"https://localhost:{server.port}")
        assert not exchange(tls_server.url, face).retryable
        assert heads == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
        error = exchange(tls_server.url, face)
    assert not isinstance(error, Reply)
    assert "503" in str(error)
    assert len(heads) == 1
