"""The journal keeps what happened, not how often the loop looked."""

from __future__ import annotations

from mlship.control import journal


async def test_repetitions_are_counted_not_repeated(kept, service_key):
    book = journal.Journal(kept)
    for at in (1.0, 2.0, 3.0):
        await book.record(service_key(), now=at, summary="start 1", actions=["start"], why=["missing"])
    await book.record(service_key(), now=4.0, summary="keep 1")
    first, second = await book.read(service_key())
    assert (first["count"], first["time"], first["lastTime"]) == (3, "1970-01-01T00:00:01Z", "1970-01-01T00:00:03Z")
    assert (second["summary"], second["count"]) == ("keep 1", 1)


async def test_looks_that_find_nothing_new_write_nothing(kept, service_key, monkeypatch):
    book = journal.Journal(kept)
    await book.record(service_key(), now=1.0, summary="keep 1")

    async def never(*_: object, **__: object) -> None:
        raise AssertionError("written")

    monkeypatch.setattr(kept, "amend", never)
    monkeypatch.setattr(kept, "note", never)
    await book.record(service_key(), now=2.0, summary="keep 1")


async def test_only_the_newest_are_kept(kept, service_key):
    book = journal.Journal(kept, keep=3)
    for number in range(6):
        await book.record(service_key(), now=float(number), summary=f"plan {number}")
    assert [one["summary"] for one in await book.read(service_key())] == ["plan 3", "plan 4", "plan 5"]
    assert [one["summary"] for one in await book.read(service_key(), limit=1)] == ["plan 5"]


async def test_an_object_made_anew_begins_anew(kept, service_key, service):
    book = journal.Journal(kept)
    await kept.create(service_key(), service())
    await book.record(service_key(), now=1.0, summary="keep 1")
    uid = (await kept.delete(service_key()))["metadata"]["uid"]
    await kept.remove(service_key(), uid=uid)
    book.forget(service_key())
    assert await book.read(service_key()) == ()
    await book.record(service_key(), now=2.0, summary="keep 1")
    assert len(await book.read(service_key())) == 1


async def test_a_control_plane_that_starts_again_goes_on_where_the_journal_ends(kept, service_key):
    for summary, actions in (("keep 1", []), ("start 1", ["start"]), ("failing", [])):
        for at in (1.0, 2.0):  # a journal each, as after a restart
            error = "no" if summary == "failing" else ""
            await journal.Journal(kept).record(service_key(), now=at, summary=summary, actions=actions, error=error)
    entries = await journal.Journal(kept).read(service_key())
    assert [(one["summary"], one["count"]) for one in entries] == [("keep 1", 1), ("start 1", 2), ("failing", 2)]
    assert entries[1]["lastTime"] == "1970-01-01T00:00:02Z"
