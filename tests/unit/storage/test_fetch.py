from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mlship import errors
from mlship.storage import backoff, cache, fetch, limits, partial, progress, uri

DATA = os.urandom(300_000)
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture
def load(
    store: cache.Cache, volumes: pathlib.Path, bounds: limits.Limits, pace: backoff.Pace
) -> Callable[..., fetch.Fetched]:
    def run(text: str | pathlib.Path, **over: Any) -> fetch.Fetched:
        arguments = {"cache": store, "volumes": volumes, "limits": bounds, "pace": pace, **over}
        return fetch.fetch(uri.parse(str(text)), **arguments)

    return run


@pytest.fixture
def stamped(volumes: pathlib.Path, bounds: limits.Limits, pace: backoff.Pace) -> Callable[..., str]:
    return lambda text: fetch.stamp(uri.parse(str(text)), volumes=volumes, limits=bounds, pace=pace)


def pack(path: pathlib.Path, **members: bytes) -> pathlib.Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_file_is_served_from_the_cache(tmp_path: pathlib.Path, load: Any, stamped: Any, leftovers: Any) -> None:
    source = tmp_path / "iris.pkl"
    source.write_bytes(DATA)
    found = load(source)
    assert (found.digest, found.size, found.path.name) == (DIGEST, len(DATA), "iris.pkl")
    assert found.stamp == stamped(source)
    source.write_bytes(b"overwritten in place")
    assert found.path.read_bytes() == DATA
    assert stamped(source) != found.stamp
    again = load(source)
    assert again.digest != found.digest
    assert leftovers() == []


def test_the_same_bytes_from_anywhere_are_one_entry(
    tmp_path: pathlib.Path, load: Any, store: cache.Cache, site: Any, file: Any, volumes: pathlib.Path
) -> None:
    (volumes / "claim").mkdir(parents=True)
    for path in (tmp_path / "a.pkl", volumes / "claim" / "b.joblib"):
        path.write_bytes(DATA)
    site.pages["/c.bin"] = file(DATA)
    found = [load(text) for text in (tmp_path / "a.pkl", "pvc://claim/b.joblib", f"{site.url}/c.bin")]
    assert {each.digest for each in found} == {DIGEST}
    assert [each.path.name for each in found] == ["a.pkl", "b.joblib", "c.bin"]
    assert len({each.path.stat().st_ino for each in found}) == 1
    assert len(store.entries()) == 1


def test_a_folder_and_its_archive_are_one_entry(
    tmp_path: pathlib.Path, load: Any, store: cache.Cache, stamped: Any
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.json").write_bytes(b"{}")
    one = load(folder)
    two = load(pack(tmp_path / "model.tar.gz", **{"model.json": b"{}"}))
    assert one.digest == two.digest
    assert one.path == two.path
    assert (one.path / "model.json").read_bytes() == b"{}"
    assert one.size == 2
    assert len(store.entries()) == 1
    before = stamped(folder)
    (folder / "extra").write_bytes(b"")
    assert stamped(folder) != before


def test_a_zip_inside_a_model_file_stays_a_file(tmp_path: pathlib.Path, load: Any) -> None:
    pack(tmp_path / "m.skops", a=b"x")
    assert load(tmp_path / "m.skops").path.is_file()


def test_checksums(tmp_path: pathlib.Path, load: Any, store: cache.Cache, leftovers: Any) -> None:
    (tmp_path / "m.pkl").write_bytes(DATA)
    assert load(f"{tmp_path}/m.pkl#{DIGEST.replace(':', '=')}").digest == DIGEST
    store.collect(set())
    wrong = "sha256:" + "0" * 64
    with pytest.raises(errors.SpecError) as caught:
        load(f"{tmp_path}/m.pkl#{wrong.replace(':', '=')}")
    assert DIGEST in str(caught.value)
    assert wrong in str(caught.value)
    assert store.entries() == []
    assert leftovers() == []


def test_a_download_with_a_wrong_checksum_leaves_nothing(
    load: Any, store: cache.Cache, site: Any, file: Any, leftovers: Any
) -> None:
    site.pages["/m.pkl"] = file(DATA)
    with pytest.raises(errors.SpecError, match="checksum does not match"):
        load(f"{site.url}/m.pkl#sha256={'0' * 64}")
    assert store.entries() == []
    assert leftovers() == []


def test_pinned_bytes_in_the_cache_need_no_server(load: Any, site: Any, file: Any, stamped: Any) -> None:
    pinned = f"{site.url}/download?id=1#{DIGEST.replace(':', '=')}"
    site.pages["/download"] = file(DATA, headers={"Content_Disposition": 'attachment; filename="m.onnx"'})
    first = load(pinned)
    assert first.stamp == stamped(pinned) == DIGEST
    site.pages.clear()
    again = load(pinned)
    assert (again.path, again.digest) == (first.path, DIGEST)
    assert len(site.requests) == 1


def test_a_pinned_archive_is_downloaded_and_unpacked_once(
    tmp_path: pathlib.Path, load: Any, site: Any, file: Any
) -> None:
    data = pack(tmp_path / "m.tar.gz", m=b"x").read_bytes()
    site.pages["/m.tar.gz"] = file(data)
    pinned = f"{site.url}/m.tar.gz#sha256={hashlib.sha256(data).hexdigest()}"
    first, again = load(pinned), load(pinned)
    assert (first.path, first.stamp) == (again.path, again.stamp)
    assert site.count("GET") == 1
    assert load(tmp_path / "m.tar.gz").digest == first.digest


def test_an_unchanged_address_is_not_downloaded_again(load: Any, site: Any, file: Any, stamped: Any) -> None:
    site.pages["/m.pkl"] = page = file(DATA)
    first = load(f"{site.url}/m.pkl")
    assert first.stamp == stamped(f"{site.url}/m.pkl")
    again = load(f"{site.url}/m.pkl")
    assert dataclasses.replace(again, seconds=0) == dataclasses.replace(first, seconds=0)
    assert site.requests[-1][2]["If-None-Match"] == '"one"'
    site.pages["/m.pkl"] = dataclasses.replace(page, data=b"new", etag='"two"')
    assert stamped(f"{site.url}/m.pkl") != first.stamp
    assert load(f"{site.url}/m.pkl").path.read_bytes() == b"new"


def test_other_schemes_are_refused_with_those_that_work(load: Any, stamped: Any) -> None:
    for call in (load, stamped):
        with pytest.raises(errors.SpecError, match=r"s3:// cannot be fetched yet; these can: file, http, https, pvc"):
            call("s3://bucket/model")


def test_an_empty_file_is_refused(tmp_path: pathlib.Path, load: Any, store: cache.Cache) -> None:
    (tmp_path / "m.pkl").touch()
    with pytest.raises(errors.SpecError, match="empty file"):
        load(tmp_path / "m.pkl")
    assert store.entries() == []


@pytest.mark.parametrize("call", ["load", "stamped"])
def test_what_is_missing_is_told(request: pytest.FixtureRequest, tmp_path: pathlib.Path, site: Any, call: str) -> None:
    ask = request.getfixturevalue(call)
    for text in (tmp_path / "none.pkl", "pvc://none/m.pkl", f"{site.url}/none.pkl"):
        with pytest.raises(errors.SpecError):
            ask(text)


def test_a_bad_archive_leaves_nothing(tmp_path: pathlib.Path, load: Any, store: cache.Cache, leftovers: Any) -> None:
    path = pack(tmp_path / "m.tar.gz", **{"a": b"x", "../escape": b"x"})
    with pytest.raises(errors.SpecError, match=r"m\.tar\.gz is refused"):
        load(path)
    assert store.entries() == []
    assert leftovers() == []


def test_what_a_collector_took_is_told(tmp_path: pathlib.Path, load: Any, store: cache.Cache) -> None:
    class Greedy(cache.Cache):
        def named(self, digest: str, name: str) -> pathlib.Path:
            self.collect(set())
            return super().named(digest, name)

    (tmp_path / "m.pkl").write_bytes(DATA)
    with pytest.raises(errors.BackendError, match="removed from the cache"):
        load(tmp_path / "m.pkl", cache=Greedy(store.root))


def test_progress_names_every_phase(tmp_path: pathlib.Path, load: Any) -> None:
    told: list[progress.Progress] = []
    load(pack(tmp_path / "m.tar.gz", m=DATA), progress=told.append)
    assert list(dict.fromkeys(each.phase for each in told)) == ["copy", "unpack", "verify"]
    assert told[-1].done_bytes == told[-1].total_bytes == len(DATA)


@pytest.mark.parametrize("phase", ["copy", "unpack", "verify", "download"])
def test_cancelled_in_any_phase_nothing_is_visible(
    tmp_path: pathlib.Path, load: Any, store: cache.Cache, site: Any, file: Any, phase: str, leftovers: Any
) -> None:
    path = pack(tmp_path / "m.tar.gz", m=DATA)
    site.pages["/m.pkl"] = file(DATA)
    stop: list[bool] = []

    def watch(now: progress.Progress) -> None:
        if now.phase == phase and (now.total_bytes != 0):
            stop.append(True)

    with pytest.raises(errors.NotReady) as caught:
        load(f"{site.url}/m.pkl" if phase in ("download",) else path, progress=watch, cancelled=lambda: bool(stop))
    assert caught.value.reason is errors.Reason.CANCELLED
    assert store.entries() == []
    assert not [name for name in leftovers() if name.startswith("staging")]


def test_two_threads_want_the_same_address(load: Any, site: Any, file: Any) -> None:
    site.pages["/m.pkl"] = file(DATA)
    found: list[fetch.Fetched] = []
    real = backoff.Pace()
    work = lambda: found.append(load(f"{site.url}/m.pkl", pace=real))  # noqa: E731
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [each.digest for each in found] == [DIGEST] * 4
    sent = [headers for _, _, headers in site.requests if "If-None-Match" not in headers]
    assert len(sent) == 1


CHILD = """
import pathlib, sys
from mlship import errors
from mlship.storage import cache, fetch, limits, uri
bounds = limits.Limits(attempts=2)
try:
    found = fetch.fetch(uri.parse(sys.argv[1]), cache=cache.Cache(pathlib.Path(sys.argv[2])),
                        volumes=pathlib.Path("/nowhere"), limits=bounds)
    print(found.digest)
except errors.MlshipError as error:
    print(type(error).__name__, error)
"""


def child(text: str | pathlib.Path, root: pathlib.Path, *before: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-c", CHILD, str(text), str(root)], stdout=subprocess.PIPE, text=True
    )


def test_two_processes_want_the_same_address(store: cache.Cache, site: Any, file: Any, leftovers: Any) -> None:
    site.pages["/m.pkl"] = file(DATA)
    with child(f"{site.url}/m.pkl", store.root) as one, child(f"{site.url}/m.pkl", store.root) as two:
        assert one.communicate(timeout=60)[0].strip() == two.communicate(timeout=60)[0].strip() == DIGEST
    sent = [headers for _, _, headers in site.requests if "If-None-Match" not in headers]
    assert len(sent) == 1
    assert len(store.entries()) == 1
    assert leftovers() == []


def test_a_killed_download_is_resumed_by_the_next_process(
    store: cache.Cache, site: Any, file: Any, load: Any, leftovers: Any
) -> None:
    url, half = f"{site.url}/m.pkl", threading.Event()
    release = threading.Event()

    def slow(handler: Any) -> None:
        handler.answer(200, DATA[:100_000], length=len(DATA), ETag='"one"')
        handler.wfile.flush()
        half.set()
        release.wait(30)
        handler.hang_up()

    site.pages["/m.pkl"] = slow
    with child(url, store.root) as process:
        assert half.wait(30)
        data = store.partial / f"{partial.key_of(url)}.data"
        deadline = time.monotonic() + 30
        while (not data.exists() or data.stat().st_size < 100_000) and time.monotonic() < deadline:
            os.sched_yield()
        process.kill()
        process.wait(10)
    release.set()
    assert store.entries() == []
    site.pages["/m.pkl"] = file(DATA)
    assert load(url).digest == DIGEST
    assert site.requests[-1][2]["Range"] == "bytes=100000-"
    assert leftovers() == []


def tmpfs_child(text: str | pathlib.Path, root: pathlib.Path, size: str) -> str:
    """Run a fetch with the cache on a tiny disk of its own, which goes with the child's mount namespace."""
    root.mkdir(exist_ok=True)
    script = f'mount -t tmpfs -o size={size} tmpfs "{root}" && "$@"; find "{root}/staging" "{root}/partial" -type f'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", sys.executable, "-c", CHILD, str(text), str(root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no disk of its own for a test here: {done.stderr.strip()[:200]}")
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
@pytest.mark.parametrize("way", ["file", "folder", "archive", "http", "unannounced"])
def test_a_really_full_disk(tmp_path: pathlib.Path, site: Any, file: Any, way: str) -> None:
    big = os.urandom(3 << 20)
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.bin").write_bytes(big[number << 20 : (number + 1) << 20])
    (tmp_path / "m.pkl").write_bytes(big)
    site.pages["/m.pkl"] = file(big)

    def unannounced(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(big)
        handler.hang_up()

    site.pages["/unannounced"] = unannounced
    source = {
        "file": tmp_path / "m.pkl",
        "folder": folder,
        "archive": pack(tmp_path / "m.tar.gz", zeros=bytes(1 << 20), random=big[: 1 << 20]),
        "http": f"{site.url}/m.pkl",
        "unannounced": f"{site.url}/unannounced",
    }[way]
    told = tmpfs_child(source, tmp_path / "cache", "2m")
    assert told.startswith("BackendError The disk of the cache"), told
    assert "is full" in told
    assert "bytes" in told
    assert len(told.splitlines()) == 1, "half-made files were left"


LIMITED = """
import pathlib, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
exec(sys.argv.pop(1))
"""


@pytest.mark.parametrize("way", ["local", "http"])
def test_a_limit_on_file_sizes_reads_as_a_full_disk(
    tmp_path: pathlib.Path, store: cache.Cache, site: Any, file: Any, leftovers: Any, way: str
) -> None:
    (tmp_path / "m.pkl").write_bytes(DATA)
    site.pages["/m.pkl"] = file(DATA)
    text = str(tmp_path / "m.pkl") if way == "local" else f"{site.url}/m.pkl"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, CHILD, text, str(store.root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.startswith("BackendError The disk of the cache"), done.stderr
    assert f"needs {len(DATA)} bytes" in done.stdout
    assert store.entries() == []
    assert leftovers() == []


MEMORY = """
import resource, sys
exec(sys.argv.pop(1).replace("print(found.digest)", "print(found.size)"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(text: str | pathlib.Path, root: pathlib.Path) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, CHILD, str(text), str(root)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    size, kilobytes = done.stdout.split()
    return int(size), int(kilobytes) << 10


@pytest.mark.parametrize("way", ["local", "http", "archive"])
def test_memory_does_not_grow_with_the_file(tmp_path: pathlib.Path, site: Any, file: Any, way: str) -> None:
    small, large = 1 << 10, 64 << 20
    used = []
    for size in (small, large):
        (tmp_path / "m.pkl").unlink(missing_ok=True)
        (tmp_path / "m.pkl").touch()
        os.truncate(tmp_path / "m.pkl", size)
        site.pages["/m.pkl"] = file(bytes(size), etag=f'"{size}"')
        with tarfile.open(tmp_path / "m.tar", "w") as tar:
            tar.add(tmp_path / "m.pkl", arcname="m.pkl")
        text = {"local": tmp_path / "m.pkl", "http": f"{site.url}/m.pkl", "archive": tmp_path / "m.tar"}[way]
        found, memory = peak(text, tmp_path / "cache")
        assert found == size
        used.append(memory)
    assert used[1] - used[0] < 16 << 20
