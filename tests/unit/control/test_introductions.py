"""What a model takes is asked of who has it in memory, and remembered for as long as it is true."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import pathlib
from collections.abc import AsyncIterator

import pytest

from mlship.control import introductions
from mlship.plan import observed

KEY = observed.ServiceKey("default", "iris")
MODEL = {"name": "iris", "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 4]}]}
EXAMPLE = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [1, 2, 3, 4]}]}
NOTHING = introductions.Introduction()


class Process:
    """Answers GET with the document of the path, 404 where there is none; ``asked`` are the paths."""

    def __init__(self, socket: pathlib.Path, documents: dict[str, bytes]) -> None:
        self.socket = socket
        self.documents = documents
        self.asked: list[str] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        self.asked.append(path)
        body = self.documents.get(path)
        status = "404 Not Found" if body is None else "200 OK"
        body = body or b"{}"
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    def replica(self, number: int, *, revision: str = "r1", ready: bool = True) -> observed.Replica:
        endpoint = observed.Endpoint(http=f"unix:{self.socket}")
        return observed.Replica(
            observed.ReplicaId(KEY, revision, number), observed.Phase.RUNNING, 0.0, ready=ready, endpoint=endpoint
        )


@contextlib.asynccontextmanager
async def process(folder: pathlib.Path, name: str, documents: dict[str, object]) -> AsyncIterator[Process]:
    encoded = {path: one if isinstance(one, bytes) else json.dumps(one).encode() for path, one in documents.items()}
    made = Process(folder / name, encoded)
    async with await asyncio.start_unix_server(made.answer, made.socket):
        yield made


KNOWN: dict[str, object] = {"/v2/models/iris": MODEL, "/v2/models/iris/example": EXAMPLE}


async def test_a_replica_introduces_its_model_and_is_remembered_while_it_sleeps(tmp_path: pathlib.Path) -> None:
    asks = introductions.Introductions()
    async with process(tmp_path, "a", KNOWN) as one:
        seen = observed.Observed(replicas=(one.replica(0),))
        found = await asks.of(KEY, seen, name="iris", revision="r1")
    assert found == introductions.Introduction(MODEL, EXAMPLE)
    assert await asks.of(KEY, observed.Observed(), name="iris", revision="r1") == found
    # The process has ended and is not known to have: what it said holds.
    assert await asks.of(KEY, seen, name="iris", revision="r1") == found
    assert await asks.of(KEY, observed.Observed(), name="iris", revision="r2") == NOTHING


async def test_nobody_is_asked_who_does_not_serve_the_revision(tmp_path: pathlib.Path) -> None:
    async with process(tmp_path, "a", KNOWN) as one:
        replicas = (one.replica(0, revision="r0"), one.replica(1, ready=False))
        asks = introductions.Introductions()
        assert await asks.of(KEY, observed.Observed(replicas=replicas), name="iris", revision="r1") == NOTHING
        assert one.asked == []


async def test_of_a_pool_only_who_has_the_model_in_memory_is_asked(tmp_path: pathlib.Path) -> None:
    async with process(tmp_path, "a", KNOWN) as cold, process(tmp_path, "b", KNOWN) as warm:
        replicas = (cold.replica(0), warm.replica(1))
        placements = (
            observed.Placement(replicas[0].id, observed.Held.STANDBY),
            observed.Placement(replicas[1].id, observed.Held.LOADED),
        )
        enlisted = observed.Enlisted(KEY, "iris", "d", "m", placements, replicas)
        seen = observed.Observed(enlisted=enlisted)
        asks = introductions.Introductions()
        assert (await asks.of(KEY, seen, name="iris", revision="r1")).model == MODEL
        assert (cold.asked, len(warm.asked)) == ([], 2)
        seen = dataclasses.replace(seen, enlisted=dataclasses.replace(enlisted, placements=placements[:1]))
        assert await introductions.Introductions().of(KEY, seen, name="iris", revision="r1") == NOTHING
        assert cold.asked == []


@pytest.mark.parametrize("body", [b"no json", b"[1]", b"{" + b" " * 1_100_000 + b"}"])
async def test_what_is_no_answer_is_not_known(tmp_path: pathlib.Path, body: bytes) -> None:
    async with process(tmp_path, "a", {"/v2/models/iris": body}) as one:
        seen = observed.Observed(replicas=(one.replica(0),))
        assert await introductions.Introductions().of(KEY, seen, name="iris", revision="r1") == NOTHING


async def test_a_model_without_an_example_is_introduced_without(tmp_path: pathlib.Path) -> None:
    async with process(tmp_path, "a", {"/v2/models/iris": MODEL}) as one:
        seen = observed.Observed(replicas=(one.replica(0),))
        found = await introductions.Introductions().of(KEY, seen, name="iris", revision="r1")
    assert found == introductions.Introduction(MODEL, None)


async def test_so_many_are_remembered(tmp_path: pathlib.Path) -> None:
    asks = introductions.Introductions(most=2)
    keys = [observed.ServiceKey("default", name) for name in "abc"]
    async with process(tmp_path, "a", KNOWN) as one:
        for key in keys:
            await asks.of(key, observed.Observed(replicas=(one.replica(0),)), name="iris", revision="r1")
    known = [(await asks.of(key, observed.Observed(), name="iris", revision="r1")).model for key in keys]
    assert known == [None, MODEL, MODEL]
