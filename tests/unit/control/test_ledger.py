"""The promises of the store, on a real file: versions, generations, conflicts, watches, and surviving SIGKILL."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from mlship import errors
from mlship.control import ledger, sqlite, store


def reason(caught: pytest.ExceptionInfo[errors.SpecError]) -> errors.Reason:
    return caught.value.reason


SCALED = "scaledobjects.keda.sh"


async def test_creating_gives_the_servers_metadata_and_keeps_the_spec_verbatim(kept, service, service_key):
    raw = service(labels={"team": "a"})
    raw["spec"]["predictor"]["oddly"] = {"Ordered": 1, "a": [1.5, None, "ü"]}
    made = await kept.create(service_key(), raw)
    assert made["spec"] == raw["spec"]
    assert list(made["spec"]["predictor"]) == list(raw["spec"]["predictor"])
    metadata = made["metadata"]
    assert metadata["generation"] == 1
    assert metadata["resourceVersion"] == "1"
    assert metadata["labels"] == {"team": "a"}
    assert len(metadata["uid"]) == 36
    assert metadata["creationTimestamp"].endswith("Z")
    assert await kept.get(service_key()) == made


async def test_a_status_in_a_new_object_is_dropped(kept, service, service_key):
    made = await kept.create(service_key(), service() | {"status": {"url": "http://forged"}})
    assert "status" not in made


async def test_creating_twice_is_refused(kept, service, service_key):
    await kept.create(service_key(), service())
    with pytest.raises(errors.SpecError) as caught:
        await kept.create(service_key(), service())
    assert reason(caught) is errors.Reason.ALREADY_EXISTS


async def test_generation_grows_with_the_spec_only(kept, service, service_key):
    key = service_key()
    await kept.create(key, service())
    labelled = await kept.replace(key, service(labels={"a": "b"}))
    assert (labelled["metadata"]["generation"], labelled["metadata"]["resourceVersion"]) == (1, "2")
    changed = await kept.replace(key, service(uri="/models/other", labels={"a": "b"}))
    assert (changed["metadata"]["generation"], changed["metadata"]["resourceVersion"]) == (2, "3")


async def test_status_and_spec_are_written_apart(kept, service, service_key):
    key = service_key()
    await kept.create(key, service())
    told = await kept.replace(key, service(uri="/elsewhere") | {"status": {"url": "u"}}, part=store.Part.STATUS)
    assert told["status"] == {"url": "u"}
    assert told["spec"] == service()["spec"]
    assert told["metadata"]["generation"] == 1
    changed = await kept.replace(key, service(uri="/elsewhere") | {"status": {"url": "forged"}})
    assert changed["status"] == {"url": "u"}


async def test_a_write_that_changes_nothing_is_no_write(kept, service, service_key):
    key = service_key()
    made = await kept.create(key, service())
    assert await kept.replace(key, service()) == made
    assert await kept.version() == 1


async def test_a_stale_version_is_refused_with_both_versions(kept, service, service_key):
    key = service_key()
    await kept.create(key, service())
    await kept.replace(key, service(uri="/b"), given=store.Precondition(version="1"))
    with pytest.raises(errors.SpecError) as caught:
        await kept.replace(key, service(uri="/c"), given=store.Precondition(version="1"))
    assert reason(caught) is errors.Reason.CONFLICT
    assert "'1'" in str(caught.value) and "'2'" in str(caught.value)


async def test_a_write_for_another_uid_is_refused(kept, service, service_key):
    await kept.create(service_key(), service())
    with pytest.raises(errors.SpecError) as caught:
        await kept.delete(service_key(), given=store.Precondition(uid="other"))
    assert reason(caught) is errors.Reason.CONFLICT


async def test_what_is_not_there_is_not_found(kept, service, service_key):
    for asked in (kept.get(service_key()), kept.replace(service_key(), service()), kept.delete(service_key())):
        with pytest.raises(errors.SpecError) as caught:
            await asked
        assert reason(caught) is errors.Reason.NOT_FOUND


async def test_dry_runs_store_nothing(kept, service, service_key):
    key = service_key()
    await kept.create(key, service(), dry_run=True)
    with pytest.raises(errors.SpecError):
        await kept.get(key)
    made = await kept.create(key, service())
    changed = await kept.replace(key, service(uri="/b"), dry_run=True)
    assert changed["metadata"]["generation"] == 2
    assert "deletionTimestamp" in (await kept.delete(key, dry_run=True))["metadata"]
    assert await kept.get(key) == made


async def test_a_drained_kind_stays_until_it_is_removed(kept, service, service_key):
    key = service_key()
    made = await kept.create(key, service())
    uid = made["metadata"]["uid"]
    assert not await kept.remove(key, uid=uid), "it is not deleted"
    marked = await kept.delete(key)
    assert marked["metadata"]["deletionTimestamp"]
    again = await kept.delete(key)
    assert again == marked, "deleting twice changes nothing"
    assert await kept.remove(key, uid="of another life")
    assert await kept.get(key) == marked
    assert await kept.remove(key, uid=uid)
    with pytest.raises(errors.SpecError):
        await kept.get(key)


async def test_other_kinds_go_at_once_unless_a_finalizer_holds_them(kept, service):
    key = store.Key("servingruntimes.serving.kserve.io", "default", "r")
    await kept.create(key, service("r"))
    await kept.delete(key)
    with pytest.raises(errors.SpecError):
        await kept.get(key)
    await kept.create(key, service("r", finalizers=["x/y"]))
    await kept.delete(key)
    assert "deletionTimestamp" in (await kept.get(key))["metadata"]
    with pytest.raises(store.Unprocessable, match="finalizers"):
        await kept.replace(key, service("r", finalizers=["x/y", "more/z"]))
    await kept.replace(key, service("r"))
    with pytest.raises(errors.SpecError):
        await kept.get(key)


async def test_a_finalizer_holds_a_drained_object(kept, service, service_key):
    key = service_key()
    made = await kept.create(key, service(finalizers=["x/y"]))
    await kept.delete(key)
    assert not await kept.remove(key, uid=made["metadata"]["uid"])
    await kept.replace(key, service())
    assert await kept.remove(key, uid=made["metadata"]["uid"])


async def test_lists_are_ordered_filtered_and_paged(kept, service, service_key):
    for namespace, name in (("b", "one"), ("a", "two"), ("a", "one"), ("a", "three")):
        await kept.create(service_key(name, namespace), service(name, namespace, labels={"n": name}))
    resource = service_key().resource
    page = await kept.page(resource)
    assert [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in page.items] == [
        ("a", "one"), ("a", "three"), ("a", "two"), ("b", "one"),
    ]  # fmt: skip
    assert page.version == 4
    first = await kept.page(resource, limit=3)
    assert (first.last, first.remaining) == (("a", "two"), 1)
    rest = await kept.page(resource, limit=3, after=first.last)
    assert [one["metadata"]["namespace"] for one in rest.items] == ["b"]
    assert rest.last is None
    only = await kept.page(resource, namespace="a", where=lambda one: one["metadata"]["labels"]["n"] == "one")
    assert len(only.items) == 1
    assert (await kept.page("nothing.of.this")).items == ()


async def test_a_watch_sees_what_comes_and_nothing_twice(kept, service, service_key):
    await kept.create(service_key("before"), service("before"))
    watcher = await kept.watch(since=1)
    waiting = asyncio.ensure_future(watcher.next(10))
    await kept.create(service_key(), service())
    (added,) = await waiting
    assert (added.change, added.version, added.previous) == (store.Change.ADDED, 2, None)
    await kept.replace(service_key(), service(uri="/b"))
    await kept.delete(service_key())
    await kept.remove(service_key(), uid=added.object["metadata"]["uid"])
    seen = await watcher.next(10)
    assert [(one.change, one.version) for one in seen] == [
        (store.Change.MODIFIED, 3), (store.Change.MODIFIED, 4), (store.Change.DELETED, 5),
    ]  # fmt: skip
    assert seen[0].previous == added.object
    assert await watcher.next(0.01) == ()


async def test_watches_of_kinds_and_namespaces_see_only_theirs(kept, service, service_key):
    own = await kept.watch(service_key().resource, namespace="a", since=0)
    every = await kept.watch(since=0)
    await kept.create(service_key("x", "b"), service("x", "b"))
    await kept.create(store.Key("other.kinds", "a", "x"), service("x", "a"))
    await kept.create(service_key("x", "a"), service("x", "a"))
    assert [one.version for one in await own.next(10)] == [3]
    assert [one.version for one in await every.next(10)] == [1, 2, 3]


async def test_a_watch_behind_the_log_is_told_so(open_ledger, service, service_key):
    kept = await open_ledger(keep_events=5)
    slow = await kept.watch(since=0)
    for number in range(8):
        await kept.create(service_key(f"s{number}"), service(f"s{number}"))
    for since in (2, 99):
        with pytest.raises(errors.SpecError) as caught:
            await kept.watch(since=since)
        assert reason(caught) is errors.Reason.EXPIRED
    with pytest.raises(errors.SpecError) as caught:
        await slow.next(10)
    assert reason(caught) is errors.Reason.EXPIRED
    inside = await kept.watch(since=3)
    assert [one.version for one in await inside.next(10)] == [4, 5, 6, 7, 8]
    await kept.close()


async def test_a_cursor_moves_past_changes_of_others(open_ledger, service, service_key):
    """A watcher of a quiet kind is not thrown out because another kind is busy."""
    kept = await open_ledger(keep_events=5)
    quiet = await kept.watch("quiet.kind", since=0)
    for number in range(4):
        await kept.create(service_key(f"s{number}"), service(f"s{number}"))
    assert await quiet.next(0.01) == ()
    for number in range(4, 9):
        await kept.create(service_key(f"s{number}"), service(f"s{number}"))
    assert await quiet.next(0.01) == ()
    assert quiet.cursor == 9
    await kept.close()


async def test_long_backlogs_come_in_batches(kept, service, service_key):
    for number in range(150):
        await kept.replace(service_key(), service(uri=f"/{number}")) if number else await kept.create(
            service_key(), service()
        )
    watcher = await kept.watch(since=0)
    first, second = await watcher.next(10), await watcher.next(10)
    assert [one.version for one in (*first, *second)] == list(range(1, 151))
    assert len(first) == 100


async def test_a_closed_watcher_ends_at_once(kept):
    watcher = await kept.watch(since=0)
    waiting = asyncio.ensure_future(watcher.next(60))
    await asyncio.sleep(0)
    watcher.close()
    async with asyncio.timeout(30):
        assert await waiting == ()


async def test_a_caller_that_gives_up_costs_nobody_a_wake_up(open_ledger, service, service_key):
    begun, go = threading.Event(), threading.Event()

    def clock() -> float:
        begun.set()
        assert go.wait(10)
        return 0.0

    kept = await open_ledger(clock=clock)
    watcher = await kept.watch(since=0)
    writing = asyncio.ensure_future(kept.create(service_key(), service()))
    await asyncio.to_thread(begun.wait, 10)
    writing.cancel()
    waiting = asyncio.ensure_future(watcher.next(10))
    go.set()
    assert [one.version for one in await waiting] == [1]
    await kept.close()


async def test_the_journal_keeps_the_newest(kept, service_key):
    for number in range(5):
        await kept.note(service_key(), {"n": number}, keep=3)
    await kept.note(service_key("other"), {"n": 99}, keep=3)
    assert await kept.notes(service_key(), limit=10) == ({"n": 2}, {"n": 3}, {"n": 4})
    await kept.amend(service_key(), {"n": 4, "again": True})
    assert await kept.notes(service_key(), limit=1) == ({"n": 4, "again": True},)


async def test_objects_survive_a_restart(open_ledger, service, service_key):
    kept = await open_ledger()
    made = await kept.create(service_key(), service())
    await kept.close()
    kept = await open_ledger()
    assert await kept.get(service_key()) == made
    assert await kept.version() == 1
    await kept.close()


_WRITER = """
    import asyncio, pathlib, sys
    from mlship.control import ledger, sqlite, store

    async def main():
        database = sqlite.Database(pathlib.Path(sys.argv[1]))
        await database.open()
        kept = ledger.Ledger(database)
        number = 0
        while True:
            number += 1
            key = store.Key("things.test", "default", f"t{number}")
            await kept.create(key, {"apiVersion": "test/v1", "kind": "Thing", "metadata": {}, "spec": {"n": number}})
            print(number, flush=True)

    asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_sigkill(tmp_path: pathlib.Path):
    path = tmp_path / "state.db"
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_WRITER), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    acknowledged = 0
    while acknowledged < 40:
        acknowledged = int(writer.stdout.readline())
    os.kill(writer.pid, signal.SIGKILL)
    acknowledged = max([acknowledged, *(int(line) for line in writer.stdout.read().split())])
    writer.stdout.close()
    writer.wait(10)

    database = sqlite.Database(path)
    await database.open()
    from mlship.control import ledger

    kept = ledger.Ledger(database)
    page = await kept.page("things.test")
    numbers = sorted(one["spec"]["n"] for one in page.items)
    assert numbers[:acknowledged] == list(range(1, acknowledged + 1))
    assert page.version == len(numbers)
    await kept.close()


async def test_names_and_numbers_are_told_without_the_objects(kept, service, service_key):
    resource = service_key().resource
    for namespace, name in (("b", "x"), ("a", "z"), ("a", "y")):
        await kept.create(service_key(name, namespace), service(name, namespace))
    found = await kept.names(resource)
    assert found.pairs == (("a", "y"), ("a", "z"), ("b", "x"))
    assert found.version == await kept.version()
    assert (await kept.names(resource, namespace="a")).pairs == (("a", "y"), ("a", "z"))
    assert (await kept.count(resource), await kept.count("others.example.com")) == (3, 0)


async def test_a_page_reads_what_it_gives_and_counts_the_rest(kept, service, service_key, monkeypatch):
    resource = service_key().resource
    for number in range(20):
        await kept.create(service_key(f"s{number:02d}"), service(f"s{number:02d}"))
    reads = []
    loads = ledger.orjson.loads
    monkeypatch.setattr(ledger.orjson, "loads", lambda text: reads.append(1) or loads(text))
    page = await kept.page(resource, limit=3, after=("default", "s04"))
    assert [one["metadata"]["name"] for one in page.items] == ["s05", "s06", "s07"]
    assert (page.remaining, page.last, len(reads)) == (12, ("default", "s07"), 3)
    last = await kept.page(resource, limit=3, after=("default", "s16"))
    assert (len(last.items), last.remaining, last.last) == (3, 0, None)


def scaled(name: str, target: object) -> store.Object:
    spec = {"scaleTargetRef": {"name": target}, "triggers": []}
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": name}, "spec": spec}


async def test_objects_are_found_by_the_one_they_name_and_the_others_are_not_read(kept, monkeypatch):
    for number in range(20):
        body = scaled(f"so{number:02d}", f"s{number % 10:02d}")
        await kept.create(store.Key(SCALED, "default", f"so{number:02d}"), body)
    await kept.create(store.Key(SCALED, "other", "so03"), scaled("so03", "s03"))
    await kept.replace(store.Key(SCALED, "default", "so04"), scaled("so04", "s03"))
    await kept.create(store.Key(SCALED, "default", "odd"), scaled("odd", 7))
    await kept.delete(store.Key(SCALED, "default", "so13"))
    reads = []
    loads = ledger.orjson.loads
    monkeypatch.setattr(ledger.orjson, "loads", lambda text: reads.append(1) or loads(text))

    async def names(*targets: str, namespace: str | None = "default") -> list[str]:
        page = await kept.page(SCALED, namespace=namespace, targets=targets)
        return [one["metadata"]["name"] for one in page.items]

    assert await names("s03") == ["so03", "so04"]
    assert await names("s03", "s05") == ["so03", "so04", "so05", "so15"]
    assert await names("s03", namespace=None) == ["so03", "so04", "so03"]
    assert len(reads) == 9
    assert await names("s99", "") == []
    assert await names() == []
    assert len(reads) == 9
