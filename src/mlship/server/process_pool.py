"""The worker processes of one model, seen from the server: started, fed, watched, replaced and ended.

Each process has a thread here, its keeper, which alone speaks to it: it takes the next execution of the model, sends
it (``process_proxy``), waits for the answer, and hands the results to whoever asked. A process that ends by itself
fails the one execution it had, and its keeper starts another: at once, or after a growing pause when the last one
answered nothing. A call that nobody waits for any more has ``patience`` seconds to end; then its process is ended.

    starting --ready--> idle <--call/answer--> busy --died, or out of patience--> starting (after a pause)
       |cannot load                                                             --close--> ended
       v
    failed, and tried again after a pause; calls are refused while all are failed
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import cast

from mlship import errors
from mlship.server import calls, logs, process_proxy, worker

LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0

Deliver = Callable[[Sequence[calls.Result]], None]
_Job = tuple[Sequence[calls.Call], Deliver]


class Pool:
    """A fixed number of processes. ``close`` must be called once it was made, also when ``start`` failed."""

    def __init__(self, plan: process_proxy.Plan) -> None:
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
            # As long as loading takes, which has no bound on threads either; ``close`` ends it.
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
            # Once closed, what lies there is the word to the other keepers.
            waiting = self._taken() if why is not None and not self._closed.is_set() else []
        for together, deliver in waiting:
            deliver(_refused(together, cast("errors.MlshipError", why)))

    def _taken(self) -> list[_Job]:
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                if (job := self._jobs.get_nowait()) is not None:
                    found.append(job)
        return found

    def close(self, seconds: float = 2 * process_proxy.END_SECONDS) -> bool:
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

    def __init__(self, plan: process_proxy.Plan, pool: Pool, number: int) -> None:
        self._plan = plan
        self._pool = pool
        self._process: process_proxy.Process | None = None
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

    def _begin(self) -> process_proxy.Process | None:
        begun, self._process = time.monotonic(), None
        try:
            self._process = process = process_proxy.Process(self._plan)
            if self._pool.pause(0):
                process.kill()  # Closed between the two lines: nobody else has seen it.
            process.begin()
        except Exception as error:  # A fault of the server itself must not end the keeper without a word.
            known = isinstance(error, errors.MlshipError)
            self.failure = (
                error
                if isinstance(error, errors.MlshipError)
                else errors.BackendError(f"{self._plan.label}: {error!r}")
            )
            extra = logs.fields(model=self._plan.name, error=str(self.failure))
            LOG.error("worker process did not start", extra=extra, exc_info=None if known else error)
            if self._process is not None:
                self._process.end()
            self._pool.failed()
            return None
        else:
            self.failure = None
            seconds = round(time.monotonic() - begun, 3)
            extra = logs.fields(model=self._plan.name, pid=process.pid, seconds=seconds)
            LOG.info("worker process started", extra=extra)
            return process
        finally:
            self.tried.set()

    def _attend(self, process: process_proxy.Process) -> None:
        """Give it work until it ends or the pool does."""
        while process.running():
            try:
                job = self._pool.next_job(_LOOK_SECONDS)
            except queue.Empty:
                if self._pool.pause(0):
                    return
                continue
            if job is None:
                return
            if not process.running():
                self._pool.put_back(job)
                return
            # From here on ``interrupt`` ends it; a pool that was closed before has not: nobody would end this call.
            process.busy = True
            if self._pool.pause(0):
                process.busy = False
                self._pool.put_back(job)
                return
            together, deliver = job
            deliver(process.run(together))
