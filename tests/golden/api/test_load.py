"""Texts as people write them, and every problem that is said about them."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

from mlship.api import honour, load, runtime

CASES = sorted(pathlib.Path(__file__).parent.glob("*.in.yaml"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name.removesuffix(".in.yaml"))
def test_problems(path: pathlib.Path, golden: Callable[[pathlib.Path, str], None]) -> None:
    loaded = load.load(path.read_text(), source=path.name.removesuffix(".in.yaml") + ".yaml")
    lines = [str(problem) for problem in loaded.problems]
    for document in loaded.documents:
        if document.object is not None:
            judged = document.place(honour.judge(document.object, cluster=runtime.builtin()))
            lines += [f"{problem.severity}: {problem}" for problem in judged] or [f"accepted: {document.title}"]
    golden(path.with_name(path.name.replace(".in.yaml", ".out.txt")), "\n".join(lines) + "\n")
