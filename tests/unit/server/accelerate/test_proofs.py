"""A proof is read back as it was written, or not at all."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
from typing import Any

import pytest

from mlship.protocol import messages
from mlship.server.accelerate import convert, kernel, proofs, verdict

SIGNATURE = messages.Signature(inputs=(messages.TensorSpec("x", "FP64", (-1, 2)),))
REPORT = verdict.Report(
    verdict.Mode.AUTO,
    used=True,
    converter="numpy",
    outputs=("predict",),
    rows=4000,
    difference=verdict.Difference(absolute=1e-9, relative=1e-12, bits=False),
    gains={1: 9.5, 64: 2.0},
    max_rows=64,
    seconds=1.5,
)
FORM = kernel.Form(b"any\nbytes\0", {"kind": "each", "features": 2})


def facts(folder: pathlib.Path, **changes: Any) -> Any:
    path = folder / "model.pkl"
    if not path.exists():
        path.write_bytes(b"model")
    known = {"mode": verdict.Mode.AUTO, "signature": SIGNATURE, "library": "sklearn"} | changes
    return proofs.facts(path, **known)


@pytest.fixture
def kept(tmp_path: pathlib.Path) -> proofs.Proofs:
    return proofs.Proofs(tmp_path / "proofs")


def test_what_was_written_is_read(kept: proofs.Proofs, tmp_path: pathlib.Path) -> None:
    known = facts(tmp_path)
    assert kept.read(known) is None
    kept.write(known, proofs.Proof(REPORT, FORM))
    assert kept.read(known) == proofs.Proof(dataclasses.replace(REPORT, kept=True), FORM)
    assert kept.folder.stat().st_mode & 0o777 == 0o700
    assert [path.suffix for path in kept.folder.iterdir()] == [".proof"]


def test_a_refusal_is_kept_too(kept: proofs.Proofs, tmp_path: pathlib.Path) -> None:
    apart = verdict.Difference(absolute=float("inf"), relative=float("inf"), bits=False)
    report = verdict.Report(verdict.Mode.AUTO, reason="labels changed", difference=apart, rows=600)
    kept.write(facts(tmp_path), proofs.Proof(report))
    found = kept.read(facts(tmp_path))
    assert found is not None
    assert found.report == dataclasses.replace(report, kept=True)


def test_other_facts_are_another_proof(
    kept: proofs.Proofs, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.write(facts(tmp_path), proofs.Proof(REPORT))
    assert kept.read(facts(tmp_path, mode=verdict.Mode.EXACT)) is None
    assert kept.read(facts(tmp_path, signature=messages.Signature(inputs=()))) is None
    with monkeypatch.context() as changed:
        changed.setattr(convert, "VERSION", convert.VERSION + 1)
        assert kept.read(facts(tmp_path)) is None
    with monkeypatch.context() as changed:
        changed.setattr(sys.modules["numpy"], "__version__", "0.0")
        assert kept.read(facts(tmp_path)) is None
    with monkeypatch.context() as changed:
        changed.setattr(proofs, "cpu", lambda: "another")
        assert kept.read(facts(tmp_path)) is None
    assert kept.read(facts(tmp_path)) is not None
    (tmp_path / "model.pkl").write_bytes(b"changed")
    assert kept.read(facts(tmp_path)) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data.replace(b"predict", b"predicT"),
        lambda data: b"x" + data,
        lambda data: b"mlship-proof-1 no\n{}\n",
    ],
)
def test_a_damaged_proof_is_none(kept: proofs.Proofs, tmp_path: pathlib.Path, damage: Any) -> None:
    kept.write(facts(tmp_path), proofs.Proof(REPORT, FORM))
    path = kept.path(facts(tmp_path))
    path.write_bytes(damage(path.read_bytes()))
    assert kept.read(facts(tmp_path)) is None
    kept.write(facts(tmp_path), proofs.Proof(REPORT, FORM))
    assert kept.read(facts(tmp_path)) is not None


def test_a_whole_file_of_other_facts_is_no_proof(kept: proofs.Proofs, tmp_path: pathlib.Path) -> None:
    exact = facts(tmp_path, mode=verdict.Mode.EXACT)
    kept.write(facts(tmp_path), proofs.Proof(REPORT))
    kept.path(facts(tmp_path)).rename(kept.path(exact))
    assert kept.read(exact) is None


def test_a_report_of_another_mode_is_no_proof(kept: proofs.Proofs, tmp_path: pathlib.Path) -> None:
    exact = facts(tmp_path, mode=verdict.Mode.EXACT)
    kept.write(exact, proofs.Proof(REPORT))
    assert kept.read(exact) is None


def test_a_file_that_others_may_write_is_no_proof(kept: proofs.Proofs, tmp_path: pathlib.Path) -> None:
    kept.write(facts(tmp_path), proofs.Proof(REPORT))
    kept.path(facts(tmp_path)).chmod(0o666)
    assert kept.read(facts(tmp_path)) is None


def test_a_file_of_another_user_is_no_proof(
    kept: proofs.Proofs, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.write(facts(tmp_path), proofs.Proof(REPORT))
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert kept.read(facts(tmp_path)) is None


def test_those_not_used_for_longest_go_first(tmp_path: pathlib.Path) -> None:
    kept = proofs.Proofs(tmp_path / "proofs", most_files=2)
    known = [facts(tmp_path) | {"model": str(number)} for number in range(3)]
    for age, one in enumerate(known[:2]):
        kept.write(one, proofs.Proof(REPORT))
        os.utime(kept.path(one), (age + 1, age + 1))
    assert kept.read(known[0]) is not None  # used now, so the other one is the oldest
    kept.write(known[2], proofs.Proof(REPORT))
    assert [kept.read(one) is not None for one in known] == [True, False, True]


def test_the_newest_stays_whatever_its_size(tmp_path: pathlib.Path) -> None:
    kept = proofs.Proofs(tmp_path / "proofs", most_bytes=1)
    for number in range(2):
        kept.write(facts(tmp_path) | {"model": str(number)}, proofs.Proof(REPORT, FORM))
    assert len(list(kept.folder.iterdir())) == 1


def test_a_write_that_fails_leaves_nothing(
    kept: proofs.Proofs, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: pathlib.Path, target: pathlib.Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(pathlib.Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        kept.write(facts(tmp_path), proofs.Proof(REPORT))
    assert list(kept.folder.iterdir()) == []


def test_dropped(kept: proofs.Proofs, tmp_path: pathlib.Path) -> None:
    kept.write(facts(tmp_path), proofs.Proof(REPORT))
    kept.drop(facts(tmp_path))
    kept.drop(facts(tmp_path))
    assert kept.read(facts(tmp_path)) is None


def test_a_folder_is_its_files_and_their_names(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").write_text("1")
    one = proofs.digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert proofs.digest(tmp_path) != one


def test_without_a_list_of_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    known = proofs.cpu()
    monkeypatch.setattr(proofs, "_CPU", tmp_path / "none")
    assert proofs.cpu() != known


def test_a_package_that_is_not_there_has_no_version() -> None:
    assert proofs.version("surely-not-installed") == ""
    assert proofs.version("onnx")
