from __future__ import annotations

import os
import pathlib
import socket

import pytest

from mlship import errors
from mlship.storage import limits, tree

BOUNDS = limits.Limits()


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    top = tmp_path / "source"
    (top / "sub").mkdir(parents=True)
    (top / "b.txt").write_bytes(b"b")
    (top / "sub" / "a.txt").write_bytes(b"aa")
    return top


def names(folder: pathlib.Path, bounds: limits.Limits = BOUNDS) -> list[str]:
    return [entry.relative for entry in tree.scan(folder, bounds)]


def test_scan_lists_regular_files_sorted(folder: pathlib.Path) -> None:
    (folder / "sub" / "__pycache__").mkdir()
    (folder / "sub" / "__pycache__" / "x.pyc").write_bytes(b"")
    assert names(folder) == ["b.txt", "sub/a.txt"]


def test_links_inside_are_followed(folder: pathlib.Path) -> None:
    (folder / "again").symlink_to("sub")
    (folder / "c.txt").symlink_to(folder / "b.txt")
    assert names(folder) == ["again/a.txt", "b.txt", "c.txt", "sub/a.txt"]
    assert not any(entry.path.is_symlink() for entry in tree.scan(folder, BOUNDS))


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "/etc"])
def test_links_that_leave_are_refused(folder: pathlib.Path, target: str) -> None:
    (folder.parent / "outside").write_bytes(b"x")
    (folder / "bad").symlink_to(target)
    with pytest.raises(errors.SpecError, match="leaves the folder") as caught:
        tree.scan(folder, BOUNDS)
    assert "cp -rL" in caught.value.hint


@pytest.mark.parametrize(
    ("target", "told"), [("nothing", "leads nowhere"), ("bad", "leads nowhere"), (".", "leads back")]
)
def test_links_to_nothing_and_circles_are_refused(folder: pathlib.Path, target: str, told: str) -> None:
    (folder / "sub" / "bad").symlink_to(target)
    with pytest.raises(errors.SpecError, match=told):
        tree.scan(folder, BOUNDS)


def test_pipes_and_sockets_are_refused(folder: pathlib.Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(errors.SpecError, match="named pipe"):
        tree.scan(folder, BOUNDS)
    (folder / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        with pytest.raises(errors.SpecError, match="a socket"):
            tree.scan(folder, BOUNDS)
    with pytest.raises(errors.SpecError, match="character device"):
        tree.describe(pathlib.Path("/dev/null"), "null")


def test_limits_are_named(folder: pathlib.Path) -> None:
    with pytest.raises(errors.SpecError, match="max_files") as caught:
        names(folder, limits.Limits(max_files=1))
    assert caught.value.reason is errors.Reason.TOO_LARGE
    with pytest.raises(errors.SpecError, match="max_bytes"):
        names(folder, limits.Limits(max_bytes=2))


def test_nothing_and_missing(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.SpecError, match="holds no file"):
        tree.scan(tmp_path, BOUNDS)
    with pytest.raises(errors.SpecError, match="cannot be read"):
        tree.scan(tmp_path / "gone", BOUNDS)
    with pytest.raises(errors.SpecError, match="cannot be read"):
        tree.describe(tmp_path / "gone", "gone")


def test_stamp_changes_with_every_fact(folder: pathlib.Path) -> None:
    seen = {tree.stamp(tree.scan(folder, BOUNDS))}
    assert tree.stamp(tree.scan(folder, BOUNDS)) in seen

    def changed() -> bool:
        now = tree.stamp(tree.scan(folder, BOUNDS))
        fresh = now not in seen
        seen.add(now)
        return fresh

    os.utime(folder / "b.txt", ns=(1, 1))
    assert changed()
    (folder / "b.txt").rename(folder / "c.txt")
    assert changed()
    (folder / "c.txt").chmod(0o755)
    assert changed()
    status = (folder / "c.txt").stat()
    (folder / "d").write_bytes(b"d")
    (folder / "d").chmod(0o755)
    os.utime(folder / "d", ns=(status.st_atime_ns, status.st_mtime_ns))
    (folder / "d").rename(folder / "c.txt")  # same name, size and time: another inode
    assert changed()


def test_digest_is_of_names_bytes_and_the_executable_bit(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    before = tree.digest_of(folder)
    os.utime(folder / "b.txt", ns=(1, 1))
    (folder / "empty").mkdir()
    assert tree.digest_of(folder) == before
    (folder / "b.txt").chmod(0o700)
    after = tree.digest_of(folder)
    assert after != before
    (folder / "b.txt").rename(folder / "c.txt")
    assert tree.digest_of(folder) not in (before, after)


def test_digest_does_not_confuse_names_with_bytes() -> None:
    one = [("a", False, "00" * 32), ("b", False, "11" * 32)]
    assert tree.digest(one) == tree.digest(reversed(one))
    assert tree.digest([("a\n", False, "00" * 32)]) != tree.digest([("a", False, "00" * 32)])


def test_digest_of_a_file_is_its_sha256(folder: pathlib.Path) -> None:
    assert tree.digest_of(folder / "b.txt") == "sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"
