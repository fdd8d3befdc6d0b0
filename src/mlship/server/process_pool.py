"""The worker processes of one model, seen from the server: started, fed, watched, replaced and ended.

Each process has a thread here, its keeper, which alone speaks to it: it takes the next execution of the model, sends
it (``process_wire``), waits for the answer, and hands the results to whoever asked. A process that ends by itself fails
the one execution it had, and its keeper starts another: at once, or after a growing pause when the last one answered
nothing. A call that nobody waits for any more has ``patience`` seconds to end; then its process is ended.

    starting --ready--> idle <--call/answer--> busy --died, or out of patience--> starting (after a pause)
       |cannot load                                                             --close--> ended
       v
    failed, and tried again after a pause; calls are refused while all are failed
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from mlship import errors
from mlship.protocol import messages
from mlship.server import calls, joining, logs, process_wire, worker
from mlship.server import model as contract

LOG = logging.getLogger(__name__)
PROGRAM = "mlship.server.process_worker"
_LOOK_SECONDS = 1.0
# For the rest of a message that has begun, and for one side to read what the other writes.
_TRANSFER_SECONDS = 60.0
_END_SECONDS = 5.0

Deliver = Callable[[Sequence[calls.Result]], None]
_Job = tuple[Sequence[calls.Call], Deliver]


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What each process is told, and how patient its keeper is.

    ``label`` is how messages name the model, ``hello`` what the process is sent first, ``threads`` how many threads its
    numeric libraries may use. All times in seconds.
    """

    label: str
    hello: process_wire.Header
    processes: int
    threads: int = 1
    patience: float = 30.0
    first_pause: float = 0.1
    last_pause: float = 10.0

    @classmethod
    def of(cls, label: str, hello: process_wire.Header, processes: int) -> Plan:
        """A plan that shares the machine's processors evenly."""
        return cls(label, hello, processes, threads=max(1, (os.cpu_count() or 1) // processes))


class Pool:
    """A fixed number of processes. ``close`` must be called once it was made, also when ``start`` failed."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._keepers = [_Keeper(plan, self, number) for number in range(plan.processes)]

    @property
    def size(self) -> int:
        """How many executions may be under way at once."""
        return self._plan.processes

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [pid for keeper in self._keepers if (pid := keeper.pid)]

    def start(self) -> None:
        """Start all and wait until each has loaded the model or failed to.

        Raises:
            MlshipError: why one of them could not load it.
        """
        for keeper in self._keepers:
            keeper.thread.start()
        for keeper in self._keepers:
            keeper.tried.wait()
        for keeper in self._keepers:
            if keeper.failure is not None:
                raise keeper.failure

    def submit(self, together: Sequence[calls.Call], deliver: Deliver) -> None:
        """Run calls of one ``joining.key``; ``deliver`` gets their results, once, on some thread."""
        with self._lock:
            if (why := self._hopeless()) is None:
                self._jobs.put((together, deliver))
        if why is not None:
            deliver(_refused(together, why))

    def _hopeless(self) -> errors.MlshipError | None:
        if self._closed.is_set():
            return errors.NotReady(f"{self._plan.label} is being unloaded.")
        failures = [keeper.failure for keeper in self._keepers]
        return failures[0] if all(failure is not None for failure in failures) else None

    def next_job(self, seconds: float) -> _Job | None:
        """For keepers. Raises queue.Empty; None: the pool is closed."""
        return self._jobs.get(timeout=seconds)

    def put_back(self, job: _Job) -> None:
        """For keepers: what a process that had ended before did not run."""
        self.submit(*job)

    def pause(self, seconds: float) -> bool:
        """For keepers: wait before the next attempt; whether the pool was closed meanwhile."""
        return self._closed.wait(seconds)

    def failed(self) -> None:
        """For keepers: one has failed to start. If none is left, nobody is to wait for nothing."""
        with self._lock:
            why = self._hopeless()
            waiting = self._taken() if why is not None else []
        for together, deliver in waiting:
            deliver(_refused(together, cast("errors.MlshipError", why)))

    def _taken(self) -> list[_Job]:
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                if (job := self._jobs.get_nowait()) is not None:
                    found.append(job)
        return found

    def close(self, seconds: float = 2 * _END_SECONDS) -> bool:
        """End all processes: the idle by a word, the others at once; whether all ended within ``seconds``."""
        with self._lock:
            self._closed.set()
            left = self._taken()
        for together, deliver in left:
            deliver(_refused(together, errors.NotReady(f"{self._plan.label} is being unloaded.")))
        for keeper in self._keepers:
            keeper.interrupt()
            self._jobs.put(None)
        end = time.monotonic() + seconds
        threads = [keeper.thread for keeper in self._keepers if keeper.thread.ident is not None]
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        for keeper in self._keepers:
            keeper.kill()
        return not any(thread.is_alive() for thread in threads)


def _refused(together: Sequence[calls.Call], why: errors.MlshipError) -> list[calls.Result]:
    return [calls.Result(error=why) for _ in together]


class _Keeper:
    """The thread of one process, and of those that replace it."""

    def __init__(self, plan: Plan, pool: Pool, number: int) -> None:
        self._plan = plan
        self._pool = pool
        self._process: Process | None = None
        self._vain = 0
        self.tried = threading.Event()
        self.failure: errors.MlshipError | None = None
        # Not a worker of the pool of threads: the kernel ends a process with the thread that started it.
        self.thread = threading.Thread(target=self._work, name=f"{worker.THREAD_PREFIX}-process-{number}", daemon=True)

    @property
    def pid(self) -> int:
        process = self._process
        return process.pid if process is not None and process.running() else 0

    def kill(self) -> None:
        """End the process whatever it does."""
        if self._process is not None:
            self._process.kill()

    def interrupt(self) -> None:
        """End the process unless it waits for work, in which case its keeper does."""
        process = self._process
        if process is not None and process.busy:
            process.kill()

    def _work(self) -> None:
        while True:
            process = self._begin()
            if process is not None:
                self._attend(process)
                self._vain = 0 if process.answered else self._vain + 1
                process.end()
            else:
                self._vain += 1
            pause = min(self._plan.last_pause, self._plan.first_pause * 2 ** (self._vain - 1)) if self._vain else 0.0
            if self._pool.pause(pause):
                return

    def _begin(self) -> Process | None:
        begun = time.monotonic()
        try:
            self._process = process = Process(self._plan)
            if self._pool.pause(0):
                process.kill()  # Closed between the two lines: nobody else has seen it.
            process.begin()
        except errors.MlshipError as error:
            self.failure = error
            LOG.error("worker process did not start", extra=logs.fields(model=self._plan.label, error=str(error)))
            if self._process is not None:
                self._process.end()
            self._pool.failed()
            return None
        else:
            self.failure = None
            seconds = round(time.monotonic() - begun, 3)
            extra = logs.fields(model=self._plan.label, pid=process.pid, seconds=seconds)
            LOG.info("worker process started", extra=extra)
            return process
        finally:
            self.tried.set()

    def _attend(self, process: Process) -> None:
        """Give it work until it ends or the pool does."""
        while process.running():
            try:
                job = self._pool.next_job(_LOOK_SECONDS)
            except queue.Empty:
                continue
            if job is None:
                return
            if not process.running():
                self._pool.put_back(job)
                return
            together, deliver = job
            deliver(process.run(together))


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
        self.answered = False
        # Until it is ready it can only be ended by force.
        self.busy = True
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", PROGRAM, "--socket", str(theirs.fileno())]
        command += ["--parent", str(os.getpid()), "--threads", str(plan.threads)]
        try:
            self._child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        except OSError as error:
            ours.close()
            raise errors.BackendError(
                f"{plan.label}: no process could be started to run it: {error.strerror}."
            ) from error
        finally:
            theirs.close()
        ours.settimeout(_TRANSFER_SECONDS)
        self._socket = ours
        self._poll = select.poll()
        self._poll.register(ours, select.POLLIN)

    @property
    def pid(self) -> int:
        return self._child.pid

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._child.poll() is None

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
        self.kill()
        how = self._why or _said(self._child.wait(_END_SECONDS))
        return errors.ModelError(
            f"{self._plan.label}: the process {self.pid} that runs it ended {when}: {how}.",
            hint="The server's log has what it wrote; the machine's own log says if memory was short.",
        )

    def end(self) -> None:
        """Ask it to end, and see to it."""
        self._socket.close()
        try:
            code = self._child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._child.wait(_END_SECONDS)
        extra = logs.fields(model=self._plan.label, pid=self.pid, why=self._why or _said(code))
        LOG.log(logging.WARNING if code else logging.INFO, "worker process ended", extra=extra)


def _said(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
