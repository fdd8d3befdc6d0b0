from __future__ import annotations

from mlship.server import statistics


def test_the_wire_form_is_tritons() -> None:
    kept = statistics.Statistics()
    kept.succeeded(rows=3, now_ms=1234, total=100, queue=10, parts=(1, 80, 9))
    kept.succeeded(rows=1, now_ms=1235, total=100, queue=0, parts=(1, 80, 9))
    kept.executed(rows=4, nanoseconds=80)
    kept.executed(rows=1, nanoseconds=10)
    kept.executed(rows=4, nanoseconds=70)
    kept.failed(50)
    assert kept.wire(name="iris", version="2") == {
        "name": "iris",
        "version": "2",
        "last_inference": 1235,
        "inference_count": 4,
        "execution_count": 3,
        "inference_stats": {
            "success": {"count": 2, "ns": 200},
            "fail": {"count": 1, "ns": 50},
            "queue": {"count": 2, "ns": 10},
            "compute_input": {"count": 2, "ns": 2},
            "compute_infer": {"count": 2, "ns": 160},
            "compute_output": {"count": 2, "ns": 18},
        },
        "batch_stats": [
            {"batch_size": 1, "compute_infer": {"count": 1, "ns": 10}},
            {"batch_size": 4, "compute_infer": {"count": 2, "ns": 150}},
        ],
    }


def test_the_sizes_kept_are_bounded() -> None:
    kept = statistics.Statistics()
    for rows in range(1, 2 * statistics.MAX_BATCH_SIZES):
        kept.executed(rows=rows, nanoseconds=1)
    kept.executed(rows=1, nanoseconds=1)
    found = kept.wire(name="m", version="1")["batch_stats"]
    assert (len(found), found[0]["compute_infer"]["count"]) == (statistics.MAX_BATCH_SIZES, 2)
