"""The artifact of each service: fetched in a thread, retried, watched for changes at its source, remembered.

A task lives only while bytes are fetched; a retry that is due is a timer, and one task for all sources on disks, one
for all servers, looks at them in turn (``looks``): an artifact at rest is a record in memory and nothing else. A
failure that somebody else must mend (network, disk) is retried with back-off; one that the user must mend (no such
file) waits for the user, which for a local source shows in its stamp. Storage is synchronous: a small pool of threads
bounds how many fetches run at once, and one more thread looks at stamps, so that a long download delays no look.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable

from mlship import aio, errors, home
from mlship.backends.local import kept, looks, process
from mlship.plan import observed
from mlship.storage import cache, fetch, limits, progress, uri

log = logging.getLogger(__name__)

LOOK_EVERY = 5.0
# A server is asked less often than a disk.
_ASK_SERVER_EVERY = 60.0
_FETCHES_AT_ONCE = 2
_TELL_EVERY = 0.5
_LONGEST_ERROR = 600
_LOCAL = frozenset({"file", "pvc"})
_REMOTE = frozenset({"http", "https"})
_ASK_AGAIN_AFTER = 30.0
_CLOSE_SECONDS = 5.0


@dataclasses.dataclass(slots=True)
class _Held:
    """One artifact at work. ``stamp`` is what its source is compared with, "" when that is not known."""

    service: observed.ServiceKey
    fact: observed.Artifact
    stamp: str = ""
    attempts: int = 0
    dropped: bool = False
    told: float = 0.0
    asked: float = 0.0
    fetch: asyncio.Task[None] | None = None
    retry: asyncio.TimerHandle | None = None


class Artifacts:
    """The artifacts of all services, one each.

    Args:
        changed: called on the event loop with the service whose artifact changed.
        look_every: seconds between two looks at a local source in use; ``in_use`` says of which service it is.
    """

    def __init__(
        self,
        place: home.Home,
        *,
        tasks: aio.Tasks,
        clock: Callable[[], float],
        changed: Callable[[observed.ServiceKey], None],
        bounds: limits.Limits | None = None,
        look_every: float = LOOK_EVERY,
        in_use: Callable[[observed.ServiceKey], bool] = lambda _: True,
    ) -> None:
        self._place = place
        self._tasks = tasks
        self._clock = clock
        self._changed = changed
        self._bounds = bounds or limits.Limits()
        self._disks, self._servers = (looks.Looks(every=look_every, in_use=in_use) for _ in range(2))
        self._shelf = kept.Shelf(place.records)
        self._held: dict[observed.ServiceKey, _Held] = {}
        self._fetchers = concurrent.futures.ThreadPoolExecutor(_FETCHES_AT_ONCE, thread_name_prefix="fetch")
        self._lookers = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="stamp")
        self._askers = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="ask")

    async def start(self) -> None:
        """Take up what is remembered and still complete in the cache. Raises ``errors.BackendError``."""
        loop = asyncio.get_running_loop()
        for found in await loop.run_in_executor(self._fetchers, self._remembered):
            fact = observed.Artifact(
                found.uri,
                observed.ArtifactState.READY,
                digest=found.digest,
                path=found.path,
                size=found.size,
                done=found.size,
                total=found.size,
            )
            self._keep(_Held(found.service, fact, stamp=found.stamp))
        for turns, name in ((self._disks, "disks"), (self._servers, "servers")):
            self._tasks.start(self._look_at(turns), name=f"look at models on {name}")

    def observe(self, service: observed.ServiceKey) -> observed.Artifact | None:
        """The artifact of ``service`` as it is now."""
        held = self._held.get(service)
        return None if held is None else held.fact

    def services(self) -> tuple[observed.ServiceKey, ...]:
        """Every service that has an artifact."""
        return tuple(self._held)

    def bring(self, service: observed.ServiceKey, address: str) -> None:
        """Bring the bytes of ``address``; of one that is being brought, or waits for its retry, nothing changes."""
        held = self._held.get(service)
        if held is not None and held.fact.uri == address:
            if held.fetch is None and held.fact.retry_at is None:
                self._begin(held)
                self._set(held, stale=False)
            return
        if held is not None:
            self._drop(held)
        fresh = _Held(service, observed.Artifact(address, observed.ArtifactState.FETCHING))
        self._keep(fresh)
        self._begin(fresh)
        self._changed(service)

    def used(self, service: observed.ServiceKey) -> None:
        """Replicas of ``service`` begin to run: its source is looked at soon."""
        self._disks.used(service)
        self._servers.used(service)

    def lost(self, service: observed.ServiceKey, path: str) -> bool:
        """Whether the bytes at ``path`` are gone from the cache; they are brought again then, at once."""
        held = self._held.get(service)
        if held is None or held.fact.path != path or pathlib.Path(path).exists():
            return False
        log.warning("%s: its artifact is no longer in the cache, it is fetched again", service)
        self._begin(held)
        self._set(held, state=observed.ArtifactState.FETCHING, path="", stale=False)
        return True

    def look(self, service: observed.ServiceKey) -> None:
        """Compare the source with what was fetched now; one that failed is fetched again at once."""
        held = self._held.get(service)
        if held is None or held.fetch is not None:
            return
        if held.fact.state is observed.ArtifactState.FAILED:
            self._begin(held)
            return
        held.asked = 0.0
        self._tasks.start(self._compare(held), name=f"look at the artifact of {service}")

    def forget(self, service: observed.ServiceKey, address: str) -> None:
        """Stop fetching ``address`` and forget it. Raises ``errors.BackendError`` when its record cannot be removed."""
        held = self._held.get(service)
        if held is None or held.fact.uri != address:
            return
        self._drop(held)
        self._shelf.remove(service)
        self._changed(service)

    async def close(self) -> None:
        """Cancel what is being fetched and wait for its threads, five seconds at most."""
        for held in list(self._held.values()):
            self._drop(held)
        pools = (self._fetchers, self._lookers, self._askers)
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        ends = [asyncio.to_thread(pool.shutdown) for pool in pools]
        _, pending = await asyncio.wait([asyncio.ensure_future(end) for end in ends], timeout=_CLOSE_SECONDS)
        if pending:
            log.warning("a fetch does not end; it is left behind")

    def _remembered(self) -> list[kept.Kept]:
        store = cache.Cache(self._place.cache)
        found = []
        for record in self._shelf.read():
            if store.get(record.digest) is not None and pathlib.Path(record.path).exists():
                found.append(record)
            else:
                log.warning("%s: its artifact is no longer in the cache", record.service)
                self._shelf.remove(record.service)
        return found

    def _keep(self, held: _Held) -> None:
        self._held[held.service] = held
        scheme = _scheme(held.fact.uri)
        if scheme in _LOCAL:
            self._disks.add(held.service)
        elif scheme in _REMOTE:
            self._servers.add(held.service)

    def _drop(self, held: _Held) -> None:
        del self._held[held.service]
        self._disks.drop(held.service)
        self._servers.drop(held.service)
        held.dropped = True
        if held.retry is not None:
            held.retry.cancel()
        if held.fetch is not None:
            held.fetch.cancel()

    def _set(self, held: _Held, **changes: object) -> None:
        fact = dataclasses.replace(held.fact, **changes)  # type: ignore[arg-type]
        if fact != held.fact:
            held.fact = fact
            self._changed(held.service)

    def _begin(self, held: _Held) -> None:
        """Fetch now, if nobody does."""
        if held.retry is not None:
            held.retry.cancel()
            held.retry = None
        if held.fetch is None:
            held.fetch = self._tasks.start(self._attempt(held), name=f"artifact of {held.service}")

    async def _look_at(self, turns: looks.Looks) -> None:
        """Look at one source after the other, each when it is its turn: mended or changed ones are fetched again."""
        while True:
            held = self._held.get(await turns.next())
            if held is None or held.fetch is not None or held.retry is not None:
                continue
            try:
                await self._look(held)
            except Exception:
                log.exception("%s: its source could not be looked at", held.service)

    async def _look(self, held: _Held) -> None:
        if held.fact.state is not observed.ArtifactState.FAILED:
            await self._compare(held)
        elif (seen := await self._stamp(held)) is not None and seen != held.stamp and not held.dropped:
            self._begin(held)

    async def _compare(self, held: _Held) -> None:
        """Mark as stale what has changed at its source."""
        before = held.stamp
        seen = await self._stamp(held)
        if held.stamp != before or held.fetch is not None or held.dropped:
            return  # the look was at what was there before
        if seen is not None and before and seen != before:
            self._set(held, stale=True)

    async def _stamp(self, held: _Held) -> str | None:
        """The stamp of the source; None when there is none to be had: a source that is away has not changed."""
        scheme = _scheme(held.fact.uri)
        pool, bounds = self._lookers, self._bounds
        if scheme in _REMOTE:
            if self._clock() - held.asked < _ASK_SERVER_EVERY:
                return None
            held.asked = self._clock()
            pool, bounds = self._askers, dataclasses.replace(self._bounds, attempts=1)
        elif scheme not in _LOCAL:
            return None
        try:
            address = uri.parse(held.fact.uri)
            ask = functools.partial(fetch.stamp, address, volumes=self._place.volumes, limits=bounds)
            return await asyncio.get_running_loop().run_in_executor(pool, ask)
        except errors.MlshipError:
            return None

    async def _attempt(self, held: _Held) -> None:
        try:
            await self._bring(held)
        finally:
            held.fetch = None
        if held.fact.retry_at is not None:
            wait = max(0.0, held.fact.retry_at - self._clock())
            held.retry = asyncio.get_running_loop().call_later(wait, self._begin, held)

    async def _bring(self, held: _Held) -> None:
        state = held.fact.state if _has_bytes(held) else observed.ArtifactState.FETCHING
        self._set(held, state=state, error="", reason="", retry_at=None, stale=False)
        try:
            loop = asyncio.get_running_loop()
            got = await loop.run_in_executor(self._fetchers, functools.partial(self._fetch, held, loop))
        except errors.SpecError as error:
            await self._failed_for_good(held, error)
        except errors.MlshipError as error:
            self._failed_for_now(held, error)
        else:
            self._brought(held, got)

    def _fetch(self, held: _Held, loop: asyncio.AbstractEventLoop) -> fetch.Fetched:
        """Runs in a thread."""

        def tell(moment: progress.Progress) -> None:
            now = self._clock()
            if now - held.told >= _TELL_EVERY and not held.dropped:
                held.told = now
                loop.call_soon_threadsafe(self._progressed, held, moment)

        return fetch.fetch(
            uri.parse(held.fact.uri),
            cache=cache.Cache(self._place.cache),
            volumes=self._place.volumes,
            limits=self._bounds,
            progress=tell,
            cancelled=lambda: held.dropped,
        )

    def _progressed(self, held: _Held, moment: progress.Progress) -> None:
        if held.fetch is not None and not held.dropped:
            self._set(held, done=moment.done_bytes, total=moment.total_bytes)

    def _brought(self, held: _Held, got: fetch.Fetched) -> None:
        held.attempts = 0
        held.stamp = got.stamp
        held.asked = self._clock()
        record = kept.Kept(
            namespace=held.service.namespace,
            name=held.service.name,
            uri=held.fact.uri,
            digest=got.digest,
            path=str(got.path),
            size=got.size,
            stamp=got.stamp,
        )
        try:
            self._shelf.write(record)
        except errors.BackendError as error:
            log.warning("%s: after a restart its artifact will be fetched again: %s", held.service, error)
        log.info("%s: fetched %s in %.1f s", held.service, got.digest, got.seconds)
        self._set(
            held,
            state=observed.ArtifactState.READY,
            digest=got.digest,
            path=str(got.path),
            size=got.size,
            done=got.size,
            total=got.size,
            fetched_at=self._clock(),
            seconds=got.seconds,
        )

    async def _failed_for_good(self, held: _Held, error: errors.MlshipError) -> None:
        """The user must act, and where. A local source shows it; a server is asked again at long intervals."""
        if _scheme(held.fact.uri) in _REMOTE:
            self._failed_for_now(held, error, at_least=_ASK_AGAIN_AFTER)
            return
        held.stamp = await self._stamp(held) or ""
        self._tell_failure(held, error)

    def _failed_for_now(self, held: _Held, error: errors.MlshipError, *, at_least: float = 0.0) -> None:
        held.attempts += 1
        wait = max(process.delay(held.attempts), error.retry_after or 0.0, at_least)
        self._tell_failure(held, error, retry_at=self._clock() + wait, stale=_has_bytes(held))

    def _tell_failure(self, held: _Held, error: errors.MlshipError, **changes: object) -> None:
        log.warning("%s: cannot fetch its artifact: %s", held.service, error)
        state = held.fact.state if _has_bytes(held) else observed.ArtifactState.FAILED
        self._set(held, state=state, error=str(error)[:_LONGEST_ERROR], reason=str(error.reason), **changes)


def _scheme(address: str) -> str:
    """The scheme of a URI; empty when it is none."""
    try:
        return uri.parse(address).scheme
    except errors.SpecError:
        return ""


def _has_bytes(held: _Held) -> bool:
    """A READY artifact stays READY while it is fetched again, and when that fails: as long as its bytes are there."""
    return held.fact.state is observed.ArtifactState.READY and pathlib.Path(held.fact.path).exists()
