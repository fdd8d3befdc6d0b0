"""A cache, a clock that never waits, and a real HTTP server on loopback whose pages may misbehave on purpose."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import pathlib
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from mlship.storage import backoff, cache, limits, progress


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        site.requests.append((self.command, self.path, dict(self.headers.items())))
        page = site.pages.get(self.path.partition("?")[0])
        if page is None:
            self.answer(404, b"nothing here")
        else:
            page(self)

    do_HEAD = do_GET  # noqa: N815 - the name http.server looks for

    def answer(self, status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> None:
        """One answer; ``length`` announces another length than the body's. Header names: _ for -."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        pass


Page = Callable[[Handler], None]


class Site:
    """``pages`` by path; ``requests``: (method, path, headers) in the order they came."""

    def __init__(self, port: int, scheme: str) -> None:
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []

    def count(self, method: str) -> int:
        return sum(found == method for found, _, _ in self.requests)


@dataclasses.dataclass
class File:
    """A page that serves ``data`` with ranges; each number in ``breaks`` hangs up after so many bytes, once."""

    data: bytes
    etag: str = '"one"'
    breaks: list[int] = dataclasses.field(default_factory=list)
    headers: dict[str, str] = dataclasses.field(default_factory=dict)

    def __call__(self, handler: Handler) -> None:
        tags = {"ETag": self.etag} if self.etag else {}
        if self.etag and handler.headers.get("If-None-Match") == self.etag:
            handler.answer(304, **tags)
            return
        start = self._start(handler)
        body = self.data[start:]
        ranged = {"Content_Range": f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"} if start else {}
        if handler.command != "HEAD" and self.breaks:
            handler.answer(206 if start else 200, body[: self.breaks.pop(0)], length=len(body), **ranged, **tags)
            handler.hang_up()
            return
        handler.answer(206 if start else 200, body, **ranged, **tags, **self.headers)

    def _start(self, handler: Handler) -> int:
        asked = re.match(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        return int(asked[1]) if asked and handler.headers.get("If-Range") == self.etag else 0


@pytest.fixture
def file() -> type[File]:
    return File


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away while it was written to is what some tests are about."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, ssl.SSLError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    found = Site(server.server_port, "http" if tls is None else "https")
    server.site = found  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as found:
        yield found


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl program to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", *subject]
    subprocess.run([*made, "-keyout", folder / "key", "-out", folder / "cert"], check=True, capture_output=True)
    (folder / "both").write_bytes((folder / "cert").read_bytes() + (folder / "key").read_bytes())
    return folder / "both"


@pytest.fixture
def secure_site(certificate: pathlib.Path) -> Iterator[Site]:
    """The same over TLS; who wants to trust it sets SSL_CERT_FILE to ``certificate``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(context) as found:
        yield found


@pytest.fixture
def store(tmp_path: pathlib.Path) -> cache.Cache:
    return cache.Cache(tmp_path / "cache")


@pytest.fixture
def volumes(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "volumes"


@pytest.fixture
def pace() -> backoff.Pace:
    """A clock that goes on by what is slept, and sleeps not at all."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return backoff.Pace(clock=lambda: now[0], sleep=sleep, jitter=lambda: 1.0)


@pytest.fixture
def meter() -> progress.Meter:
    return progress.Meter(lambda _: None, lambda: False)


@pytest.fixture
def bounds() -> limits.Limits:
    return limits.Limits(attempts=3, read_seconds=5, connect_seconds=5)


@pytest.fixture
def leftovers(store: cache.Cache) -> Callable[[], list[str]]:
    """What a fetch left in the cache apart from published entries, records and locks of digests."""

    def find() -> list[str]:
        folders = (store.root / "staging", store.root / "partial")
        return [str(path.relative_to(store.root)) for folder in folders for path in folder.rglob("*")]

    return find
