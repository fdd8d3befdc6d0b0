"""The control API over a real Unix socket: the Kubernetes API's paths, verbs, shapes and refusals."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from mlship.control import bodies, listeners, rest_api

GROUP = "/apis/serving.kserve.io"
SERVICES = f"{GROUP}/v1beta1/namespaces/default/inferenceservices"
RUNTIMES = f"{GROUP}/v1alpha1/namespaces/default/servingruntimes"
MERGE = {"Content-Type": "application/merge-patch+json"}


def runtime(name: str = "r", **spec: object) -> dict[str, object]:
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"size": 1, **spec},
    }


def refused(answer: httpx.Response, code: int, reason: str) -> dict[str, object]:
    assert answer.status_code == code, answer.text
    body = answer.json()
    assert (body["kind"], body["apiVersion"], body["status"]) == ("Status", "v1", "Failure")
    assert (body["reason"], body["code"]) == (reason, code)
    assert body["message"]
    return body


async def test_discovery(plane):
    assert (await plane.http.get("/version")).json()["gitVersion"].startswith("v1.")
    for path in ("/healthz", "/livez", "/readyz"):
        assert (await plane.http.get(path)).text == "ok"
    assert (await plane.http.get("/api")).json()["versions"] == ["v1"]
    assert (await plane.http.get("/api/v1")).json()["resources"][0]["name"] == "namespaces"
    (group,) = (await plane.http.get("/apis")).json()["groups"]
    assert group["name"] == "serving.kserve.io"
    assert [one["version"] for one in group["versions"]] == ["v1beta1", "v1alpha1"]
    assert (await plane.http.get(GROUP)).json()["preferredVersion"]["groupVersion"] == "serving.kserve.io/v1beta1"
    listed = (await plane.http.get(f"{GROUP}/v1beta1")).json()
    assert listed["kind"] == "APIResourceList"
    assert [one["name"] for one in listed["resources"]] == ["inferenceservices", "inferenceservices/status"]
    assert listed["resources"][0]["shortNames"] == ["isvc"]
    for path in ("/apis/other.io", f"{GROUP}/v9", "/nothing", f"{GROUP}/v1beta1/rockets"):
        refused(await plane.http.get(path), 404, "NotFound")


async def test_namespaces_are_those_in_use(plane):
    await plane.http.post(RUNTIMES.replace("default", "team-a"), json=runtime())
    listed = (await plane.http.get("/api/v1/namespaces")).json()
    assert [one["metadata"]["name"] for one in listed["items"]] == ["default", "team-a"]
    assert (await plane.http.get("/api/v1/namespaces/any")).json()["kind"] == "Namespace"


async def test_create_read_replace_delete(plane):
    made = await plane.http.post(RUNTIMES, json=runtime())
    assert made.status_code == 201
    body = made.json()
    assert body["metadata"]["namespace"] == "default"
    assert (await plane.http.get(f"{RUNTIMES}/r")).json() == body
    refused(await plane.http.post(RUNTIMES, json=runtime()), 409, "AlreadyExists")
    body["spec"]["size"] = 2
    changed = (await plane.http.put(f"{RUNTIMES}/r", json=body)).json()
    assert changed["metadata"]["generation"] == 2
    stale = refused(await plane.http.put(f"{RUNTIMES}/r", json=body), 409, "Conflict")
    assert body["metadata"]["resourceVersion"] in stale["message"]
    gone = (await plane.http.delete(f"{RUNTIMES}/r")).json()
    assert (gone["kind"], gone["status"], gone["details"]["name"]) == ("Status", "Success", "r")
    refused(await plane.http.get(f"{RUNTIMES}/r"), 404, "NotFound")
    refused(await plane.http.delete(f"{RUNTIMES}/r"), 404, "NotFound")
    refused(await plane.http.put(f"{RUNTIMES}/r", json=runtime()), 404, "NotFound")


async def test_cluster_wide_kinds_have_no_namespace(plane):
    path = f"{GROUP}/v1alpha1/clusterservingruntimes"
    body = runtime() | {"kind": "ClusterServingRuntime"}
    made = await plane.http.post(path, json=body)
    assert made.status_code == 201, made.text
    assert "namespace" not in made.json()["metadata"]
    assert (await plane.http.get(f"{path}/r")).status_code == 200
    refused(await plane.http.get(f"{GROUP}/v1alpha1/namespaces/x/clusterservingruntimes"), 404, "NotFound")
    refused(await plane.http.get(f"{GROUP}/v1alpha1/servingruntimes/r"), 404, "NotFound")
    refused(await plane.http.post(f"{GROUP}/v1alpha1/servingruntimes", json=runtime()), 405, "MethodNotAllowed")


async def test_every_wrong_field_is_a_cause(plane):
    body = refused(await plane.http.post(RUNTIMES, json=runtime(bad=3)), 422, "Invalid")
    assert [one["field"] for one in body["details"]["causes"]] == ["spec.bad[0]", "spec.bad[1]", "spec.bad[2]"]
    assert body["details"]["causes"][0]["message"] == "is bad; use good"
    await plane.http.post(RUNTIMES, json=runtime())
    refused(await plane.http.put(f"{RUNTIMES}/r", json=runtime(bad=1)), 422, "Invalid")
    refused(await plane.http.patch(f"{RUNTIMES}/r", json={"spec": {"bad": 1}}, headers=MERGE), 422, "Invalid")


async def test_fields_without_effect_are_warnings(plane):
    made = await plane.http.post(RUNTIMES, json=runtime(odd=1))
    assert made.headers["warning"] == r'299 - "spec.odd: has no effect: \"none\""'


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "Rocket"}, "kind is 'Rocket'"),
        ({"apiVersion": "v1"}, "apiVersion is 'v1'"),
        ({"metadata": {"name": "r", "namespace": "other"}}, "metadata.namespace is 'other'"),
        ({"metadata": {"name": 7}}, "no string"),
        ({"metadata": []}, "metadata is a list"),
    ],
)
async def test_a_body_that_does_not_fit_its_url(plane, change, words):
    body = refused(await plane.http.post(RUNTIMES, json=runtime() | change), 400, "BadRequest")
    assert words in body["message"]


@pytest.mark.parametrize(
    ("content", "kind", "code", "reason"),
    [
        (b"{", "application/json", 400, "BadRequest"),
        (b"", "application/json", 400, "BadRequest"),
        (b"[1]", "application/json", 400, "BadRequest"),
        (b"a: [", "application/yaml", 422, "Invalid"),
        (b"a: 1\n---\nb: 2\n", "application/yaml", 400, "BadRequest"),
        (b"a: 1\na: 2\n", "application/yaml", 422, "Invalid"),
        (b"\xff\xfe", "application/yaml", 400, "BadRequest"),
        (b"<a/>", "application/xml", 415, "UnsupportedMediaType"),
        (b" " * (bodies.LIMIT + 1), "application/json", 413, "RequestEntityTooLarge"),
    ],
)
async def test_bodies_that_are_none(plane, content, kind, code, reason):
    refused(await plane.http.post(RUNTIMES, content=content, headers={"Content-Type": kind}), code, reason)
    assert (await plane.http.get(RUNTIMES)).json()["items"] == []


async def test_a_yaml_bomb_is_refused_before_it_grows(plane):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    answer = await plane.http.post(RUNTIMES, content="\n".join(lines), headers={"Content-Type": "application/yaml"})
    refused(answer, 422, "Invalid")


async def test_yaml_bodies_work(plane):
    text = "apiVersion: serving.kserve.io/v1alpha1\nkind: ServingRuntime\nmetadata: {name: y}\nspec: {on: '1'}\n"
    made = await plane.http.post(RUNTIMES, content=text, headers={"Content-Type": "application/yaml"})
    assert made.json()["spec"] == {"on": "1"}


async def test_generated_names(plane):
    body = runtime()
    body["metadata"] = {"generateName": "g-"}
    first, second = [(await plane.http.post(RUNTIMES, json=body)).json()["metadata"]["name"] for _ in range(2)]
    assert first.startswith("g-")
    assert first != second
    body["metadata"] = {}
    refused(await plane.http.post(RUNTIMES, json=body), 422, "Invalid")


async def test_dry_runs(plane):
    made = await plane.http.post(RUNTIMES, params={"dryRun": "All"}, json=runtime())
    assert made.status_code == 201
    refused(await plane.http.get(f"{RUNTIMES}/r"), 404, "NotFound")
    refused(await plane.http.post(RUNTIMES, params={"dryRun": "Some"}, json=runtime()), 400, "BadRequest")


async def test_merge_patches(plane):
    made = (await plane.http.post(RUNTIMES, json=runtime())).json()
    change = {"spec": {"size": 5}, "metadata": {"labels": {"app": None, "k": "v"}}, "status": {"forged": 1}}
    body = (await plane.http.patch(f"{RUNTIMES}/r", json=change, headers=MERGE)).json()
    assert (body["spec"]["size"], body["metadata"]["labels"]) == (5, {"k": "v"})
    assert body["metadata"]["generation"] == made["metadata"]["generation"] + 1
    assert "status" not in body
    stale = {"metadata": {"resourceVersion": "1"}, "spec": {"size": 9}}
    refused(await plane.http.patch(f"{RUNTIMES}/r", json=stale, headers=MERGE), 409, "Conflict")
    renamed = {"metadata": {"name": "other"}}
    refused(await plane.http.patch(f"{RUNTIMES}/r", json=renamed, headers=MERGE), 400, "BadRequest")
    refused(await plane.http.patch(f"{RUNTIMES}/none", json=change, headers=MERGE), 404, "NotFound")


async def test_json_patches(plane):
    await plane.http.post(RUNTIMES, json=runtime())
    kind = {"Content-Type": "application/json-patch+json"}
    good = [{"op": "test", "path": "/spec/size", "value": 1}, {"op": "replace", "path": "/spec/size", "value": 7}]
    assert (await plane.http.patch(f"{RUNTIMES}/r", json=good, headers=kind)).json()["spec"]["size"] == 7
    body = refused(await plane.http.patch(f"{RUNTIMES}/r", json=good, headers=kind), 422, "Invalid")
    assert "/spec/size" in body["message"]
    dropped = [{"op": "remove", "path": "/metadata"}]
    refused(await plane.http.patch(f"{RUNTIMES}/r", json=dropped, headers=kind), 422, "Invalid")


@pytest.mark.parametrize("kind", ["application/apply-patch+yaml", "application/strategic-merge-patch+json"])
async def test_patches_that_are_not_done_say_what_works(plane, kind):
    await plane.http.post(RUNTIMES, json=runtime())
    answer = await plane.http.patch(f"{RUNTIMES}/r", content=b"{}", headers={"Content-Type": kind})
    assert "application/merge-patch+json" in refused(answer, 415, "UnsupportedMediaType")["message"]


async def test_many_patches_at_once_lose_none(plane):
    await plane.http.post(RUNTIMES, json=runtime())
    changes = [{"metadata": {"labels": {f"n{number}": "x"}}} for number in range(4)]
    answers = await asyncio.gather(
        *(plane.http.patch(f"{RUNTIMES}/r", json=change, headers=MERGE) for change in changes)
    )
    assert {one.status_code for one in answers} == {200}
    labels = (await plane.http.get(f"{RUNTIMES}/r")).json()["metadata"]["labels"]
    assert set(labels) == {"app", "n0", "n1", "n2", "n3"}


async def test_the_status_subresource(plane):
    await plane.http.post(RUNTIMES, json=runtime())
    change = {"status": {"phase": "Ready"}, "spec": {"size": 9}}
    body = (await plane.http.patch(f"{RUNTIMES}/r/status", json=change, headers=MERGE)).json()
    assert (body["status"], body["spec"]["size"], body["metadata"]["generation"]) == ({"phase": "Ready"}, 1, 1)
    body["status"] = {"phase": "Other"}
    assert (await plane.http.put(f"{RUNTIMES}/r/status", json=body)).json()["status"] == {"phase": "Other"}
    assert (await plane.http.get(f"{RUNTIMES}/r/status")).json()["status"] == {"phase": "Other"}


async def test_lists_select_and_page(plane):
    for number in range(5):
        body = runtime(f"l{number}")
        body["metadata"]["labels"] = {"grp": "L", "i": str(number)}
        await plane.http.post(RUNTIMES, json=body)
    await plane.http.post(RUNTIMES, json=runtime("other"))

    async def names(**query: str) -> list[str]:
        listed = (await plane.http.get(RUNTIMES, params=query)).json()
        return [one["metadata"]["name"] for one in listed["items"]]

    assert len(await names(labelSelector="grp=L")) == 5
    assert await names(labelSelector="grp=L,i in (1,2)") == ["l1", "l2"]
    assert await names(fieldSelector="metadata.name=l1") == ["l1"]
    refused(await plane.http.get(RUNTIMES, params={"labelSelector": "a b c"}), 400, "BadRequest")
    refused(await plane.http.get(RUNTIMES, params={"fieldSelector": "spec.x=1"}), 400, "BadRequest")

    first = (await plane.http.get(RUNTIMES, params={"labelSelector": "grp=L", "limit": "2"})).json()
    assert first["kind"] == "ServingRuntimeList"
    assert (len(first["items"]), first["metadata"]["remainingItemCount"]) == (2, 3)
    await plane.http.post(RUNTIMES, json=runtime("later"))
    rest = (
        await plane.http.get(RUNTIMES, params={"labelSelector": "grp=L", "continue": first["metadata"]["continue"]})
    ).json()
    assert [one["metadata"]["name"] for one in rest["items"]] == ["l2", "l3", "l4"]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    for query in ({"continue": "nonsense"}, {"limit": "x"}, {"limit": "-1"}):
        refused(await plane.http.get(RUNTIMES, params=query), 400, "BadRequest")


async def test_tables_for_kubectl(plane):
    await plane.http.post(RUNTIMES, json=runtime())
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
    for path in (RUNTIMES, f"{RUNTIMES}/r"):
        table = (await plane.http.get(path, headers=accept)).json()
        assert table["kind"] == "Table"
        assert [one["name"] for one in table["columnDefinitions"]] == ["Name", "URL", "Age"]
        assert table["rows"][0]["cells"][:2] == ["r", ""]
        assert table["rows"][0]["object"]["metadata"]["name"] == "r"


async def test_deleting_checks_what_it_is_told(plane):
    await plane.http.post(RUNTIMES, json=runtime())

    async def delete(body: object, **query: str) -> httpx.Response:
        return await plane.http.request("DELETE", f"{RUNTIMES}/r", json=body, params=query)

    refused(await delete({"preconditions": {"uid": "nope"}}), 409, "Conflict")
    refused(await delete([]), 400, "BadRequest")
    assert (await delete({"dryRun": ["All"]})).status_code == 200
    assert (await delete({"propagationPolicy": "Background"}, propagationPolicy="Background")).status_code == 200
    refused(await plane.http.get(f"{RUNTIMES}/r"), 404, "NotFound")


async def test_deleting_a_collection_by_label(plane):
    for name in ("a", "b"):
        await plane.http.post(RUNTIMES, json=runtime(name))
    answer = await plane.http.delete(RUNTIMES, params={"labelSelector": "app=a"})
    assert [one["metadata"]["name"] for one in answer.json()["items"]] == ["a"]
    assert [one["metadata"]["name"] for one in (await plane.http.get(RUNTIMES)).json()["items"]] == ["b"]


async def test_wrong_methods_are_told(plane):
    refused(await plane.http.put(RUNTIMES, json={}), 405, "MethodNotAllowed")


async def test_requests_are_counted(plane):
    await plane.http.get("/healthz")
    await plane.http.get("/nothing")
    text = (await plane.http.get("/metrics")).text
    assert 'mlship_api_requests_total{code="200",method="GET"} 1.0' in text
    assert 'mlship_api_requests_total{code="404",method="GET"} 1.0' in text


async def test_a_failure_of_ours_is_a_500_without_its_inside(plane, monkeypatch, caplog):
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(plane.kept, "get", broken)
    answer = await plane.http.get(f"{RUNTIMES}/r")
    assert "secret" not in str(refused(answer, 500, "InternalError"))
    assert "secret inside" in caplog.text


async def test_the_loopback_port_asks_for_its_token(plane, tmp_path):
    token = listeners.token(tmp_path / "token")
    listener = listeners.loopback(0)
    server = listeners.server(rest_api.guard(rest_api.build(plane.behind), token))
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": token}):
            answer = await http.get("/version", headers=headers)
            refused(answer, 401, "Unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert (await http.get("/version", headers={"Authorization": f"Bearer {token}"})).status_code == 200
    server.should_exit = True
    await serving


class Watch:
    """A watch that is read line by line."""

    def __init__(self, http: httpx.AsyncClient, path: str, **query: str) -> None:
        self._stream = http.stream("GET", path, params={"watch": "1", **query}, timeout=20)

    async def __aenter__(self) -> Watch:
        self.answer = await self._stream.__aenter__()
        self._lines = self.answer.aiter_lines()
        return self

    async def __aexit__(self, *caught: object) -> None:
        await self._stream.__aexit__(*caught)

    async def next(self) -> tuple[str, dict]:
        line = json.loads(await anext(self._lines))
        return line["type"], line["object"]

    async def rest(self) -> list[tuple[str, str]]:
        found = [json.loads(line) async for line in self._lines]
        return [(one["type"], one["object"]["metadata"].get("name", "")) for one in found]


async def test_watching_from_a_version(plane):
    await plane.http.post(RUNTIMES, json=runtime("before"))
    version = (await plane.http.get(RUNTIMES)).json()["metadata"]["resourceVersion"]
    async with Watch(plane.http, RUNTIMES, resourceVersion=version) as watch:
        await plane.http.post(RUNTIMES, json=runtime("w"))
        await plane.http.patch(f"{RUNTIMES}/w", json={"spec": {"size": 2}}, headers=MERGE)
        await plane.http.delete(f"{RUNTIMES}/w")
        seen = [await watch.next() for _ in range(3)]
    assert [(kind, body["metadata"]["name"]) for kind, body in seen] == [
        ("ADDED", "w"), ("MODIFIED", "w"), ("DELETED", "w"),
    ]  # fmt: skip
    versions = [int(body["metadata"]["resourceVersion"]) for _, body in seen]
    assert versions == sorted(set(versions))


async def test_watching_without_a_version_begins_with_what_is_there(plane):
    await plane.http.post(RUNTIMES, json=runtime("a"))
    query = {"sendInitialEvents": "true", "allowWatchBookmarks": "true", "timeoutSeconds": "1"}
    async with Watch(plane.http, RUNTIMES, **query) as watch:
        assert (await watch.next())[0] == "ADDED"
        kind, body = await watch.next()
        assert (kind, body["metadata"]["annotations"]) == ("BOOKMARK", {"k8s.io/initial-events-end": "true"})
        assert await watch.rest() == []


async def test_objects_enter_and_leave_a_selector(plane):
    async with Watch(plane.http, RUNTIMES, labelSelector="app=in") as watch:
        await plane.http.post(RUNTIMES, json=runtime("x"))
        for label in ("in", "out", "in"):
            await plane.http.patch(f"{RUNTIMES}/x", json={"metadata": {"labels": {"app": label}}}, headers=MERGE)
        await plane.http.delete(f"{RUNTIMES}/x")
        assert [(await watch.next())[0] for _ in range(4)] == ["ADDED", "DELETED", "ADDED", "DELETED"]


async def test_a_watch_from_too_long_ago_is_gone(plane):
    refused(await plane.http.get(RUNTIMES, params={"watch": "1", "resourceVersion": "999"}), 410, "Expired")
    refused(await plane.http.get(RUNTIMES, params={"watch": "1", "resourceVersion": "x"}), 400, "BadRequest")


async def test_watches_can_be_tables(plane):
    await plane.http.post(RUNTIMES, json=runtime("a"))
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    query = {"watch": "1", "timeoutSeconds": "1"}
    answer = await plane.http.get(RUNTIMES, params=query, headers=accept)
    assert json.loads(answer.text.splitlines()[0])["object"]["rows"][0]["cells"][0] == "a"


async def test_watches_end_when_the_server_goes(plane):
    async with Watch(plane.http, RUNTIMES) as watch:
        plane.behind.closing.set()
        async with asyncio.timeout(30):
            assert await watch.rest() == []
