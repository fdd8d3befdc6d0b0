"""The arrows of the architecture hold, and bending one is caught: on a copy of the tree with one line added."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def lint(tree: pathlib.Path) -> subprocess.CompletedProcess[str]:
    program = pathlib.Path(sys.executable).with_name("lint-imports")
    environ = {**os.environ, "PYTHONPATH": str(tree / "src")}
    command = [str(program), "--config", str(tree / "pyproject.toml"), "--no-cache"]
    return subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, timeout=110)


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> pathlib.Path:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_tree_keeps_its_arrows(tree):
    done = lint(tree)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("plan/routes.py", "import time", "pure modules decide"),
        ("scale/decide.py", "import random", "pure modules decide"),
        ("scale/window.py", "import mlship.plan.routes", "control plane: who may import whom"),
        ("control/loop.py", "import mlship.server.main", "the control plane starts programs"),
        ("server/repository.py", "import mlship.plan.routes", "the data plane takes flags"),
        ("gateway/render.py", "import mlship.backends.base", "control plane: who may import whom"),
        ("adapters/onnxrt.py", "import mlship.adapters.scikit", "adapters are found by entry point"),
        ("client.py", "import sqlite3", "one door: sqlite3"),
        ("control/feeds.py", "import grpc", "one door: grpc"),
    ],
)
def test_a_bent_arrow_is_caught(tree, module, line, contract):
    path = tree / "src" / "mlship" / module
    path.write_text(path.read_text() + f"\n{line}\n")
    done = lint(tree)
    assert done.returncode != 0
    assert any(contract in text and "BROKEN" in text for text in done.stdout.splitlines()), done.stdout
