from __future__ import annotations

import errno
import hashlib
import os
import pathlib

import pytest

from mlship import errors
from mlship.storage import cache, files, identity, locks, partial, progress

ONE = identity.Identity('"one"', "", 10)


def leave(store: cache.Cache, key: str, data: bytes, about: identity.Identity = ONE) -> None:
    with partial.Partial(store, key) as part:
        part.restart(about)
        part.append(data)


def test_bytes_wait_for_the_next_process(store: cache.Cache, meter: progress.Meter, tmp_path: pathlib.Path) -> None:
    key = partial.key_of("https://h/m?sig=SECRET")
    leave(store, key, b"01234")
    assert (store.partial / f"{key}.data").stat().st_size == 5
    with partial.Partial(store, key) as part:
        part.load(meter)
        assert (part.offset, part.about) == (5, ONE)
        part.append(b"56789")
        assert part.hexadecimal == hashlib.sha256(b"0123456789").hexdigest()
        part.take(tmp_path / "done")
    assert (tmp_path / "done").read_bytes() == b"0123456789"
    assert list(store.partial.iterdir()) == []


@pytest.mark.parametrize("about", [identity.Identity("", "", 10), identity.Identity('W/"one"', "", 10)])
def test_bytes_that_cannot_be_resumed_are_not_kept(store: cache.Cache, about: identity.Identity) -> None:
    leave(store, "k", b"01234", about)
    assert list(store.partial.iterdir()) == []


@pytest.mark.parametrize("facts", ["", "{", '{"etag": 1}', '{"etag": "", "last_modified": "", "total": 3}'])
def test_bytes_of_an_unknown_file_are_worth_nothing(store: cache.Cache, meter: progress.Meter, facts: str) -> None:
    leave(store, "k", b"01234")
    (store.partial / "k.json").write_text(facts)
    with partial.Partial(store, "k") as part:
        part.load(meter)
        assert (part.offset, part.about) == (0, None)


def test_starting_again_forgets(store: cache.Cache, meter: progress.Meter) -> None:
    leave(store, "k", b"01234")
    two = identity.Identity('"two"', "", 3)
    with partial.Partial(store, "k") as part:
        part.load(meter)
        part.restart(two)
        part.append(b"abc")
        assert part.hexadecimal == hashlib.sha256(b"abc").hexdigest()
    assert (store.partial / "k.data").read_bytes() == b"abc"


def test_a_full_disk_gives_the_bytes_back(store: cache.Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(errors.BackendError, match="needs 10 bytes"), partial.Partial(store, "k") as part:
        part.restart(ONE)
        monkeypatch.setattr(files, "write_all", full)
        part.append(b"01234")
    assert list(store.partial.iterdir()) == []


def test_what_is_stale_or_too_much_is_removed_but_not_what_is_in_use(store: cache.Cache) -> None:
    for number, key in enumerate("abcd"):
        leave(store, key, bytes(10))
        os.utime(store.partial / f"{key}.data", (1000 + number, 1000 + number))
    held = locks.try_lock(partial.lock_of(store, "a"))
    assert held is not None
    (store.partial / "orphan.lock").touch()
    partial.clean(store, now=1000.0 + partial.STALE_SECONDS + 1.5, max_bytes=25)
    assert {path.name for path in store.partial.glob("*.data")} == {"a.data", "c.data", "d.data"}
    assert not (store.partial / "orphan.lock").exists()
    partial.clean(store, now=1003.0, max_bytes=15)
    assert {path.name for path in store.partial.glob("*.data")} == {"a.data", "d.data"}
    os.close(held)


def test_a_holder_shows_signs_of_life(store: cache.Cache) -> None:
    assert partial.pulse_of(store, "k") == -1
    lock = partial.lock_of(store, "k")
    lock.touch()
    before = partial.pulse_of(store, "k")
    os.utime(lock, ns=(1, 1))
    assert partial.pulse_of(store, "k") != before
