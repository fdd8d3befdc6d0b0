import pytest
import typer

from mlship import errors
from mlship.cli import session


def test_a_failure_is_one_sentence_on_stderr_and_exit_code_1(capsys):
    with pytest.raises(typer.Exit) as raised, session.failures():
        raise errors.NotReady("It is not ready.", hint="Wait.")
    assert raised.value.exit_code == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: It is not ready. Wait.\n")


def test_an_interruption_is_130(capsys):
    with pytest.raises(typer.Exit) as raised, session.failures():
        raise KeyboardInterrupt
    assert raised.value.exit_code == 130


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), session.failures():
        raise ZeroDivisionError


def test_columns_are_as_wide_as_they_must_be(capsys):
    session.table(("A", "LONG"), [("wide cell", "x"), ("y", "")])
    assert capsys.readouterr().out == "A           LONG\nwide cell   x\ny\n"


def test_forms_of_a_document():
    assert session.document({"a": 1}, form="yaml") == "a: 1"
    with pytest.raises(errors.SpecError, match="text, json or yaml"):
        session.document({}, form="xml")


def test_a_gateway_that_does_not_run_is_not_ready():
    with pytest.raises(errors.NotReady):
        session.gateway_url({"gateway": {"running": False, "url": "http://x"}})
