"""Places that last for a whole run, and the programs of ``clients`` run against them in an environment of their own."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Callable, Iterator

import pytest

from conformance import places

ROOT = pathlib.Path(__file__).parents[2]
CLIENTS = pathlib.Path(__file__).parent / "clients"

Report = dict[str, dict[str, object]]
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> places.Models:
    """The models of both places."""
    return places.repository(tmp_path_factory.mktemp("conformance") / "models")


@pytest.fixture(scope="session")
def serve(trained: places.Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[places.Place]:
    """The model server by itself."""
    with places.serve(tmp_path_factory.mktemp("serve"), trained) as place:
        yield place


@pytest.fixture(scope="session")
def installation(trained: places.Models) -> Iterator[tuple[places.Place, Done | None]]:
    """A gateway with four services, and what ``default_service`` printed while ``titanic`` was the only one.

    That program runs in between so that no order of tests can take its one service from it.
    """
    with places.gateway(trained) as running:
        running.deploy({"titanic": trained.root / "titanic" / "titanic.joblib"})
        python = clients_python()
        alone = run(python, "default_service", running.place) if python else None
        paths = {"iris": "iris/iris.joblib", "every": "every/every.py", "scale": "scale/1/scale.py"}
        running.deploy({name: trained.root / path for name, path in paths.items()})
        yield running.place, alone


@pytest.fixture(scope="session")
def gateway(installation: tuple[places.Place, Done | None]) -> places.Place:
    """The gateway with four services."""
    return installation[0]


def clients_python() -> str:
    """The Python that has the clients: ``$MLSHIP_CLIENTS_PYTHON``, or the one that ``make test`` installs, or none."""
    asked = os.environ.get("MLSHIP_CLIENTS_PYTHON", "")
    python = pathlib.Path(asked) if asked else ROOT / ".venv-clients" / "bin" / "python"
    if asked and not python.exists():
        pytest.fail(f"MLSHIP_CLIENTS_PYTHON is {asked}, which does not exist")
    return str(python) if python.exists() else ""


def run(python: str, program: str, place: places.Place) -> Done:
    """Run a program of ``clients`` at a place."""
    return subprocess.run(
        [python, str(CLIENTS / f"{program}.py")],
        input=place.json(),
        text=True,
        capture_output=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Callable[[str, str], Report]:
    """``report(place, program)``: what a program found at a place, by check; each is run once."""
    python = clients_python()
    if not python:
        pytest.skip("no environment with third-party clients; make .venv-clients/.installed makes one")
    found: dict[tuple[str, str], Report] = {}

    def ask(place: str, program: str) -> Report:
        if (place, program) not in found:
            if place == "alone":
                done = request.getfixturevalue("installation")[1]
            else:
                done = run(python, program, request.getfixturevalue(place))
            assert done.returncode == 0, f"{program} ended with {done.returncode}:\n{done.stderr[-3000:]}"
            found[place, program] = {check["name"]: check for check in json.loads(done.stdout.splitlines()[-1])}
        return found[place, program]

    return ask
