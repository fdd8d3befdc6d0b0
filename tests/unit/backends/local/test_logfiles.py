import os
import stat

import pytest

from mlship.backends.local import logfiles


def numbers(first, last):
    return "".join(f"{n}\n" for n in range(first, last))


def test_a_small_log_is_left_alone_and_a_missing_one_is_fine(tmp_path):
    log = tmp_path / "a.log"
    assert not logfiles.rotate(log)
    log.write_text("x")
    assert not logfiles.rotate(log, largest=1)


def test_rotation_keeps_so_many_and_writers_go_on_at_the_start(tmp_path):
    log = tmp_path / "a.log"
    writer = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        for turn in range(5):
            os.write(writer, f"turn {turn}\n".encode())
            assert logfiles.rotate(log, largest=3, kept=2)
            assert log.stat().st_size == 0
    finally:
        os.close(writer)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1", "a.log.2"]
    assert logfiles.tail(log, 10) == [" 3", " 4"]
    assert stat.S_IMODE((tmp_path / "a.log.1").stat().st_mode) == 0o600


def test_of_a_log_far_too_large_the_end_is_kept(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("0123456789")
    assert logfiles.rotate(log, largest=4)
    assert (tmp_path / "a.log.1").read_text() == "6789"


@pytest.mark.parametrize("count", [0, 1, 7, 100_000, 300_000])
def test_the_tail_is_the_last_lines(tmp_path, count):
    log = tmp_path / "a.log"
    log.write_text(numbers(0, 200_000))
    expected = [str(n) for n in range(200_000)][-count:] if count else []
    assert logfiles.tail(log, count) == expected


def test_the_tail_reaches_into_what_was_rotated_out(tmp_path):
    (tmp_path / "a.log").write_text("5\n6")
    (tmp_path / "a.log.1").write_text("3\n4\n")
    (tmp_path / "a.log.2").write_text("1\n2\n")
    assert logfiles.tail(tmp_path / "a.log", 5) == ["2", "3", "4", "5", "6"]
    assert logfiles.tail(tmp_path / "b.log", 5) == []


def test_a_follower_goes_on_across_rotation_and_waits_for_the_newline(tmp_path):
    log = tmp_path / "a.log"
    follower = logfiles.Follower(log)
    assert follower.lines() == []
    log.write_text("one\ntw")
    assert follower.lines() == ["one"]
    with log.open("a") as file:
        file.write("o\r\n")
    assert follower.lines() == ["two"]
    assert follower.lines() == []
    logfiles.rotate(log, largest=1)
    with log.open("a") as file:
        file.write("new\n")
    assert follower.lines() == ["new"]


def test_reading_on_behind_the_tail_loses_and_repeats_nothing(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("one\ntwo\nthr")
    lines, follower = logfiles.open_at_end(log, 1, whole=True)
    assert lines == ["two"]
    with log.open("a") as file:
        file.write("ee\n")
    assert follower.lines() == ["three"]
    assert logfiles.open_at_end(log, 2, whole=False)[0] == ["two", "three"]
    log.write_text("")
    assert logfiles.open_at_end(log, 2, whole=True)[0] == []


def test_lines_are_cleaned(tmp_path):
    assert logfiles.clean("\x1b[1;31mred\x1b[0m \x1b]0;title\x07x\ty\x00") == "red x\ty"
    assert logfiles.clean("key=hunter22 a=abc", ["hunter22", "abc"]) == "key=<redacted> a=abc"
    long = logfiles.clean("x" * 5000)
    assert long == "x" * 4000 + "... (5000 characters)"


def test_logs_of_the_gone_are_pruned_the_oldest_first(tmp_path):
    for age, name in enumerate(["a-0", "b-0", "c-0", "d-0"]):
        path = tmp_path / f"{name}.log"
        path.write_text("x")
        path.with_name(f"{name}.log.1").write_text("x")
        os.utime(path, (1000 - age, 1000 - age))
    logfiles.prune(tmp_path, living=[tmp_path / "d-0.log"], keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-0.log", "a-0.log.1", "d-0.log", "d-0.log.1"]
