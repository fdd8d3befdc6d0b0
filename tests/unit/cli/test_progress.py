import io

from mlship.cli import progress
from mlship.storage import progress as transfers


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_line_is_overwritten_and_vanishes():
    stream = Terminal()
    with progress.Line(stream) as line:
        line.show("one")
        line.show("one")
        line.show("two")
    assert stream.getvalue() == "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K"


def test_elsewhere_each_new_state_is_a_line():
    stream = io.StringIO()
    with progress.Line(stream) as line:
        for text in ("Fetching: 1 of 3", "Fetching: 2 of 3", "Loading: model"):
            line.show(text)
    assert stream.getvalue() == "waiting  Fetching: 1 of 3\nwaiting  Loading: model\n"


def test_a_transfer_of_known_and_unknown_size():
    half = transfers.Progress(done_bytes=512, total_bytes=1024, rate=2048.0, phase="download")
    assert progress.transfer(half).startswith("download: [##########          ]  50% of")
    some = transfers.Progress(done_bytes=512, total_bytes=None, rate=0.0, phase="copy")
    assert progress.transfer(some).startswith("copy: 512")


def test_a_phase_is_the_ready_condition_in_words():
    waiting = {"type": "Ready", "status": "False", "reason": "Starting", "message": "the model is being loaded."}
    assert progress.phase({"status": {"conditions": [waiting]}}) == "Starting: the model is being loaded."
    assert progress.phase({}) == "Pending: waiting for the control plane"


def test_a_small_transfer_is_not_worth_a_line():
    stream = io.StringIO()
    with progress.Line(stream) as line:
        line.transfer(transfers.Progress(done_bytes=10, total_bytes=1000, rate=0.0, phase="copy"))
        assert stream.getvalue() == ""
        line.transfer(transfers.Progress(done_bytes=10, total_bytes=1 << 30, rate=0.0, phase="copy"))
    assert "copy" in stream.getvalue()
