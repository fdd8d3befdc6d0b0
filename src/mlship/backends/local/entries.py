"""The entries of pools: one file a model in a folder that a pool's processes read, and what those say of each.

The folder is all there is to remember: a control plane that was started again reads it. An entry is written by a
rename; processes that hold the model are told, so that it is swapped now and not when somebody next looks. A process
that cannot be told reads the folder when it starts, so an order that is lost loses nothing.

Each pool is listened to by one task, at intervals that grow with what a report costs: a pool of ten thousand models
has large ones. That models come into memory and leave it is told to watchers now and then, that one fails at once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import pathlib
import shutil
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping

from mlship import aio, errors, home
from mlship.backends.local import asking, pool_reports, records
from mlship.plan import actions, observed, pool, pool_program

log = logging.getLogger(__name__)

LISTEN_EVERY = 1.0
TELL_EVERY = 5.0
# Of the time, what listening may take: ours and, about as much, the process's own.
_SHARE = 0.02
_REPORT_SECONDS = 10.0
_ORDER_SECONDS = 120.0
_ORDERS_AT_ONCE = 4
_MARK = "mark"

# The processes of a pool that answer, with the addresses of their HTTP sockets.
Processes = Callable[[observed.ServiceKey], Iterable[tuple[observed.ReplicaId, str]]]


@dataclasses.dataclass(slots=True)
class _Pool:
    key: observed.ServiceKey
    folder: pathlib.Path
    entries: dict[str, observed.Enlisted] = dataclasses.field(default_factory=dict)
    reports: dict[observed.ReplicaId, pool_reports.Report] = dataclasses.field(default_factory=dict)
    requests: dict[str, int] = dataclasses.field(default_factory=dict)
    counted: dict[observed.ReplicaId, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    orders: dict[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    bell: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    untold: set[str] = dataclasses.field(default_factory=set)
    told_at: float = 0.0
    tasks: tuple[asyncio.Task[None], ...] = ()


class Entries:
    """The entries of all pools.

    Args:
        changed: called on the event loop with the member about which something is known anew.
        processes: a pool's processes that are ready now.
        listen_every, tell_every: seconds between two reports of a process; between two tellings of what comes and goes.
    """

    def __init__(
        self,
        place: home.Home,
        *,
        tasks: aio.Tasks,
        changed: Callable[[observed.ServiceKey], None],
        processes: Processes,
        listen_every: float = LISTEN_EVERY,
        tell_every: float = TELL_EVERY,
    ) -> None:
        self._root = place.pools
        self._tasks = tasks
        self._changed = changed
        self._processes = processes
        self._listen_every = listen_every
        self._tell_every = tell_every
        self._pools: dict[observed.ServiceKey, _Pool] = {}
        self._members: dict[observed.ServiceKey, _Pool] = {}

    async def start(self) -> None:
        """Take up the entries that are there. Raises ``errors.BackendError`` when they cannot be read."""
        for key, found in await asyncio.to_thread(lambda: list(self._remembered())):
            self._put(self._pool(key), found)

    def members(self) -> tuple[observed.ServiceKey, ...]:
        """Everybody who has an entry."""
        return tuple(self._members)

    def has(self, member: observed.ServiceKey) -> bool:
        """Whether ``member`` has an entry."""
        return member in self._members

    def observe(self, member: observed.ServiceKey) -> observed.Enlisted | None:
        """The entry of ``member`` and what the processes say of it, without the processes themselves."""
        held = self._members.get(member)
        if held is None:
            return None
        name = _name_of(member)
        known = (report.placements.get(name) for _, report in sorted(held.reports.items()))
        return dataclasses.replace(held.entries[name], placements=tuple(one for one in known if one is not None))

    def count(self, key: observed.ServiceKey) -> int:
        """How many entries a pool has."""
        held = self._pools.get(key)
        return 0 if held is None else len(held.entries)

    def requests(self, key: observed.ServiceKey) -> Mapping[str, int]:
        """How many requests each model of a pool has had since somebody here listens to its processes."""
        held = self._pools.get(key)
        return {} if held is None else dict(held.requests)

    def provided(self, replica: observed.ReplicaId, short: str) -> dict[str, str]:
        """What a pool's program is told of its folder, which is made. Raises ``errors.BackendError``."""
        held = self._pool(replica.service)
        held.counted[replica] = {}
        folder = held.folder
        _make(folder)
        return {"MLSHIP_MODELS": str(folder), "MLSHIP_QUARANTINE": str(folder.parent / f"quarantine-{short}.json")}

    def enlist(self, action: actions.EnlistModel) -> None:
        """Write an entry; nothing when it is there. Raises ``errors.BackendError`` when it cannot be written."""
        held, entry = self._pool(action.pool), action.entry
        before = held.entries.get(entry.name)
        if before is not None and before.mark == entry.mark:
            return
        _make(held.folder)
        records.write_atomically(held.folder / f"{entry.name}.json", json.dumps(_content(entry)))
        self._put(held, observed.Enlisted(action.pool, entry.name, entry.digest, entry.mark))
        if before is not None:
            self._order(held, entry.name, "load", only=True)
        self._changed(pool.member_key(action.pool, entry.name))

    def delist(self, action: actions.DelistModel) -> None:
        """Remove an entry; nothing when it is gone. Raises ``errors.BackendError`` when it cannot be removed."""
        held = self._pools.get(action.pool)
        if held is None or action.name not in held.entries:
            return
        records.remove(held.folder / f"{action.name}.json")
        del held.entries[action.name]
        held.requests.pop(action.name, None)
        self._members.pop(pool.member_key(action.pool, action.name), None)
        self._order(held, action.name, "unload")
        self._changed(pool.member_key(action.pool, action.name))

    def tidy(self, key: observed.ServiceKey) -> None:
        """The pool's last process has ended: without entries nothing of it stays."""
        held = self._pools.get(key)
        if held is None or held.entries:
            return
        del self._pools[key]
        for task in held.tasks:
            task.cancel()
        shutil.rmtree(held.folder.parent, ignore_errors=True)

    # The folder.

    def _pool(self, key: observed.ServiceKey) -> _Pool:
        held = self._pools.get(key)
        if held is None:
            held = self._pools[key] = _Pool(key, self._root / key.namespace / key.name / "models")
            held.tasks = (
                self._tasks.start(self._listen(held), name=f"listen to pool {key}"),
                self._tasks.start(self._give_orders(held), name=f"order pool {key}"),
            )
        return held

    def _put(self, held: _Pool, found: observed.Enlisted) -> None:
        held.entries[found.name] = found
        self._members[pool.member_key(held.key, found.name)] = held

    def _remembered(self) -> Iterator[tuple[observed.ServiceKey, observed.Enlisted]]:
        """In a thread: every entry; what is none is removed, and written again when it is planned."""
        try:
            for path in sorted(self._root.glob("*/*/models/*.json")):
                key = observed.ServiceKey(path.parents[2].name, path.parents[1].name)
                try:
                    value = json.loads(path.read_bytes())
                    found = observed.Enlisted(key, value["name"], value["digest"], value["tags"][_MARK])
                except (KeyError, TypeError, ValueError):
                    records.remove(path)
                    continue
                yield key, found
        except OSError as error:
            raise errors.BackendError(f"cannot read the entries of pools in {self._root}: {error.strerror}.") from error

    # What is said to processes.

    def _order(self, held: _Pool, name: str, verb: str, *, only: bool = False) -> None:
        """Have every process told; ``only`` those that have said that they know the model."""
        for replica, address in self._processes(held.key):
            report = held.reports.get(replica)
            if not only or (report is not None and name in report.placements):
                held.orders[name, address] = verb
        held.bell.set()

    async def _give_orders(self, held: _Pool) -> None:
        while True:
            await held.bell.wait()
            held.bell.clear()
            while held.orders:
                batch = [(key, held.orders.pop(key)) for key in list(held.orders)[:_ORDERS_AT_ONCE]]
                await asyncio.gather(*(self._tell(address, name, verb) for (name, address), verb in batch))

    async def _tell(self, address: str, name: str, verb: str) -> None:
        path = f"/v2/repository/models/{urllib.parse.quote(name, safe='')}/{verb}"
        try:
            status, body = await asking.ask(address, "POST", path, seconds=_ORDER_SECONDS)
        except asking.Silence as silence:
            log.info("%s: cannot be told to %s %s: %s", address, verb, name, silence)
            return
        # What could not be loaded is in the next report, with its reason.
        if status >= 400 and not (verb == "unload" and status == 404):
            log.info("%s: %s of %s: %d: %s", address, verb, name, status, body[:300].decode(errors="replace"))

    # What processes say.

    async def _listen(self, held: _Pool) -> None:
        wait = self._listen_every
        while True:
            await asyncio.sleep(wait)
            begun = time.monotonic()
            await self._hear(held)
            wait = max(self._listen_every, (time.monotonic() - begun) / _SHARE)

    async def _hear(self, held: _Pool) -> None:
        here = list(self._processes(held.key))
        for gone in held.reports.keys() - {replica for replica, _ in here}:
            self._note(held, held.reports.pop(gone), None)
        for replica, address in here:
            try:
                status, body = await asking.ask(address, "GET", pool_program.REPORT, seconds=_REPORT_SECONDS)
            except asking.Silence:
                continue  # whether it answers at all is the probe's business
            found = await asyncio.to_thread(pool_reports.read, body, replica) if status == 200 else None
            if found is not None:
                self._note(held, held.reports.get(replica), found)
                _count(held, replica, found.requests)
                held.reports[replica] = found
        # One that is out of sight may come back, one of a revision that has ended does not.
        revisions = {replica.revision for replica, _ in here}
        if revisions:
            held.counted = {one: kept for one, kept in held.counted.items() if one.revision in revisions or not kept}
        self._tell_watchers(held)

    def _note(self, held: _Pool, before: pool_reports.Report | None, after: pool_reports.Report | None) -> None:
        old = {} if before is None else before.placements
        new = {} if after is None else after.placements
        for name in old.keys() | new.keys():
            was, now = old.get(name), new.get(name)
            if name not in held.entries or was == now:
                continue
            if (was.reason if was else "") != (now.reason if now else ""):
                held.untold.discard(name)
                self._changed(pool.member_key(held.key, name))
            elif (was.state if was else None) is not (now.state if now else None):
                held.untold.add(name)

    def _tell_watchers(self, held: _Pool) -> None:
        if held.untold and time.monotonic() - held.told_at >= self._tell_every:
            held.told_at = time.monotonic()
            for name in held.untold:
                self._changed(pool.member_key(held.key, name))
            held.untold.clear()


def _count(held: _Pool, replica: observed.ReplicaId, found: Mapping[str, int]) -> None:
    """Add what has come since the process said so last.

    What one that was there before us had answered by then came at no time that is known: counted, it would be a flood.
    """
    before = held.counted.get(replica, found)
    for name in found.keys() & held.entries.keys():
        was = before.get(name, 0)
        # A process that was started again counts from zero.
        came = found[name] - was if found[name] >= was else found[name]
        held.requests[name] = held.requests.get(name, 0) + came
    held.counted[replica] = found


def _name_of(member: observed.ServiceKey) -> str:
    return pool.trained_name(member) or member.name


def _content(entry: actions.Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "version": entry.version,
        "format": entry.format,
        "path": entry.path,
        "options": dict(entry.options),
        "accelerate": entry.accelerate or None,
        "digest": entry.digest,
        "memory": entry.memory,
        "tags": {_MARK: entry.mark},
    }


def _make(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise errors.BackendError(
            f"cannot make the folder {folder}: {error.strerror}.",
            hint=f"Check the free space and the permissions of {folder.parent}.",
        ) from error
