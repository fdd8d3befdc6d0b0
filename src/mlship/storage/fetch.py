"""The bytes behind a URI, into the cache: the door through which every other package uses storage.

``fetch`` takes a snapshot of a local source or downloads, checks the pinned checksum, unpacks what is named like an
archive, and publishes the result under its digest, in that order; whatever fails on the way leaves nothing visible.
``stamp`` is the cheap question asked between fetches: may the bytes have changed? A changed stamp is a reason to
fetch; a changed digest is a new revision.

Synchronous, and slow by nature: callers run it on a worker thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from mlship import errors
from mlship.storage import archive, backoff, cache, files, limits, local, partial, progress, remember, uri

_DEFAULTS = limits.Limits()
_PACE = backoff.Pace()
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """An artifact in the cache, complete and read-only.

    ``path``: file or folder, called as its URI called it; ``digest``: ``sha256:<hex>`` of its bytes; ``size``: bytes;
    ``stamp``: what ``stamp`` said of the source when it was read; ``seconds``: how long it took.
    """

    path: pathlib.Path
    digest: str
    size: int
    stamp: str
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class _Raw:
    """What a scheme's fetcher brought: ``digest`` of what is staged at ``path``, or is published already (None)."""

    path: pathlib.Path | None
    digest: str
    name: str
    stamp: str
    etag: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class _Job:
    """One fetch and all that it needs. ``place`` is its staging, ``stack`` what stays open until it has published."""

    address: uri.Uri
    store: cache.Cache
    volumes: pathlib.Path
    bounds: limits.Limits
    meter: progress.Meter
    pace: backoff.Pace
    place: pathlib.Path
    stack: contextlib.ExitStack


def fetch(
    address: uri.Uri,
    *,
    cache: cache.Cache,
    volumes: pathlib.Path,
    limits: limits.Limits = _DEFAULTS,
    progress: Callable[[progress.Progress], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
    pace: backoff.Pace = _PACE,
) -> Fetched:
    """Bring the bytes of ``address`` into the cache.

    Args:
        cache: the store; ``volumes``: the folder whose entries are the volumes of ``pvc://``.
        progress: called at most every 0.1 s, and at the start and end of each phase, on this thread.
        cancelled: asked at every chunk; True ends the fetch with ``errors.NotReady`` (reason Cancelled).

    Raises:
        errors.SpecError: the source is missing, refused, unsafe, beyond a limit, or not what its checksum says.
        errors.BackendError: the network or the cache's disk.
        errors.NotReady: cancelled.
    """
    began = pace.clock()
    fetcher = _by_scheme(_FETCHERS, address)
    meter = _meter(progress, cancelled, pace)
    cache.clean()
    partial.clean(cache, now=time.time())
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(cache.staging())
        job = _Job(address, cache, volumes, limits, meter, pace, place, stack)
        raw = fetcher(job)
        digest, name = _publish(job, raw)
        if raw.etag:
            record = remember.Record(digest, name, etag=raw.etag, stamp=raw.stamp)
            remember.remember(cache, remember.of_address(address.url), record)
        try:
            path, size = cache.named(digest, name), cache.size(digest)
        except KeyError as error:
            raise errors.BackendError(
                f"{address} was removed from the cache {cache.root} right after it had been published.",
                hint="Fetch it again; whoever collects the cache should spare what was used lately.",
            ) from error
        return Fetched(path, digest, size, raw.stamp, pace.clock() - began)


def stamp(
    address: uri.Uri, *, volumes: pathlib.Path, limits: limits.Limits = _DEFAULTS, pace: backoff.Pace = _PACE
) -> str:
    """A cheap token that changes when the bytes may have changed; raises what ``fetch`` would.

    Local: names, sizes, modification times and inodes. http(s): etag, or modification date and length, by HEAD; of a
    pinned address the checksum itself, without asking anybody, since its bytes cannot change.
    """
    return _by_scheme(_STAMPS, address)(address, volumes, limits, pace)


def _fetch_local(job: _Job) -> _Raw:
    source = local.locate(job.address, job.volumes)
    target = job.place / "artifact"
    copy = local.snapshot(source, target, root=job.store.root, bounds=job.bounds, meter=job.meter)
    return _Raw(target, copy.digest, cache.safe_name(source.name), copy.stamp)


def _fetch_http(job: _Job) -> _Raw:
    from mlship.storage import download  # httpx is imported by those who need it

    if (held := _pinned(job)) is not None:
        return held
    target = job.place / "artifact"
    got = job.stack.enter_context(
        download.download(job.address, target, store=job.store, bounds=job.bounds, meter=job.meter, pace=job.pace)
    )
    if isinstance(got, download.Unchanged):
        return _Raw(None, got.record.digest, got.record.name, got.record.stamp)
    stamped = job.address.checksum or got.about.stamp
    return _Raw(target, got.digest, got.name, stamped, etag=got.about.strong_etag)


def _pinned(job: _Job) -> _Raw | None:
    """What a pinned address names when the cache has it: no server needs to be asked for bytes that cannot differ."""
    pin, name = job.address.checksum, cache.safe_name(job.address.name)
    if pin is None:
        return None
    if kind := archive.kind_of(name):
        record = remember.recall(job.store, remember.of_archive(pin, kind))
        return _Raw(None, record.digest, archive.stem_of(name), pin) if record is not None else None
    if job.store.get(pin) is None:
        return None
    known = remember.recall(job.store, remember.of_address(job.address.url))
    return _Raw(None, pin, known.name if known is not None and known.digest == pin else name, pin)


def _publish(job: _Job, raw: _Raw) -> tuple[str, str]:
    """Check, unpack and publish what was brought; returns the digest in the cache and the name to give it."""
    if raw.path is None:
        return raw.digest, raw.name
    pin = job.address.checksum
    if pin is not None and raw.digest != pin:
        raise errors.SpecError(
            f"{job.address}: the checksum does not match: expected {pin}, got {raw.digest}.",
            hint="Check that the address names the right version, or write the checksum of the file you trust.",
        )
    if raw.path.is_dir():
        job.store.publish(raw.path, raw.digest)
        return raw.digest, raw.name
    if raw.path.stat().st_size == 0:
        raise errors.SpecError(f"{job.address} is an empty file.", hint="Save the model again.")
    if kind := archive.kind_of(raw.name):
        return _unpack(job, raw.path, raw.digest, kind), archive.stem_of(raw.name)
    job.store.publish(raw.path, raw.digest)
    return raw.digest, raw.name


def _unpack(job: _Job, path: pathlib.Path, digest: str, kind: archive.Kind) -> str:
    key = remember.of_archive(digest, kind)
    if (known := remember.recall(job.store, key)) is not None:
        return known.digest
    place = job.place / "unpacked"
    with files.into_cache(job.store.root):
        place.mkdir()
    unpacked = archive.unpack(
        path, kind, place, shown=str(job.address), root=job.store.root, bounds=job.bounds, meter=job.meter
    )
    job.store.publish(unpacked.path, unpacked.digest)
    remember.remember(job.store, key, remember.Record(unpacked.digest, "model"))
    return unpacked.digest


def _stamp_local(address: uri.Uri, volumes: pathlib.Path, bounds: limits.Limits, _: backoff.Pace) -> str:
    return local.stamp(local.locate(address, volumes), bounds)


def _stamp_http(address: uri.Uri, _: pathlib.Path, bounds: limits.Limits, pace: backoff.Pace) -> str:
    from mlship.storage import http  # httpx is imported by those who need it

    if address.checksum:
        return address.checksum
    return http.probe(address, bounds=bounds, pace=pace).stamp


def _meter(
    report: Callable[[progress.Progress], None], cancelled: Callable[[], bool], pace: backoff.Pace
) -> progress.Meter:
    return progress.Meter(report, cancelled, clock=pace.clock)


def _by_scheme(table: Mapping[str, T], address: uri.Uri) -> T:
    if (found := table.get(address.scheme)) is None:
        raise errors.SpecError(
            f"{address}: {address.scheme}:// cannot be fetched yet; these can: {', '.join(table)}.",
            hint="Download the model yourself and name the file or folder, or put it behind http(s).",
            reason=errors.Reason.UNSUPPORTED,
        )
    return found


_FETCHERS: dict[str, Callable[[_Job], _Raw]] = {
    "file": _fetch_local,
    "http": _fetch_http,
    "https": _fetch_http,
    "pvc": _fetch_local,
}
_STAMPS: dict[str, Callable[[uri.Uri, pathlib.Path, limits.Limits, backoff.Pace], str]] = {
    "file": _stamp_local,
    "http": _stamp_http,
    "https": _stamp_http,
    "pvc": _stamp_local,
}
