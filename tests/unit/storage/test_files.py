from __future__ import annotations

import errno
import hashlib
import os
import pathlib

import pytest

from mlship import errors
from mlship.storage import files


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_says_what_is_needed_and_what_is_free(tmp_path: pathlib.Path, number: int) -> None:
    with pytest.raises(errors.BackendError) as caught, files.into_cache(tmp_path, needed=5000):
        raise OSError(number, os.strerror(number))
    assert "is full" in caught.value.message
    assert "5000 bytes" in caught.value.message
    assert "free" in caught.value.message
    assert isinstance(caught.value.__cause__, OSError)


def test_other_trouble_names_the_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.BackendError, match="cannot be used") as caught, files.into_cache(tmp_path):
        (tmp_path / "missing" / "x").write_bytes(b"")
    assert "missing" in caught.value.message


def test_space_is_asked_for_before_the_first_byte(tmp_path: pathlib.Path) -> None:
    files.require_space(tmp_path, 1)
    with pytest.raises(errors.BackendError, match="is full"):
        files.require_space(tmp_path, 1 << 62)
    assert files.free_bytes(tmp_path / "gone") == 0


def test_write_atomically_replaces_whole(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    files.write_atomically(path, b"new", temporary=tmp_path / "t")
    assert path.read_bytes() == b"new"
    assert not (tmp_path / "t").exists()


def test_clone_shares_or_says_that_it_cannot(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").write_bytes(b"bytes")
    reader, writer = os.open(tmp_path / "a", os.O_RDONLY), os.open(tmp_path / "b", os.O_RDWR | os.O_CREAT)
    done = files.clone(reader, writer)
    os.close(reader)
    os.close(writer)
    assert (tmp_path / "b").read_bytes() == (b"bytes" if done else b"")


def test_clone_reports_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.fcntl, "ioctl", full)
    with pytest.raises(OSError, match="No space"):
        files.clone(0, 1)


def test_hash_is_of_the_bytes(tmp_path: pathlib.Path) -> None:
    data = os.urandom(3 * files.CHUNK + 17)
    (tmp_path / "x").write_bytes(data)
    assert files.hash_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()


def test_remove_tree_removes_what_is_read_only_and_what_is_gone(tmp_path: pathlib.Path) -> None:
    top = tmp_path / "top"
    (top / "deep" / "er").mkdir(parents=True)
    (top / "deep" / "er" / "x").write_bytes(b"x")
    for folder in (top / "deep" / "er", top / "deep", top):
        folder.chmod(0o555)
    files.remove_tree(top)
    files.remove_tree(top)
    assert not top.exists()
    (tmp_path / "link").symlink_to(tmp_path)
    files.remove_tree(tmp_path / "link")
    assert tmp_path.is_dir()


def test_write_all_goes_on_after_a_short_write(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.write
    monkeypatch.setattr(files.os, "write", lambda descriptor, data: whole(descriptor, bytes(data)[:3]))
    descriptor = os.open(tmp_path / "x", os.O_WRONLY | os.O_CREAT)
    files.write_all(descriptor, b"0123456789")
    os.close(descriptor)
    assert (tmp_path / "x").read_bytes() == b"0123456789"
