"""Pools as real processes: models loaded on use, paged out, replaced, removed, and kept out after a crash."""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import signal
import socket
import textwrap
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import pytest

import model_server
from mlship.protocol import oip

# Answers with VALUE, having waited for the file HOLD, if that is given, as long as it says so.
MODEL = """
    import pathlib
    import time
    import numpy as np

    HOLD, LOADS, VALUE, SIZE, FAIL, DIE = {hold!r}, {loads!r}, {value!r}, {size!r}, {fail!r}, {die!r}

    class Model:
        signature = {{
            "inputs": [{{"name": "x", "datatype": "INT64", "shape": [-1]}}],
            "outputs": [{{"name": "y", "datatype": "INT64", "shape": [-1]}}],
        }}

        def __init__(self):
            with open(LOADS, "a") as file:
                file.write(".")
            if FAIL:
                raise RuntimeError("it is broken")
            end = time.monotonic() + 60
            while HOLD and pathlib.Path(HOLD).exists() and time.monotonic() < end:
                time.sleep(0.002)
            self.weight = np.ones(SIZE, dtype=np.uint8)

        def predict(self, inputs):
            with open(LOADS + ".calls", "a") as file:
                file.write(".")
            if DIE and inputs["x"][0] == 13:
                import os
                os.abort()
            return {{"y": inputs["x"] * 0 + VALUE}}
"""


class World:
    """A folder of entries and their models."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.root = folder / "listed"
        self.root.mkdir()
        self._made = 0

    def put(self, name: str, **how: Any) -> None:
        """List a model, in the place of what was listed before."""
        self._made += 1
        place = self.folder / "artifacts" / str(self._made)
        place.mkdir(parents=True)
        given = {"hold": "", "value": 0, "size": 0, "fail": False, "die": False} | how
        entry = {key: given.pop(key) for key in ("version", "memory") if key in given}
        text = MODEL.format(loads=str(self.folder / f"{name}.loads"), **given)
        (place / "model.py").write_text(textwrap.dedent(text))
        new = self.root / f".{name}"
        new.write_text(json.dumps({"name": name, "path": str(place), "digest": str(self._made), **entry}))
        new.replace(self.root / f"{name}.json")

    def loads(self, name: str) -> int:
        """How often the model's code was asked to load."""
        return self._noted(f"{name}.loads")

    def calls(self, name: str) -> int:
        """How often the model was asked, its warm-up included."""
        return self._noted(f"{name}.loads.calls")

    def _noted(self, name: str) -> int:
        path = self.folder / name
        return len(path.read_text()) if path.exists() else 0


@pytest.fixture
def world(tmp_path: pathlib.Path) -> World:
    return World(tmp_path)


Pool = Callable[..., model_server.Server]


@pytest.fixture
def pool(start: model_server.Start, world: World) -> Pool:
    def begin(*flags: str) -> model_server.Server:
        server = start("--model-repository", str(world.root), "--paging", "--workers", "2", *flags)
        server.until_ready()
        return server

    return begin


def ask(server: model_server.Server, name: str, value: int = 1, **options: Any) -> httpx.Response:
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [value]}]}
    return server.http.post(f"/v2/models/{name}/infer", json=body, **options)


def answer(response: httpx.Response) -> int:
    assert response.status_code == 200, response.text
    found: int = response.json()["outputs"][0]["data"][0]
    return found


def report(server: model_server.Server, name: str) -> dict[str, Any]:
    found = server.http.get("/mlship/v1/pool").json()
    return next((model for model in found["models"] if model["name"] == name), {})


def test_models_are_listed_ready_and_loaded_on_use(world: World, pool: Pool) -> None:
    world.put("a", value=1)
    world.put("b", value=2, version="5")
    model_server.write_model(world.root / "adder", model_server.ADDER)
    server = pool()
    assert world.loads("a") == world.loads("b") == 0
    assert server.http.get("/v2/models/b/ready").json() == {"name": "b", "ready": True}
    index = server.http.post("/v2/repository/index").json()
    assert [(each["name"], each["version"], each["state"]) for each in index] == [
        ("a", "1", "UNAVAILABLE"),
        ("adder", "1", "UNAVAILABLE"),
        ("b", "5", "UNAVAILABLE"),
    ]
    assert answer(ask(server, "a")) == 1
    assert answer(ask(server, "b/versions/5")) == 2
    assert answer(ask(server, "b")) == 2
    assert server.http.get("/v2/models/adder").json()["outputs"][0]["name"] == "sum"
    assert (world.loads("a"), world.loads("b")) == (1, 1)
    assert ask(server, "b/versions/4").status_code == 404
    assert ask(server, "c").status_code == 404
    found = report(server, "b")
    assert (found["loaded"], found["loads"], found["misses"], found["hits"]) == (True, 1, 1, 1)
    assert found["bytes"] > 0
    metrics = server.http.get("/metrics").text
    assert 'mlship_model_hits_total{model="b",version="5"} 1.0' in metrics
    assert 'mlship_model_misses_total{model="a",version="1"} 1.0' in metrics


def test_what_comes_back_is_not_warmed_up_again_unless_it_is_another(world: World, pool: Pool) -> None:
    world.put("one")
    server = pool()

    def used() -> int:
        """How often a first use has the model answer."""
        before = world.calls("one")
        assert ask(server, "one").status_code == 200
        return world.calls("one") - before

    first = used()
    assert first > 1
    server.http.post("/v2/repository/models/one/unload").raise_for_status()
    assert used() == 1
    assert world.loads("one") == 2
    server.http.post("/v2/repository/models/one/unload").raise_for_status()
    world.put("one", value=5)
    before = world.calls("one")
    server.http.post("/v2/repository/models/one/load").raise_for_status()
    assert world.calls("one") - before == first - 1
    assert world.loads("one") == 3


def test_a_small_budget_holds_the_most_recently_used(world: World, pool: Pool) -> None:
    size = 48 * 2**20
    names = [f"m{number}" for number in range(5)]
    world.put("small")
    for number, name in enumerate(names):
        world.put(name, value=number, size=size, memory=size)
    probe = pool()
    answer(ask(probe, "small"))
    base = probe.http.get("/mlship/v1/pool").json()["measured"]
    budget = base + 2 * size + size // 2
    server = pool("--memory-budget", str(budget))
    for number, name in enumerate(names):
        assert answer(ask(server, name)) == number
        found = server.http.get("/mlship/v1/pool").json()
        assert found["measured"] <= budget
    loaded = [model["name"] for model in found["models"] if model["loaded"]]
    assert loaded == names[-2:]
    assert answer(ask(server, "m0")) == 0
    assert report(server, "m0")["evictions"] == 1
    assert world.loads("m0") == 2


def test_what_is_larger_than_the_budget_is_refused_with_a_sentence(world: World, pool: Pool) -> None:
    world.put("said", memory=10**10)
    world.put("found", size=10**9)
    world.put("small", value=3)
    server = pool("--memory-budget", str(600 * 2**20))
    for name in ("said", "found"):
        refused = ask(server, name)
        assert refused.status_code == 503
        assert "are left for models" in refused.json()["error"]
        assert "--memory-budget" in refused.json()["error"]
    assert world.loads("said") == 0
    assert answer(ask(server, "small")) == 3
    assert not report(server, "found")["loaded"]


def test_many_first_uses_load_once_and_a_slow_load_holds_up_nobody_else(world: World, pool: Pool) -> None:
    hold = world.folder / "hold"
    hold.touch()
    world.put("slow", value=1, hold=str(hold))
    world.put("quick", value=2)
    server = pool("--queue-size", "8")
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(ask, server, "slow") for _ in range(8)]
        server.until(lambda: report(server, "slow").get("misses") == 8)
        assert answer(ask(server, "quick")) == 2
        full = ask(server, "slow")
        assert (full.status_code, full.json()["code"]) == (503, "Overloaded")
        hold.unlink()
        assert [answer(each.result()) for each in waiting] == [1] * 8
    assert world.loads("slow") == 1


def test_who_waits_for_a_load_has_a_deadline_and_gives_its_place_back(world: World, pool: Pool) -> None:
    hold = world.folder / "hold"
    hold.touch()
    world.put("slow", value=1, hold=str(hold))
    server = pool("--queue-size", "1")
    late = ask(server, "slow", headers={"X-Request-Timeout": "0.2"})
    assert (late.status_code, late.json()["code"]) == (504, "DeadlineExceeded")
    with pytest.raises(httpx.ReadTimeout):
        ask(server, "slow", timeout=0.2)  # A client that goes away.
    again = ask(server, "slow", headers={"X-Request-Timeout": "0.2"})
    assert again.status_code == 504
    hold.unlink()
    assert answer(ask(server, "slow")) == 1
    assert world.loads("slow") == 1


def test_a_load_that_fails_tells_everybody_and_is_not_tried_for_every_request(world: World, pool: Pool) -> None:
    world.put("bad", fail=True)
    server = pool()
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        responses = list(threads.map(lambda _: ask(server, "bad"), range(4)))
    assert all("it is broken" in each.json()["error"] for each in responses)
    for _ in range(5):
        refused = ask(server, "bad")
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert world.loads("bad") <= 2
    assert server.http.get("/v2/models/bad/ready").status_code == 503
    assert "it is broken" in report(server, "bad")["failing"]
    world.put("bad", value=7)
    assert server.http.post("/v2/repository/models/bad/load").status_code == 200
    assert answer(ask(server, "bad")) == 7


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_changed_entry_is_loaded_beside_the_old_one_and_no_request_fails(
    world: World, pool: Pool, version: str
) -> None:
    world.put("a", value=1)
    server = pool()
    assert answer(ask(server, "a")) == 1
    hold = world.folder / "hold"
    hold.touch()
    world.put("a", value=2, hold=str(hold), version=version)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        load = threads.submit(server.http.post, "/v2/repository/models/a/load")
        server.until(lambda: world.loads("a") == 2)
        assert answer(ask(server, "a")) == 1
        hold.unlink()
        assert load.result().status_code == 200
    assert answer(ask(server, "a")) == 2
    # Without a call as well: the used ones are looked after.
    world.put("a", value=3, version=version)
    server.until(lambda: answer(ask(server, "a")) == 3)
    # And one that does not load leaves the old one where it is.
    world.put("a", fail=True, version=version)
    refused = server.http.post("/v2/repository/models/a/load")
    assert "it is broken" in refused.json()["error"]
    assert answer(ask(server, "a")) == 3


def test_an_entry_that_is_written_again_as_it_was_changes_nothing(world: World, pool: Pool) -> None:
    world.put("a", value=1)
    server = pool()
    answer(ask(server, "a"))
    path = world.root / "a.json"
    path.with_suffix(".new").write_text(path.read_text())
    path.with_suffix(".new").rename(path)
    assert server.http.post("/v2/repository/models/a/load").status_code == 200
    assert world.loads("a") == 1
    server.http.post("/v2/repository/models/a/unload")
    assert answer(ask(server, "a")) == answer(ask(server, "a")) == 1
    assert world.loads("a") == 2
    assert (report(server, "a")["misses"], report(server, "a")["hits"]) == (2, 1)


def test_a_removed_entry_is_let_go_and_a_new_one_is_found(world: World, pool: Pool) -> None:
    world.put("a", value=1)
    world.put("b", value=2)
    server = pool()
    assert answer(ask(server, "a")) == answer(ask(server, "b")) - 1 == 1
    (world.root / "a.json").unlink()
    assert server.http.post("/v2/repository/models/a/unload").status_code == 200
    assert ask(server, "a").status_code == 404
    (world.root / "b.json").unlink()
    server.until(lambda: ask(server, "b").status_code == 404)
    server.until(lambda: server.http.get("/mlship/v1/pool").json()["models"] == [])
    world.put("c", value=3)
    assert answer(ask(server, "c")) == 3
    assert server.http.post("/v2/repository/models/c/unload").status_code == 200
    assert not report(server, "c")["loaded"]
    assert answer(ask(server, "c")) == 3


def test_a_model_that_ends_the_process_is_kept_out_and_its_neighbours_are_not(world: World, pool: Pool) -> None:
    world.put("bad", value=1, die=True)
    world.put("good", value=2)
    flags = ("--quarantine-file", str(world.folder / "quarantine"))
    for _ in range(2):
        server = pool(*flags)
        assert answer(ask(server, "good")) == 2
        with pytest.raises(httpx.TransportError):
            ask(server, "bad", 13)
        assert server.wait() == -signal.SIGABRT
    server = pool(*flags)
    refused = ask(server, "bad")
    assert refused.status_code == 503
    assert "quarantine" in refused.json()["error"]
    assert "Replace" in refused.json()["error"]
    assert report(server, "bad")["strikes"] == 2
    assert server.http.get("/v2/models/bad/ready").status_code == 503
    assert answer(ask(server, "good")) == 2
    world.put("bad", value=5)
    server.until(lambda: ask(server, "bad").status_code == 200)
    assert answer(ask(server, "bad")) == 5


def test_grpc_waits_for_a_load_too(world: World, pool: Pool) -> None:
    world.put("a", value=4)
    pool("--grpc-socket", str(world.folder / "grpc"))
    with grpc.insecure_channel(f"unix:{world.folder / 'grpc'}") as channel:
        call = channel.unary_unary(
            f"/{oip.SERVICE}/ModelMetadata",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=oip.message("ModelMetadataResponse").FromString,
        )
        found = call(oip.message("ModelMetadataRequest")(name="a"), timeout=30)
    assert found.outputs[0].name == "y"
    assert world.loads("a") == 1


def test_what_is_under_way_at_the_end_may_still_load(world: World, pool: Pool) -> None:
    world.put("a", value=4)
    server = pool()
    content = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [1]}]}).encode()
    with socket.socket(socket.AF_UNIX) as upload:
        upload.settimeout(60)
        upload.connect(str(server.path))
        head = b"POST /v2/models/a/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content)
        upload.sendall(head + content[:10])
        # Who comes later is answered: so that of the first a part has come.
        assert server.http.get("/v2/health/live").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        server.until(lambda: any(line["event"] == "draining" for line in server.lines))
        assert world.loads("a") == 0
        upload.sendall(content[10:])
        answer = b"".join(iter(lambda: upload.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert world.loads("a") == 1
    assert server.wait() == 0


def test_a_server_that_loads_all_takes_entries_too(world: World, start: model_server.Start) -> None:
    world.put("a", value=1)
    server = start("--model-repository", str(world.root))
    server.until_ready()
    assert world.loads("a") == 1
    assert answer(ask(server, "a")) == 1
    assert server.http.get("/mlship/v1/pool").status_code == 404
