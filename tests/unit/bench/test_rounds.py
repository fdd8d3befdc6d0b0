"""The harness against a real server program of a few lines, with loads of a second."""

import shutil
import sys

import pytest
from bench import facts, models, publish, rounds, subjects

FAKE = """
import http.server, json, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["rows"]
        body = json.dumps({"predictions": [int(sys.argv[2])] * len(rows)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def fake(tmp_path, label):
    (tmp_path / "fake.py").write_text(FAKE)
    command = (sys.executable, str(tmp_path / "fake.py"), "{port}", str(label))
    return subjects.Subject("fake", "fake", "Fake", command, path="/", dialect="rows")


@pytest.fixture
def iris(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "FOLDER", tmp_path / "models")
    return models.iris()


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_round_measures_a_server_and_ends_it(tmp_path, iris):
    choices = rounds.Choices((fake(tmp_path, 0),), 1, 1.0, 1.0, ("iris-1",), steady=False)
    measured = rounds.Rounds(choices, {"iris": iris}, say=lambda _: None)
    measured.run()
    assert measured.failures == []
    assert [one.load for one in measured.samples] == ["cold-iris", "iris-1"]
    assert measured.samples[1].figures["rate"] > 0
    assert measured.samples[0].figures["pss_mib"] > 0
    text = publish.report(facts.Run({}, {}, tuple(measured.samples)), choices.subjects)
    assert "| Fake | " in text


def test_a_server_with_wrong_labels_is_not_measured(tmp_path, iris):
    choices = rounds.Choices((fake(tmp_path, 2),), 1, 1.0, 1.0, ("iris-1",), steady=False)
    measured = rounds.Rounds(choices, {"iris": iris}, say=lambda _: None)
    measured.run()
    assert measured.samples == []
    assert "wrong labels" in measured.failures[0].reason
