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
def installation(trained: places.Models) -> Iterator[places.Gateway]:
    """A gateway with one service, ``titanic``."""
    with places.gateway(trained) as running:
        running.deploy({"titanic": trained.root / "titanic" / "titanic.joblib"})
        yield running


@pytest.fixture(scope="session")
def alone(installation: places.Gateway) -> places.Place:
    """The gateway while it has one service: whoever wants this one must come before ``gateway``."""
    return installation.place


@pytest.fixture(scope="session")
def gateway(installation: places.Gateway, trained: places.Models) -> places.Place:
    """The gateway with four services."""
    paths = {"iris": "iris/iris.joblib", "every": "every/every.py", "scale": "scale/1/scale.py"}
    installation.deploy({name: trained.root / path for name, path in paths.items()})
    return installation.place


@pytest.fixture(scope="session")
def clients_python() -> str:
    """The Python that has the clients: ``$MLSHIP_CLIENTS_PYTHON``, or the one that ``make test`` installs."""
    asked = os.environ.get("MLSHIP_CLIENTS_PYTHON", "")
    python = pathlib.Path(asked) if asked else ROOT / ".venv-clients" / "bin" / "python"
    if not python.exists():
        if asked:
            pytest.fail(f"MLSHIP_CLIENTS_PYTHON is {asked}, which does not exist")
        pytest.skip("no environment with third-party clients; make .venv-clients/.installed makes one")
    return str(python)


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest, clients_python: str) -> Callable[[str, str], Report]:
    """``report(place, program)``: what a program found at a place, by check; each is run once."""
    found: dict[tuple[str, str], Report] = {}

    def run(place: str, program: str) -> Report:
        if (place, program) not in found:
            there: places.Place = request.getfixturevalue(place)
            done = subprocess.run(
                [clients_python, str(CLIENTS / f"{program}.py")],
                input=there.json(),
                text=True,
                capture_output=True,
                timeout=100,
                check=False,
            )
            assert done.returncode == 0, f"{program} ended with {done.returncode}:\n{done.stderr[-3000:]}"
            found[place, program] = {check["name"]: check for check in json.loads(done.stdout.splitlines()[-1])}
        return found[place, program]

    return run
