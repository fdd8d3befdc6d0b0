"""The one door to SQLite: a database file, one thread that alone touches it, transactions, and errors in our words.

WAL with ``synchronous=FULL``: every acknowledged transaction is on disk before the caller goes on, so that neither
SIGKILL nor a power cut loses it (a disk that lies about flushing still can). A flush is what takes time, so what has
come while the thread was busy shares one: each caller's work in a savepoint of its own, all of them in one commit.
The file carries its schema version; ``_MIGRATIONS`` brings an older file up to date, a newer one is refused.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import pathlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from mlship import errors

T = TypeVar("T")

_TOGETHER = 64

# Each entry lifts the schema by one version; never edit one that has been released, add another.
_MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE counter (version INTEGER NOT NULL);
    INSERT INTO counter VALUES (0);
    CREATE TABLE objects (
        resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (resource, namespace, name)
    ) WITHOUT ROWID;
    CREATE TABLE events (
        version INTEGER PRIMARY KEY, change TEXT NOT NULL,
        resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, previous TEXT
    );
    CREATE TABLE journal (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL
    );
    CREATE INDEX journal_of ON journal (resource, namespace, name, id);
    """,
    # Names and their number without reading the bodies beside them.
    "CREATE INDEX names ON objects (resource, namespace, name)",
    # Objects by the one they name, without reading all of their kind.
    """
    ALTER TABLE objects ADD COLUMN target TEXT NOT NULL DEFAULT '';
    UPDATE objects SET target = coalesce(json_extract(body, '$.spec.scaleTargetRef.name'), '')
        WHERE resource = 'scaledobjects.keda.sh';
    UPDATE objects SET target = coalesce(json_extract(body, '$.spec.inferenceService'), '')
        WHERE resource = 'trainedmodels.serving.kserve.io';
    CREATE INDEX targets ON objects (resource, namespace, target, name) WHERE target <> '';
    """,
)


@dataclasses.dataclass(slots=True)
class _Job:
    """One caller's work, and what became of it."""

    work: Callable[[sqlite3.Connection], Any]
    then: Callable[[], object] | None
    answer: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class Database:
    """A database file and its thread. ``open`` before use, ``close`` after."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None
        self._jobs: collections.deque[_Job] = collections.deque()
        self._called = False

    async def open(self) -> None:
        """Open or make the file, check it, bring its schema up to date. Raises BackendError."""
        await self._on_thread(self._open)

    async def run(self, work: Callable[[sqlite3.Connection], T], *, then: Callable[[], object] | None = None) -> T:
        """Run ``work`` on the database's thread: all of it is kept, or nothing, and nobody sees a part.

        Raises BackendError when the file or the disk fails, and whatever ``work`` raises. A caller that is cancelled
        meanwhile leaves the work to finish; ``then`` is called on that thread after it was kept. ``work`` may be called
        again, on the state as it was, when the commit that it shared has failed.
        """

        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.append(_Job(work, then, answer))
        if not self._called:
            self._called = True
            self._thread.submit(self._work)
        return await answer

    async def close(self) -> None:
        """Finish what runs and close the file."""
        await self._on_thread(self._close)
        self._thread.shutdown(wait=True)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self) -> None:
        with self._translated():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, isolation_level=None, timeout=5.0)
            try:
                self.path.chmod(0o600)
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if verdict != "ok":
                    raise _damaged(self.path, str(verdict))
                _migrate(connection, self.path)
            except BaseException:
                connection.close()
                raise
            self._connection = connection

    def _work(self) -> None:
        """On the thread: everything that waits, in as few transactions as may be."""
        # Said first: whoever comes from now on calls again, and finds nothing left or something to do.
        self._called = False
        while self._jobs:
            jobs = [self._jobs.popleft() for _ in range(min(len(self._jobs), _TOGETHER))]
            try:
                self._transact(jobs)
            except BaseException as error:  # noqa: BLE001 - whoever asked is told, each alone
                self._alone(jobs, error)
            # A loop that is closed has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                for job in jobs:
                    if job.then is not None and job.error is None:
                        job.then()
                jobs[0].answer.get_loop().call_soon_threadsafe(_tell, jobs)

    def _alone(self, jobs: list[_Job], error: BaseException) -> None:
        """The commit failed: one bad write must not take the others with it, so each has its own now."""
        for job in jobs:
            job.result, job.error = None, error
            if len(jobs) > 1:
                try:
                    self._transact([job])
                except BaseException as own:  # noqa: BLE001 - as above
                    job.result, job.error = None, own

    def _transact(self, jobs: list[_Job]) -> None:
        if self._connection is None:
            raise errors.BackendError(f"the state database {self.path} is not open")
        with self._translated(), _transaction(self._connection) as connection:
            for job in jobs:
                self._one(connection, job)

    def _one(self, connection: sqlite3.Connection, job: _Job) -> None:
        """One work in a savepoint. Raises only what leaves no transaction to go on with."""
        job.error = None
        connection.execute("SAVEPOINT job")
        try:
            with self._translated():
                job.result = job.work(connection)
        except BaseException as error:
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO job")
            job.error = error
        connection.execute("RELEASE job")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise _translate(error, self.path) from error
        except OSError as error:
            raise errors.BackendError(
                f"the state database {self.path} cannot be opened: {error.strerror or error}.",
                hint="Check the folder and its permissions, or choose another one with MLSHIP_HOME.",
            ) from error


def _tell(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.answer.done():
            continue
        if job.error is None:
            job.answer.set_result(job.result)
        else:
            job.answer.set_exception(job.error)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        # SQLite has rolled back by itself after some failures, a full disk among them.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    try:
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _migrate(connection: sqlite3.Connection, path: pathlib.Path) -> None:
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    newest = len(_MIGRATIONS)
    if found > newest:
        raise errors.BackendError(
            f"the state database {path} has schema version {found}, this mlship knows up to {newest}.",
            hint="Use the newer mlship that wrote it, or another MLSHIP_HOME.",
        )
    for version in range(found, newest):
        with _transaction(connection):
            for statement in _MIGRATIONS[version].split(";"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version + 1}")


def _translate(error: sqlite3.DatabaseError, path: pathlib.Path) -> errors.BackendError:
    text = str(error)[:300]
    if isinstance(error, sqlite3.OperationalError) and "full" in text:
        return errors.BackendError(
            f"the disk of the state database {path} is full.",
            hint="Free some space; nothing was half-written and running models are not affected.",
        )
    if "malformed" in text or "not a database" in text:
        return _damaged(path, text)
    return errors.BackendError(
        f"the state database {path} failed: {text}.", hint="Check the disk and the permissions of its folder."
    )


def _damaged(path: pathlib.Path, text: str) -> errors.BackendError:
    return errors.BackendError(
        f"the state database {path} is damaged ({text[:300]}).",
        hint=(
            f"Move {path.name}, {path.name}-wal and {path.name}-shm out of {path.parent}, start again and apply your "
            "YAML files again; models that run now are taken over by the services of the same name."
        ),
    )


Connection = sqlite3.Connection
Row = tuple[Any, ...]
