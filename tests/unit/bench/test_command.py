import os

import pytest
from bench import __main__ as command
from bench import facts, publish, rounds, subjects


def choices(*arguments):
    return command._choices(command._parser().parse_args(arguments), subjects.SUBJECTS)


def test_words_that_mean_nothing_end_the_command_and_say_what_is_known():
    with pytest.raises(SystemExit, match=r"unknown: iris-2\. Known: .*iris-64.*overload"):
        choices("--loads", "iris-2")
    with pytest.raises(SystemExit, match=r"unknown: triton\. Known: .*pytriton"):
        command._subjects(["triton"], thorough=False)
    with pytest.raises(SystemExit, match="no run in"):
        command.main(["--report", "never-taken"])


def test_the_default_is_two_rounds_of_five_seconds_and_flags_win_over_quick():
    default = choices()
    assert (default.rounds, default.seconds, default.warm_seconds) == (2, 5.0, 1.0)
    quick = choices("--quick", "--seconds", "3", "--loads", "iris", "mixed")
    assert (quick.rounds, quick.seconds) == (1, 3.0)
    assert [quick.wanted(load) for load in ("iris-1", "iris-grpc-64", "mixed", "forest-1")] == [True, True, True, False]


def test_a_busy_machine_is_warned_of():
    assert "more than 0.5" in command._warning(0.6 * os.cpu_count())
    assert command._warning(0.4 * os.cpu_count()) == ""


def test_a_part_of_another_version_is_refused_before_anything_is_measured(tmp_path):
    publish.keep(facts.Run({"processor": "another"}, {}), tmp_path, number=1)
    with pytest.raises(SystemExit, match="processor"):
        command._measured(rounds.Choices(()), [], tmp_path, 0.0)


def test_what_was_measured_is_kept_when_the_harness_itself_fails(tmp_path, monkeypatch):
    def fails(self):
        self.samples.append(facts.Sample("mlship", "iris-1", 0, {"rate": 1.0}))
        raise AssertionError("a fault of the harness")

    monkeypatch.setattr(rounds.Rounds, "run", fails)
    monkeypatch.setattr(command.models, "MODELS", {})
    with pytest.raises(AssertionError):
        command._measured(rounds.Choices(()), [], tmp_path, 0.0)
    (part,) = publish.known_parts(tmp_path)
    assert part.samples[0].subject == "mlship"
