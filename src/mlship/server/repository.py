"""The models of this server by name and version, and their states: the sole owner of readiness.

    UNAVAILABLE --load--> LOADING --ok--> READY --unload--> UNLOADING --drained--> UNAVAILABLE
                             |failed                           (a READY model that is loaded again stays READY
                             v                                  until the new one has answered its warm-up)
                        UNAVAILABLE + reason

Adapters load or raise; nobody else writes a state. The highest version of a name is its default. States and reasons
are those of Triton's repository index. All methods belong to the event loop's thread; loading runs on the loader's.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from mlship import aio, errors
from mlship.server import (
    batcher,
    loading,
    logs,
    machinery,
    present,
    prover,
    refusals,
    serving,
    states,
    statistics,
)

LOG = logging.getLogger(__name__)
T = TypeVar("T")


Served = serving.Served


@dataclasses.dataclass(slots=True, eq=False)
class Entry:
    """A version: where it comes from, its state, and the model while there is one."""

    source: loading.Source
    statistics: statistics.Statistics = dataclasses.field(default_factory=statistics.Statistics)
    state: states.State = states.State.UNAVAILABLE
    reason: str = "not loaded yet"
    wanted: bool = True
    served: Served | None = None
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)

    @property
    def status(self) -> states.Status:
        return states.Status(name=self.source.name, version=self.source.version, state=self.state, reason=self.reason)


class Observer(Protocol):
    """Who wants to know how long loading takes and what an execution answered: the metrics."""

    def loaded(self, name: str, seconds: float, *, ok: bool) -> None: ...

    def compiled(self, name: str, used: bool) -> None: ...

    def executed(self, name: str, seconds: float, *, requests: int, rows: int) -> None: ...


class Repository(present.Present):
    """Registers, loads, gives and unloads models.

    Args:
        discover: the sources that exist now under a name, for ``load`` of what is not registered yet.
        max_batch_size: rows up to which waiting requests are joined; 0 and 1 join nothing.
        batch_latency: seconds that a request may wait for others although a worker is free.
        max_concurrency: requests of a model in execution at once; 0: no limit.
        drain_seconds: how long an unloaded model may take to finish what it has begun.
        proving: who has compiled forms proven.
    """

    def __init__(
        self,
        engine: machinery.Machinery,
        *,
        queue_size: int,
        drain_seconds: float,
        max_batch_size: int = 1,
        batch_latency: float = 0.0,
        max_concurrency: int = 0,
        open_model: loading.Load = loading.from_disk,
        discover: Callable[[], Iterable[loading.Source]] = tuple,
        observer: Observer | None = None,
        proving: prover.Prover | None = None,
    ) -> None:
        self._engine = engine
        self._policy = serving.Policy(
            queue_size, max_batch_size=max_batch_size, batch_latency=batch_latency, max_concurrency=max_concurrency
        )
        self._drain_seconds = drain_seconds
        self._open_model = open_model
        self._discover = discover
        self._observer = observer
        self._prover = proving or prover.Prover()
        self._entries: dict[str, dict[str, Entry]] = {}
        # The model that a name without a version means, once asked for; empty again when any model changes.
        self._default_served: dict[str, Served] = {}
        self._draining = ""
        self.warm_up_seconds = 0.0
        self._tasks = aio.Tasks(_log_failure)

    # What there is

    @property
    def names(self) -> list[str]:
        """The names of all models, loaded or not."""
        return sorted(self._entries)

    def knows(self, name: str) -> bool:
        """Whether there is a model of that name."""
        return name in self._entries

    def index(self, *, ready: bool = False) -> list[states.Status]:
        """Every version's state, or only the ready ones."""
        found = [entry.status for name in self.names for entry in self._sorted(name)]
        return [status for status in found if status.state is states.State.READY or not ready]

    def status(self, name: str, version: str = "") -> states.Status:
        """The state of a version, of the default one when none is named. Raises SpecError when unknown."""
        return self._entry(name, version).status

    def versions(self, name: str) -> list[str]:
        """The versions of a name, lowest first."""
        return [entry.source.version for entry in self._sorted(name)]

    @property
    def unready(self) -> str:
        """Why the server is not ready: the first model that should be and is not, or the drain; empty when it is."""
        if self._draining:
            return self._draining
        for name in self.names:
            for entry in self._sorted(name):
                if entry.wanted and entry.state is not states.State.READY:
                    return f"{entry.source.label} is {entry.state}: {entry.reason}"
        return ""

    def model_unready(self, name: str, version: str = "") -> str:
        """Why a model is not ready; empty when it is. Raises SpecError when unknown."""
        status = self.status(name, version)
        if self._draining:
            return self._draining
        return "" if status.state is states.State.READY else f"{status.state}: {status.reason}"

    def statistics(self, name: str = "", version: str = "") -> list[tuple[states.Status, statistics.Statistics]]:
        """The statistics of a version, of all of a name, or of all there are."""
        if version:
            entries = [self._entry(name, version)]
        else:
            if name:
                self._entry(name, "")
            entries = [entry for known in ([name] if name else self.names) for entry in self._sorted(known)]
        return [(entry.status, entry.statistics) for entry in entries]

    def get(self, name: str, version: str = "") -> Served:
        """The ready model.

        Raises:
            SpecError: there is no such model or version; the message lists those there are.
            NotReady: it is not ready, and why.
        """
        found = self._default_served.get(name) if not version else None
        if found is not None:
            return found
        entry = self._entry(name, version)
        if entry.served is None:
            raise errors.NotReady(
                f"{entry.source.label} is not ready ({entry.state}: {entry.reason}).", retry_after=1.0
            )
        if not version:
            self._default_served[name] = entry.served
        return entry.served

    def queues(self) -> list[tuple[str, batcher.Batcher]]:
        """The queue of every ready model, by name."""
        return [
            (name, entry.served.batcher)
            for name in sorted(self._entries)
            for entry in self._sorted(name)
            if entry.served is not None
        ]

    def _sorted(self, name: str) -> list[Entry]:
        versions = self._entries[name]
        return [versions[version] for version in sorted(versions, key=states.by_number)]

    def _entry(self, name: str, version: str) -> Entry:
        if name not in self._entries:
            raise errors.SpecError(
                f'there is no model "{refusals.shorten(name)}" on this server, it has '
                f"{refusals.listed(self.names, 'model')}.",
                reason=errors.Reason.NOT_FOUND,
            )
        if not version:
            return self._default(name)
        if version not in self._entries[name]:
            raise errors.SpecError(
                f'model "{name}" has no version "{refusals.shorten(version)}", '
                f"it has {refusals.quoted(self.versions(name))}.",
                reason=errors.Reason.NOT_FOUND,
            )
        return self._entries[name][version]

    def _default(self, name: str) -> Entry:
        """The highest version that is ready, else the highest."""
        if len(self._entries[name]) == 1:
            return next(iter(self._entries[name].values()))
        entries = self._sorted(name)
        return next((entry for entry in reversed(entries) if entry.served is not None), entries[-1])

    # What changes it

    def register(self, source: loading.Source) -> None:
        """Make a version known, not loaded yet; a known one keeps its state and is loaded from ``source`` next time."""
        versions = self._entries.setdefault(source.name, {})
        if source.version in versions:
            versions[source.version].source = source
        else:
            versions[source.version] = Entry(source=source)

    async def load(self, name: str, version: str = "") -> None:
        """Load every version of ``name`` (or one), again if it is loaded.

        Raises:
            SpecError: unknown, or nothing of that name lies in the repository folder.
            MlshipError: why a version could not be loaded; the others are loaded nevertheless.
        """
        for source in self._discover():
            if source.name == name:
                self.register(source)
        self._entry(name, version)
        entries = [self._entries[name][version]] if version else self._sorted(name)
        failures = await self._own(self._load_each(entries), f"load {name}")
        if failures:
            raise failures[0]

    async def load_all(self) -> list[errors.MlshipError]:
        """Load everything registered; the failures, which also stand in the index."""
        entries = [entry for name in self.names for entry in self._sorted(name)]
        return await self._own(self._load_each(entries), "load all")

    async def _own(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """A caller who leaves must not leave a model half-way: the work is the repository's, not the caller's."""
        return await asyncio.shield(self._tasks.start(work, name=name))

    async def _load_each(self, entries: Iterable[Entry]) -> list[errors.MlshipError]:
        return [failure for entry in entries if (failure := await self._load(entry)) is not None]

    async def _load(self, entry: Entry) -> errors.MlshipError | None:
        async with entry.lock:
            source, begun = entry.source, time.monotonic()
            entry.wanted = True
            if entry.served is None:
                entry.state, entry.reason = states.State.LOADING, "loading"
            try:
                loaded = await self._engine.loader.call(self._loading(entry))
            except errors.MlshipError as error:
                return self._load_failed(entry, error, begun)
            except Exception as error:  # A fault of the server itself must not leave LOADING behind.
                LOG.error("load failed", exc_info=error, extra=logs.fields(model=source.name))
                return self._load_failed(entry, errors.BackendError(f"{source.label}: {error!r}"), begun)
            self._note(source, begun, ok=True)
            self.warm_up_seconds += loaded.warm_up_seconds
            old, entry.served = entry.served, self._serve(entry, loaded)
            self._default_served.clear()
            entry.state, entry.reason = states.State.READY, ""
            if loaded.acceleration.pending:
                self._tasks.start(self._prove(entry, entry.served, loaded), name=f"prove {source.label}")
            self._note_compiled(entry.served)
            if old is not None:
                await self._retire(old, f"{source.label} was loaded again")
            return None

    def _loading(self, entry: Entry, *, again: bool = False) -> Callable[[], loading.Loaded]:
        """What the loader does. ``again``: see ``warmup.Wish``."""
        wish = dataclasses.replace(entry.source.warmup, again=again)
        return functools.partial(
            loading.load,
            dataclasses.replace(entry.source, warmup=wish),
            open_model=self._open_model,
            run_coroutine=self._engine.private.run,
        )

    async def _prove(self, entry: Entry, served: Served, loaded: loading.Loaded) -> None:
        await self._prover.follow(served.source, served.acceleration, loader=self._engine.loader)
        self._note_compiled(served)
        async with entry.lock:
            if served.acceleration.report.used and entry.served is served:
                # A queue of its own: the compiled form may run on as many threads as there are.
                entry.served = self._serve(entry, loaded)
                self._default_served.clear()
                await self._empty(served, f"{served.source.label} is compiled now")

    def _note_compiled(self, served: Served) -> None:
        if self._observer is not None:
            self._observer.compiled(served.source.name, served.acceleration.report.used)

    def _load_failed(self, entry: Entry, error: errors.MlshipError, begun: float) -> errors.MlshipError:
        self._note(entry.source, begun, ok=False)
        if entry.served is None:
            entry.state, entry.reason = states.State.UNAVAILABLE, str(error)
        return error

    def _note(self, source: loading.Source, begun: float, *, ok: bool) -> None:
        seconds = time.monotonic() - begun
        if self._observer is not None:
            self._observer.loaded(source.name, seconds, ok=ok)
        if ok:
            extra = logs.fields(model=source.name, version=source.version, seconds=round(seconds, 3))
            LOG.info("model ready", extra=extra)

    def _serve(self, entry: Entry, loaded: loading.Loaded) -> Served:
        return serving.serve(
            entry.source,
            loaded,
            engine=self._engine,
            policy=self._policy,
            counts=entry.statistics,
            executed=functools.partial(self._executed, entry),
        )

    def _executed(self, entry: Entry, execution: batcher.Execution) -> None:
        entry.statistics.executed(rows=execution.rows, nanoseconds=execution.nanoseconds)
        if self._observer is not None:
            seconds = execution.nanoseconds / 1e9
            self._observer.executed(entry.source.name, seconds, requests=execution.requests, rows=execution.rows)

    async def unload(self, name: str, version: str = "") -> None:
        """Take every version of ``name`` (or one) out of service: what it has begun is finished first."""
        self._entry(name, version)
        entries = [self._entries[name][version]] if version else self._sorted(name)
        await self._own(self._unload_each(entries), f"unload {name}")

    async def _unload_each(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            async with entry.lock:
                await self._unload(entry)

    async def _unload(self, entry: Entry) -> None:
        entry.wanted = False
        served, entry.served = entry.served, None
        self._default_served.clear()
        if served is not None:
            entry.state, entry.reason = states.State.UNLOADING, "finishing what it has begun"
            await self._retire(served, f"{entry.source.label} is being unloaded")
        entry.state, entry.reason = states.State.UNAVAILABLE, "unloaded"

    async def _retire(self, served: Served, why: str) -> None:
        if not await self._empty(served, why) and not getattr(served.model, "endable", False):
            return  # Its code still runs: closing it under its feet could crash the process.
        try:
            await self._engine.loader.call(served.model.close)
        except Exception:
            LOG.exception("model failed to close", extra=logs.fields(model=served.source.name))

    async def _empty(self, served: Served, why: str) -> bool:
        """Let what is in its queue come to an end; whether it did in time."""
        served.batcher.close(f"{why}.")
        deadline = asyncio.get_running_loop().time() + self._drain_seconds
        if await served.batcher.drained(deadline):
            return True
        served.batcher.abandon(f"{why} and its time to finish is over.")
        LOG.warning("model did not finish in time", extra=logs.fields(model=served.source.name))
        return False

    def drain(self, why: str) -> None:
        """The server is going away: not ready from now on; requests are still answered."""
        self._draining = why

    def abandon(self, why: str) -> None:
        """The drain's time is over: end everybody who still waits for a model, with ``NotReady(why)``."""
        for _, queue in self.queues():
            queue.abandon(why)

    async def close(self) -> None:
        """Unload everything, side by side, what is still being loaded left as it is."""
        async with asyncio.TaskGroup() as group:
            for entries in self._entries.values():
                for entry in entries.values():
                    if not entry.lock.locked():
                        group.create_task(self._unload_each([entry]))
        await self._tasks.close()
        self._prover.close()


def _log_failure(task: str, error: BaseException) -> None:
    LOG.error("task failed", exc_info=error, extra=logs.fields(task=task))
