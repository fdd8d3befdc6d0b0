"""The harness against real server programs of a few lines, with loads of a second."""

import shutil
import sys

import pytest
from bench import facts, models, publish, rounds, subjects

FAKE = """
import http.server, json, os, sys

left = int(sys.argv[3])

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        global left
        left -= 1
        if not left:
            print("the fake has had enough", flush=True)
            os._exit(3)
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


def fake(tmp_path, label=0, *, name="fake", answers=0):
    """A server that always gives this label, and ends by itself with its ``answers``-th request (0: never)."""
    (tmp_path / "fake.py").write_text(FAKE)
    command = (sys.executable, str(tmp_path / "fake.py"), "{port}", str(label), str(answers))
    return subjects.Subject(name, "fake", name.title(), command, path="/", dialect="rows")


@pytest.fixture
def iris(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "FOLDER", tmp_path / "models")
    return models.iris()


def measured(chosen, iris, *loads):
    choices = rounds.Choices(tuple(chosen), 1, 1.0, 1.0, loads)
    found = rounds.Rounds(choices, {"iris": iris}, say=lambda _: None)
    found.run()
    return found


needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@needs_wrk
def test_a_round_measures_a_server_and_ends_it(tmp_path, iris):
    found = measured([fake(tmp_path)], iris, "iris-1")
    assert found.failures == []
    assert [one.load for one in found.samples] == ["cold-iris", "iris-1"]
    assert found.samples[1].figures["rate"] > 0
    assert found.samples[0].figures["pss_mib"] > 0
    text = publish.report(facts.Run({}, {}, tuple(found.samples)), [fake(tmp_path)])
    assert "| Fake | " in text


def test_a_server_with_wrong_labels_is_not_measured(tmp_path, iris):
    found = measured([fake(tmp_path, 2)], iris, "iris-1")
    assert found.samples == []
    assert "wrong labels" in found.failures[0].reason


@needs_wrk
def test_a_server_that_dies_under_load_costs_its_own_row_and_the_table_says_so(tmp_path, iris):
    both = [fake(tmp_path, name="mortal", answers=30), fake(tmp_path)]
    found = measured(both, iris, "iris-1", "iris-64")
    assert {(one.subject, one.load) for one in found.samples} >= {("fake", "iris-1"), ("fake", "iris-64")}
    assert {one.subject for one in found.failures} == {"mortal"}
    assert {one.load for one in found.failures} == {"iris-1", "iris-64"}
    assert "ended by itself" in found.failures[0].reason
    assert "the fake has had enough" in found.failures[0].reason
    text = publish.report(facts.Run({}, {}, tuple(found.samples), tuple(found.failures)), both)
    row = next(line for line in text.splitlines() if line.startswith("| Mortal |"))
    assert row.startswith("| Mortal | failed | failed | - |")
    assert "- mortal, iris-1: `" in text


@needs_wrk
def test_open_loops_follow_the_capacity_of_an_earlier_part(tmp_path, iris):
    chosen = (fake(tmp_path),)
    known = [facts.Sample("fake", "iris-64", 0, {"rate": 50.0})]
    found = rounds.Rounds(
        rounds.Choices(chosen, 1, 1.0, 1.0, ("open",)), {"iris": iris}, known=known, say=lambda _: None
    )
    found.run()
    assert found.failures == []
    (sample,) = found.samples
    assert (sample.load, sample.figures["offered"], sample.figures["failed"]) == ("open-fake", 35.0, 0.0)


@needs_wrk
def test_small_requests_beside_big_ones_have_both_figures(tmp_path, iris, monkeypatch):
    # Big enough for its own body and labels, small enough for a test; all labels are those of the first rows.
    monkeypatch.setattr(rounds, "BIG_ROWS", 50)
    known = [facts.Sample("fake", "iris-64", 0, {"rate": 50.0})]
    choices = rounds.Choices((fake(tmp_path),), 1, 1.0, 1.0, ("mixed",))
    found = rounds.Rounds(choices, {"iris": iris}, known=known, say=lambda _: None)
    found.run()
    assert found.failures == []
    figures = {one.load: one.figures for one in found.samples}
    assert set(figures) == {"alone", "mixed"}
    assert figures["mixed"]["big_failed"] == 0
