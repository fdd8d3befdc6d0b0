"""Flags to a running model server: the program that the control plane starts, and what ``mlship serve`` runs.

Sockets first, so that a place taken is said at once and liveness answers while the model loads; then the model, on
its own thread; then readiness. SIGTERM or SIGINT: readiness off, no new connections, what is under way is finished
within the drain time; a second signal cuts that short. Whoever is not answered by then is told so: 503 for REST,
UNAVAILABLE for calls and streams of gRPC.

Exit codes: 0 after a signal, 64 wrong flags, 65 the model cannot be loaded (trying again will not help), 69 a port or
socket is not to be had, 70 a fault of the server itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import functools
import gc
import logging
import os
import pathlib
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn, cast

from prometheus_client import core

from mlship import aio, errors
from mlship.server import (
    catalog,
    grpc_api,
    infer,
    listen,
    loading,
    logs,
    machinery,
    marks,
    memory,
    metrics,
    pager,
    pool_metrics,
    pools,
    repository,
    settings,
    started,
    worker,
)
from mlship.server.rest import http_server, rest_api

LOG = logging.getLogger("mlship.server")
_THREADS_END_SECONDS = 1.0
_LAST_ANSWERS_SECONDS = 1.0
_TELL_SECONDS = 0.05
_TIME_IS_OVER = "the server is shutting down and its drain time is over."


class Exit(enum.IntEnum):
    """sysexits.h, as far as they fit."""

    OK = 0
    USAGE = 64
    MODEL = 65
    UNAVAILABLE = 69
    INTERNAL = 70


def main(arguments: list[str] | None = None, start: started.Start | None = None) -> int:
    """The command line. ``start`` is the one under way; without it, that of this process."""
    try:
        chosen = settings.parse(sys.argv[1:] if arguments is None else arguments)
        return run(chosen, start or started.cold(chosen.ready_fd))
    except errors.SpecError as error:
        sys.stderr.write(f"{error}\n")
        return Exit.USAGE


def run(chosen: settings.Settings, start: started.Start | None = None) -> int:
    """Serve until a signal or a failure; the exit code. The last log line of a failure has its cause and its hint."""
    start = start or started.cold()
    logs.configure(form=chosen.log_format, level=chosen.log_level)
    # ONNX Runtime would open a connection to its maker and a thread to feed it. It is told before it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    pools.declare(chosen.cpus, os.environ)
    start.over("fork" if start.how == "forked" else "import")
    try:
        chosen.check()
        failure = aio.run(_serve(chosen, start))
    except errors.MlshipError as error:
        failure = error
    except Exception:
        LOG.critical("server failed", exc_info=True)
        return Exit.INTERNAL
    if failure is None:
        return Exit.OK
    code = Exit.UNAVAILABLE if isinstance(failure, _Unavailable) else Exit.MODEL
    event = "cannot listen" if code is Exit.UNAVAILABLE else "model not loaded"
    extra = logs.fields(error=failure.message, hint=failure.hint, reason=failure.reason.value, code=int(code))
    LOG.error(event, extra=extra)
    return code


class _Unavailable(errors.BackendError):
    """A place to listen that is not to be had."""


@contextlib.contextmanager
def _listening() -> Iterator[None]:
    try:
        yield
    except errors.BackendError as error:
        raise _Unavailable(error.message, hint=error.hint) from error


class _Signals:
    """SIGTERM and SIGINT as events: the first asks for the end, a second one for the end now."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.now = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._caught)

    def _caught(self) -> None:
        if self.stop.is_set():
            self.now.set()
        self.stop.set()


async def _serve(chosen: settings.Settings, start: started.Start) -> errors.MlshipError | None:
    """Serve until a signal; the failure of the one model, when that is why it ended."""
    # Before the sockets: whoever can connect may also send a signal and expect a clean end.
    signals = _Signals()
    with _listening():
        listener = listen.unix(chosen.http_socket) if chosen.http_socket else listen.tcp(chosen.host, chosen.port)
    wanted = pools.limits(chosen.cpus, os.environ)
    # The loop's own thread runs short calls of models, and so is one of those that OpenMP must be told about.
    pools.apply_to_process(wanted)
    pools.apply_to_thread(wanted)
    # One more than may be loading: what is on its way out must not wait for what is on its way in.
    loaders = chosen.loaders + 1 if chosen.paging else 1
    prepare = functools.partial(pools.apply_to_thread, wanted)
    engine = machinery.Machinery.start(chosen.threads, loaders=loaders, prepare=prepare)
    try:
        return await _Server(chosen, engine, listener, signals).run(start)
    finally:
        listener.close()
        if chosen.http_socket is not None:
            chosen.http_socket.unlink(missing_ok=True)
        engine.close(_THREADS_END_SECONDS)


class _Server:
    """The parts of one server and the order of their beginning and end."""

    def __init__(
        self, chosen: settings.Settings, engine: machinery.Machinery, listener: socket.socket, signals: _Signals
    ) -> None:
        self._settings = chosen
        self._listener = listener
        counters = metrics.Metrics(self._queues, pool=self._pool, knows=self._knows)
        self._models = _models(chosen, engine, counters)
        inference = infer.Inference(self._models, request_timeout=chosen.request_timeout, counters=counters)
        self._app = rest_api.App(inference, max_body_bytes=chosen.max_body_bytes, codecs=engine.codecs)
        self._http = http_server.HttpServer(
            self._app, listener, drain_seconds=chosen.drain_seconds + _LAST_ANSWERS_SECONDS
        )
        self._service = grpc_api.Service(inference=inference, max_bytes=chosen.max_body_bytes, codecs=engine.codecs)
        self._signals = signals
        self._open = asyncio.Event()

    def _knows(self, name: str) -> bool:
        return self._models.knows(name)

    def _queues(self) -> list[metrics.Queue]:
        return [(name, queue.waiting, queue.running) for name, queue in self._models.queues()]

    def _pool(self) -> Iterable[core.Metric]:
        return pool_metrics.families(self._models.pages()) if isinstance(self._models, pager.Pager) else ()

    async def run(self, start: started.Start) -> errors.MlshipError | None:
        """Serve until a signal or until the one model cannot be loaded."""
        if not self._settings.paging:
            for source in _discover(self._settings):
                self._models.register(source)
        async with aio.tasks(_log_failure) as tasks:
            # On its own thread: it goes on while the rest of the server comes up.
            load = tasks.start(self._load(start), name="load")
            await asyncio.sleep(0)
            self._grpc = grpc_api.server(self._service)
            grpc_at = await self._start_grpc()
            serving = tasks.start(self._http.run(), name="http")
            await self._http.up.wait()
            LOG.info("listening", extra=logs.fields(http=_address(self._listener), grpc=grpc_at, pid=os.getpid()))
            start.over("listening")
            self._open.set()
            if isinstance(self._models, pager.Pager):
                tasks.start(self._models.keep(), name="keep")
            stopping = tasks.start(self._signals.stop.wait(), name="stop")
            await asyncio.wait([load, stopping, serving], return_when=asyncio.FIRST_COMPLETED)
            failure = load.result() if load.done() else None
            if failure is None:
                await asyncio.wait([stopping, serving], return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            await self._drain(serving)
            return failure

    async def _load(self, start: started.Start) -> errors.MlshipError | None:
        failures = [] if self._settings.paging else await self._models.load_all()
        await self._open.wait()
        start.over("load", last=("warm-up", self._models.warm_up_seconds))
        if not failures:
            start.ready()
            LOG.info("started", extra=logs.fields(**start.fields()))
        # What is here now stays: collections need not walk through the libraries and the models again and again.
        # In a fork the libraries are out of sight already, and to collect the little else would fill shared pages.
        if start.how != "forked":
            gc.collect()
        gc.freeze()
        if self._settings.source is not None:
            return failures[0] if failures else None
        for failure in failures:
            extra = logs.fields(error=failure.message, hint=failure.hint, reason=failure.reason.value)
            LOG.error("model not loaded", extra=extra)
        return None

    async def _start_grpc(self) -> str:
        """Start gRPC where the settings want it; the addresses, for the log."""
        addresses = []
        if (path := self._settings.grpc_socket) is not None:
            with _listening():
                await self._grpc.listen(listen.unix(path))
            addresses.append(f"unix:{path}")
        if (port := self._settings.grpc_port) is not None:
            with _listening():
                listener = listen.tcp(self._settings.host, port)
            port = listener.getsockname()[1]
            await self._grpc.listen(listener)
            host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
            addresses.append(f"{host}:{port}")
        return " ".join(addresses)

    async def _drain(self, serving: asyncio.Task[None]) -> None:
        """Readiness off, no new connections, finish what is under way, at most so long."""
        LOG.info("draining", extra=logs.fields(seconds=self._settings.drain_seconds))
        self._models.drain("the server is shutting down")
        async with aio.tasks(_log_failure) as tasks:
            end = tasks.start(self._end(serving), name="end")
            now = tasks.start(self._signals.now.wait(), name="now")
            seconds = self._settings.drain_seconds
            await asyncio.wait([end, now], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not end.done():
                await self._cut(end)

    async def _cut(self, end: asyncio.Task[None]) -> None:
        """Those who still wait get an answer, and the time to receive it: first those whose request is there."""
        self._models.abandon(_TIME_IS_OVER)
        await asyncio.wait([end], timeout=_TELL_SECONDS)
        self._app.cut(_TIME_IS_OVER)
        self._grpc.cut(errors.NotReady(_TIME_IS_OVER, retry_after=1.0))
        await asyncio.wait([end], timeout=_LAST_ANSWERS_SECONDS)

    async def _end(self, serving: asyncio.Task[None]) -> None:
        self._http.stop()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._grpc.stop(self._settings.drain_seconds + _LAST_ANSWERS_SECONDS))
            group.create_task(_finished(serving))
        await self._models.close()


async def _finished(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])


def _models(chosen: settings.Settings, engine: machinery.Machinery, counters: metrics.Metrics) -> repository.Repository:
    queueing: dict[str, Any] = {
        "queue_size": chosen.queue_size,
        "max_batch_size": chosen.max_batch_size,
        "batch_latency": chosen.batch_latency_ms / 1e3,
        "max_concurrency": chosen.max_concurrency,
        "drain_seconds": chosen.drain_seconds,
    }
    if not chosen.paging:
        discover = functools.partial(_discover, chosen)
        return repository.Repository(engine, **queueing, discover=discover, observer=counters)
    return pager.Pager(
        engine,
        **queueing,
        listed=_catalog(chosen),
        total=chosen.memory_budget or memory.default_budget(),
        loads=chosen.loaders,
        crashes=marks.Crashes(chosen.quarantine_file, limit=chosen.quarantine_strikes),
        observer=counters,
    )


def _catalog(chosen: settings.Settings) -> catalog.Catalog:
    root = cast("pathlib.Path", chosen.model_repository)
    flags = loading.Source(
        name="",
        version="",
        path=root,
        format=chosen.model_format,
        options=chosen.model_options,
        accelerate=chosen.accelerate,
        proofs=chosen.proof_cache,
        threads=pools.limits(chosen.cpus, os.environ)["openmp"],
        processes=chosen.worker_processes,
        warmup=chosen.wish,
    )
    return catalog.Catalog(root, flags=flags)


def _discover(chosen: settings.Settings) -> list[loading.Source]:
    if chosen.model_repository is not None:
        return _catalog(chosen).sources()
    source, threads = chosen.source, pools.limits(chosen.cpus, os.environ)["openmp"]
    return [dataclasses.replace(source, threads=threads)] if source is not None else []


def _address(listener: socket.socket) -> str:
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _log_failure(task: str, error: BaseException) -> None:
    LOG.error("task failed", exc_info=error, extra=logs.fields(task=task))


def leave(code: int) -> NoReturn:
    """End the process, even where model code still runs on a thread that cannot be stopped."""
    logging.shutdown()
    if any(thread.name.startswith(worker.THREAD_PREFIX) for thread in threading.enumerate()):
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    leave(main())
