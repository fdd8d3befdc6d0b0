"""One HTTP exchange: a request, its redirects, and what its answer means. The one door to httpx in this package.

Rules kept here for every caller: redirects are followed by hand, counted, never from https to http nor to anything but
http(s), and credentials stay with the origin they were given for; the body is asked for and taken as it is stored
(no content coding), since a checksum is of the file's own bytes; no message holds credentials or signed queries.

``Transient`` means "the same request may succeed later"; the retry loop is the caller's (download.py, ``probe``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import urllib.parse
from collections.abc import Iterator, Mapping

import httpx

from mlship import errors
from mlship.storage import backoff, identity, limits, uri

_REDIRECTS = {301, 302, 303, 307, 308}
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_DOWNLOAD_BY_HAND = "or download it yourself and deploy the file"
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)\Z")


class Transient(Exception):
    """The exchange failed in a way that may pass. ``retry_after``: seconds the server asked for."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Client:
    """Exchanges of one fetch, over one connection pool. Close it."""

    def __init__(self, bounds: limits.Limits) -> None:
        # httpx logs whole addresses at INFO, signed queries included.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._bounds = bounds
        timeout = httpx.Timeout(bounds.read_seconds, connect=bounds.connect_seconds)
        self._client = httpx.Client(timeout=timeout, follow_redirects=False)

    def close(self) -> None:
        self._client.close()

    @contextlib.contextmanager
    def open(self, method: str, address: uri.Uri, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """The answer after all redirects, its body not yet read; the status is 200, 206, 304 or 416.

        Raises ``Transient``, also out of the with block when the body breaks off; ``errors.SpecError`` (the address,
        the credentials, a limit); ``errors.BackendError`` (a certificate, a broken server).
        """
        with contextlib.ExitStack() as stack:
            try:
                yield stack.enter_context(self._follow(method, address, headers))
            except httpx.TimeoutException as error:
                raise Transient(f"no answer within {self._patience(error):.0f} s") from error
            except httpx.TransportError as error:
                raise _broken(error, address) from error

    @contextlib.contextmanager
    def _follow(self, method: str, address: uri.Uri, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        url = dataclasses.replace(address, userinfo="").url
        auth = _login(address)
        for _ in range(self._bounds.max_redirects + 1):
            request = self._request(method, url, headers)
            response = self._send(request, auth)
            try:
                if response.status_code not in _REDIRECTS:
                    _judge(response, address)
                    yield response
                    return
                there = _next(url, response, address)
            finally:
                response.close()
            auth = auth if _origin(there) == _origin(url) else None
            url = there
        raise errors.SpecError(
            f"{address} was redirected more than {self._bounds.max_redirects} times, the limit max_redirects; "
            f"the last time to {uri.redact(url)}.",
            hint=f"Name the final address, {_DOWNLOAD_BY_HAND}.",
        )

    def _request(self, method: str, url: str, headers: Mapping[str, str]) -> httpx.Request:
        try:
            return self._client.build_request(method, url, headers={**headers, "Accept-Encoding": "identity"})
        except (httpx.InvalidURL, ValueError) as error:
            raise errors.SpecError(f"{uri.redact(url)} is no valid address.", hint="Check the URL.") from error

    def _send(self, request: httpx.Request, auth: tuple[str, str] | None) -> httpx.Response:
        try:
            return self._client.send(request, stream=True, auth=auth)
        except httpx.InvalidURL as error:  # httpx reads where a redirect leads even when it is not to follow it
            raise errors.SpecError(
                f"{uri.redact(str(request.url))} redirects to no http(s) address.", hint="Name the file itself."
            ) from error

    def _patience(self, error: httpx.TimeoutException) -> float:
        connecting = isinstance(error, httpx.ConnectTimeout)
        return self._bounds.connect_seconds if connecting else self._bounds.read_seconds


def identify(response: httpx.Response) -> identity.Identity:
    """The identity of the whole file behind a 200 or 206 answer."""
    total: int | None = None
    if response.status_code == 206:
        found = _RANGE.match(response.headers.get("content-range", ""))
        total = int(found[3]) if found and found[3] != "*" else None
    elif (length := response.headers.get("content-length", "")).isdigit():
        total = int(length)
    return identity.Identity(response.headers.get("etag", ""), response.headers.get("last-modified", ""), total)


def range_start(response: httpx.Response) -> int | None:
    """The offset of a 206 answer's first byte; None when it does not say."""
    found = _RANGE.match(response.headers.get("content-range", ""))
    return int(found[1]) if found else None


def probe(address: uri.Uri, *, bounds: limits.Limits, pace: backoff.Pace) -> identity.Identity:
    """What the server says about the file, without its body: HEAD, or one byte by GET where HEAD is refused.

    Raises ``errors.SpecError`` and ``errors.BackendError`` as a download would.
    """
    client = Client(bounds)
    try:
        failures = 0
        while True:
            try:
                return _probe_once(client, address)
            except Transient as error:
                failures += 1
                if failures >= bounds.attempts:
                    raise unreachable(address, failures, error) from error
                pause = backoff.delay(failures, jitter=pace.jitter(), retry_after=error.retry_after)
                pace.wait(pause)
    finally:
        client.close()


def unreachable(address: uri.Uri, tries: int, error: Transient) -> errors.BackendError:
    """The error of a server that could not be reached, or did not deliver, in ``tries`` attempts."""
    return errors.BackendError(
        f"{address} could not be fetched in {tries} attempts: {error}.",
        hint=f"Check the network, the proxy settings and that server (`curl -I` shows the same), {_DOWNLOAD_BY_HAND}.",
    )


def _probe_once(client: Client, address: uri.Uri) -> identity.Identity:
    try:
        with client.open("HEAD", address, {}) as response:
            return identify(response)
    except errors.SpecError:
        # Signed URLs and some servers allow GET only, so a refused HEAD proves nothing; GET's refusal is the one told.
        with client.open("GET", address, {"Range": "bytes=0-0"}) as response:
            return identify(response)


def _judge(response: httpx.Response, address: uri.Uri) -> None:
    """Raise unless the status is one that a caller can use."""
    status = response.status_code
    if status in (200, 206, 304, 416):
        return
    if status in _AGAIN:
        after = response.headers.get("retry-after", "")
        raise Transient(f"the server answered {status}", float(after) if after.isdigit() else None)
    if status in (401, 403):
        raise errors.SpecError(
            f"{address}: the server refused access ({status}).",
            hint=f"Use a signed address, or https://USER:PASSWORD@HOST/PATH, {_DOWNLOAD_BY_HAND}.",
        )
    if status in (404, 410):
        raise errors.SpecError(
            f"{address}: there is nothing at this address ({status}).", hint="Check the path; it is case-sensitive."
        )
    if 400 <= status < 500:
        raise errors.SpecError(f"{address}: the server refused the request ({status}).", hint="Check the address.")
    raise errors.BackendError(
        f"{address}: the server gave the unexpected status {status}.", hint=f"Try `curl -v`, {_DOWNLOAD_BY_HAND}."
    )


def _next(url: str, response: httpx.Response, address: uri.Uri) -> str:
    there = urllib.parse.urljoin(url, str(response.headers.get("location", "")))
    here, target = urllib.parse.urlsplit(url), urllib.parse.urlsplit(there)
    if target.scheme not in ("http", "https") or not target.hostname:
        raise errors.SpecError(
            f"{address} redirects to {uri.redact(there)}, which is no http(s) address.", hint="Name the file itself."
        )
    if here.scheme == "https" and target.scheme == "http":
        raise errors.SpecError(
            f"{address} redirects from https to the unprotected {uri.redact(there)}; that is refused.",
            hint="Name an address that stays on https.",
        )
    host = target.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit((target.scheme, host, target.path, target.query, ""))


def _origin(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc


def _login(address: uri.Uri) -> tuple[str, str] | None:
    if not address.userinfo:
        return None
    user, _, password = address.userinfo.partition(":")
    return urllib.parse.unquote(user), urllib.parse.unquote(password)


def _broken(error: httpx.TransportError, address: uri.Uri) -> Exception:
    text = str(error)[:200]
    if "CERTIFICATE" in text.upper():
        return errors.BackendError(
            f"{address}: the server's certificate is not trusted ({text}).",
            hint="Check the machine's clock and CA certificates (SSL_CERT_FILE names another bundle).",
        )
    if isinstance(error, httpx.RemoteProtocolError):
        return Transient(f"the server hung up or broke the protocol ({text})")
    if isinstance(error, httpx.ConnectError):
        return Transient(f"no connection ({text})")
    return Transient(f"the connection failed ({text or type(error).__name__})")
