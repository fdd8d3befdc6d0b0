"""What a worker process does: load the model, say so, answer calls until the server closes the socket.

The counterpart of ``process_pool``, over the messages of ``process_wire``. One call at a time. The inputs in shared
memory are views of it; if the model keeps one beyond its call, the memory is left to it and the server is told to use
other memory. Errors of the model travel as this server's families, with the words that a thread would have answered.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import pathlib
import socket
from collections.abc import Mapping
from typing import Any

from mlship import errors
from mlship.server import loading, logs, process_wire
from mlship.server import model as contract

LOG = logging.getLogger(__name__)
_LOADED, _NOT_LOADED = 0, 65


def _source(said: Mapping[str, Any]) -> loading.Source:
    values = {**said, "path": pathlib.Path(said["path"])}
    return loading.Source(**values, processes=0)


def serve(sock: socket.socket) -> int:
    """Load what the server names and answer its calls; the exit code."""
    outbox, inbox = process_wire.Outbox(), process_wire.Inbox()
    head = process_wire.receive(sock, inbox).head
    logs.configure(**head["logs"])
    source = _source(head["source"])
    try:
        model = loading.load(source, open_model=loading.from_disk, run_coroutine=asyncio.run).model
    except errors.MlshipError as error:
        process_wire.send(sock, process_wire.pack(process_wire.error_head(error), {}, outbox))
        return _NOT_LOADED
    gc.collect()
    gc.freeze()
    process_wire.send(sock, process_wire.pack({"ready": os.getpid()}, {}, outbox))
    try:
        _answer(sock, model, source.name, outbox=outbox, inbox=inbox)
    except (EOFError, ConnectionError):
        # The server closes the socket when it needs this process no more.
        model.close()
    return _LOADED


def _answer(
    sock: socket.socket,
    model: contract.Model,
    name: str,
    *,
    outbox: process_wire.Outbox,
    inbox: process_wire.Inbox,
) -> None:
    while True:
        message = process_wire.receive(sock, inbox)
        packed = _packed(model, name, message, outbox)
        message.arrays.clear()
        if not inbox.release():
            # What was packed says nothing of it yet: a short message of its own comes before.
            process_wire.send(sock, process_wire.pack({"kept": True}, {}, process_wire.Outbox()))
        process_wire.send(sock, packed)
        outbox.sent()


def _packed(
    model: contract.Model, name: str, message: process_wire.Message, outbox: process_wire.Outbox
) -> process_wire.Packed:
    """The answer to a call. Whatever the model raises is part of it; the traceback stays in this process's log."""
    try:
        outputs = model.infer(message.arrays, outputs=message.head["outputs"], parameters=message.head["parameters"])
        if not isinstance(outputs, Mapping):
            given = type(outputs).__name__
            raise errors.ModelError(f'model "{name}" gave {given} where outputs by name were expected.')
        return process_wire.pack({}, outputs, outbox)
    except BaseException as error:  # noqa: BLE001 - it travels to whoever waits
        # Kept in no variable: its traceback holds the inputs.
        return process_wire.pack(_failure(name, error), {}, outbox)


def _failure(name: str, error: BaseException) -> process_wire.Header:
    if not isinstance(error, errors.SpecError):
        LOG.error("model code failed", exc_info=error, extra=logs.fields(model=name, pid=os.getpid()))
    if isinstance(error, errors.MlshipError):
        return process_wire.error_head(error)
    said = logs.one_line(f"{type(error).__name__}: {error}", limit=300)
    hint = "The server's log has the traceback."
    return process_wire.error_head(errors.ModelError(f'model "{name}" failed: {said}', hint=hint))
