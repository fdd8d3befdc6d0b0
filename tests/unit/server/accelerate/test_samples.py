"""Rows that MLflow recorded, in its forms; what is none is left aside."""

from __future__ import annotations

import pathlib

import pytest

from mlship.server.accelerate import samples

ROWS = [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    "text",
    [
        "[[1, 2], [3, 4]]",
        '{"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}',
        '{"inputs": [[1, 2], [3, 4]]}',
        '{"instances": [[1, 2], [3, 4]]}',
        '{"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}}',
    ],
)
def test_the_forms(text: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / samples.NAME).write_text(text)
    assert samples.beside(tmp_path, 2).tolist() == ROWS
    assert samples.beside(tmp_path / "model.pkl", 2).tolist() == ROWS
    assert samples.beside(tmp_path, 3).shape == (0, 3)


def test_one_row_is_a_row(tmp_path: pathlib.Path) -> None:
    (tmp_path / samples.NAME).write_text("[1, null]")
    assert samples.beside(tmp_path, 2).shape == (1, 2)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"inputs": {"a": [1]}}', '[["x", "y"]]', "[[[1, 2]]]", "[[1], [1, 2]]", "5"]
)
def test_anything_else_is_no_row(text: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / samples.NAME).write_text(text)
    assert samples.beside(tmp_path, 2).shape == (0, 2)


def test_nothing_recorded(tmp_path: pathlib.Path) -> None:
    assert samples.beside(tmp_path, 2).shape == (0, 2)


def test_too_much_is_left_aside(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / samples.NAME).write_text("[[1, 2], [3, 4]]")
    monkeypatch.setattr(samples, "MOST_ROWS", 1)
    assert len(samples.beside(tmp_path, 2)) == 1
    monkeypatch.setattr(samples, "MOST_BYTES", 1)
    assert len(samples.beside(tmp_path, 2)) == 0
