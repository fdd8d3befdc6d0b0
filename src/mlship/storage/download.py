"""A file from an HTTP server, whole: streamed, hashed on the way, resumed where it broke off, at most so many tries.

The bytes go to the address's ``Partial`` under its lock and leave it by one rename when complete, so two processes that
want the same address download it once: the second finds it remembered and asks "modified since?".

Resuming uses Range with If-Range: a server whose file changed meanwhile sends it from the start. Without a validator
(etag or modification date) nothing is resumed, since the halves might be of different files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import email.message
import os
import pathlib
import re
import urllib.parse
from collections.abc import Iterator

import httpx

from mlship import errors
from mlship.storage import backoff, cache, files, http, identity, limits, locks, partial, progress, remember, uri

# A suffix that says something; the ".0" of a version number is none.
_SUFFIX = re.compile(r".\.[A-Za-z][A-Za-z0-9]{0,15}\Z")
_PATIENCE = 600.0  # at least as long as the last bytes of a large file may take to reach the disk
_CODED_ANYWAY = (".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zip")


@dataclasses.dataclass(frozen=True, slots=True)
class Downloaded:
    """A complete file. ``name`` is sanitised and keeps the suffix; ``about`` is the server's word on its version."""

    digest: str
    size: int
    name: str
    about: identity.Identity


@dataclasses.dataclass(frozen=True, slots=True)
class Unchanged:
    """The server says that what the cache holds is still what it has."""

    record: remember.Record


@contextlib.contextmanager
def download(
    address: uri.Uri,
    target: pathlib.Path,
    *,
    store: cache.Cache,
    bounds: limits.Limits,
    meter: progress.Meter,
    pace: backoff.Pace,
) -> Iterator[Downloaded | Unchanged]:
    """Fetch ``address`` to ``target`` (on the cache's disk), or learn that the cache is up to date.

    The address stays locked inside the with block, so that others who wait for it find it published and remembered.
    Raises ``errors.SpecError`` (refused by the server, too large, coded), ``errors.BackendError`` (network, disk).
    """
    key = partial.key_of(address.url)
    lock = partial.lock_of(store, key)
    waiting = locks.held(
        lock,
        patience=max(_PATIENCE, bounds.attempts * (bounds.read_seconds + backoff.CAP)),
        pulse=lambda: partial.pulse_of(store, key),
        check=meter.check,
        clock=pace.clock,
        sleep=pace.sleep,
    )
    with files.into_cache(store.root), waiting:
        meter.beat(lambda: os.utime(lock))
        try:
            with partial.Partial(store, key) as part:
                done = _Download(address, part, store=store, bounds=bounds, meter=meter, pace=pace).run()
                if isinstance(done, Downloaded):
                    part.take(target)
            yield done
        finally:
            meter.beat(lambda: None)
            lock.unlink(missing_ok=True)


class _Download:
    """The tries of one download. A try that brings bytes beyond the farthest point so far sets the count back."""

    def __init__(
        self,
        address: uri.Uri,
        part: partial.Partial,
        *,
        store: cache.Cache,
        bounds: limits.Limits,
        meter: progress.Meter,
        pace: backoff.Pace,
    ) -> None:
        self._address = address
        self._part = part
        self._store = store
        self._bounds = bounds
        self._meter = meter
        self._pace = pace
        self._deadline = pace.clock() + bounds.total_seconds

    def run(self) -> Downloaded | Unchanged:
        # A pinned address is asked for its bytes: what it was before does not tell whether they are the pinned ones.
        key = remember.of_address(self._address.url)
        known = None if self._address.checksum else remember.recall(self._store, key)
        self._part.load(self._meter)
        client = http.Client(self._bounds)
        try:
            return self._tries(client, known)
        finally:
            client.close()

    def _tries(self, client: http.Client, known: remember.Record | None) -> Downloaded | Unchanged:
        failures = tries = 0
        farthest = self._part.offset
        while True:
            tries += 1
            try:
                return self._once(client, known)
            except http.Transient as error:
                failures = 1 if self._part.offset > farthest else failures + 1
                farthest = max(farthest, self._part.offset)
                if failures >= self._bounds.attempts:
                    raise http.unreachable(self._address, tries, error) from error
                pause = backoff.delay(failures, jitter=self._pace.jitter(), retry_after=error.retry_after)
                self._check_deadline(pause)
                self._pace.wait(pause, self._meter.check)

    def _once(self, client: http.Client, known: remember.Record | None) -> Downloaded | Unchanged:
        with client.open("GET", self._address, self._headers(known)) as response:
            if response.status_code == 304:
                if known is None:
                    raise http.Transient("the server answered 304 to a request without conditions")
                return Unchanged(known)
            self._begin(response)
            self._receive(response)
            name = _name(self._address, response)
        about, found = self._part.about, self._part.offset
        assert about is not None
        if about.total is not None and found != about.total:
            if found > about.total:
                self._part.reset()
            raise http.Transient(f"the server announced {about.total} bytes and sent {found}")
        self._meter.finish()
        return Downloaded(f"sha256:{self._part.hexadecimal}", found, name, about)

    def _headers(self, known: remember.Record | None) -> dict[str, str]:
        about = self._part.about
        if self._part.offset and about is not None and about.validator:
            return {"Range": f"bytes={self._part.offset}-", "If-Range": about.validator}
        if known is not None and known.etag:
            return {"If-None-Match": known.etag}
        return {}

    def _begin(self, response: httpx.Response) -> None:
        """Bring the partial file in line with where this answer starts, and refuse what cannot be taken."""
        if response.status_code == 416:
            self._part.reset()
            raise http.Transient("the server has fewer bytes than were received before")
        about = http.identify(response)
        coding = response.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("", "identity") and not _name(self._address, response).endswith(_CODED_ANYWAY):
            raise errors.SpecError(
                f"{self._address}: the server sends the file {coding[:40]}-coded though it was asked not to.",
                hint="Store it without Content-Encoding, or download it yourself and deploy the file.",
            )
        if response.status_code == 206:
            self._resume(response, about)
        else:
            self._part.restart(about)
        if about.total is not None:
            self._check_size(about.total)
            files.require_space(self._store.root, about.total - self._part.offset)
        self._meter.start("download", about.total, done=self._part.offset)

    def _resume(self, response: httpx.Response, about: identity.Identity) -> None:
        """Take a 206 answer only when it goes on exactly where the same file broke off."""
        before = self._part.about
        same = before is not None and (before.total or about.total) == about.total
        if about.etag and before is not None and about.etag != before.etag:
            same = False
        if not same or http.range_start(response) != self._part.offset:
            self._part.reset()
            raise http.Transient("the server resumed another file, or at another place than asked for")

    def _receive(self, response: httpx.Response) -> None:
        for chunk in response.iter_raw():
            self._check_size(self._part.offset + len(chunk))
            self._check_deadline(0.0)
            self._part.append(chunk)
            self._meter.advance(len(chunk))

    def _check_size(self, size: int) -> None:
        if size > self._bounds.max_bytes:
            self._part.drop()
            raise errors.SpecError(
                f"{self._address} has {size} bytes or more, the limit max_bytes is {self._bounds.max_bytes}.",
                hint="Check that this is the model, or raise max_bytes.",
                reason=errors.Reason.TOO_LARGE,
            )

    def _check_deadline(self, pause: float) -> None:
        if self._pace.clock() + pause > self._deadline:
            raise errors.BackendError(
                f"{self._address} was not complete after {self._bounds.total_seconds:.0f} s, the limit total_seconds.",
                hint="What was received is kept for a day: fetch again to go on, or raise total_seconds.",
                reason=errors.Reason.DEADLINE,
            )


def _name(address: uri.Uri, response: httpx.Response) -> str:
    """What the file is called: by the address the user wrote when it has a suffix, else by what the server says."""
    header = email.message.Message()
    header["content-disposition"] = response.headers.get("content-disposition", "")
    final = urllib.parse.unquote(urllib.parse.urlsplit(str(response.url)).path.rpartition("/")[2])
    candidates = [address.name, header.get_filename() or "", final]
    best = next((name for name in candidates if _SUFFIX.search(name)), None)
    return cache.safe_name(best or next((name for name in candidates if name), "model"))
