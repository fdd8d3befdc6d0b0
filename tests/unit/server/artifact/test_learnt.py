"""What is kept of a file is kept for that file: never for another one in its place."""

from __future__ import annotations

import os
import pathlib
import pickle

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from mlship import errors
from mlship.server.artifact import find, kinds, learnt, pickles, sniff


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as old as soon as they are written."""
    monkeypatch.setattr(learnt, "_SETTLED_NS", 0)


def write(path: pathlib.Path, made: object) -> pathlib.Path:
    new = path.with_suffix(".new")
    new.write_bytes(pickle.dumps(made))
    return new.replace(path)


def test_a_file_that_was_written_just_now_has_no_stamp(tmp_path: pathlib.Path) -> None:
    assert learnt.stamp(write(tmp_path / "model.pkl", LogisticRegression())) is None


def test_neither_a_folder_nor_nothing_has_a_stamp(tmp_path: pathlib.Path, settled: None) -> None:
    assert learnt.stamp(tmp_path) is None
    assert learnt.stamp(tmp_path / "missing") is None


def test_a_stamp_changes_with_the_file_though_its_size_and_date_do_not(tmp_path: pathlib.Path, settled: None) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"one")
    before, dates = learnt.stamp(path), path.stat()
    assert before is not None
    assert learnt.stamp(path) == before
    path.write_bytes(b"two")
    os.utime(path, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    assert learnt.stamp(path) != before


def test_what_nobody_asked_for_longest_is_forgotten() -> None:
    kept: learnt.Learnt[int] = learnt.Learnt(2)
    assert kept.keep("a", 1) == 1
    kept.keep("b", 2)
    assert kept.get("a") == 1
    kept.keep("c", 3)
    assert (kept.get("a"), kept.get("b"), kept.get("c"), len(kept)) == (1, None, 3, 2)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[pathlib.Path]:
    scans: list[pathlib.Path] = []
    scan = pickles.scan
    monkeypatch.setattr(pickles, "scan", lambda path: scans.append(path) or scan(path))
    return scans


def test_a_model_is_looked_at_once(tmp_path: pathlib.Path, settled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = counted(monkeypatch)
    path = write(tmp_path / "model.pkl", LogisticRegression())
    first = find.inspect(path)
    assert first.stamp is not None
    assert find.inspect(path) == first
    assert len(scans) == 1
    write(path, DecisionTreeClassifier())
    assert find.inspect(path).stamp != first.stamp
    assert len(scans) == 2


def test_a_model_written_just_now_is_looked_at_again(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = counted(monkeypatch)
    path = write(tmp_path / "model.pkl", LogisticRegression())
    assert find.inspect(path) == find.inspect(path)
    assert len(scans) == 2


class Harm:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("true",)


def test_what_takes_the_place_of_a_sound_model_is_looked_at(tmp_path: pathlib.Path, settled: None) -> None:
    path = write(tmp_path / "model.pkl", LogisticRegression())
    assert isinstance(sniff.identify(path), kinds.Found)
    write(path, Harm())
    with pytest.raises(errors.SpecError, match="system"):
        sniff.identify(path)


def test_whom_one_caller_trusts_another_does_not(tmp_path: pathlib.Path, settled: None) -> None:
    path = write(tmp_path / "model.pkl", Harm())
    trusted = frozenset({f"{os.system.__module__}.system"})
    sniff.identify(path, trusted=trusted)
    with pytest.raises(errors.SpecError, match="system"):
        sniff.identify(path)


def test_what_is_wrong_with_a_file_is_said_each_time(tmp_path: pathlib.Path, settled: None) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(LogisticRegression())[:-5])
    for _ in range(2):
        with pytest.raises(errors.SpecError, match="truncated"):
            sniff.identify(path)
