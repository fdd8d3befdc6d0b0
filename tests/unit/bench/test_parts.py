import pytest
from bench import facts, parts, tables

MACHINE = {"processor": "2 x fast", "mlship": "mlship 1", "load average before": 0.1}


def run(*samples, failures=(), **machine):
    made = tuple(facts.Sample(subject, load, 0, {"rate": rate, "p50_ms": 1.5}) for subject, load, rate in samples)
    failed = tuple(facts.Failure(subject, load, 0, "why") for subject, load in failures)
    return facts.Run({**MACHINE, **machine}, {"rounds": 2}, made, failed)


def test_each_figure_is_from_the_last_part_that_measured_it():
    whole = parts.merged([run(("a", "x", 1.0), ("b", "x", 2.0)), run(("b", "x", 3.0), ("b", "y", 4.0))])
    assert [(one.subject, one.load, one.figures["rate"], one.part) for one in whole.samples] == [
        ("a", "x", 1.0, "1"),
        ("b", "x", 3.0, "2"),
        ("b", "y", 4.0, "2"),
    ]


def test_a_failure_stands_until_a_later_part_has_the_figure():
    first = run(("b", "x", 2.0), failures=[("a", "x"), ("a", "y")])
    whole = parts.merged([first, run(("a", "x", 3.0), failures=[("b", "x")])])
    assert [(one.subject, one.load, one.part) for one in whole.failures] == [("a", "y", "1"), ("b", "x", "2")]


def test_parts_of_different_machines_or_versions_are_not_merged():
    with pytest.raises(parts.Apart, match="mlship: mlship 1 in one part, mlship 2 in another"):
        parts.merged([run(), run(mlship="mlship 2")])


def test_another_load_before_and_further_peers_are_no_difference():
    whole = parts.merged([run(), run(kserve="kserve 1", **{"load average before": 3.0})])
    assert whole.machine == {"processor": "2 x fast", "mlship": "mlship 1", "kserve": "kserve 1"}
    assert whole.choices["part 2"] == "load average before 3.0, rounds 2"


def test_one_part_is_the_run_itself_and_none_is_an_error():
    assert parts.merged([run(("a", "x", 1.0))]) == run(("a", "x", 1.0))
    with pytest.raises(ValueError, match="no part"):
        parts.merged([])


def test_the_table_says_which_part_a_figure_is_from_where_there_are_several():
    titles, loads = {"a": "A", "b": "B"}, {"x": "load"}
    whole = parts.merged([run(("a", "x", 5.0)), run(("b", "x", 3.0))])
    text = tables.throughput(tables.shown(whole, titles), loads)
    assert "| A | 5 (1.50 / -) [1] |" in text
    assert "| B | 3 (1.50 / -) [2] |" in text
    one = tables.throughput(tables.shown(run(("a", "x", 5.0)), titles), loads)
    assert "| A | 5 (1.50 / -) |" in one
