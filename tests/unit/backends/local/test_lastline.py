import json

import pytest

from mlship.backends.local import lastline


def line(**fields):
    return json.dumps(fields)


TRACEBACK = ["Traceback (most recent call last):", '  File "x.py", line 1', "    boom()", "ValueError: no such column"]
GROUP = [
    "  + Exception Group Traceback (most recent call last):",
    '  |   File "x.py", line 1',
    "  | ExceptionGroup: two (2 sub-exceptions)",
    "  +-+---------------- 1 ----------------",
    "    | KeyError: 'a'",
    "    +------------------------------------",
]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], ""),
        (["", "  "], ""),
        (["one", "two", ""], "two"),
        ([*TRACEBACK, "", "bye"], "ValueError: no such column"),
        (GROUP, "ExceptionGroup: two (2 sub-exceptions)"),
        ([line(level="info", event="up"), "plain"], "plain"),
        ([line(level="error", event="cannot load", error="bad magic", hint="Save it again."), *TRACEBACK],
         "cannot load: bad magic Save it again."),
        ([line(level="error", event="first"), line(level="critical", message="second"), "x"], "second"),
        ([line(level="ERROR", msg="failed", exception="\n".join(TRACEBACK))], "failed: ValueError: no such column"),
        ([line(level="error", event="no: bad", error="bad")], "no: bad"),
        ([line(level="error", other=1), "{broken", "[1]"], "[1]"),
        (["x" * 1000], "x" * 297 + "..."),
    ],
)  # fmt: skip
def test_the_telling_line(lines, found):
    assert lastline.find(lines) == found


def test_only_this_run_counts_and_secrets_do_not_show(tmp_path):
    log = tmp_path / "log"
    assert lastline.of(log) == ""
    log.write_text("ValueError: old\n")
    since = log.stat().st_size
    assert lastline.of(log, since=since) == ""
    with log.open("a") as file:
        file.write("\x1b[31mwrong password hunter22\x1b[0m\n")
    assert lastline.of(log, since=since, secrets=["hunter22"]) == "wrong password <redacted>"
    log.write_text("rotated\n")
    assert lastline.of(log, since=since) == "rotated"


def test_of_a_large_log_only_the_end_is_read(tmp_path):
    log = tmp_path / "log"
    log.write_text("Traceback (most recent call last):\nValueError: early\n" + "x\n" * lastline.LOOKED_AT)
    assert lastline.of(log) == "x"
