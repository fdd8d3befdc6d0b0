"""Asks a scaler of KEDA's protocol: has it work, and how much? The one door to grpc in the control plane.

The protocol is externalscaler.proto of KEDA 2: IsActive, StreamIsActive, GetMetricSpec and GetMetrics. The library is
the extra ``keda``, and is imported when the first scaler is opened. Every call has a deadline and a limit on the size
of its answer; whatever is not an answer in the expected form is ``queries.Unanswered``, and never taken for 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any

from google.protobuf import message as protobuf

from mlship import descriptors
from mlship.control import queries

_PACKAGE = "externalscaler"
_TABLE: descriptors.Table = {
    "ScaledObjectRef": ("string name = 1", "string namespace = 2", "map<string, string> scalerMetadata = 3"),
    "IsActiveResponse": ("bool result = 1",),
    "GetMetricSpecResponse": ("repeated MetricSpec metricSpecs = 1",),
    "MetricSpec": ("string metricName = 1", "int64 targetSize = 2", "double targetSizeFloat = 3"),
    "GetMetricsRequest": ("ScaledObjectRef scaledObjectRef = 1", "string metricName = 2"),
    "GetMetricsResponse": ("repeated MetricValue metricValues = 1",),
    "MetricValue": ("string metricName = 1", "int64 metricValue = 2", "double metricValueFloat = 3"),
}
DESCRIPTION = descriptors.described(_TABLE, package=_PACKAGE, name="mlship/external_scaler.proto")
_CLASSES = descriptors.classes(DESCRIPTION, _TABLE)
_SECONDS = 3.0
# A stream is opened anew after so long: a peer that went without a word is not listened to for ever.
_STREAM_SECONDS = 600.0
_MOST_BYTES, _MOST_METRICS = 1_000_000, 32
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", _MOST_BYTES),
    # The first is how long connecting may take.
    ("grpc.min_reconnect_backoff_ms", int(_SECONDS * 1000)),
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 10_000),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
)
# The control plane starts programs and never forks into Python; handlers for that only write to its log.
_SETTINGS = {"GRPC_ENABLE_FORK_SUPPORT": "0", "GRPC_VERBOSITY": "ERROR"}


class Scaler:
    """A scaler that is asked on behalf of one ScaledObject. To be closed."""

    def __init__(self, grpc: Any, channel: Any, about: protobuf.Message) -> None:
        self._grpc = grpc
        self._channel = channel
        self._about = about

    async def active(self) -> bool:
        """Whether there is work. Raises Unanswered."""
        return bool((await self._call("IsActive", self._about, "IsActiveResponse")).result)

    async def share(self) -> float:
        """The value of its metric, in multiples of the target that it names; of several the largest. Raises Unanswered.

        As KEDA has it: the float holds where it is above 0, else the integer; the values of one metric are added up.
        """
        specs = (await self._call("GetMetricSpec", self._about, "GetMetricSpecResponse")).metricSpecs
        if not 0 < len(specs) <= _MOST_METRICS:
            raise queries.Unanswered(f"the scaler names {len(specs)} metrics, 1 to {_MOST_METRICS} can be asked for")
        try:
            async with asyncio.timeout(_SECONDS):
                return max([await self._value(one.metricName) / _target(one) for one in specs])
        except TimeoutError as error:
            raise queries.Unanswered(f"GetMetrics: no answer for all metrics in {_SECONDS:g} s") from error

    async def _value(self, name: str) -> float:
        asked = _CLASSES["GetMetricsRequest"](scaledObjectRef=self._about, metricName=name)
        found = (await self._call("GetMetrics", asked, "GetMetricsResponse")).metricValues
        if not found:
            raise queries.Unanswered(f"the scaler has no value of its metric {name[:60]!r}")
        return math.fsum(_either(one.metricValueFloat, one.metricValue) for one in found)

    async def words(self) -> AsyncGenerator[bool, None]:
        """What it says of itself, as it says it, until its stream ends or is ten minutes old. Raises Unanswered."""
        call = self._channel.unary_stream(f"/{_PACKAGE}.ExternalScaler/StreamIsActive")(
            self._about.SerializeToString(), timeout=_STREAM_SECONDS
        )
        with self._translated("StreamIsActive"):
            try:
                async for raw in call:
                    yield bool(_CLASSES["IsActiveResponse"].FromString(raw).result)
            except self._grpc.aio.AioRpcError as error:
                if error.code() is not self._grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise
            finally:
                call.cancel()

    async def close(self) -> None:
        await self._channel.close()

    async def _call(self, name: str, asked: protobuf.Message, answer: str) -> Any:
        ask: Callable[..., Any] = self._channel.unary_unary(f"/{_PACKAGE}.ExternalScaler/{name}")
        with self._translated(name):
            return _CLASSES[answer].FromString(await ask(asked.SerializeToString(), timeout=_SECONDS))

    @contextlib.contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        try:
            yield
        except self._grpc.aio.AioRpcError as error:
            kind = queries.Unlistened if error.code() is self._grpc.StatusCode.UNIMPLEMENTED else queries.Unanswered
            raise kind(f"{name}: {error.code().name}: {(error.details() or '')[:200]}") from error
        except self._grpc.aio.BaseError as error:
            raise queries.Unanswered(f"{name}: {error}") from error
        except protobuf.DecodeError as error:
            raise queries.Unanswered(f"{name}: this is no answer of a scaler: {error}") from error


def opened(address: str, *, asker: str, namespace: str, options: Mapping[str, str]) -> Scaler:
    """A scaler at ``host:port``, which connects when it is asked. Raises ImportError without the library.

    Args:
        asker, namespace: the ScaledObject that it is told to be asked for.
        options: its trigger's metadata, all of which it is told. ``enableTLS``: by the certificates that grpc trusts.
    """
    grpc = _library()
    about = _CLASSES["ScaledObjectRef"](name=asker, namespace=namespace, scalerMetadata=dict(options))
    if options.get("enableTLS", "").lower() == "true":
        channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(), options=_OPTIONS)
    else:
        channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
    return Scaler(grpc, channel, about)


def _library() -> Any:
    """grpc, imported with settings that nobody else inherits. Raises ImportError when it is not installed."""
    before = {name: os.environ.get(name) for name in _SETTINGS}
    os.environ.update({name: value for name, value in _SETTINGS.items() if before[name] is None})
    try:
        import grpc.aio
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
    return grpc


def _target(spec: Any) -> float:
    found = _either(spec.targetSizeFloat, spec.targetSize)
    if found <= 0:
        raise queries.Unanswered(f"the target of the scaler's metric {spec.metricName[:60]!r} is {found:g}")
    return found


def _either(precise: float, whole: int) -> float:
    if not math.isfinite(precise):
        raise queries.Unanswered(f"the scaler answers {precise}")
    return precise if precise > 0 else float(whole)
