"""The main job as a user does it: one command from a file to a URL, and every other command on the way."""

import functools
import http.server
import json
import subprocess
import threading
import urllib.request

import joblib
import psutil
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_from_a_file_to_a_url_and_back_to_nothing(installation, iris):
    deployed = installation.mlship("deploy", str(iris), "--port", "auto")
    assert deployed.code == 0, deployed.err
    assert "found    sklearn model, stored as joblib" in deployed.err
    assert "inputs   input-0 FP64 [-1,4]" in deployed.out
    curl = next(line.strip() for line in deployed.out.splitlines() if line.strip().startswith("curl"))
    pasted = subprocess.run(curl, shell=True, capture_output=True, text=True, timeout=30, check=True)
    expected = joblib.load(iris).predict([[5.843, 3.057, 3.758, 1.199]]).tolist()
    assert json.loads(pasted.stdout)["outputs"][0]["data"] == expected

    rows = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
    assert installation.ok("predict", "iris", "--data", json.dumps(rows)).split() == ["0", "2"]
    asked = installation.ok("predict", "iris", "--data", json.dumps(rows), "--want", "predict_proba", "-o", "json")
    assert json.loads(asked)["predictions"] == joblib.load(iris).predict_proba(rows).tolist()

    assert installation.ok("list").splitlines()[1].split()[:4] == ["default", "iris", "True", "1"]
    assert json.loads(installation.ok("list", "-o", "json"))[0]["metadata"]["name"] == "iris"
    assert "kind: InferenceService" in installation.ok("get", "iris", "-o", "yaml")
    assert "1 replica serves" in installation.ok("why", "iris")
    assert "model ready" in installation.ok("logs", "iris")
    assert "services 1 of 1 ready" in installation.ok("status")

    assert installation.ok("destroy", "iris") == "default/iris is gone\n"
    assert installation.one("mlship.server.main") == []
    assert installation.mlship("get", "iris").code == 1
    assert "everything has ended" in installation.ok("down")
    assert installation.ok("down") == "nothing was running\n"


def test_down_and_up_bring_the_services_back(installation, iris):
    installation.ok("deploy", str(iris), "--port", "auto")
    url = installation.url
    installation.ok("down")
    installation.ok("up")
    with installation.control as control:
        control.wait_ready("iris", deadline=60)
    assert installation.url == url
    with urllib.request.urlopen(f"{url}/v2/models/iris/ready", timeout=10) as answer:
        assert answer.status == 200


def test_apply_diff_and_a_change_of_the_bytes_under_the_same_path(installation, iris, tmp_path):
    model = tmp_path / "model.joblib"
    model.write_bytes(iris.read_bytes())
    document = json.dumps(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "flowers"},
            "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": f"file://{model}"}}},
        }
    )
    installation.ok("up", "--port", "auto")
    before = installation.mlship("diff", "-f", "-", stdin=document)
    assert (before.code, "would be created" in before.out) == (1, True)
    assert installation.ok("list") == ""
    assert "is ready" in installation.ok("apply", "--wait", "60", "-f", "-", stdin=document)
    assert installation.mlship("diff", "-f", "-", stdin=document).out == "inferenceservice/flowers would not change\n"
    with installation.control as control:
        first = control.get("isvc", "flowers")["status"]["components"]["predictor"]["latestReadyRevision"]
        pipeline = joblib.load(iris)
        pipeline.named_steps["logisticregression"].classes_ = pipeline.classes_ + 10
        joblib.dump(pipeline, model)
        for event in control.watch("isvc", deadline=60, name="flowers"):
            if event.object["status"]["components"]["predictor"]["latestReadyRevision"] != first:
                break
        else:
            pytest.fail("the changed bytes never became a revision")
    assert installation.ok("predict", "flowers", "--data", "[[5.1, 3.5, 1.4, 0.2]]") == "10\n"


def test_a_new_version_that_does_not_load_leaves_the_old_one_serving(installation, iris, tmp_path):
    installation.ok("deploy", str(iris), "--name", "flowers", "--port", "auto")
    # A scikit-learn pipeline by all that can be seen without running it; what it unpickles to cannot predict.
    broken = tmp_path / "broken.joblib"
    pipeline = joblib.load(iris)
    del pipeline.named_steps["logisticregression"].coef_
    joblib.dump(pipeline, broken)
    again = installation.mlship("deploy", str(broken), "--name", "flowers", "--wait", "60")
    assert again.code == 1
    assert "coef_" in again.err
    assert "coef_" in installation.ok("why", "flowers")
    assert installation.ok("predict", "flowers", "--data", "[[5.1, 3.5, 1.4, 0.2]]") == "0\n"


def test_every_command_has_help(installation):
    text = installation.ok("--help")
    commands = [
        line.split()[0] for line in text.split("Commands:")[1].splitlines() if line.startswith("  ") and line[2] != " "
    ]
    assert {
        "deploy",
        "predict",
        "list",
        "get",
        "why",
        "logs",
        "destroy",
        "apply",
        "diff",
        "up",
        "down",
        "status",
    } <= set(commands)
    for command in commands:
        assert "Usage: mlship" in installation.ok(command, "--help")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("remote", [False, True])
def test_deploying_changed_bytes_again_waits_for_them(installation, iris, tmp_path, remote):
    served = tmp_path / "flowers.joblib"
    served.write_bytes(iris.read_bytes())
    row = ("--data", "[[5.1, 3.5, 1.4, 0.2]]")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = f"http://127.0.0.1:{server.server_address[1]}/flowers.joblib" if remote else str(served)
        installation.ok("deploy", where, "--port", "auto")
        assert installation.ok("predict", "flowers", *row) == "0\n"
        pipeline = joblib.load(iris)
        pipeline.named_steps["logisticregression"].classes_ = pipeline.classes_ + 10
        joblib.dump(pipeline, served)
        installation.ok("deploy", where)
        assert installation.ok("predict", "flowers", *row) == "10\n"
        server.shutdown()


def test_a_model_that_did_not_load_is_mended_by_deploying_it_again(installation, iris, tmp_path):
    path = tmp_path / "flowers.joblib"
    pipeline = joblib.load(iris)
    del pipeline.named_steps["logisticregression"].coef_
    joblib.dump(pipeline, path)
    assert installation.mlship("deploy", str(path), "--port", "auto").code == 1
    path.write_bytes(iris.read_bytes())
    installation.ok("deploy", str(path))


def test_when_control_plane_and_envoy_are_both_killed_up_brings_them_back(installation, iris):
    installation.ok("deploy", str(iris), "--port", "auto")
    replica = installation.one("mlship.server.main")[0].pid
    for word in ("mlship.control.main", "envoy"):
        for process in installation.one(word):
            process.kill()
            process.wait(10)
    assert "Start it with mlship up" in installation.mlship("list").err
    installation.ok("up")
    assert installation.ok("deploy", str(iris)).startswith("url")
    assert [process.pid for process in installation.one("mlship.server.main")] == [replica]


def test_down_ends_replicas_whose_control_plane_was_killed(installation, iris):
    installation.ok("deploy", str(iris), "--port", "auto")
    for process in installation.one("mlship.control.main"):
        process.kill()
        process.wait(10)
    assert len(installation.one("mlship.server.main")) == 1
    assert "everything has ended" in installation.ok("down")
    _, left = psutil.wait_procs(installation.processes(), timeout=30)
    assert left == []
