from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator

import pytest

from mlship import errors
from mlship.server.frameworks import usercode


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder: pathlib.Path, text: str, name: str = "users.py") -> pathlib.Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_taken_name_is_made_distinct(tmp_path: pathlib.Path) -> None:
    module = usercode.load(write(tmp_path, "x = 1", "json.py"))
    assert module.__name__.startswith("json_")
    assert usercode.load(write(tmp_path, "x = 1", "with-dash.py")).__name__.startswith("model_")
    assert usercode.load(write(tmp_path, "x = 1")).__name__ == "users"


def test_unload_takes_submodules_along(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "y = 2", "helper.py")
    module = usercode.load(write(tmp_path, "from . import helper"))
    assert "users.helper" in sys.modules
    usercode.unload(module)
    assert not {"users", "users.helper"} & set(sys.modules)
    assert str(tmp_path) not in sys.path


def test_a_syntax_error_names_file_and_line(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "def broken(:\n", "helper.py")
    with pytest.raises(errors.ModelError, match=r"^helper.py:1: invalid syntax"):
        usercode.load(write(tmp_path, "from . import helper"))


def test_an_interrupt_is_not_swallowed(tmp_path: pathlib.Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        usercode.load(write(tmp_path, "raise KeyboardInterrupt"))
    assert "users" not in sys.modules


def test_the_last_own_line_is_named_and_the_text_is_capped(tmp_path: pathlib.Path) -> None:
    module = usercode.load(write(tmp_path, "import json\n\ndef run(text):\n    json.loads(text)\n"))
    with pytest.raises(ValueError) as caught:
        module.run("{")
    assert usercode.said(caught.value, tmp_path).endswith("(users.py:4 in run)")
    long = ValueError("x" * 1000)
    assert len(usercode.said(long, tmp_path)) < 400
    assert usercode.said(KeyError(), tmp_path) == "KeyError"


def test_imported_classes_do_not_count_unless_nothing_else_does(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "class Base:\n    def predict(self, x): ...\n", "bases_of_this_test.py")
    own = write(tmp_path, "from bases_of_this_test import Base\nclass Mine(Base): ...\n")
    assert usercode.pick(usercode.load(own)).__name__ == "Mine"
    borrowed = write(tmp_path, "from bases_of_this_test import Base\n", "borrowed.py")
    assert usercode.pick(usercode.load(borrowed)).__name__ == "Base"
    with pytest.raises(errors.ModelError, match="has no class with predict"):
        usercode.pick(usercode.load(write(tmp_path, "x = 1", "nothing.py")))
