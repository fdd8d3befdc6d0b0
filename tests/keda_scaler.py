"""A scaler of KEDA's protocol for tests: a real gRPC server whose answers a test sets, and changes while it is asked.

Its messages are compiled by protoc from the wire's own description, not by what mlship reads them with.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import pathlib
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

PROTO = """
syntax = "proto3";
package externalscaler;
message ScaledObjectRef { string name = 1; string namespace = 2; map<string, string> scalerMetadata = 3; }
message IsActiveResponse { bool result = 1; }
message MetricSpec { string metricName = 1; int64 targetSize = 2; double targetSizeFloat = 3; }
message GetMetricSpecResponse { repeated MetricSpec metricSpecs = 1; }
message GetMetricsRequest { ScaledObjectRef scaledObjectRef = 1; string metricName = 2; }
message MetricValue { string metricName = 1; int64 metricValue = 2; double metricValueFloat = 3; }
message GetMetricsResponse { repeated MetricValue metricValues = 1; }
"""


@functools.cache
def described() -> descriptor_pb2.FileDescriptorProto:
    """What protoc makes of the protocol."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = pathlib.Path(folder) / "scaler.proto", pathlib.Path(folder) / "out"
        source.write_text(PROTO)
        assert protoc.main(["protoc", f"-I{folder}", f"--descriptor_set_out={out}", str(source)]) == 0
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file[0]


@functools.cache
def classes() -> dict[str, Any]:
    """The messages, by name."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(described())
    names = [one.name for one in described().message_type]
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"externalscaler.{name}")) for name in names
    }


class Scaler:
    """What a test sets: ``active``, ``specs`` (name, whole target, precise target), ``values`` (name, whole, precise).

    ``silent``: it takes calls and answers none. ``broken``: it answers what is no message. ``streams``: it pushes.
    ``asked`` has every call with the ScaledObject that it was for; ``listeners`` how many streams are open.
    """

    def __init__(self, *, streams: bool = True) -> None:
        self.active = False
        self.specs: list[tuple[str, int, float]] = [("jobs", 0, 5.0)]
        self.values: dict[str, list[tuple[int, float]]] = {"jobs": [(0, 0.0)]}
        self.silent = False
        self.broken = False
        self.asked: list[tuple[str, Any]] = []
        self.listeners: set[asyncio.Queue[bool | None]] = set()
        self._streams = streams
        self._server: Any = None
        self.port = 0

    async def start(self) -> None:
        """Serve, again at the same port once it was given one."""
        self._server = grpc.aio.server()
        methods = {
            name: grpc.unary_unary_rpc_method_handler(functools.partial(self._answer, name))
            for name in ("IsActive", "GetMetricSpec", "GetMetrics")
        }
        if self._streams:
            methods["StreamIsActive"] = grpc.unary_stream_rpc_method_handler(self._stream)
        handler = grpc.method_handlers_generic_handler("externalscaler.ExternalScaler", methods)
        self._server.add_generic_rpc_handlers((handler,))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Gone: its port is refused."""
        await self._server.stop(None)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def push(self, active: bool) -> None:
        """Tell everybody who listens."""
        self.active = active
        for one in self.listeners:
            one.put_nowait(active)

    def hang_up(self) -> None:
        """End every stream, as a server may."""
        for one in self.listeners:
            one.put_nowait(None)

    def calls(self, name: str) -> int:
        return sum(one == name for one, _ in self.asked)

    async def _answer(self, name: str, raw: bytes, context: Any) -> bytes:
        asked = classes()["GetMetricsRequest" if name == "GetMetrics" else "ScaledObjectRef"].FromString(raw)
        self.asked.append((name, asked.scaledObjectRef if name == "GetMetrics" else asked))
        if self.silent:
            await asyncio.sleep(3600)
        if self.broken:
            return b"\xff\xff\xff"
        return self._made(name, asked).SerializeToString()

    def _made(self, name: str, asked: Any) -> Any:
        made = classes()
        if name == "IsActive":
            return made["IsActiveResponse"](result=self.active)
        if name == "GetMetricSpec":
            found = [
                made["MetricSpec"](metricName=one, targetSize=whole, targetSizeFloat=precise)
                for one, whole, precise in self.specs
            ]
            return made["GetMetricSpecResponse"](metricSpecs=found)
        values = [
            made["MetricValue"](metricName=asked.metricName, metricValue=whole, metricValueFloat=precise)
            for whole, precise in self.values.get(asked.metricName, [])
        ]
        return made["GetMetricsResponse"](metricValues=values)

    async def _stream(self, raw: bytes, context: Any) -> AsyncIterator[bytes]:
        self.asked.append(("StreamIsActive", classes()["ScaledObjectRef"].FromString(raw)))
        said: asyncio.Queue[bool | None] = asyncio.Queue(100)
        said.put_nowait(self.active)
        self.listeners.add(said)
        try:
            while (word := await said.get()) is not None:
                yield b"\xff\xff\xff" if self.broken else classes()["IsActiveResponse"](result=word).SerializeToString()
        finally:
            self.listeners.discard(said)


@contextlib.asynccontextmanager
async def scaler(*, streams: bool = True) -> AsyncIterator[Scaler]:
    """One that runs."""
    made = Scaler(streams=streams)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
