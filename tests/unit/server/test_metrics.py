from __future__ import annotations

from mlship.server import metrics

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def filled() -> metrics.Metrics:
    made = metrics.Metrics(lambda: [("iris", 3, 1)])
    made.begun("v2")
    made.answered(model="iris", protocol="v2", code="200", seconds=0.02, received=100, sent=50, trace_id=TRACE)
    made.begun("v2")
    made.inferred("iris", rows=4)
    made.executed("iris", 0.01, requests=2, rows=4)
    made.shed("iris")
    made.expired("iris")
    made.loaded("iris", 1.5, ok=True)
    return made


def test_what_happened_is_exposed() -> None:
    body, content_type = filled().render("")
    assert content_type.startswith("text/plain")
    lines = body.decode().splitlines()
    for line in (
        'mlship_requests_total{code="200",model="iris",protocol="v2"} 1.0',
        'mlship_requests_in_flight{protocol="v2"} 1.0',
        'mlship_queue_depth{model="iris"} 3.0',
        'mlship_inferences_running{model="iris"} 1.0',
        'mlship_inference_rows_total{model="iris"} 4.0',
        'mlship_inference_duration_seconds_count{model="iris"} 1.0',
        'mlship_batch_requests_bucket{le="1.0",model="iris"} 0.0',
        'mlship_batch_requests_sum{model="iris"} 2.0',
        'mlship_batch_rows_sum{model="iris"} 4.0',
        'mlship_requests_shed_total{model="iris"} 1.0',
        'mlship_requests_expired_total{model="iris"} 1.0',
        'mlship_model_load_duration_seconds_count{model="iris",ok="true"} 1.0',
        'mlship_request_duration_seconds_bucket{le="0.025",model="iris",protocol="v2"} 1.0',
        'mlship_request_bytes_sum{model="iris",protocol="v2"} 100.0',
        'mlship_response_bytes_sum{model="iris",protocol="v2"} 50.0',
    ):
        assert line in lines


def test_the_trace_is_the_exemplar_of_the_openmetrics_form() -> None:
    body, content_type = filled().render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert f'# {{trace_id="{TRACE}"}}' in body.decode()


def test_who_answers_is_told() -> None:
    kept = metrics.Metrics()
    for used, said in ((False, "0.0"), (True, "1.0")):
        kept.compiled("iris", used)
        assert f'mlship_model_compiled{{model="iris"}} {said}' in kept.render("")[0].decode()


def test_nothing_is_kept_of_models_that_are_gone() -> None:
    here = {"iris", "wine"}
    kept = metrics.Metrics(knows=here.__contains__)

    def answer(model: str) -> None:
        kept.answered(model=model, protocol="v2", code="200", seconds=0.1, received=1, sent=1, trace_id="")
        kept.inferred(model, rows=1)
        kept.executed(model, 0.1, requests=1, rows=1)
        kept.loaded(model, 0.1, ok=True)
        kept.compiled(model, used=False)

    def rendered() -> str:
        return kept.render("text/plain")[0].decode()

    for name in ("iris", "wine", metrics.UNKNOWN_MODEL):
        kept.begun("v2")
        kept.begun("v2")
        answer(name)
    assert 'model="iris"' in rendered()
    here.remove("iris")
    assert 'model="iris"' not in rendered()
    assert 'mlship_requests_total{code="200",model="wine",protocol="v2"} 1.0' in rendered()
    assert 'mlship_requests_total{code="200",model="",protocol="v2"} 1.0' in rendered()
    # One of that name that comes later counts from zero, and is seen.
    here.add("iris")
    answer("iris")
    assert 'mlship_requests_total{code="200",model="iris",protocol="v2"} 1.0' in rendered()
