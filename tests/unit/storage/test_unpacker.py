from __future__ import annotations

import io
import pathlib
from collections.abc import Callable, Iterator

import pytest

from mlship import errors
from mlship.storage import cache, files, limits, progress, unpacker

Make = Callable[..., unpacker.Unpacker]


@pytest.fixture
def make(tmp_path: pathlib.Path, store: cache.Cache, meter: progress.Meter) -> Iterator[Make]:
    packed = tmp_path / "m.tar"
    packed.write_bytes(b"x" * 100)
    with store.staging() as place:

        def build(**bounds: float) -> unpacker.Unpacker:
            return unpacker.Unpacker(
                packed,
                place / "members",
                shown="m.tar",
                root=store.root,
                bounds=limits.Limits(**bounds),  # type: ignore[arg-type]
                meter=meter,
            )

        yield build


def put(work: unpacker.Unpacker, name: str, data: bytes = b"x") -> None:
    work.file(name, io.BytesIO(data), size=len(data), executable=False)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "//x", "..", "../x", "a/../../x", "a/..", "C:\\x", "c:x", "..\\x", "a\\b", "a\0b", "", ".", "./"],
)
def test_no_name_leaves(make: Make, name: str) -> None:
    work = make()
    for way in (lambda: put(work, name), lambda: work.link(name, "x"), lambda: work.hard_link(name, "x")):
        with pytest.raises(errors.SpecError, match="is refused"):
            way()
    assert list(work.target.iterdir()) == []


def test_harmless_spellings_are_one_name(make: Make) -> None:
    work = make()
    put(work, "./a//b")
    with pytest.raises(errors.SpecError, match="comes twice"):
        put(work, "a/b")


def test_a_member_may_not_be_both_file_and_folder(make: Make) -> None:
    work = make()
    put(work, "a")
    with pytest.raises(errors.SpecError, match="cannot be written"):
        put(work, "a/b")
    with pytest.raises(errors.SpecError, match="cannot be written"):
        work.folder("a")
    with pytest.raises(errors.SpecError, match="cannot be written"):
        put(work, "n" * 300)


def test_links_inside_become_files(make: Make, tmp_path: pathlib.Path) -> None:
    work = make()
    work.link("latest", "v2")
    put(work, "v2/m", b"model")
    work.hard_link("same", "v2/m")
    work.link("deep/m", "../latest/m")
    found = work.finish(tmp_path / "folder")
    assert sorted(str(p.relative_to(found.path)) for p in found.path.rglob("*") if p.is_file()) == [
        "deep/m",
        "latest/m",
        "same",
        "v2/m",
    ]
    assert not any(path.is_symlink() for path in found.path.rglob("*"))
    assert found.size == 20


@pytest.mark.parametrize("target", ["/etc/passwd", "", "a\0b"])
def test_absolute_links_are_refused(make: Make, target: str) -> None:
    with pytest.raises(errors.SpecError, match="outside of it"):
        make().link("bad", target)


@pytest.mark.parametrize("target", ["../../../../../../../../etc/passwd", "../x", "nothing", "bad", "."])
def test_links_that_leave_or_lead_nowhere_are_refused(make: Make, tmp_path: pathlib.Path, target: str) -> None:
    work = make()
    put(work, "m")
    work.link("bad", target)
    with pytest.raises(errors.SpecError, match="refused") as caught:
        work.finish(tmp_path / "folder")
    assert "staging" not in caught.value.message


def test_nothing_is_written_through_a_link(make: Make, tmp_path: pathlib.Path) -> None:
    work = make()
    work.link("out", "../../..")
    put(work, "out/planted")
    assert not list(tmp_path.glob("planted"))
    with pytest.raises(errors.SpecError, match="cannot be written"):
        work.finish(tmp_path / "folder")


def test_hard_links_name_earlier_files_only(make: Make) -> None:
    work = make()
    work.link("soft", "m")
    for target in ("m", "soft", "/etc/passwd", "../x"):
        with pytest.raises(errors.SpecError, match="is refused"):
            work.hard_link("bad", target)


def test_bombs_name_their_limit(make: Make) -> None:
    with pytest.raises(errors.SpecError, match="max_bytes") as caught:
        put(make(max_bytes=1000), "m", b"x" * 1001)
    assert caught.value.reason is errors.Reason.TOO_LARGE


def test_sizes_are_counted_not_believed(make: Make) -> None:
    with pytest.raises(errors.SpecError, match="max_ratio"):
        make(max_ratio=2, ratio_floor=100).file("m", io.BytesIO(b"x" * 201), size=1, executable=False)


def test_ratio_spares_what_is_small(make: Make) -> None:
    put(make(max_ratio=2, ratio_floor=1000), "m", b"x" * 1000)


def test_too_many_members(make: Make) -> None:
    work = make(max_files=2)
    work.folder("a")
    put(work, "a/b")
    with pytest.raises(errors.SpecError, match="max_files"):
        work.folder("c")


def test_compiled_python_is_left_out(make: Make, tmp_path: pathlib.Path) -> None:
    work = make()
    put(work, "m.py")
    put(work, "__pycache__/m.pyc")
    work.folder("sub/__pycache__")
    work.link("sub/__pycache__/x", "y")
    work.hard_link("sub/__pycache__/z", "m.py")
    found = work.finish(tmp_path / "folder")
    assert [path.name for path in found.path.rglob("*")] == ["m.py"]


def test_an_empty_archive_is_refused(make: Make, tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.SpecError, match="holds no file"):
        make().finish(tmp_path / "folder")


def test_a_full_disk_is_the_machines(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda _: 3)
    with pytest.raises(errors.BackendError, match="needs 4 bytes"):
        put(make(), "m", b"four")


def test_hard_links_are_copies_where_there_are_none(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(unpacker.os, "link", refuse)
    work = make()
    put(work, "a", b"model")
    work.hard_link("b", "a")
    assert (work.finish(tmp_path / "folder").path / "b").read_bytes() == b"model"
