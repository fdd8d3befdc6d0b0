import pytest
from bench import loads

LOG = "1\t200\t1000\n2\t200\t2000\n3\t200\t3000\n4\t-1\t9000\n"


def test_calls_without_a_message_have_failed_though_http_says_200():
    found = loads.grpc_figures(LOG, seconds=2, good=2)
    assert (found["rate"], found["failed"], found["p50_ms"], found["max_ms"]) == (1.0, 2.0, 2.0, 3.0)


def test_messages_of_calls_that_did_not_end_count_for_nothing():
    assert loads.grpc_figures(LOG, seconds=1, good=5)["rate"] == 3.0


@pytest.mark.parametrize(("log", "good"), [("", 0), (LOG, 0)])
def test_no_message_at_all_is_a_failure(log, good):
    with pytest.raises(loads.Failed, match="0 of"):
        loads.grpc_figures(log, seconds=1, good=good)
