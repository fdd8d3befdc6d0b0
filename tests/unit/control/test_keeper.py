"""Envoy under the real supervisor, as seen through the gateway's eyes: kept, ready, ended."""

from __future__ import annotations

import pathlib
import sys
import time

import pytest

from mlship import errors, home
from mlship.backends.local import supervisor
from mlship.control import keeper
from mlship.plan import actions

SERVE = """
import http.server, socketserver, sys
class Unix(socketserver.UnixStreamServer):
    def get_request(self):
        return super().get_request()[0], ("local", 0)
class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
Unix(sys.argv[1], Ok).serve_forever()
"""
STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)\n"


async def test_what_it_keeps(tmp_path: pathlib.Path, until):
    where = home.Home(tmp_path)
    failures: list[BaseException] = []
    supervising = supervisor.Supervisor(where, environ={}, on_error=lambda _, error: failures.append(error))
    await supervising.start()
    keeping = keeper.Keeper(supervising)
    socket = where.sockets / "probe.sock"
    spec = actions.ProcessSpec((sys.executable, "-c", SERVE, str(socket)), probe=actions.Probe(path="/", period=0.05))
    assert not keeping.is_ready("gateway")
    await keeping.ensure("gateway", spec, probe_socket=str(socket), log=where.logs / "gateway.log")
    await until(lambda: keeping.is_ready("gateway"))
    await keeping.end("gateway", seconds=20)
    assert not keeping.is_ready("gateway")
    assert supervising.observe("gateway") is None
    await keeping.end("gateway", seconds=1)
    await supervising.close()
    assert failures == []


async def test_one_that_does_not_end_is_said(tmp_path: pathlib.Path, until):
    where = home.Home(tmp_path)
    supervising = supervisor.Supervisor(where, environ={}, on_error=lambda *_: None)
    await supervising.start()
    keeping = keeper.Keeper(supervising)
    ready = tmp_path / "ready"
    spec = actions.ProcessSpec(
        (sys.executable, "-c", STUBBORN.replace("time.sleep", f"open({str(ready)!r}, 'w').close(); time.sleep")),
        stop_grace=2.0,
    )
    await keeping.ensure("gateway", spec, probe_socket=str(tmp_path / "s"), log=where.logs / "gateway.log")
    await until(ready.exists)
    began = time.monotonic()
    with pytest.raises(errors.BackendError, match="has not ended"):
        await keeping.end("gateway", seconds=0.1)
    assert time.monotonic() - began < 20
    await supervising.stop_all(20)
    await supervising.close()
