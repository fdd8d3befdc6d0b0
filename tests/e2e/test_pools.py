"""Many models in one pool: real Envoy, real processes, twenty models, and what happens to each when one goes wrong."""

import json
import pathlib
import signal
import time

import cloudpickle
import httpx
import joblib
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(300)]

COUNT = 20
SECONDS = 60.0


def member(name: str, path: pathlib.Path, **annotations: str) -> dict:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "annotations": {"serving.kserve.io/deploymentMode": "ModelMesh", **annotations},
        },
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": str(path)}}},
    }


def listed(*objects: dict) -> str:
    return "\n---\n".join(json.dumps(one) for one in objects)


def times(folder: pathlib.Path, factor: float, name: str = "model.joblib", *, column: str = "") -> pathlib.Path:
    """A model that multiplies by ``factor``; with ``column`` it knows that its input is called so."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = pd.DataFrame({column: [1.0, 2.0]}) if column else [[1.0], [2.0]]
    fitted = LinearRegression(fit_intercept=False).fit(rows, [factor, 2 * factor])
    joblib.dump(fitted, folder / name)
    return folder / name


def until(what: str, holds, seconds: float = SECONDS):
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.2)


def ask(installation, name: str) -> float:
    answer = httpx.post(f"{installation.url}/v1/models/{name}:predict", json={"instances": [[3.0]]}, timeout=30)
    assert answer.status_code == 200, answer.text
    return round(answer.json()["predictions"][0], 6)


def invoked(installation, path: str, host: str = "") -> float:
    """What a client of MLflow's scoring server is answered."""
    body = {"dataframe_split": {"columns": [0], "data": [[3.0]]}}
    answer = httpx.post(f"{installation.url}{path}", json=body, headers={"host": host} if host else {}, timeout=30)
    assert answer.status_code == 200, answer.text
    return round(answer.json()["predictions"][0], 6)


def status(installation, name: str, kind: str = "isvc") -> dict:
    with installation.control as control:
        return control.get(kind, name).get("status") or {}


def condition(installation, name: str, kind: str = "isvc", which: str = "Ready") -> dict:
    found = status(installation, name, kind).get("conditions", [])
    return next((one for one in found if one["type"] == which), {})


def test_twenty_models_share_two_processes_from_the_first_to_the_last(installation, tmp_path):
    paths = {f"m{number}": times(tmp_path / f"m{number}", float(number + 1)) for number in range(COUNT)}
    times(tmp_path / "m6", 7.0, column="x")
    installation.ok("up", "--port", "auto")
    installation.ok("apply", "--wait", "60", "-f", "-", stdin=listed(*(member(*one) for one in paths.items())))
    assert len(installation.one("mlship.server.main")) == 2
    for number, name in enumerate(paths):
        assert ask(installation, name) == 3.0 * (number + 1)
    assert installation.ok("predict", "m3", "--data", "[[2.0]]").strip() == "8.0"
    assert invoked(installation, "/serving/default/m3/invocations") == 12.0
    assert invoked(installation, "/invocations", host="m4-default.localhost") == 15.0
    assert invoked(installation, "/v2/models/m5/invocations") == 18.0
    rows = tmp_path / "rows.csv"
    rows.write_text("x\n3.0\n")
    assert float(installation.ok("predict", "m6", "--file", str(rows))) == pytest.approx(21.0)
    until("m0 is loaded", lambda: status(installation, "m0")["modelStatus"]["states"]["activeModelState"] == "Loaded")
    assert status(installation, "m0")["mlship"]["pool"] == "modelmesh.sklearn"

    # A process dies: the other answers, and it is back.
    victim = installation.one("mlship.server.main")[0]
    victim.send_signal(signal.SIGKILL)
    for number, name in enumerate(paths):
        assert ask(installation, name) == 3.0 * (number + 1)
    until("the process is back", lambda: len(installation.one("mlship.server.main")) == 2)

    # New bytes under the same path are swapped in without a word.
    times(tmp_path / "m1", 100.0)
    until("the new bytes of m1", lambda: ask(installation, "m1") == 300.0)

    # Bytes that are no model: what was there answers on, and the status says what is wrong.
    paths["m2"].write_bytes(b"this is no model")
    until("m2 is known to be broken", lambda: condition(installation, "m2").get("status") == "False")
    assert condition(installation, "m2")["reason"] == "ModelLoadFailed"
    assert "keeps serving" in condition(installation, "m2")["message"]
    assert status(installation, "m2")["modelStatus"]["transitionStatus"] == "BlockedByFailedLoad"
    assert ask(installation, "m2") == 9.0
    assert "cannot be loaded" in installation.ok("why", "m2")
    times(tmp_path / "m2", 7.0)
    until(
        "m2 is mended", lambda: condition(installation, "m2").get("status") == "True" and ask(installation, "m2") == 21
    )

    # What one process cannot carry alone is answered by both.
    deadline = time.monotonic() + SECONDS
    with httpx.Client(base_url=installation.url, timeout=30) as caller:
        while status(installation, "m4")["modelStatus"]["copies"]["totalCopies"] < 2:
            assert time.monotonic() < deadline, "m4 never became popular"
            for _ in range(100):
                assert caller.post("/v1/models/m4:predict", json={"instances": [[3.0]]}).status_code == 200
    assert "started" in installation.ok("logs", "m4")

    # A new control plane knows everything again, and nothing restarts.
    before = {one.pid for one in installation.one("mlship.server.main")}
    installation.one("mlship.control.main")[0].send_signal(signal.SIGKILL)
    installation.ok("up", "--port", "auto")
    until("m5 is ready", lambda: condition(installation, "m5").get("status") == "True")
    assert ask(installation, "m5") == 18.0
    assert {one.pid for one in installation.one("mlship.server.main")} == before

    # One goes, then all: the pool with them.
    installation.ok("destroy", "m19")
    gone = httpx.post(f"{installation.url}/v1/models/m19:predict", json={"instances": [[1.0]]}, timeout=30)
    assert gone.status_code == 404
    installation.ok("destroy", *list(paths)[:-1])
    until("the pool is gone", lambda: not installation.one("mlship.server.main"), 90)
    until("its folder is gone", lambda: not list((installation.where.root / "pools").glob("*/*")), 30)


def test_trained_models_are_served_by_the_service_they_name(installation, tmp_path):
    parent = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "many"},
        "spec": {"predictor": {"sklearn": {"protocolVersion": "v2"}}},
    }

    def trained(name: str, factor: float, column: str = "") -> dict:
        path = times(tmp_path / name, factor, column=column)
        return {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "TrainedModel",
            "metadata": {"name": name},
            "spec": {
                "inferenceService": "many",
                "model": {"framework": "sklearn", "storageUri": str(path), "memory": "64Mi"},
            },
        }

    installation.ok("up", "--port", "auto")
    installation.ok("apply", "--wait", "60", "-f", "-", stdin=listed(parent))
    installation.ok("apply", "--wait", "60", "-f", "-", stdin=listed(trained("two", 2.0), trained("three", 3.0)))
    assert "/serving/default/many" in installation.ok("list")
    assert float(installation.ok("predict", "three", "--data", "[[2.0]]")) == pytest.approx(6.0)
    assert invoked(installation, "/serving/default/many/v2/models/three/invocations") == 9.0
    rows = tmp_path / "rows.csv"
    rows.write_text("x\n3.0\n")
    installation.ok("apply", "--wait", "60", "-f", "-", stdin=listed(trained("five", 5.0, column="x")))
    assert float(installation.ok("predict", "five", "--file", str(rows))) == pytest.approx(15.0)
    installation.ok("destroy", "tm", "five")
    for name, factor in (("two", 2.0), ("three", 3.0)):
        until(f"{name} is ready", lambda name=name: condition(installation, name, "tm").get("status") == "True")
        url = status(installation, name, "tm")["url"]
        assert url.endswith(f"/serving/default/many/v2/models/{name}")
        rows = {"inputs": [{"name": "input-0", "shape": [1, 1], "datatype": "FP64", "data": [3.0]}]}
        answer = httpx.post(f"{url}/infer", json=rows, timeout=30)
        assert answer.json()["outputs"][0]["data"] == [pytest.approx(3.0 * factor)]
    assert "Serving" in installation.ok("why", "two")
    told = installation.mlship("destroy", "many")
    assert "nothing serves its 2 TrainedModels (three, two)" in told.err
    until("two is told", lambda: condition(installation, "two", "tm", "InferenceServiceReady").get("status") == "False")
    installation.ok("destroy", "two", "three")
    until("no model is left", lambda: not list((installation.where.root / "pools").glob("*/*/models/*.json")))


def test_a_model_that_ends_its_process_is_kept_out_and_the_others_go_on(installation, tmp_path):
    def end(rows):
        import os

        os._exit(11)

    bomb = tmp_path / "bomb.pkl"
    bomb.write_bytes(
        cloudpickle.dumps(make_pipeline(FunctionTransformer(end), LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])))
    )
    installation.ok("up", "--port", "auto")
    good = member("good", times(tmp_path / "good", 2.0))
    installation.ok("apply", "--wait", "60", "-f", "-", stdin=listed(good, member("bomb", bomb)))
    assert ask(installation, "good") == 6.0

    def kept_out():
        httpx.post(f"{installation.url}/v1/models/bomb:predict", json={"instances": [[3.0]]}, timeout=30)
        return condition(installation, "bomb").get("reason") == "Quarantined"

    until("the bomb is kept out", kept_out, 90)
    told = installation.ok("why", "bomb")
    assert "died 2 times" in told
    assert "process of its own" in told
    until(
        "good answers",
        lambda: (
            httpx.post(
                f"{installation.url}/v1/models/good:predict", json={"instances": [[3.0]]}, timeout=30
            ).status_code
            == 200
        ),
    )
    pids = {one.pid for one in installation.one("mlship.server.main")}
    refused = httpx.post(f"{installation.url}/v1/models/bomb:predict", json={"instances": [[3.0]]}, timeout=30)
    assert refused.status_code == 503
    assert "quarantine" in refused.json()["error"]
    assert ask(installation, "good") == 6.0
    assert {one.pid for one in installation.one("mlship.server.main")} == pids
    until("good is ready", lambda: condition(installation, "good").get("status") == "True")
