"""Bad input of every kind: the right status, a sentence a person can act on, and nothing half-made behind it.

One table for the command line (exit code 1 and words of the sentence), one for requests (HTTP status and words).
"""

import contextlib
import gzip
import http.client
import http.server
import io
import json
import pathlib
import pickle
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import urllib.parse
import zipfile

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ISVC = "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: iris}\n"


def model_yaml(uri: str, more: str = "") -> str:
    return (
        f"{ISVC}spec:\n  predictor:\n{more}    model:\n      modelFormat: {{name: sklearn}}\n      storageUri: {uri}\n"
    )


# --- what is wrong with files: name -> (how to make it, extra arguments, words of the error) ---


def _zip_slip(folder: pathlib.Path) -> pathlib.Path:
    path = folder / "slip.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../evil.joblib", b"x")
    return path


def _tar_slip(folder: pathlib.Path) -> pathlib.Path:
    path = folder / "slip.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("/etc/evil.joblib")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    return path


def _truncated(folder: pathlib.Path) -> pathlib.Path:
    rows, labels = load_iris(return_X_y=True)
    whole = pickle.dumps(LogisticRegression(max_iter=500).fit(rows, labels))
    return _bytes(folder, "cut.pkl", whole[: len(whole) // 2])


def _bytes(folder: pathlib.Path, name: str, content: bytes) -> pathlib.Path:
    path = folder / name
    path.write_bytes(content)
    return path


def _two_models(folder: pathlib.Path) -> pathlib.Path:
    rows, labels = load_iris(return_X_y=True)
    place = folder / "two"
    place.mkdir()
    for name in ("a.joblib", "b.joblib"):
        joblib.dump(LogisticRegression(max_iter=500).fit(rows, labels), place / name)
    return place


def _folder(folder: pathlib.Path) -> pathlib.Path:
    place = folder / "nothing"
    place.mkdir()
    return place


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
FILES = {
    "a missing file": (lambda f: f / "gone.pkl", [], ["gone.pkl", "not"]),
    "an empty file": (lambda f: _bytes(f, "empty.pkl", b""), [], ["empty"]),
    "an empty folder": (_folder, [], ["nothing"]),
    "a truncated pickle": (_truncated, [], ["cut.pkl"]),
    "a pickled dictionary": (lambda f: _bytes(f, "dict.pkl", pickle.dumps({"a": 1})), [], ["dict"]),
    "a Git LFS pointer": (lambda f: _bytes(f, "lfs.pkl", LFS), [], ["git lfs"]),
    "an HTML page": (lambda f: _bytes(f, "page.pkl", b"<!DOCTYPE html><html><body>404</body></html>"), [], ["HTML"]),
    "noise": (lambda f: _bytes(f, "noise.bin", bytes(range(1, 200))), [], ["noise.bin"]),
    "two models in a folder": (_two_models, [], ["a.joblib", "b.joblib"]),
    "a wrong format": (None, ["--format", "xgboost"], ["xgboost", "sklearn"]),
    "an unknown format": (None, ["--format", "skleran"], ["skleran", "sklearn"]),
    "a name that is none": (None, ["--name", "Iris_1"], ["Iris_1"]),
    "an option without a value": (None, ["--option", "trusted"], ["KEY=VALUE"]),
    "an environment without a value": (None, ["--env", "A"], ["KEY=VALUE"]),
    "a scheme that is not served": (lambda f: "s3://bucket/model.pkl", [], ["s3", "file"]),
    "a scheme that does not exist": (lambda f: "htpps://host/model.pkl", [], ["htpps", "https"]),
    "a volume that is not there": (lambda f: "pvc://models/iris.joblib", [], ["models"]),
    "a checksum that is none": (lambda f: "http://127.0.0.1:1/m.pkl#sha256=12", [], ["sha256"]),
    "a server that is not there": (lambda f: f"http://127.0.0.1:{_closed_port()}/m.pkl", [], ["127.0.0.1"]),
}


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("case", FILES)
def test_a_bad_model_is_refused_before_anything_starts(installation, iris, tmp_path, case):
    make, extra, words = FILES[case]
    target = str(make(tmp_path)) if make else str(iris)
    done = installation.mlship("deploy", target, "--port", "auto", *extra)
    assert done.code == 1, (done.out, done.err)
    assert done.err.count("error: ") == 1
    assert "Traceback" not in done.err
    missing = [word for word in words if word.lower() not in done.err.lower()]
    assert not missing, f"{missing} not in: {done.err}"
    assert installation.processes() == []
    assert not list((installation.where.root / "cache").rglob("*.pkl"))


# --- what is wrong with documents ---

DOCUMENTS = {
    "broken YAML": ("kind: [", ["stdin:2", "not YAML"]),
    "a tab": (ISVC + "\tspec: {}\n", ["stdin:4"]),
    "a list": ("- 1\n", ["stdin:1"]),
    "nothing": ("", ["no document"]),
    "an unknown kind": (ISVC.replace("InferenceService", "InferenceServise"), ["InferenceService"]),
    "an unknown version": (ISVC.replace("v1beta1", "v1beta9"), ["v1beta1"]),
    "an unknown field": (model_yaml("file:///m", "    minReplica: 1\n"), ["minReplica", "minReplicas", "stdin:6"]),
    "a field twice": (model_yaml("file:///m", "    minReplicas: 1\n    minReplicas: 2\n"), ["minReplicas", "stdin:7"]),
    "a number that is a word": (model_yaml("file:///m", "    minReplicas: two\n"), ["minReplicas", "two"]),
    "no model": (ISVC + "spec:\n  predictor: {}\n", ["predictor"]),
    "two models": (model_yaml("file:///m", "    sklearn: {storageUri: file:///m}\n"), ["predictor"]),
    "a bad name": (model_yaml("file:///m").replace("name: iris", "name: Iris"), ["Iris", "metadata.name"]),
    "a canary that is not honoured": (model_yaml("file:///m", "    canaryTrafficPercent: 9\n"), ["canaryTraffic"]),
    "an unknown model format": (model_yaml("file:///m").replace("sklearn", "sklaern"), ["sklaern", "sklearn"]),
    "a runtime that is not there": (
        model_yaml("file:///m").replace("storageUri", "runtime: nobody\n      storageUri"), ["nobody"],
    ),
    "an image without a command": (
        ISVC + "spec:\n  predictor:\n    containers:\n    - {name: c, image: me/model:1}\n", ["command"],
    ),
    "a storage scheme that is not honoured": (model_yaml("gs://bucket/m"), ["gs://", "storageUri"]),
    "a GPU": (
        model_yaml("file:///m").replace("storageUri", "resources: {limits: {nvidia.com/gpu: 1}}\n      storageUri"),
        ["nvidia.com/gpu"],
    ),
}  # fmt: skip


def test_bad_documents_are_refused_and_leave_no_object(installation):
    installation.ok("up", "--port", "auto")
    wrong = []
    for case, (text, words) in DOCUMENTS.items():
        done = installation.mlship("apply", "-f", "-", stdin=text)
        missing = [word for word in words if word.lower() not in done.err.lower()]
        if done.code != 1 or "Traceback" in done.err or missing:
            wrong.append(f"{case}: exit {done.code}, {missing} not in: {done.err}")
    assert not wrong, "\n".join(wrong)
    assert installation.mlship("list").out == ""
    good_and_bad = model_yaml("file:///m") + "---\n" + model_yaml("file:///m", "    minReplica: 1\n")
    assert installation.mlship("apply", "-f", "-", stdin=good_and_bad).code == 1
    assert installation.mlship("list").out == ""
    assert installation.mlship("apply", "-f", "gone.yaml").code == 1
    assert "gone.yaml" in installation.mlship("apply", "-f", "gone.yaml").err


# --- what is wrong with requests ---


class Ask:
    """One request to the gateway's iris."""

    def __init__(self, url: str) -> None:
        self.address = urllib.parse.urlsplit(url)

    def __call__(self, path: str, body: bytes = b"", headers: dict[str, str] | None = None, method: str = "POST"):
        connection = http.client.HTTPConnection(self.address.hostname, self.address.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()


def v2(datatype="FP64", shape=(1, 4), data=(5.1, 3.5, 1.4, 0.2), name="input-0", **more) -> bytes:
    tensor = {"name": name, "datatype": datatype, "shape": list(shape), "data": list(data)}
    return json.dumps({"inputs": [tensor], **more}).encode()


def binary(size: int, header: int | None = None) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(
        {"inputs": [{"name": "input-0", "datatype": "FP64", "shape": [1, 4], "parameters": {"binary_data_size": size}}]}
    ).encode()
    length = str(len(head) if header is None else header)
    return head + struct.pack("<4d", 1, 2, 3, 4), {"Inference-Header-Content-Length": length}


INFER = "/v2/models/iris/infer"
PREDICT = "/v1/models/iris:predict"
REQUESTS = {
    "no body": (INFER, b"", {}, 400, ["body"]),
    "broken JSON": (INFER, b'{"inputs": [', {}, 400, ["JSON"]),
    "NaN in JSON": (INFER, v2().replace(b"5.1", b"NaN"), {}, 400, ["NaN"]),
    "no inputs": (INFER, b"{}", {}, 400, ["inputs"]),
    "a wrong datatype": (INFER, v2("BYTES", data=["a", "b", "c", "d"]), {}, 400, ["strings", "FP64"]),
    "an unknown datatype": (INFER, v2("FLOAT"), {}, 400, ["FLOAT"]),
    "a wrong shape": (INFER, v2(shape=[1, 3], data=[1, 2, 3]), {}, 400, ["[-1,4]", "[1,3]"]),
    "data that does not fill the shape": (INFER, v2(data=[1, 2, 3]), {}, 400, ["4", "3"]),
    "a negative dimension": (INFER, v2(shape=[-1, 4]), {}, 400, ["-1"]),
    "a word among the numbers": (INFER, v2(data=[1, 2, "x", 4]), {}, 400, ["data"]),
    "an unknown output": (INFER, v2(outputs=[{"name": "probabilities"}]), {}, 400, ["probabilities", "predict_proba"]),
    "an unknown model": ("/v2/models/irsi/infer", v2(), {}, 404, ["iris"]),
    "an unknown version": ("/v2/models/iris/versions/9/infer", v2(), {}, 404, ["9"]),
    "a binary size that is wrong": (INFER, *binary(40), 400, ["40"]),
    "a binary header longer than the body": (INFER, *binary(32, header=9999), 400, ["9999"]),
    "a binary header that is no number": (
        INFER, binary(32)[0], {"Inference-Header-Content-Length": "abc"}, 400, ["Inference-Header-Content-Length"],
    ),
    "a body that is not gzip": (INFER, v2(), {"Content-Encoding": "gzip"}, 400, ["gzip"]),
    "an unknown encoding": (INFER, v2(), {"Content-Encoding": "zstd"}, 415, ["zstd"]),
    "V1 without rows": (PREDICT, b'{"instances": []}', {}, 400, ["instances"]),
    "V1 with ragged rows": (PREDICT, b'{"instances": [[1,2,3,4],[1,2]]}', {}, 400, ["input-0"]),
    "V1 with a wrong key": (PREDICT, b'{"instance": [[1,2,3,4]]}', {}, 400, ["instances"]),
    "an explainer that is not there": ("/v1/models/iris:explain", b"{}", {}, 501, ["explanations"]),
    "an unknown path": ("/v3/models", b"", {}, 404, ["/v3/models"]),
    "MLflow with a wrong column count": (
        "/invocations", b'{"dataframe_split": {"columns": ["a"], "data": [[1]]}}', {"Content-Type": "application/json"},
        400, ["a"],
    ),
    "MLflow with a wrong content type": ("/invocations", b"x", {"Content-Type": "image/png"}, 415, ["image/png"]),
}  # fmt: skip


def test_bad_requests_get_their_status_and_a_sentence(installation, iris):
    installation.ok("deploy", str(iris), "--port", "auto")
    ask = Ask(installation.url)
    wrong = []
    for case, (path, body, headers, status, words) in REQUESTS.items():
        got, answer = ask(path, body, headers)
        try:
            sentence = json.loads(answer)["error"]
        except (ValueError, KeyError):
            sentence = f"(not in the error form) {answer[:200]!r}"
        missing = [word for word in words if word not in sentence]
        if got != status or missing or sentence.startswith("("):
            wrong.append(f"{case}: {got} instead of {status}, {missing} not in: {sentence}")
    got, answer = ask(INFER, method="PUT")
    if got != 405:
        wrong.append(f"PUT: {got} {answer!r}")
    got, answer = ask(INFER, gzip.compress(b'{"inputs": "' + b"x" * 300_000_000 + b'"}'), {"Content-Encoding": "gzip"})
    if got != 413 or b"max-body-bytes" not in answer:
        wrong.append(f"a gzip bomb: {got} {answer!r}")
    negative = b"POST /v2/models/iris/infer HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"
    if (bad := raw(ask.address, negative)) != 400:
        wrong.append(f"a negative content length: {bad}")
    assert not wrong, "\n".join(wrong)
    assert ask(INFER, v2())[0] == 200


def raw(address, text: bytes) -> int:
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(text)
        return int(connection.recv(4096).split()[1])


def test_a_body_over_the_limit_is_refused_and_the_setting_named(installation, iris):
    document = model_yaml(f"file://{iris}").replace(
        "storageUri", 'args: ["--max-body-bytes", "2000"]\n      storageUri'
    )
    installation.ok("up", "--port", "auto")
    installation.ok("apply", "--wait", "60", "-f", "-", stdin=document)
    status, answer = Ask(installation.url)(INFER, v2(shape=[300, 4], data=[1.5] * 1200))
    assert (status, "--max-body-bytes" in json.loads(answer)["error"]) == (413, True)


# --- what is wrong with the machine ---


def test_a_taken_port_names_who_holds_it(installation, iris):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        done = installation.mlship("deploy", str(iris), "--port", port)
    assert done.code == 1
    assert f"Port {port}" in done.err
    assert "pid" in done.err
    assert "--port auto" in done.err
    assert installation.processes() == []


def test_a_port_that_is_none(installation, iris):
    done = installation.mlship("deploy", str(iris), "--port", "eighty")
    assert done.code == 1
    assert "eighty" in done.err


@pytest.mark.parametrize("make", [_zip_slip, _tar_slip])
def test_an_archive_that_escapes_its_folder(installation, tmp_path, make):
    path = make(tmp_path)
    done = installation.mlship("deploy", path.as_uri(), "--port", "auto")
    assert done.code == 1
    assert "evil.joblib" in done.err
    assert not list(installation.where.root.parent.rglob("evil.joblib"))
    assert not pathlib.Path("/etc/evil.joblib").exists()


class Serve(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/private.joblib":
            self.send_error(403)
        else:
            super().do_GET()


def test_downloads_that_fail_say_why(installation, iris):
    def handler(*arguments):
        return Serve(*arguments, directory=str(iris.parent))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        cases = {
            "/gone.joblib": ["404"],
            "/private.joblib": ["403"],
            "/iris.joblib#sha256=" + "0" * 64: ["0" * 64],
        }
        for path, words in cases.items():
            done = installation.mlship("deploy", base + path, "--port", "auto")
            assert done.code == 1
            assert all(word in done.err for word in words), done.err
        assert installation.processes() == []
        good = installation.mlship("deploy", base + "/iris.joblib", "--port", "auto")
        assert good.code == 0, good.err
        server.shutdown()


def test_a_full_disk_in_the_cache(installation, iris):
    """The cache on a tiny file system of its own, in a mount namespace of its own."""
    program = (
        "set -e; mkdir -p {root}/cache; mount -t tmpfs -o size=64k tmpfs {root}/cache; "
        "exec {python} -m mlship.cli deploy file://{model} --port auto"
    )
    with tempfile.NamedTemporaryFile(suffix=".joblib") as big:
        big.write(iris.read_bytes())
        rows, labels = load_iris(return_X_y=True)
        joblib.dump([LogisticRegression(max_iter=500).fit(rows, labels), bytes(200_000)], big.name)
        script = program.format(root=installation.where.root, python=sys.executable, model=big.name)
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
            pytest.skip("mount namespaces are not allowed here: no tiny disk can be made")
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, env=installation.environ, timeout=60
        )
    assert done.returncode == 1
    assert "space" in done.stderr.lower() or "full" in done.stderr.lower(), done.stderr
    assert installation.processes() == []


def test_a_command_without_a_control_plane_says_how_to_start_one(installation):
    done = installation.mlship("list")
    assert done.code == 1
    assert "mlship up" in done.err
