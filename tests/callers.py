"""Callers that take their time: long requests, slow uploads, slow readers, streams, connections that are kept.

Each is a coroutine that does one thing and returns what came of it, an ``Outcome``; none raises for what the other side
does. ``begun`` of a caller is set when its request is on its way, so that a test can act while it is.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import json
import queue
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

import grpc

from mlship.protocol import oip

T = TypeVar("T")
# Clients repeat nothing here, so that nothing is hidden.
_OPTIONS = (("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))

# Takes so many seconds and answers so many numbers, as the request asks.
MODEL = """
import asyncio

import numpy as np


class Patient:
    signature = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
        "example": {"x": 1.0},
    }

    async def predict(self, inputs, parameters=None):
        asked = parameters or {}
        await asyncio.sleep(asked.get("seconds", 0))
        numbers = asked.get("numbers", 0)
        return {"y": np.zeros(int(numbers), "float32") if numbers else inputs["x"][:1]}
"""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """``status`` is HTTP's, or gRPC's name; 0 or "" when there was no answer at all. ``got``: bytes or messages."""

    status: int | str
    said: str = ""
    got: int = 0
    seconds: float = 0.0


def body(*, seconds: float = 0.0, numbers: int = 0, size: int = 0) -> bytes:
    """A V2 request for the model above, padded to ``size`` bytes at least."""
    asked = {"parameters": {"seconds": seconds, "numbers": numbers}}
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}
    found = json.dumps({**asked, "inputs": [tensor]}).encode()
    return found + b" " * max(0, size - len(found))


class Line:
    """One HTTP/1.1 connection, spoken by hand: nothing is repeated, joined or hidden by a library."""

    def __init__(self, url: str, name: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._host, self._port = "127.0.0.1", parts.port or 80
        self.path = f"/v2/models/{name}/infer"
        self.begun = asyncio.Event()

    async def open(self, *, limit: int = 2**16) -> None:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=limit)

    def close(self) -> None:
        self._writer.close()

    def _head(self, size: int) -> bytes:
        fields = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n"
        return f"POST {self.path} HTTP/1.1\r\n{fields}\r\n".encode()

    async def ask(self, content: bytes, *, over: float = 0.0, pieces: int = 1, slowly: float = 0.0) -> Outcome:
        """Send ``content`` within ``over`` seconds in pieces and read the answer, ``slowly`` bytes a second.

        Who is answered before all was sent sends no more, as HTTP's clients do.
        """
        began = time.monotonic()
        sending = asyncio.ensure_future(self._send(content, over=over, pieces=pieces))
        try:
            async with asyncio.timeout(120):
                found = await self._answer(slowly)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            found = Outcome(0, repr(error))
        finally:
            sending.cancel()
            await asyncio.wait([sending])
        return dataclasses.replace(found, seconds=time.monotonic() - began)

    async def pipe(self, contents: Sequence[bytes]) -> list[Outcome]:
        """Send requests one behind the other without waiting, and read their answers."""
        try:
            async with asyncio.timeout(120):
                self._writer.write(b"".join(self._head(len(one)) + one for one in contents))
                return [await self._answer(0.0) for _ in contents]
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            return [Outcome(0, repr(error))]

    async def _send(self, content: bytes, *, over: float, pieces: int) -> None:
        self._writer.write(self._head(len(content)))
        step = max(1, -(-len(content) // pieces))
        for at in range(0, len(content), step):
            self._writer.write(content[at : at + step])
            await self._writer.drain()
            self.begun.set()
            await asyncio.sleep(over / pieces)

    async def _answer(self, slowly: float) -> Outcome:
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        size, got, kept = int(fields["content-length"]), 0, b""
        began = time.monotonic()
        while got < size:
            piece = await self._reader.read(min(65536, size - got))
            if not piece:
                raise asyncio.IncompleteReadError(kept[:0], size - got)
            got += len(piece)
            kept = kept or piece[:500]
            if slowly:
                await asyncio.sleep(max(0.0, began + got / slowly - time.monotonic()))
        status = int(lines[0].split()[1])
        return Outcome(status, "" if status == 200 else kept.decode("latin-1"), got)


def infer(name: str, *, seconds: float = 0.0, numbers: int = 0, size: int = 4) -> object:
    """A ModelInferRequest for the model above, with an input of ``size`` bytes."""
    made = oip.message("ModelInferRequest")(model_name=name)
    made.inputs.add(name="x", datatype="FP32", shape=[size // 4])
    made.raw_input_contents.append(b"\0" * (size // 4 * 4))
    made.parameters["seconds"].double_param = seconds
    made.parameters["numbers"].int64_param = numbers
    return made


def _target(url: str) -> str:
    return f"127.0.0.1:{urllib.parse.urlsplit(url).port}"


@contextlib.asynccontextmanager
async def channel(url: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the gateway, as clients have it: grpc's own retries are off, so that nothing is hidden."""
    async with grpc.aio.insecure_channel(_target(url), options=_OPTIONS) as made:
        yield made


async def call(made: grpc.aio.Channel, request: object) -> Outcome:
    """One ModelInfer."""
    began = time.monotonic()
    method = made.unary_unary(
        f"/{oip.SERVICE}/ModelInfer",
        request_serializer=lambda one: one.SerializeToString(),
        response_deserializer=oip.message("ModelInferResponse").FromString,
    )
    try:
        answer = await method(request, timeout=120, metadata=(("mlship-service", request.model_name),))
    except grpc.aio.AioRpcError as error:
        return Outcome(error.code().name, error.details() or "", seconds=time.monotonic() - began)
    got = sum(map(len, answer.raw_output_contents))
    return Outcome("OK", got=got, seconds=time.monotonic() - began)


class Stream:
    """A ModelStreamInfer as tritonclient has it: on threads, by grpc's blocking calls, one message at a time."""

    def __init__(self, url: str, name: str) -> None:
        self._name = name
        self._channel = grpc.insecure_channel(_target(url), options=_OPTIONS)
        method = self._channel.stream_stream(
            f"/{oip.SERVICE}/ModelStreamInfer",
            request_serializer=lambda one: one.SerializeToString(),
            response_deserializer=oip.message("ModelStreamInferResponse").FromString,
        )
        self._asked: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._call = method(iter(self._asked.get, None), metadata=(("mlship-service", name),))
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self.answered = 0
        self.refused: list[str] = []

    async def ask(self, **asked: float) -> bool:
        """Send a message and wait for its answer; whether there was a good one."""
        self._asked.put(infer(self._name, **asked))
        return await self._on_thread(self._read)

    def _read(self) -> bool:
        try:
            answer = next(self._call)
        except (grpc.RpcError, StopIteration):
            return False
        if answer.error_message:
            self.refused.append(answer.error_message)
            return False
        self.answered += 1
        return True

    async def rest(self) -> Outcome:
        """Wait for the stream's end, whoever ends it."""
        began = time.monotonic()
        code, said = await self._on_thread(lambda: (self._call.code(), self._call.details()))
        self._asked.put(None)
        self._thread.shutdown()
        self._channel.close()
        return Outcome(code.name, said or "", self.answered, time.monotonic() - began)

    async def end(self) -> Outcome:
        """End it."""
        self._asked.put(None)
        await self._on_thread(self._read)
        return await self.rest()

    async def _on_thread(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)
