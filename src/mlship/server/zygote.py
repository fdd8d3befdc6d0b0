"""A model server that has imported everything and loaded nothing, and forks a replica whenever it is asked to.

``python -m mlship.server.zygote --framework sklearn ROOM`` is started by a control plane, which holds the other end of
its standard input: a socket, and the only way to ask it for anything. When that end closes it ends; its replicas go
on. Words and their order: ``mlship.forks``.

It has one thread, always, and refuses to fork when it finds more: a lock that another thread holds at that moment
would stay locked in the child for ever. It opens no model, no session and no event loop. It waits for its children,
kills what a child leaves of its process group, and tells how it ended.

A child leaves ``Zygote.run`` as its return value, so that it ends like any other server: through ``main``.
Why a fork is safe with each library: docs/decisions/0015-zygote.md.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import dataclasses
import gc
import logging
import os
import pathlib
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence

from mlship import errors, forks
from mlship.server import guise, holes, logs, preload, settings

LOG = logging.getLogger("mlship.zygote")
_GO_SECONDS = 20.0
_TASKS = pathlib.Path("/proc/self/task")


@dataclasses.dataclass(frozen=True, slots=True)
class Child:
    """What a fork was asked to become. ``line`` is open; ``forked`` is when it began, on the monotonic clock.

    ``chosen`` is what the flags say; None when they are wrong, which the child is to say.
    """

    request: forks.Request
    line: socket.socket
    forked: float
    chosen: settings.Settings | None


class Zygote:
    """Answers the requests that come through ``control`` until it closes."""

    def __init__(self, control: socket.socket, place: guise.Guise) -> None:
        self._control = control
        self._place = place
        self._lines: dict[int, socket.socket] = {}
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def run(self) -> Child | None:
        """In a child what it shall be; in the zygote None, when it shall end."""
        waiting = select.poll()
        waiting.register(self._control, select.POLLIN)
        waiting.register(self._woken, select.POLLIN)
        while True:
            ready = dict(waiting.poll())
            if self._woken.fileno() in ready:
                self._reap()
            if self._control.fileno() in ready:
                message, descriptors = _receive(self._control)
                if not message:
                    return None
                if (child := self._answer(message, descriptors)) is not None:
                    return child

    def _answer(self, message: bytes, descriptors: list[int]) -> Child | None:
        """Fork as ``message`` says. Descriptors: the log and the line."""
        if len(descriptors) != 2:
            for descriptor in descriptors:
                os.close(descriptor)
            LOG.error("request without descriptors", extra=logs.fields(got=len(descriptors)))
            return None
        log, line = descriptors[0], socket.socket(fileno=descriptors[1])
        try:
            request = forks.decode_request(message)
            return self._fork(request, log, line)
        except (ValueError, OSError) as error:
            LOG.error("not forked", extra=logs.fields(error=str(error)[:300]))
            _tell(line, forks.Refused(str(error)[:300]))
            line.close()
            return None
        finally:
            os.close(log)

    def _fork(self, request: forks.Request, log: int, line: socket.socket) -> Child | None:
        if (threads := count_threads()) != 1:
            raise OSError(f"the zygote has {threads} threads, and only one of them would be in its child")
        begun = time.monotonic()
        # Here and not in the child: what this writes to would be copied for it.
        chosen = _parse(request.argv)
        pid = os.fork()
        if pid == 0:
            self._become(request, log, line)
            return Child(request, line, begun, chosen)
        self._lines[pid] = line
        return None

    def _become(self, request: forks.Request, log: int, line: socket.socket) -> None:
        """In the child: be a process of its own, and wait until it is recorded. Ends here when nobody wants it."""
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for held in (self._control, self._woken, self._wake, *self._lines.values()):
                held.close()
            for target in (1, 2):
                os.dup2(log, target)
            _become_in_python(request)
            self._place.wear(request.title, {name: request.env.get(name, "") for name in request.marks})
        except BaseException as error:  # noqa: BLE001 - told to whoever asked; the zygote's own code must not go on here
            _tell(line, forks.Refused(f"the fork failed: {error}"[:300]))
            os._exit(1)
        _tell(line, forks.Born(os.getpid()))
        if not _is_wanted(line):
            os._exit(0)

    def _reap(self) -> None:
        """Wait for the children that have ended, and tell how."""
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass
        while (pid := _ended()) is not None:
            # Its zombie still keeps the number of its group from being used again.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status)
            line = self._lines.pop(pid, None)
            if line is not None:
                _tell(line, forks.Ended(code, None) if code >= 0 else forks.Ended(None, -code))
                line.close()


def _parse(argv: Sequence[str]) -> settings.Settings | None:
    if any(part == "--help" or part.startswith("-h") for part in argv):
        return None
    try:
        return settings.parse(argv)
    except errors.SpecError:
        return None


def count_threads() -> int:
    """Threads of this process, those of libraries too."""
    return len(list(_TASKS.iterdir()))


def _become_in_python(request: forks.Request) -> None:
    """What a fresh interpreter would have read from its command line, its environment and the kernel."""
    if request.cwd:
        os.chdir(request.cwd)
    os.environ.clear()
    os.environ.update(request.env)
    time.tzset()
    sys.argv = list(request.title)
    if not sys.flags.safe_path:
        # python -m puts the folder it was started in first.
        sys.path[0] = str(pathlib.Path.cwd())
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()
    gc.enable()


def _is_wanted(line: socket.socket) -> bool:
    """Whether the control plane has noted this process, which it says, or else closes the line."""
    line.settimeout(_GO_SECONDS)
    try:
        return line.recv(16) == forks.GO
    except OSError:
        return False


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """One message with its descriptors; an empty one when the other end has closed."""
    descriptors = array.array("i")
    size = socket.CMSG_SPACE(4 * descriptors.itemsize)
    try:
        message, ancillary, flags, _ = control.recvmsg(forks.LARGEST, size, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return b"", []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    if flags & socket.MSG_TRUNC:
        LOG.error("request too long", extra=logs.fields(limit=forks.LARGEST))
    return message, list(descriptors)


def _tell(line: socket.socket, word: forks.Word) -> None:
    """Say ``word`` to whoever holds the other end; nobody may."""
    with contextlib.suppress(OSError):
        line.send(forks.encode(word), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)


def _ended() -> int | None:
    """A child that has ended and waits to be reaped."""
    with contextlib.suppress(ChildProcessError):
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return None if found is None else found.si_pid
    return None


def main(arguments: Sequence[str]) -> int:
    """The command line: a zygote, and in its children a model server."""
    asked = _parser().parse_args(arguments)
    logs.configure(form="json", level="info")
    begun = time.monotonic()
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    try:
        place = guise.find()
        gc.disable()
        preload.everything(asked.framework)
    except (errors.MlshipError, OSError) as error:
        LOG.error("zygote not started", extra=logs.fields(error=str(error)[:300]))
        return 1
    # What is there now is never looked at by a child's collections, which would write to it and so copy it. Garbage is
    # left as it is: the holes that it would leave are where children would put what is new, a page copied for each.
    gc.freeze()
    holes.fill()
    zygote = Zygote(control, place)
    place.wear(sys.orig_argv[:-2], {})
    seconds = round(time.monotonic() - begun, 3)
    LOG.info("zygote ready", extra=logs.fields(framework=asked.framework, seconds=seconds, threads=count_threads()))
    control.send(forks.encode(forks.Hello(seconds)))
    child = zygote.run()
    return 0 if child is None else _serve(child)


def _serve(child: Child) -> int:
    """In a child: be the model server."""
    from mlship.server import main as server
    from mlship.server import started

    start = started.Start("forked", child.request.asked, tell=started.on_line(child.line))
    start.phases["wait"] = max(0.0, child.forked - child.request.asked)
    if child.chosen is None:
        server.leave(server.main(list(child.request.argv), start))
    server.leave(server.run(child.chosen, start))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {forks.PROGRAM}", description="Forks replicas.")
    parser.add_argument("--framework", required=True, choices=sorted(preload.LIBRARIES))
    parser.add_argument("--home", default="", help="the installation it belongs to, for whoever lists processes")
    parser.add_argument("room", help="in which children write what they are")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
