"""What all tests share: the flag that accepts golden outputs, and the suites that several implementations must pass."""

from __future__ import annotations

import asyncio
import pathlib
import sys
from collections.abc import Callable

import hypothesis
import pytest

# Properties say what is right, not how fast a machine is.
hypothesis.settings.register_profile("mlship", deadline=None)
hypothesis.settings.load_profile("mlship")

# With a loop set, even None, the policy makes none by itself that nobody would close.
asyncio.set_event_loop(None)

sys.path.insert(0, str(pathlib.Path(__file__).parent / "contract"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="write the golden outputs instead of comparing with them")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[pathlib.Path, str], None]:
    """``golden(path, text)``: the file holds this text; with ``--accept`` it is made to."""

    def compare(path: pathlib.Path, text: str) -> None:
        if request.config.getoption("--accept"):
            path.write_text(text)
        assert path.exists(), f"{path} is missing; run with --accept and read what it wrote"
        assert text == path.read_text(), f"{path.name} differs; if the new one is right, run with --accept"

    return compare
