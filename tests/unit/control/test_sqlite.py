"""The door to SQLite: transactions, migrations, and every failure of the file as a sentence."""

from __future__ import annotations

import asyncio
import json
import pathlib
import sqlite3
import stat
import threading

import pytest

from mlship import errors
from mlship.control import sqlite


async def test_the_file_is_private_and_survives_power_cuts(tmp_path: pathlib.Path):
    database = sqlite.Database(tmp_path / "deep" / "state.db")
    await database.open()
    assert stat.S_IMODE((tmp_path / "deep" / "state.db").stat().st_mode) == 0o600
    modes = await database.run(
        lambda one: [one.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    )
    assert modes == ["wal", 2]
    await database.close()


async def test_a_transaction_is_all_or_nothing(tmp_path: pathlib.Path):
    database = sqlite.Database(tmp_path / "state.db")
    await database.open()

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE counter SET version = 7")
        raise RuntimeError("in the middle")

    told: list[str] = []
    with pytest.raises(RuntimeError):
        await database.run(half, then=lambda: told.append("kept"))
    assert await database.run(lambda one: one.execute("SELECT version FROM counter").fetchone()[0]) == 0
    assert told == []
    await database.close()


@pytest.mark.parametrize(
    "garbage", [b"this is not a database at all, not even nearly " * 100, b"SQLite format 3\0" * 300]
)
async def test_a_damaged_file_is_named_with_the_way_out(tmp_path: pathlib.Path, garbage: bytes):
    path = tmp_path / "state.db"
    path.write_bytes(garbage)
    with pytest.raises(errors.BackendError, match="damaged") as caught:
        await sqlite.Database(path).open()
    assert str(path) in caught.value.message
    assert "apply your YAML" in caught.value.hint
    assert path.read_bytes() == garbage, "the evidence stays"


async def test_damage_inside_is_found_at_start(tmp_path: pathlib.Path):
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.executemany("INSERT INTO t VALUES (?)", [("y" * 900,)] * 200)
    connection.commit()
    connection.close()
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 6] = b"\xff" * (4096 * 3)
    path.write_bytes(bytes(content))
    with pytest.raises(errors.BackendError, match="damaged"):
        await sqlite.Database(path).open()


async def test_a_newer_schema_is_refused(tmp_path: pathlib.Path):
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(errors.BackendError, match="schema version 99"):
        await sqlite.Database(path).open()


async def test_an_older_schema_is_migrated_and_keeps_its_rows(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    database = sqlite.Database(tmp_path / "state.db")
    await database.open()
    await database.run(lambda one: one.execute("UPDATE counter SET version = 5"))
    await database.close()
    monkeypatch.setattr(
        sqlite, "_MIGRATIONS", (*sqlite._MIGRATIONS, "ALTER TABLE counter ADD COLUMN note TEXT DEFAULT 'new'")
    )
    database = sqlite.Database(tmp_path / "state.db")
    await database.open()
    assert await database.run(lambda one: one.execute("SELECT version, note FROM counter").fetchone()) == (5, "new")
    await database.close()


async def test_objects_of_an_older_file_are_found_by_the_one_they_name(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    newest = sqlite._MIGRATIONS
    monkeypatch.setattr(sqlite, "_MIGRATIONS", newest[:2])
    rows = [
        ("scaledobjects.keda.sh", "so", {"spec": {"scaleTargetRef": {"name": "iris"}}}),
        ("trainedmodels.serving.kserve.io", "tm", {"spec": {"inferenceService": "many"}}),
        ("inferenceservices.serving.kserve.io", "iris", {"spec": {"predictor": {}}}),
        ("scaledobjects.keda.sh", "odd", {"spec": None}),
    ]
    database = sqlite.Database(tmp_path / "state.db")
    await database.open()
    for kind, name, body in rows:
        values = (kind, "default", name, json.dumps(body))
        await database.run(lambda one, values=values: one.execute("INSERT INTO objects VALUES (?, ?, ?, ?)", values))
    await database.close()
    monkeypatch.setattr(sqlite, "_MIGRATIONS", newest)
    database = sqlite.Database(tmp_path / "state.db")
    await database.open()
    found = await database.run(lambda one: dict(one.execute("SELECT name, target FROM objects").fetchall()))
    assert found == {"so": "iris", "tm": "many", "iris": "", "odd": ""}
    await database.close()


async def test_a_migration_that_fails_leaves_the_old_schema(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "state.db"
    database = sqlite.Database(path)
    await database.open()
    await database.close()
    before = len(sqlite._MIGRATIONS)
    monkeypatch.setattr(sqlite, "_MIGRATIONS", (*sqlite._MIGRATIONS, "CREATE TABLE extra (x); CREATE NONSENSE"))
    with pytest.raises(errors.BackendError):
        await sqlite.Database(path).open()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (before,)
    assert not connection.execute("SELECT name FROM sqlite_master WHERE name = 'extra'").fetchall()
    connection.close()


async def test_a_folder_in_the_way_is_an_error_that_names_it(tmp_path: pathlib.Path):
    (tmp_path / "state.db").mkdir()
    with pytest.raises(errors.BackendError, match=r"state\.db"):
        await sqlite.Database(tmp_path / "state.db").open()
    (tmp_path / "file").touch()
    with pytest.raises(errors.BackendError, match="MLSHIP_HOME"):
        await sqlite.Database(tmp_path / "file" / "state.db").open()


async def test_a_full_disk_is_said_and_changes_nothing(tmp_path: pathlib.Path):
    database = sqlite.Database(tmp_path / "state.db")
    await database.open()
    pages = await database.run(lambda one: one.execute("PRAGMA page_count").fetchone()[0])
    await database.run(lambda one: one.execute(f"PRAGMA max_page_count = {pages + 1}"))

    def fill(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO journal (resource, namespace, name, body) VALUES ('', '', '', ?)", ("x" * 90000,)
        )

    with pytest.raises(errors.BackendError, match="full"):
        await database.run(fill)
    assert await database.run(lambda one: one.execute("SELECT count(*) FROM journal").fetchone()[0]) == 0
    await database.close()


async def test_a_database_that_is_not_open_says_so(tmp_path: pathlib.Path):
    with pytest.raises(errors.BackendError, match="not open"):
        await sqlite.Database(tmp_path / "state.db").run(lambda one: None)


async def opened(tmp_path: pathlib.Path) -> sqlite.Database:
    database = sqlite.Database(tmp_path / "state.db")
    await database.open()
    return database


async def test_what_comes_together_shares_a_commit_and_each_fails_alone(tmp_path: pathlib.Path):
    database = await opened(tmp_path)
    commits: list[str] = []
    await database.run(lambda one: one.set_trace_callback(lambda text: commits.append(text)))
    commits.clear()
    gate = threading.Event()

    def add(connection: sqlite3.Connection, number: int) -> int:
        connection.execute("UPDATE counter SET version = version + 1")
        if number == 3:
            raise ValueError("this one is wrong")
        return number

    first = asyncio.ensure_future(database.run(lambda _: gate.wait(20)))
    await asyncio.sleep(0)
    told: list[int] = []
    rest = [
        asyncio.ensure_future(database.run(lambda one, n=n: add(one, n), then=lambda n=n: told.append(n)))
        for n in range(6)
    ]
    await asyncio.sleep(0)
    gate.set()
    await first
    found = await asyncio.gather(*rest, return_exceptions=True)
    assert [one for one in found if isinstance(one, int)] == [0, 1, 2, 4, 5]
    assert isinstance(found[3], ValueError)
    assert told == [0, 1, 2, 4, 5]
    assert await database.run(lambda one: one.execute("SELECT version FROM counter").fetchone()[0]) == 5
    assert sum(text == "COMMIT" for text in commits) <= 3
    await database.close()


async def test_a_commit_that_fails_is_made_up_for_one_by_one(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    database = await opened(tmp_path)
    gate = threading.Event()
    first = asyncio.ensure_future(database.run(lambda _: gate.wait(20)))
    await asyncio.sleep(0)

    def add(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE counter SET version = version + 1")

    def fills_the_disk(connection: sqlite3.Connection) -> None:
        # As SQLite does after some failures: the whole transaction is gone, whoever else was in it.
        connection.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    works = [asyncio.ensure_future(database.run(work)) for work in (add, fills_the_disk, add)]
    await asyncio.sleep(0)
    gate.set()
    await first
    found = await asyncio.gather(*works, return_exceptions=True)
    assert [type(one) for one in found] == [type(None), errors.BackendError, type(None)]
    assert "is full" in str(found[1])
    assert await database.run(lambda one: one.execute("SELECT version FROM counter").fetchone()[0]) == 2
    await database.close()


async def test_a_caller_that_leaves_does_not_take_its_write_with_it(tmp_path: pathlib.Path):
    database = await opened(tmp_path)
    gate = threading.Event()
    first = asyncio.ensure_future(database.run(lambda _: gate.wait(20)))
    await asyncio.sleep(0)
    gone = asyncio.ensure_future(database.run(lambda one: one.execute("UPDATE counter SET version = 9")))
    await asyncio.sleep(0)
    gone.cancel()
    gate.set()
    await first
    assert await database.run(lambda one: one.execute("SELECT version FROM counter").fetchone()[0]) == 9
    await database.close()
