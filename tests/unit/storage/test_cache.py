from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from mlship import errors
from mlship.storage import cache, tree


def put(store: cache.Cache, data: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    with store.staging() as place:
        (place / "artifact").write_bytes(data)
        store.publish(place / "artifact", digest)
    return digest


def put_folder(store: cache.Cache, **contents: bytes) -> str:
    with store.staging() as place:
        (place / "artifact" / "sub").mkdir(parents=True)
        for name, data in contents.items():
            (place / "artifact" / "sub" / name).write_bytes(data)
        digest = tree.digest_of(place / "artifact")
        store.publish(place / "artifact", digest)
    return digest


def tamper(path: pathlib.Path, data: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(data)


def test_what_is_published_is_there_and_read_only(store: cache.Cache, leftovers: Callable[[], list[str]]) -> None:
    digest = put(store, b"model")
    path = store.get(digest)
    assert path is not None
    assert path.read_bytes() == b"model"
    assert path.stat().st_mode & 0o222 == 0
    assert store.size(digest) == 5
    folder = store.get(put_folder(store, a=b"1", b=b"22"))
    assert folder is not None
    assert (folder / "sub" / "b").read_bytes() == b"22"
    assert all(path.stat().st_mode & 0o222 == 0 for path in (folder, folder / "sub", folder / "sub" / "a"))
    assert leftovers() == []


def test_what_is_not_there(store: cache.Cache) -> None:
    digest = "sha256:" + "0" * 64
    assert store.get(digest) is None
    assert store.verify(digest) is False
    with pytest.raises(KeyError):
        store.size(digest)
    with pytest.raises(KeyError):
        store.named(digest, "x")


@pytest.mark.parametrize("text", ["", "sha256:12", "../../etc/passwd", "sha256:" + "../" * 21 + "x"])
def test_only_digests_are_looked_up(store: cache.Cache, text: str) -> None:
    with pytest.raises(ValueError, match="not a digest"):
        store.get(text)


def test_same_bytes_share_one_entry_under_several_names(store: cache.Cache) -> None:
    digest = put(store, b"model")
    assert put(store, b"model") == digest
    one, two = store.named(digest, "a.pkl"), store.named(digest, "b.joblib")
    assert (one.name, two.name) == ("a.pkl", "b.joblib")
    assert one.stat().st_ino == two.stat().st_ino
    assert [entry.digest for entry in store.entries()] == [digest]
    folder = put_folder(store, a=b"1")
    assert (store.named(folder, "mine") / "sub" / "a").read_bytes() == b"1"


def test_names_work_without_hard_links(store: cache.Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(cache.os, "link", refuse)
    assert store.named(put(store, b"model"), "a.pkl").read_bytes() == b"model"


@pytest.mark.parametrize("wrong", [b"MODEL", b"mod", b"model and more"])
def test_a_changed_entry_is_never_returned_and_can_be_published_again(store: cache.Cache, wrong: bytes) -> None:
    digest = put(store, b"model")
    path = store.get(digest)
    assert path is not None
    tamper(path, wrong)
    assert store.get(digest) is None
    assert store.entries() == []
    put(store, b"model")
    assert store.get(digest) is not None


def test_a_changed_folder_is_never_returned(store: cache.Cache) -> None:
    digest = put_folder(store, a=b"1", b=b"2")
    path = store.get(digest)
    assert path is not None
    path.joinpath("sub").chmod(0o700)
    path.joinpath("sub", "b").unlink()
    with pytest.raises(KeyError):
        store.named(digest, "x")
    assert store.get(digest) is None


def test_what_python_compiles_into_a_folder_does_not_spoil_it(store: cache.Cache) -> None:
    digest = put_folder(store, a=b"1")
    path = store.get(digest)
    assert path is not None
    path.joinpath("sub").chmod(0o700)
    path.joinpath("sub", "__pycache__").mkdir()
    path.joinpath("sub", "__pycache__", "a.pyc").write_bytes(b"compiled")
    assert store.get(digest) == path
    assert store.verify(digest)


def test_verify_finds_what_sizes_and_times_hide(store: cache.Cache) -> None:
    digest = put(store, b"model")
    path = store.get(digest)
    assert path is not None
    before = path.stat()
    tamper(path, b"MODEL")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.verify(digest) is False
    assert store.get(digest) is None


def test_a_lost_record_is_made_anew_when_the_bytes_are_right(store: cache.Cache) -> None:
    digest = put(store, b"model")
    path = store.get(digest)
    assert path is not None
    (path.parent / "entry.json").write_text("{ half")
    assert store.get(digest) == path
    assert json.loads((path.parent / "entry.json").read_text())["size"] == 5


def test_collect_keeps_what_is_wanted_and_the_most_recently_used(store: cache.Cache) -> None:
    digests = [put(store, bytes([n]) * 10) for n in range(4)]
    for age, digest in enumerate(reversed(digests)):
        path = store.get(digest)
        assert path is not None
        os.utime(path.parent / "entry.json", (1000 - age, 1000 - age))
    assert [entry.digest for entry in store.entries()] == digests[::-1]
    assert [entry.digest for entry in store.collect({digests[0]}, 30)] == [digests[1]]
    assert {entry.digest for entry in store.entries()} == {digests[0], digests[2], digests[3]}
    assert [entry.digest for entry in store.collect({digests[0]}, unused_since=1000.0)] == [digests[2]]
    assert {entry.digest for entry in store.entries()} == {digests[0], digests[3]}
    store.collect(set())
    assert store.entries() == []


def test_asking_for_an_entry_makes_it_used(store: cache.Cache) -> None:
    digest = put(store, b"model")
    path = store.get(digest)
    assert path is not None
    os.utime(path.parent / "entry.json", (1, 1))
    before = time.time() - 5
    store.get(digest)
    assert store.entries()[0].used > before


def test_a_cache_that_cannot_be_written_says_so(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(errors.BackendError, match="cannot be used"):
        cache.Cache(tmp_path / "file" / "cache")


KILLED = """
import hashlib, os, pathlib, signal, sys
from mlship.storage import cache, files
store = cache.Cache(pathlib.Path(sys.argv[1]))
steps = int(sys.argv[2])
data = b"model" * 1000
def die(*_):
    global steps
    steps -= 1
    if steps < 0:
        os.kill(os.getpid(), signal.SIGKILL)
whole = files.sync
def sync(path):
    die()
    whole(path)
    die()
files.sync = sync
with store.staging() as place:
    (place / "artifact").write_bytes(data)
    store.publish(place / "artifact", "sha256:" + hashlib.sha256(data).hexdigest())
"""


@pytest.mark.parametrize("steps", range(8))
def test_sigkill_at_any_step_leaves_all_or_nothing(
    store: cache.Cache, steps: int, leftovers: Callable[[], list[str]]
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(store.root), str(steps)], check=False, timeout=30)
    assert done.returncode == -9
    data = b"model" * 1000
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    path = store.get(digest)
    assert path is None or path.read_bytes() == data
    assert (path is None) == (store.entries() == [])
    store.clean()
    assert leftovers() == []
    assert put(store, data) == digest
    assert store.verify(digest)


def test_cleaning_spares_the_living(store: cache.Cache) -> None:
    with store.staging() as place:
        (place / "x").write_bytes(b"x")
        store.clean()
        assert (place / "x").exists()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("model.pkl", "model.pkl"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        (".hidden.pkl", "hidden.pkl"),
        ("a\nb;c.pkl", "a_b_c.pkl"),
        ("", "model"),
        ("...", "model"),
        ("modèle.onnx", "modèle.onnx"),
    ],
)
def test_names_are_harmless(text: str, name: str) -> None:
    assert cache.safe_name(text) == name


@pytest.mark.parametrize("text", ["x" * 500 + ".pkl", "é" * 300 + ".tar.gz", "x." + "y" * 500])
def test_long_names_keep_their_suffix(text: str) -> None:
    name = cache.safe_name(text)
    assert len(os.fsencode(name)) <= 140
    assert name.endswith(text[-3:])


def test_a_cleaner_that_comes_first_is_evaded(store: cache.Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, taken = cache.locks.try_lock, list[int]()

    def cleaner_was_faster(path: pathlib.Path) -> int | None:
        if taken:
            return whole(path)
        descriptor = whole(path)
        assert descriptor is not None
        taken.append(descriptor)
        return None

    monkeypatch.setattr(cache.locks, "try_lock", cleaner_was_faster)
    with store.staging() as place:
        store.clean()
        assert place.is_dir()
    os.close(taken[0])
