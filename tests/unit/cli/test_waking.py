import io
import threading

from mlship import errors
from mlship.cli import waking


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(stream, answers, *, quiet=0.0):
    """What is on ``stream`` when as many questions were asked as there are answers; an exception is raised."""
    asked, enough = iter(answers), threading.Event()

    def ask():
        try:
            answer = next(asked)
        except StopIteration:
            enough.set()
            return None
        if isinstance(answer, Exception):
            raise answer
        return answer

    with waking.told("iris", ask, stream=stream, quiet=quiet, every=0.001):
        assert enough.wait(30)
    return stream.getvalue()


def at(doing, seconds=0.0):
    return {"doing": doing, "seconds": seconds}


def test_on_a_terminal_the_line_is_overwritten_and_gone_before_the_answer():
    said = told(Terminal(), [at("starting a process", 0.31), at("loading the model", 0.5)])
    assert said.split("\r\x1b[K") == [
        "", "iris is waking: starting a process (0.3 s)", "iris is waking: loading the model (0.5 s)", "",
    ]  # fmt: skip


def test_elsewhere_each_activity_is_one_line():
    said = told(io.StringIO(), [at("fetching the model, 1 MB of 9 MB"), at("fetching the model, 5 MB of 9 MB"),
                                at("loading the model", 0.3), at("loading the model", 0.5)])  # fmt: skip
    assert said.splitlines() == [
        "waiting  iris is waking: fetching the model, 1 MB of 9 MB",
        "waiting  iris is waking: loading the model (0.3 s)",
    ]


def test_a_service_that_answers_and_a_control_plane_that_does_not_print_nothing():
    assert told(io.StringIO(), [None, errors.BackendError("no"), None]) == ""


def test_an_answer_that_comes_at_once_asks_nobody():
    stream = io.StringIO()
    with waking.told("iris", lambda: at("x"), stream=stream, quiet=60.0):
        pass
    assert stream.getvalue() == ""
