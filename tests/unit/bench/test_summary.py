import math

from bench import facts, goals, plot, summary, tables


def sample(subject, load, number, **figures):
    return facts.Sample(subject, load, number, figures)


def rows(*samples):
    return summary.medians(samples)


def test_the_median_of_the_rounds_is_taken_and_what_is_no_number_counts_in_none():
    found = rows(*(sample("a", "x", n, rate=r, p99_ms=p) for n, (r, p) in enumerate([(1, math.nan), (9, 4), (2, 6)])))
    assert found["a", "x"].figures == {"rate": 2, "p99_ms": 5}
    assert found["a", "x"].rounds == 3


def test_the_best_configuration_is_the_highest_rate_or_the_lowest_latency():
    found = rows(sample("a", "x", 0, rate=5.0, p50_ms=1.0), sample("b", "x", 0, rate=7.0, p50_ms=2.0))
    assert summary.best(found, ["a", "b", "c"], load="x", name="rate", high=True) == summary.Best("b", 7.0)
    assert summary.best(found, ["a", "b"], load="x", name="p50_ms", high=False) == summary.Best("a", 1.0)
    assert summary.best(found, ["c"], load="x", name="rate", high=True) is None


def test_no_ratio_to_what_is_missing_or_nothing():
    assert summary.ratio(6, 2) == 3
    assert summary.ratio(6, None) is summary.ratio(None, 2) is summary.ratio(6, 0) is None


PEERS = {"pytriton": ["t1", "t2"], "fastapi": ["f"], "kserve": ["k"]}
GOALS = [
    goals.Goal("four times pytriton", "x", "rate", 4, at_least=True, against=goals.PYTRITON),
    goals.Goal("ten times the others", "x", "rate", 10, at_least=True, against=goals.EVERY_OTHER),
    goals.Goal("p99", "x", "p99_ms", 10, at_least=False),
    goals.Goal("unknown", "y", "rate", 1, at_least=True, against=goals.BEST),
]


def test_goals_are_held_against_the_best_configuration_and_never_met_unmeasured():
    found = rows(
        sample("mlship", "x", 0, rate=100.0, p99_ms=10.0),
        *(sample(name, "x", 0, rate=rate) for name, rate in (("t1", 10.0), ("t2", 25.0), ("f", 11.0), ("k", 1.0))),
    )
    outcomes = goals.check(found, PEERS, GOALS)
    met, missed, none = goals.Verdict.MET, goals.Verdict.MISSED, goals.Verdict.NOT_MEASURED
    assert [one.verdict for one in outcomes] == [met, missed, met, none]
    assert [one.other for one in outcomes] == ["t2", "f", "", ""]
    assert "| 4x | 100 / 25 | t2 | met |" in tables.outcomes(outcomes)


def test_an_open_loop_is_held_against_the_peer_whose_rate_it_was():
    found = rows(sample("mlship", "open-kserve", 0, p99_ms=2.0), sample("k", "open-kserve", 0, p99_ms=8.0))
    (outcome,) = goals.check(found, PEERS, goals.open_loop(["kserve"]))
    assert (outcome.verdict, outcome.value, outcome.other) == (goals.Verdict.MET, 0.25, "k")


def test_tables_show_what_failed_and_a_dash_for_what_was_not_measured():
    found = rows(sample("mlship", "x", 0, rate=1234.5, p50_ms=0.5, p99_ms=12.34, failed=3.0))
    what = tables.Shown(found, {"mlship": "mlship", "f": "FastAPI", "k": "K"}, frozenset({("k", "start-x")}))
    text = tables.throughput(what, {"x": "iris"})
    assert "| mlship | 1,234 (0.50 / 12.3), 3 failed |" in text
    assert "| FastAPI | - |" in text
    assert "| K | failed |" in text


def test_a_goal_is_missed_when_what_it_must_not_have_is_there():
    found = rows(sample("mlship", "mixed", 0, p99_ms=1.0, big_failed=2.0), sample("mlship", "alone", 0, p99_ms=1.0))
    (outcome,) = goals.check(found, PEERS, [one for one in goals.GOALS if one.load == "mixed"])
    assert (outcome.verdict, outcome.value, outcome.note) == (goals.Verdict.MISSED, 1.0, "2 big_failed")


def test_a_figure_is_held_against_another_of_the_same_load():
    found = rows(sample("mlship", "overload", 0, rate=95.0, capacity=100.0, after_mib=110.0, before_mib=100.0))
    outcomes = goals.check(found, PEERS, [one for one in goals.GOALS if one.load == "overload"])
    met, none = goals.Verdict.MET, goals.Verdict.NOT_MEASURED
    assert [one.verdict for one in outcomes] == [met, none, met]
    assert "0.95x | 95 / 100 | mlship | met |" in tables.outcomes(outcomes)


def test_a_run_goes_to_json_and_back():
    run = facts.Run({"cpu": "x"}, {"rounds": 1}, (sample("a", "x", 0, rate=1.0),), (facts.Failure("b", "x", 0, "no"),))
    assert facts.from_json(facts.to_json(run)) == run


def test_titles_meet_neither_each_other_nor_a_point():
    places = [(300.0 + 3 * n, 300.0 + n) for n in range(12)]
    boxes = plot.labels(places, ["a long title of a server"] * len(places))
    dots = [plot.Box(x - 5, y - 5, 10, 10) for x, y in places]
    for number, box in enumerate(boxes):
        assert not any(box.meets(other) for other in (*boxes[:number], *dots))


def test_the_picture_has_every_server_with_two_figures_and_escapes_titles():
    text = plot.svg([plot.Point("a < b", 100, 5), plot.Point("none", 0, 5)], title="t")
    assert text.count("<circle") == 1
    assert "a &lt; b" in text
