"""Why, logs, plan, status and shutdown over the real socket."""

from __future__ import annotations

import asyncio

import pytest

SERVICE = "/mlship/v1/namespaces/default/inferenceservices/iris"


async def test_why_has_chain_conditions_and_journal(plane, service, service_key, until):
    await plane.kept.create(service_key(), service())
    await until(lambda: plane.backend.begun)
    async with asyncio.timeout(20):
        while not (body := (await plane.http.get(f"{SERVICE}/why")).json())["conditions"]:
            await asyncio.sleep(0.01)
    assert body["service"] == "default/iris"
    assert body["chain"][0]["text"] == "iris: NotReady: it is starting"
    assert body["chain"][0]["hint"] == "wait"
    assert body["journal"][0]["why"] == ["1 wanted"]
    assert (await plane.http.get(f"{SERVICE}/why", params={"limit": "x"})).status_code == 400
    missing = await plane.http.get(SERVICE.replace("iris", "none") + "/why")
    assert (missing.status_code, missing.json()["reason"]) == (404, "NotFound")


async def test_logs_are_text_lines(plane):
    plane.backend.lines[plane.key()] = ["one", "zwei ü", "three"]
    answer = await plane.http.get(f"{SERVICE}/logs", params={"tail": "2"})
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text == "r1-0 | zwei ü\nr1-0 | three\n"
    assert (await plane.http.get(SERVICE.replace("iris", "none") + "/logs")).status_code == 404


async def test_logs_can_be_followed_and_end_with_the_server(plane):
    plane.backend.lines[plane.key()] = ["one"]
    async with plane.http.stream("GET", f"{SERVICE}/logs", params={"follow": "true"}) as answer:
        lines = answer.aiter_lines()
        assert await anext(lines) == "r1-0 | one"
        plane.backend.more.set()
        assert await anext(lines) == "r1-0 | more"
        plane.behind.closing.set()
        async with asyncio.timeout(30):
            assert [line async for line in lines] == []


async def test_a_plan_changes_nothing(plane, service):
    body = (await plane.http.post("/mlship/v1/plan", json=service())).json()
    assert (body["exists"], body["changed"]) == (False, True)
    assert body["plans"] == [
        {
            "service": "default/iris",
            "summary": "1 to do",
            "actions": ["start replica default/iris-r1-0"],
            "why": ["1 wanted"],
        }
    ]
    assert (await plane.http.get("/mlship/v1/status")).json()["objects"] == {}
    assert plane.backend.begun == []


async def test_the_plan_of_a_runtime_is_that_of_the_services_it_concerns(plane, service, service_key, until):
    await plane.kept.create(service_key(), service())
    await until(lambda: plane.backend.begun)
    runtime = service("r") | {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "ServingRuntime"}
    body = (await plane.http.post("/mlship/v1/plan", json=runtime)).json()
    assert [(one["service"], one["actions"]) for one in body["plans"]] == [
        ("default/iris", ["start replica default/iris-r1-1"])
    ]
    elsewhere = runtime | {"metadata": {"name": "r", "namespace": "other"}}
    assert (await plane.http.post("/mlship/v1/plan", json=elsewhere)).json()["plans"] == []


@pytest.mark.parametrize(
    ("change", "code"),
    [({"kind": "Rocket"}, 400), ({"metadata": {}}, 400), ({"spec": {"bad": 1}}, 422), ({"metadata": None}, 400)],
)
async def test_plans_that_cannot_be_made(plane, service, change, code):
    assert (await plane.http.post("/mlship/v1/plan", json=service() | change)).status_code == code


async def test_differences_hide_secrets(plane, service, service_key):
    old = service()
    old["spec"] = {"env": [{"name": "A", "value": "before"}], "uri": "http://user:pw@host/x?sig=1", "gone": 1}
    await plane.kept.create(service_key(), old)
    new = service()
    new["spec"] = {"env": [{"name": "A", "value": "after"}, {"name": "B", "value": "new"}], "uri": "http://host/y"}
    body = (await plane.http.post("/mlship/v1/plan", json=new)).json()
    text = str(body["changes"])
    assert not any(word in text for word in ("before'}", "pw", "sig=1", "'new'"))
    assert [one["field"] for one in body["changes"]] == ["spec.env[0].value", "spec.env[1]", "spec.uri", "spec.gone"]
    assert body["changes"][0]["after"] == "(hidden)"


async def test_status_counts_objects(plane, service, service_key):
    await plane.kept.create(service_key(), service())
    body = (await plane.http.get("/mlship/v1/status")).json()
    assert body == {"version": "test", "objects": {"InferenceService": 1}}


async def test_shutdown(plane):
    for body, expected in (({"replicas": True}, True), ({}, False), (None, False)):
        content = {} if body is None else {"json": body}
        answer = await plane.http.post("/mlship/v1/shutdown", **content)
        assert (answer.status_code, plane.stops[-1]) == (202, expected)
    for body in ({"replicas": "yes"}, [1]):
        assert (await plane.http.post("/mlship/v1/shutdown", json=body)).status_code == 400
    assert len(plane.stops) == 3


async def test_metrics_show_the_loop(plane, service, service_key, until):
    await plane.kept.create(service_key(), service())
    await until(lambda: plane.backend.begun)
    await until(lambda: any(seen.replicas for seen in plane.turning.seen()))
    text = (await plane.http.get("/metrics")).text
    for line in (
        'mlship_actions_total{action="StartReplica"} 1.0',
        'mlship_objects{kind="InferenceService"} 1.0',
        'mlship_replicas{phase="running"} 1.0',
        "mlship_replicas_ready 1.0",
        'mlship_reconcile_total{result="ok"}',
        "mlship_queue_depth",
    ):
        assert line in text
