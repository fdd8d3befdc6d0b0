"""Artifacts are fetched by the real storage from real files and a real server, and remembered across restarts."""

import asyncio
import contextlib
import dataclasses
import http.server
import os
import pathlib
import shutil
import threading

from mlship import aio, home
from mlship.backends.local import artifacts, kept
from mlship.plan import observed
from mlship.storage import files

IRIS = observed.ServiceKey("default", "iris")
State = observed.ArtifactState


class Bench:
    def __init__(self, root, tasks):
        self.home = home.Home(root)
        for folder in (self.home.records, self.home.volumes):
            folder.mkdir(parents=True, exist_ok=True)
        self.now = 1000.0
        self.news = asyncio.Event()
        self.held = artifacts.Artifacts(
            self.home, tasks=tasks, clock=lambda: self.now, changed=lambda _: self.news.set(), look_every=0.02
        )

    async def until(self, holds):
        async with asyncio.timeout(30):
            while not holds(self.held.observe(IRIS)):
                self.news.clear()
                await self.news.wait()
        return self.held.observe(IRIS)

    async def settled(self):
        return await self.until(lambda fact: fact and fact.state is not State.FETCHING)


@contextlib.asynccontextmanager
async def bench(root):
    failures = []
    async with aio.tasks(lambda name, error: failures.append((name, error))) as tasks:
        made = Bench(root, tasks)
        await made.held.start()
        try:
            yield made
        finally:
            await made.held.close()
    assert failures == []


async def test_bytes_are_fetched_and_remembered_by_the_next(tmp_path):
    model = tmp_path / "model.bin"
    model.write_bytes(b"one")
    async with bench(tmp_path / "home") as made:
        made.held.bring(IRIS, str(model))
        assert made.held.observe(IRIS).state is State.FETCHING
        ready = await made.settled()
        assert (ready.state, ready.size, ready.done) == (State.READY, 3, 3)
        assert ready.digest.startswith("sha256:")
        with open(ready.path, "rb") as file:
            assert file.read() == b"one"
    async with bench(tmp_path / "home") as made:
        assert ready.fetched_at is not None
        assert made.held.observe(IRIS) == dataclasses.replace(ready, fetched_at=None, seconds=0.0)
        assert made.held.services() == (IRIS,)
        model.write_bytes(b"two!")
        assert (await made.until(lambda fact: fact.stale)).digest == ready.digest
        made.held.bring(IRIS, str(model))
        fresh = await made.until(lambda fact: fact.digest != ready.digest)
        assert (fresh.state, fresh.stale, fresh.size) == (State.READY, False, 4)


async def test_what_is_no_longer_in_the_cache_is_not_remembered(tmp_path):
    model = tmp_path / "model.bin"
    model.write_bytes(b"one")
    async with bench(tmp_path / "home") as made:
        made.held.bring(IRIS, str(model))
        content = (await made.settled()).path
    folder = (tmp_path / "home" / "cache").glob("blobs/sha256/*/*/content")
    for path in folder:
        path.chmod(0o600)
        path.write_bytes(b"rot")
    async with bench(tmp_path / "home") as made:
        assert made.held.observe(IRIS) is None
        assert list(kept.Shelf(made.home.records).read()) == []
    assert content


async def test_a_missing_file_is_an_error_until_it_is_there(tmp_path):
    model = tmp_path / "model.bin"
    async with bench(tmp_path / "home") as made:
        made.held.bring(IRIS, str(model))
        failed = await made.settled()
        assert (failed.state, failed.retry_at) == (State.FAILED, None)
        assert "model.bin" in failed.error
        model.write_bytes(b"one")
        assert (await made.until(lambda fact: fact.state is State.READY)).error == ""


async def test_a_source_that_goes_away_leaves_what_was_fetched_and_a_refetch_says_why(tmp_path):
    model = tmp_path / "model.bin"
    model.write_bytes(b"one")
    async with bench(tmp_path / "home") as made:
        made.held.bring(IRIS, str(model))
        ready = await made.settled()
        model.unlink()
        made.held.bring(IRIS, str(model))
        broken = await made.until(lambda fact: fact.error)
        assert (broken.state, broken.digest, broken.stale) == (State.READY, ready.digest, False)


async def test_nonsense_is_refused_and_stays_so(tmp_path):
    async with bench(tmp_path / "home") as made:
        made.held.bring(IRIS, "ftp://somewhere/model")
        failed = await made.settled()
        assert (failed.state, failed.reason, failed.retry_at) == (State.FAILED, "Invalid", None)


async def test_a_forgotten_artifact_is_gone_and_another_uri_takes_its_place(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    async with bench(tmp_path / "home") as made:
        made.held.bring(IRIS, str(tmp_path / "a"))
        made.held.bring(IRIS, str(tmp_path / "b"))
        ready = await made.settled()
        assert ready.uri == str(tmp_path / "b")
        made.held.forget(IRIS, str(tmp_path / "a"))
        assert made.held.observe(IRIS) == ready
        made.held.forget(IRIS, str(tmp_path / "b"))
        made.held.forget(IRIS, str(tmp_path / "b"))
        assert made.held.observe(IRIS) is None
        assert list(kept.Shelf(made.home.records).read()) == []


@contextlib.contextmanager
def server(answers):
    """A web server that gives each GET the next of ``answers`` (status, body), and each HEAD what a GET would get."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            status, body = answers[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            body = answers[0][1]
            # Before the client has it all, and asks again.
            if len(answers) > 1:
                answers.pop(0)
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{served.server_port}/model.bin"
        finally:
            served.shutdown()
            thread.join()


async def test_a_server_that_says_no_is_asked_again_much_later(tmp_path):
    with server([(404, b""), (200, b"one")]) as address:
        async with bench(tmp_path / "home") as made:
            made.held.bring(IRIS, address)
            failed = await made.settled()
            assert failed.state is State.FAILED
            assert failed.retry_at - made.now >= 30
            made.held.bring(IRIS, address)
            assert made.held.observe(IRIS) == failed


async def test_looking_at_once_finds_changed_bytes_at_a_server(tmp_path):
    with server([(200, b"one"), (200, b"three")]) as address:
        async with bench(tmp_path / "home") as made:
            made.held.bring(IRIS, address)
            first = await made.settled()
            made.held.look(IRIS)
            stale = await made.until(lambda fact: fact.stale)
            assert (stale.state, stale.digest) == (State.READY, first.digest)
            made.held.bring(IRIS, address)
            assert (await made.until(lambda fact: fact.digest != first.digest)).size == 5


async def test_a_server_is_asked_once_a_minute_by_itself(tmp_path):
    with server([(200, b"one"), (200, b"three")]) as address:
        async with bench(tmp_path / "home") as made:
            made.held.bring(IRIS, address)
            await made.settled()
            made.now += 61
            assert (await made.until(lambda fact: fact.stale)).state is State.READY


async def test_a_look_from_before_the_bytes_came_says_nothing_of_them(tmp_path, monkeypatch):
    model = tmp_path / "model.bin"
    model.write_bytes(b"one")
    looks, go, whole = [], threading.Event(), artifacts.fetch.stamp

    def slowly(*given, **more):
        looks.append(whole(*given, **more))
        assert len(looks) > 1 or go.wait(30)
        return looks[-1]

    async with bench(tmp_path / "home") as made:
        made.held.bring(IRIS, str(model))
        before = await made.settled()
        monkeypatch.setattr(artifacts.fetch, "stamp", slowly)
        async with asyncio.timeout(30):
            while not looks:
                await asyncio.sleep(0.005)
            model.write_bytes(b"two!")
            made.held.bring(IRIS, str(model))
            await made.until(lambda fact: fact.digest != before.digest)
            told = made.held.observe(IRIS)
            go.set()
            while len(looks) < 3:  # the third begins when the second is over, and that when the first is
                assert made.held.observe(IRIS) == told
                await asyncio.sleep(0.005)


async def test_looking_again_at_what_failed_fetches_it_now(tmp_path):
    with server([(404, b""), (200, b"one")]) as address:
        async with bench(tmp_path / "home") as made:
            made.held.look(IRIS)
            made.held.bring(IRIS, address)
            assert (await made.settled()).state is State.FAILED
            made.held.look(IRIS)
            assert (await made.until(lambda fact: fact.state is State.READY)).size == 3


async def test_bytes_that_are_gone_from_the_cache_are_brought_again(tmp_path):
    model = tmp_path / "model.bin"
    model.write_bytes(b"one")
    async with bench(tmp_path / "home") as made:
        made.held.bring(IRIS, str(model))
        ready = await made.settled()
        assert not made.held.lost(IRIS, ready.path)
        empty(tmp_path / "home" / "cache" / "blobs")
        assert made.held.lost(IRIS, ready.path)
        assert made.held.observe(IRIS).state is State.FETCHING
        again = await made.until(lambda fact: fact.state is State.READY)
        assert (again.digest, pathlib.Path(again.path).read_bytes()) == (ready.digest, b"one")


async def test_a_source_that_is_gone_does_not_matter_while_the_bytes_are_here(tmp_path, monkeypatch):
    model = tmp_path / "model.bin"
    model.write_bytes(b"one")
    async with bench(tmp_path / "home") as made:
        made.held.bring(IRIS, str(model))
        ready = await made.settled()
        model.unlink()
        looks, whole = [], artifacts.fetch.stamp
        monkeypatch.setattr(artifacts.fetch, "stamp", lambda *given, **more: looks.append(1) or whole(*given, **more))
        async with asyncio.timeout(30):
            while len(looks) < 2:  # the second begins when the first is over
                await asyncio.sleep(0.005)
        assert made.held.observe(IRIS) == ready
        assert not made.held.lost(IRIS, ready.path)


async def test_when_source_and_cache_are_gone_the_failure_says_so(tmp_path):
    model = tmp_path / "model.bin"
    model.write_bytes(b"one")
    async with bench(tmp_path / "home") as made:
        made.held.bring(IRIS, str(model))
        ready = await made.settled()
        model.unlink()
        empty(tmp_path / "home" / "cache" / "blobs")
        assert made.held.lost(IRIS, ready.path)
        failed = await made.until(lambda fact: fact.state is State.FAILED)
        assert str(model) in failed.error


async def test_a_full_disk_is_said_and_tried_again(tmp_path, monkeypatch):
    model = tmp_path / "model.bin"
    model.write_bytes(b"one")
    full, whole = [True], artifacts.fetch.fetch

    def fetch(*given, **more):
        if full:
            raise files.full(tmp_path, needed=3)
        return whole(*given, **more)

    monkeypatch.setattr(artifacts.fetch, "fetch", fetch)
    async with bench(tmp_path / "home") as made:
        made.held.bring(IRIS, str(model))
        failed = await made.until(lambda fact: fact.state is State.FAILED)
        assert "is full" in failed.error
        assert failed.retry_at is not None
        full.clear()
        assert (await made.until(lambda fact: fact.state is State.READY)).error == ""


def empty(folder):
    """Remove a cache's files, which are read-only, as their folders are."""
    for place, _, _ in os.walk(folder):
        pathlib.Path(place).chmod(0o700)
    shutil.rmtree(folder)
