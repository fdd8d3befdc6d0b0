"""Keeps programs running: replicas for the local backend, and Envoy for the gateway. Knows nothing of either.

It owns one ``unit.Unit`` per key. ``start`` adopts what a supervisor before it left running, ``ensure`` and ``stop``
say what shall be, ``observe`` says what is and ``subscribe`` who hears of changes. ``close`` lets go and leaves
everything running: the programs are sessions of their own and need nothing of this process.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import hashlib
import logging
import os
import pathlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from mlship import aio, cores, errors, home
from mlship.backends.local import (
    adoption,
    events,
    families,
    folders,
    jobs,
    launch,
    logfiles,
    process,
    records,
    unit,
    zygotes,
)
from mlship.plan import actions, observed

log = logging.getLogger(__name__)

_STARTS_AT_ONCE = 4
_TEND_EVERY = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Sight:
    """A supervised process as it is now. ``address``: where it answers, empty while that is not known."""

    key: str
    job: jobs.Job
    process: process.Process
    address: str
    acceleration: observed.Acceleration | None = None
    startup: observed.Startup | None = None


def steady_clock() -> Callable[[], float]:
    """A clock that gives Unix seconds and never jumps: the time of day when it was made, then the monotonic clock."""
    began = time.time() - time.monotonic()
    return lambda: began + time.monotonic()


def mark_of(place: home.Home) -> str:
    """What the processes of an installation carry in their environment, before a slash and their key."""
    return hashlib.sha256(os.fsencode(place.root)).hexdigest()[:16]


class Supervisor:
    """Keeps processes running.

    Args:
        place: where records and logs are; its hash marks the processes.
        environ: the environment that children inherit, ``MLSHIP_*`` excepted.
        on_error: called with a task's name and its exception when something fails that should not.
        largest_log, look_at_logs_every: bytes after which a log is rotated; seconds between two looks at the logs.
        warm: whether replicas of our own model server are forked from zygotes; else all start cold.
    """

    def __init__(
        self,
        place: home.Home,
        *,
        environ: Mapping[str, str],
        on_error: Callable[[str, BaseException], None],
        clock: Callable[[], float] | None = None,
        largest_log: int = logfiles.LARGEST,
        look_at_logs_every: float = 2.0,
        warm: bool = True,
    ) -> None:
        self._place = place
        self._tasks = aio.Tasks(on_error)
        self._threads = concurrent.futures.ThreadPoolExecutor(_STARTS_AT_ONCE, thread_name_prefix="supervisor")
        self._units: dict[str, unit.Unit] = {}
        self._subscribers: list[Callable[[str], None]] = []
        self._forgot = asyncio.Event()
        self._largest_log = largest_log
        self._look_at_logs_every = look_at_logs_every
        self._ahead: dict[str, str] = {}
        self._warm_up = asyncio.Event()
        self._zygotes = zygotes.Zygotes(home=place.root, logs=place.logs, inherited=environ) if warm else None
        self._processors = cores.available()
        self._means = launch.Means(records.Records(place.records), mark_of(place), dict(environ), self._zygotes)
        self._world = unit.World(
            means=self._means,
            clock=clock or steady_clock(),
            tasks=self._tasks,
            threads=self._threads,
            changed=self._changed,
            forget=self._forget,
            cpus=self._share,
        )

    async def start(self) -> None:
        """Adopt what runs, start anew what has died meanwhile. Raises ``errors.BackendError``."""
        findings = await asyncio.get_running_loop().run_in_executor(self._threads, self._prepare)
        for finding in findings:
            self._take(finding)
        self._tasks.start(self._rotate_logs(), name="rotate logs")
        if self._zygotes is not None:
            self._tasks.start(self._tend(), name="tend zygotes")

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """Have ``changed(key)`` called, on the event loop, whenever the sight of a key changes."""
        self._subscribers.append(changed)

    def ensure(self, key: str, job: jobs.Job) -> None:
        """Have ``job`` run under ``key``: started if it is not there, restarted if it runs something else.

        Returns at once. Raises ``errors.BackendError`` when the start cannot even be recorded.
        """
        if key in self._units:
            self._units[key].begin(job)
            return
        record = records.Record(key, job)
        self._means.store.write(record)
        self._add(record).deliver(events.Start())

    def stop(self, key: str) -> None:
        """End what runs under ``key``, SIGTERM first, and forget it; no error when there is nothing."""
        if key in self._units:
            self._units[key].deliver(events.Stop())

    def restart(self, key: str) -> None:
        """End what runs under ``key`` and start it anew, without back-off. Raises ``errors.SpecError`` (NotFound)."""
        if key not in self._units:
            raise errors.SpecError(f"nothing runs under {key}.", reason=errors.Reason.NOT_FOUND)
        self._units[key].deliver(events.Restart())

    def observe(self, key: str) -> Sight | None:
        """What is under ``key`` now, from memory."""
        held = self._units.get(key)
        if held is None:
            return None
        return Sight(key, held.job, held.process, held.address, held.acceleration, held.record.startup)

    def stand_by(self, key: str, spec: actions.ProcessSpec | None) -> None:
        """Have at hand what a start of ``spec`` needs, for the sake of ``key``, or (None) nothing for it any more."""
        if spec is None:
            self._ahead.pop(key, None)
        else:
            self._ahead[key] = families.of(spec)
        self._warm_up.set()

    @property
    def keys(self) -> tuple[str, ...]:
        """Everything that is kept running or is ending."""
        return tuple(self._units)

    async def stop_all(self, seconds: float, *, but: Collection[str] = ()) -> bool:
        """End everything ``but`` some keys and wait for it; True if all has ended.

        What has not after ``seconds`` is told to end now, and killed some seconds later.
        """
        ending = [key for key in self.keys if key not in but]
        for key in ending:
            self.stop(key)
        if not await self._gone(ending, seconds):
            self.hurry()
        return await self._gone(ending, process.HURRIED_GRACE + process.KILL_AGAIN_AFTER)

    def hurry(self) -> None:
        """Have end now what is ending."""
        for held in self._units.values():
            if held.process.phase in (observed.Phase.TERMINATING, observed.Phase.KILLING):
                held.deliver(events.Hurry())

    async def _gone(self, keys: Iterable[str], seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while not self._units.keys().isdisjoint(keys):
                    self._forgot.clear()
                    await self._forgot.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Let go of everything and leave it running."""
        for held in self._units.values():
            held.close()
        await self._tasks.close()
        if self._zygotes is not None:
            await asyncio.to_thread(self._zygotes.close)
        # A start that is under way gets to the end of its record, which takes milliseconds.
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    def _prepare(self) -> tuple[adoption.Finding, ...]:
        for folder in (self._place.root, self._place.records, self._place.sockets, self._place.logs):
            folders.private(folder)
        return adoption.survey(self._means.store, self._means.home)

    def _take(self, finding: adoption.Finding) -> None:
        held = self._add(finding.record)
        if finding.alive:
            held.adopt(finding.record)
        elif finding.record.pid is None:
            held.deliver(events.Start())
        else:
            held.lost()

    def _add(self, record: records.Record) -> unit.Unit:
        held = self._units[record.key] = unit.Unit(record, self._world)
        return held

    def _share(self) -> int:
        """Processors for each replica of our model server, as many as there are now."""
        replicas = sum(families.is_model_server(held.job.spec) for held in self._units.values())
        return cores.share(self._processors, replicas)

    @property
    def zygotes(self) -> dict[str, int]:
        """The pids of the zygotes that run, by the format of their models."""
        return {} if self._zygotes is None else self._zygotes.pids()

    def _changed(self, key: str) -> None:
        for subscriber in self._subscribers:
            subscriber(key)

    def _forget(self, key: str) -> None:
        del self._units[key]
        self._forgot.set()

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(self._look_at_logs_every)
            paths = [held.job.log for held in self._units.values()]
            await asyncio.to_thread(self._rotate, paths)

    async def _tend(self) -> None:
        """Keep a zygote for what runs, so that it is started again quickly, and for what may be started any moment."""
        assert self._zygotes is not None
        while True:
            running = {families.of(one.job.spec) for one in self._units.values()}
            await asyncio.to_thread(self._zygotes.keep, (running | set(self._ahead.values())) - {""})
            await aio.wait_event(self._warm_up, _TEND_EVERY)
            self._warm_up.clear()

    def _rotate(self, paths: list[pathlib.Path]) -> None:
        for path in paths:
            try:
                logfiles.rotate(path, largest=self._largest_log)
            except OSError as error:
                log.warning("cannot rotate the log %s: %s", path, error)
