"""A model that is compiled behind the user's back: proven once, told of, and never to be noticed in an answer."""

import json
import time

import joblib
import pytest
from sklearn import datasets, ensemble

# A proof is made at a low priority, and so late where everything is busy.
DEADLINE = 180.0
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2 * DEADLINE + 120)]


def settled(installation, name):
    """The service's status once it is known who answers."""
    deadline = time.monotonic() + DEADLINE
    while True:
        status = json.loads(installation.ok("get", name, "-o", "json"))["status"]
        found = status["mlship"].get("acceleration", {})
        if found.get("state", "proving") != "proving":
            return status
        assert time.monotonic() < deadline, found
        time.sleep(0.5)


def test_a_forest_is_compiled_and_told_of(installation, tmp_path):
    features, target = datasets.load_wine(return_X_y=True)
    fitted = ensemble.RandomForestClassifier(50, random_state=0).fit(features, target)
    joblib.dump(fitted, tmp_path / "wine.joblib")
    installation.ok("deploy", str(tmp_path / "wine.joblib"), "--port", "auto")
    before = installation.ok("predict", "wine", "--data", json.dumps(features[:5].tolist()))
    status = settled(installation, "wine")
    found = status["mlship"]["acceleration"]
    assert (found["state"], found["classesChanged"]) == ("compiled", 0)
    assert found["proofRows"] > 512
    assert found["speedUp"]["1"] > 1
    condition = next(one for one in status["conditions"] if one["type"] == "Accelerated")
    assert (condition["status"], condition["reason"]) == ("True", "Proven")
    why = installation.ok("why", "wine")
    assert "The compiled form answers predict, predict_proba" in why
    assert installation.ok("predict", "wine", "--data", json.dumps(features[:5].tolist())) == before
    assert list((installation.where.root / "proofs").glob("*.proof"))

    # A second service of the same bytes pays nothing, and a refusal says why.
    installation.ok("deploy", str(tmp_path / "wine.joblib"), "--name", "off", "--accelerate", "off")
    assert "compiled form" not in installation.ok("why", "off")
    assert settled(installation, "off")["mlship"]["acceleration"]["state"] == "off"
    installation.ok("deploy", str(tmp_path / "wine.joblib"), "--name", "again")
    assert settled(installation, "again")["mlship"]["acceleration"] == found
    assert len(list((installation.where.root / "proofs").glob("*.proof"))) == 1
