from __future__ import annotations

import pathlib

import pytest

from mlship import errors
from mlship.server import folder


def test_names_with_and_without_versions(tmp_path: pathlib.Path) -> None:
    for path in ("iris/model.pkl", "wine/2/model.pkl", "wine/10/model.pkl", "wine/notes/x"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    found = [source for name in ("iris", "wine") for source in folder.versions(tmp_path / name)]
    assert [(source.name, source.version, source.path.relative_to(tmp_path).as_posix()) for source in found] == [
        ("iris", "1", "iris"),
        ("wine", "2", "wine/2"),
        ("wine", "10", "wine/10"),
    ]


def test_a_folder_that_cannot_name_a_model_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "my model").mkdir()
    with pytest.raises(errors.SpecError, match='cannot be named "my model"'):
        folder.versions(tmp_path / "my model")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\x00", "a\n", "-a", "a" * 128, "é"])
def test_names_that_could_leave_the_folder_are_no_names(name: str) -> None:
    with pytest.raises(errors.SpecError):
        folder.check_name(name)


@pytest.mark.parametrize("version", ["", "0", "01", "-1", "1.0", "x", "1" * 19])
def test_versions_are_positive_whole_numbers(version: str) -> None:
    with pytest.raises(errors.SpecError):
        folder.check_version(version)


def test_good_names_and_versions_pass() -> None:
    assert folder.check_name("iris-2.b_c") == "iris-2.b_c"
    assert folder.check_version("12") == "12"
