"""One worker process, seen from the server: started, sent one call at a time, and its end.

``Process`` looks like a model to ``joining.run``: its ``infer`` is the way there and back (``process_wire``). Its
keeper in ``process_pool`` owns it and is the only one to speak to it; anybody may ``kill`` it.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import cast

from mlship import errors
from mlship.protocol import messages
from mlship.server import calls, joining, logs, process_wire
from mlship.server import model as contract

LOG = logging.getLogger(__name__)
PROGRAM = "mlship.server.process_worker"
_LOOK_SECONDS = 1.0
# For the rest of a message that has begun, and for one side to read what the other writes.
_TRANSFER_SECONDS = 60.0
# For a process to end that was told to.
END_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What each process is told, and how patient its keeper is.

    ``name`` is the model's, ``hello`` what the process is sent first, ``threads`` how many threads its
    numeric libraries may use. All times in seconds.
    """

    name: str
    hello: process_wire.Header
    processes: int
    threads: int = 1
    patience: float = 30.0
    first_pause: float = 0.1
    last_pause: float = 10.0

    @property
    def label(self) -> str:
        """How messages name the model."""
        return f'model "{self.name}"'

    @classmethod
    def of(cls, name: str, hello: process_wire.Header, processes: int, *, cpus: int) -> Plan:
        """A plan that shares so many processors evenly."""
        return cls(name, hello, processes, threads=max(1, cpus // processes))


class Process:
    """One process and the socket to it. All methods but ``kill`` and ``running`` belong to its keeper's thread.

    Raises:
        BackendError: the machine cannot start it.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._outbox = process_wire.Outbox()
        self._inbox = process_wire.Inbox()
        self._together: Sequence[calls.Call] = ()
        self._why = ""
        self._lost = False
        self.answered = False
        # Until it is ready it can only be ended by force.
        self.busy = True
        try:
            self._socket, self._child = _started(plan)
        except OSError as error:
            raise errors.BackendError(
                f"{plan.label}: no process could be started to run it: {error.strerror}."
            ) from error
        self._socket.settimeout(_TRANSFER_SECONDS)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    @property
    def pid(self) -> int:
        return self._child.pid

    def running(self) -> bool:
        """Whether it can be spoken to: the connection goes first, and the machine may tell of the end later."""
        return not self._lost and self._child.poll() is None

    def kill(self) -> None:
        """End it now."""
        self._child.kill()

    def begin(self) -> None:
        """Wait until it has loaded the model, as long as that takes. Raises MlshipError when it does not."""
        try:
            process_wire.send(self._socket, process_wire.pack(self._plan.hello, {}, self._outbox))
            self._await()
            head = process_wire.receive(self._socket, self._inbox).head
        except (OSError, EOFError) as error:
            raise self._gone("before it had loaded the model") from error
        if (failure := process_wire.error_of(head)) is not None:
            raise failure
        self.busy = False

    def run(self, together: Sequence[calls.Call]) -> list[calls.Result]:
        """Run calls of one key, as ``joining.run`` does."""
        self.busy, self._together = True, together
        try:
            # Only ``infer`` of the model is used there.
            return joining.run(cast("contract.Model", self), together)
        finally:
            self.busy, self._together = False, ()

    def infer(
        self,
        inputs: Mapping[str, messages.Array],
        *,
        outputs: Sequence[str],
        parameters: Mapping[str, messages.Scalar],
    ) -> Mapping[str, messages.Array]:
        """See ``model.Model.infer``. Raises ModelError, besides, when the process ends meanwhile."""
        head = {"outputs": list(outputs), "parameters": dict(parameters)}
        packed = process_wire.pack(head, inputs, self._outbox)
        try:
            process_wire.send(self._socket, packed)
            self._outbox.sent()
            answer = self._answer()
        except (OSError, EOFError) as error:
            raise self._gone("during a call") from error
        self.answered = True
        if (failure := process_wire.error_of(answer.head)) is not None:
            raise failure
        return answer.arrays

    def _answer(self) -> process_wire.Message:
        while True:
            self._await()
            answer = process_wire.receive(self._socket, self._inbox, own=True)
            self._inbox.release()
            if not answer.head.get("kept"):
                return answer
            # The model keeps an array that lies in our memory: it must not change any more.
            self._outbox.drop()

    def _await(self) -> None:
        """Wait for the first byte; nobody else waiting for longer than the patience ends the process."""
        since: float | None = None
        while not self._poll.poll(1000 * min(_LOOK_SECONDS, self._plan.patience)):
            waited_for = not self._together or any(not call.abandoned for call in self._together)
            now = time.monotonic()
            since = None if waited_for else now if since is None else since
            if since is not None and now - since >= self._plan.patience:
                self._why = f"ended by the server, {self._plan.patience:g} s after the last caller had left"
                self.kill()
                since = None

    def _gone(self, when: str) -> errors.ModelError:
        self._lost = True
        self.kill()
        how = self._why or _said(self._code())
        return errors.ModelError(
            f"{self._plan.label}: the process {self.pid} that runs it ended {when}: {how}.",
            hint="The server's log has what it wrote; the machine's own log says if memory was short.",
        )

    def end(self) -> None:
        """Ask it to end, and see to it."""
        self._socket.close()
        if self._code() is None:
            self.kill()
        code = self._code()
        extra = logs.fields(model=self._plan.name, pid=self.pid, why=self._why or _said(code))
        LOG.log(logging.WARNING if code != 0 else logging.INFO, "worker process ended", extra=extra)

    def _code(self) -> int | None:
        """How it ended, at most some seconds from now; None: not yet."""
        try:
            return self._child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return None


def _started(plan: Plan) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", PROGRAM, "--socket", str(theirs.fileno())]
        command += ["--parent", str(os.getpid()), "--threads", str(plan.threads)]
        try:
            return ours, subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        except OSError:
            ours.close()
            raise


def _said(code: int | None) -> str:
    if code is None:
        return "killed, and not gone yet"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
