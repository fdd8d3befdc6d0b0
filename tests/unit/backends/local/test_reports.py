"""A replica's report as a fact; what is none is no fact."""

import json

import pytest

from mlship.backends.local import reports
from mlship.plan import observed

REPORT = {
    "name": "iris",
    "accelerate": "auto",
    "state": "compiled",
    "reason": "",
    "outputs": ["predict"],
    "proof_rows": 4000,
    "largest_relative_difference": 1e-9,
    "classes_changed": 0,
    "speed_up": {"1": 30.5, "64": 9},
}


def test_a_report():
    assert reports.read(json.dumps(REPORT).encode()) == observed.Acceleration(
        observed.Answering.COMPILED,
        "auto",
        speed_ups=((1, 30.5), (64, 9.0)),
        rows=4000,
        difference=1e-9,
        outputs=("predict",),
    )


def test_it_is_cut_to_size():
    long = REPORT | {"reason": "x\n" * 900, "outputs": ["y"] * 900, "speed_up": {str(at): 1 for at in range(900)}}
    found = reports.read(json.dumps(long).encode())
    assert (len(found.reason), len(found.outputs), len(found.speed_ups)) == (300, 20, 20)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not found",
        b"[]",
        b"null",
        json.dumps(REPORT | {"state": "dreaming"}).encode(),
        json.dumps(REPORT | {"speed_up": [1]}).encode(),
        json.dumps(REPORT | {"proof_rows": "many"}).encode(),
        json.dumps(REPORT | {"outputs": 5}).encode(),
        json.dumps({"state": "compiled"}).encode(),
        json.dumps(REPORT | {"proof_rows": float("inf")}).encode(),
    ],
)
def test_anything_else_is_no_fact(body):
    assert reports.read(body) is None
