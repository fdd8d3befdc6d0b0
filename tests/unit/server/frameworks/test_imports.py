from __future__ import annotations

import pathlib
import sys

import pytest

from mlship.server.frameworks import imports


def test_a_folder_comes_and_goes_as_often_as_asked(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = str(tmp_path)
    imports.add(tmp_path)
    imports.add(tmp_path)
    assert sys.path[0] == folder
    imports.remove(tmp_path)
    assert folder in sys.path
    imports.remove(tmp_path)
    assert folder not in sys.path
    imports.remove(tmp_path)
