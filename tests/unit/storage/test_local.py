from __future__ import annotations

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

from mlship import errors
from mlship.storage import cache, files, limits, local, progress, uri

BOUNDS = limits.Limits()


def snap(path: pathlib.Path, store: cache.Cache, meter: progress.Meter) -> tuple[local.Snapshot, bytes | None]:
    source = local.locate(uri.parse(str(path)), pathlib.Path("/nowhere"))
    with store.staging() as place:
        target = place / "artifact"
        found = local.snapshot(source, target, root=store.root, bounds=BOUNDS, meter=meter)
        return found, target.read_bytes() if target.is_file() else None


def test_a_file_is_copied_and_hashed(tmp_path: pathlib.Path, store: cache.Cache, meter: progress.Meter) -> None:
    data = os.urandom(files.CHUNK + 5)
    (tmp_path / "m.pkl").write_bytes(data)
    found, copied = snap(tmp_path / "m.pkl", store, meter)
    assert copied == data
    assert found.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert found.size == len(data)
    assert found.stamp == local.stamp(local.Source(tmp_path / "m.pkl", "m.pkl"), BOUNDS)


def test_a_link_that_is_named_itself_is_followed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "v3.pkl").write_bytes(b"x")
    (tmp_path / "latest.pkl").symlink_to("v3.pkl")
    source = local.locate(uri.parse(str(tmp_path / "latest.pkl")), tmp_path)
    assert source == local.Source(tmp_path / "v3.pkl", "latest.pkl")


def test_a_missing_file_tells_what_there_is(tmp_path: pathlib.Path) -> None:
    (tmp_path / "iris.pkl").write_bytes(b"x")
    with pytest.raises(errors.SpecError) as caught:
        local.locate(uri.parse(str(tmp_path / "irsi.pkl")), tmp_path)
    assert "irsi.pkl" in caught.value.message
    assert "iris.pkl" in caught.value.hint
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(errors.SpecError, match="cannot be read"):
        local.locate(uri.parse(str(tmp_path / "circle")), tmp_path)


def test_a_pipe_is_refused_without_opening_it(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(errors.SpecError, match="named pipe"):
        local.stamp(local.Source(tmp_path / "pipe", "pipe"), BOUNDS)


def test_a_source_that_keeps_changing_is_refused_and_leaves_nothing(tmp_path: pathlib.Path, store: cache.Cache) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(b"0" * 100)
    writes = 0

    def overwrite(_: progress.Progress) -> None:
        nonlocal writes
        writes += 1
        path.write_bytes(b"1" * (100 + writes))

    with store.staging() as place:
        with pytest.raises(errors.SpecError, match="changed while it was copied") as caught:
            local.snapshot(
                local.Source(path, "m.pkl"),
                place / "artifact",
                root=store.root,
                bounds=BOUNDS,
                meter=progress.Meter(overwrite, lambda: False),
            )
        assert list(place.iterdir()) == []
    assert caught.value.reason is errors.Reason.CONFLICT


def test_a_source_that_changes_once_is_copied_again(tmp_path: pathlib.Path, store: cache.Cache) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(b"old")
    told: list[progress.Progress] = []

    def replace_once(now: progress.Progress) -> None:
        told.append(now)
        if len(told) == 1:
            path.unlink()
            path.write_bytes(b"new and longer")

    found, copied = snap(path, store, progress.Meter(replace_once, lambda: False))
    assert copied == b"new and longer"
    assert found.digest == f"sha256:{hashlib.sha256(b'new and longer').hexdigest()}"


def test_a_write_behind_the_copy_is_noticed(tmp_path: pathlib.Path, store: cache.Cache) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(b"old")
    os.utime(path, ns=(1, 1))
    writes = [b"new"]

    def overwrite_at_the_end(now: progress.Progress) -> None:
        if now.done_bytes == now.total_bytes and writes:
            path.write_bytes(writes.pop())

    assert snap(path, store, progress.Meter(overwrite_at_the_end, lambda: False, every=1e9))[1] == b"new"


def test_without_enough_space_nothing_is_written(
    tmp_path: pathlib.Path, store: cache.Cache, meter: progress.Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.pkl").write_bytes(b"x" * 1000)
    monkeypatch.setattr(files, "clone", lambda *_: False)
    monkeypatch.setattr(files, "free_bytes", lambda _: 10)
    with pytest.raises(errors.BackendError, match=r"needs 1000 bytes .*10 bytes"):
        snap(tmp_path / "m.pkl", store, meter)


def test_a_clone_is_hashed_like_a_copy(
    tmp_path: pathlib.Path, store: cache.Cache, meter: progress.Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few test machines have a file system that clones, so a copy in one step stands for the kernel's."""
    (tmp_path / "m.pkl").write_bytes(b"cloned bytes")

    def clone(source: int, target: int) -> bool:
        os.write(target, os.read(source, 100))
        os.lseek(target, 0, os.SEEK_SET)
        return True

    monkeypatch.setattr(files, "clone", clone)
    found, copied = snap(tmp_path / "m.pkl", store, meter)
    assert copied == b"cloned bytes"
    assert found.digest == f"sha256:{hashlib.sha256(b'cloned bytes').hexdigest()}"


UNREADABLE = """
import os, pathlib, sys
from mlship import errors
from mlship.storage import cache, limits, local, progress
path, root = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
store = cache.Cache(root)
if os.getuid() == 0:
    for at in [root, *root.rglob("*")]:
        os.chown(at, 65534, 65534)
    os.setuid(65534)
with store.staging() as place:
    try:
        local.snapshot(
            local.Source(path, "m"), place / "a", root=root, bounds=limits.Limits(),
            meter=progress.Meter(lambda _: None, lambda: False),
        )
    except errors.SpecError as error:
        print(error)
"""


def test_an_unreadable_file_says_so() -> None:
    # Not tmp_path: its parents are closed to the other user that root becomes for this.
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        place.chmod(0o755)
        (place / "m.pkl").write_bytes(b"x")
        (place / "m.pkl").chmod(0o000)
        done = subprocess.run(
            [sys.executable, "-c", UNREADABLE, str(place / "m.pkl"), str(place / "cache")],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    assert "cannot be read: Permission denied" in done.stdout, done.stderr


def test_volumes_are_folders_or_links_to_folders(tmp_path: pathlib.Path, volumes: pathlib.Path) -> None:
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "sub" / "m.pkl").write_bytes(b"x")
    volumes.mkdir()
    (volumes / "claim").symlink_to(tmp_path / "data")
    assert local.locate(uri.parse("pvc://claim/sub/m.pkl"), volumes) == local.Source(
        tmp_path / "data" / "sub" / "m.pkl", "m.pkl"
    )
    assert local.locate(uri.parse("pvc://claim"), volumes) == local.Source(tmp_path / "data", "claim")


def test_an_unknown_volume_tells_which_there_are_and_how_to_make_one(volumes: pathlib.Path) -> None:
    with pytest.raises(errors.SpecError, match="volumes here: none"):
        local.locate(uri.parse("pvc://claim/m.pkl"), volumes)
    (volumes / "other").mkdir(parents=True)
    (volumes / "file").write_bytes(b"")
    with pytest.raises(errors.SpecError, match=r"volumes here: other\.") as caught:
        local.locate(uri.parse("pvc://claim/m.pkl"), volumes)
    assert f"ln -s /PATH/TO/FOLDER {volumes / 'claim'}" in caught.value.hint


def test_a_volume_cannot_be_left(tmp_path: pathlib.Path, volumes: pathlib.Path) -> None:
    (volumes / "claim").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"x")
    (volumes / "claim" / "out").symlink_to(tmp_path / "secret")
    with pytest.raises(errors.SpecError, match="leaves the volume"):
        local.locate(uri.parse("pvc://claim/out"), volumes)
    # A Uri that did not come from parse is held to the same rule.
    with pytest.raises(errors.SpecError, match="leaves the volume"):
        local.locate(uri.Uri("pvc", "claim", "../../secret"), volumes)
