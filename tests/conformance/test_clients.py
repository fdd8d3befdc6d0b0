"""Unmodified third-party clients against the model server and against the gateway, each of their checks a test.

The checks are read from the programs' text, so that they can be collected without the clients' environment.
"""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Callable, Iterator

import pytest

CLIENTS = pathlib.Path(__file__).parent / "clients"
EVERYWHERE = ("triton_http", "triton_grpc", "kserve_sdk", "mlflow_scoring")
# ``alone`` is the gateway while it has one service.
PLACES = {"serve": EVERYWHERE, "alone": ("default_service",), "gateway": ("gateway_routes", *EVERYWHERE)}

pytestmark = [pytest.mark.clients]


def checks() -> Iterator[tuple[str, str, str]]:
    """(place, program, check) of everything that is tried."""
    for place, programs in PLACES.items():
        for program in programs:
            for node in ast.parse((CLIENTS / f"{program}.py").read_text()).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("check_"):
                    yield place, program, node.name.removeprefix("check_")


@pytest.mark.parametrize(("place", "program", "check"), list(checks()))
def test_a_client_is_content(
    place: str, program: str, check: str, report: Callable[[str, str], dict[str, dict[str, object]]]
) -> None:
    found = report(place, program)[check]
    assert found["ok"], found["detail"]


def test_every_program_is_used() -> None:
    used = {program for programs in PLACES.values() for program in programs}
    assert used == {path.stem for path in CLIENTS.glob("*.py")} - {"checks"}
