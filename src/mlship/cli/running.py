"""``mlship up``, ``down``, ``status`` and ``serve``: the programs themselves."""

from __future__ import annotations

import dataclasses
import pathlib
import sys

import typer

from mlship import client, home, launch
from mlship.cli import deploying, session


def up(where: home.Home, *, port: str, host: str, domain: str, api_port: str) -> None:
    """Have a control plane run and say where the gateway is."""
    with session.failures():
        found = launch.ensure_running(where, port=port, host=host, domain=domain, api_port=api_port)
        session.tell("started" if found["started"] else "was running already")
        session.out(f"gateway  {found['gateway']['url']}")
        if found.get("apiPort"):
            session.out(f"api      http://127.0.0.1:{found['apiPort']} (bearer token in {where.token})")


def down(where: home.Home) -> None:
    """End everything; what is declared stays declared."""
    with session.failures():
        ended = launch.stop(where, replicas=True)
        session.out("everything has ended; the services stay declared and come back with: mlship up" if ended
                    else "nothing was running")  # fmt: skip


def status(where: home.Home, *, output: str) -> None:
    """What runs here."""
    with session.control(where) as control:
        found = control.status()
        if output != "text":
            session.out(session.document(found, form=output))
            return
        gateway = found["gateway"]
        services = control.list("isvc")
        ready = sum(client.is_ready(service) for service in services)
        session.out(f"control  version {found['version']}, pid {found['pid']}, up {found['uptimeSeconds']:.0f} s")
        session.out(f"gateway  {gateway['url']} ({'answers' if gateway['running'] else 'does not answer'})")
        session.out(f"services {ready} of {len(services)} ready")
        session.out(f"home     {found['home']}")


@dataclasses.dataclass(frozen=True, slots=True)
class Serving:
    """The command line of ``serve``; 0 stands for the model server's own default, and so does a number below 0 for
    ``worker_processes``."""

    path: pathlib.Path
    name: str
    format: str
    options: tuple[str, ...]
    host: str
    port: int
    grpc_port: int
    repository: bool
    max_body_bytes: int
    workers: int
    accelerate: str = ""
    proofs: pathlib.Path | None = None
    worker_processes: int = -1
    max_batch_size: int = 0
    batch_latency_ms: float = 0.0
    warmup: str = ""
    warmup_requests: pathlib.Path | None = None


def serve(asked: Serving) -> None:
    """Run the model server in this process until it is told to end."""
    from mlship.server import main, settings
    from mlship.server.artifact import find

    with session.failures():
        path = asked.path.expanduser().absolute()
        chosen = settings.Settings(
            model_name=asked.name or deploying.name_of(str(asked.path)), host=asked.host, port=asked.port,
            grpc_port=asked.grpc_port or None, model_format=asked.format,
            model_options=session.pairs(asked.options, flag="--option"), log_format="text",
        )  # fmt: skip
        if asked.repository:
            chosen = dataclasses.replace(chosen, model_repository=path, model_name="model")
        else:
            artifact = find.inspect(path, format=asked.format, options=chosen.model_options)
            session.tell(f"found    {deploying.found(artifact)}")
            chosen = dataclasses.replace(chosen, model_path=path)
        chosen = dataclasses.replace(
            chosen,
            max_body_bytes=asked.max_body_bytes or chosen.max_body_bytes,
            workers=asked.workers or chosen.workers,
            proof_cache=asked.proofs,
            max_batch_size=asked.max_batch_size or chosen.max_batch_size,
            batch_latency_ms=asked.batch_latency_ms,
            warmup_given=_here(asked.warmup),
            warmup_requests=asked.warmup_requests,
        )
        if asked.worker_processes >= 0:
            chosen = dataclasses.replace(chosen, worker_processes=asked.worker_processes)
        if asked.accelerate:
            chosen = dataclasses.replace(chosen, accelerate=settings.mode(asked.accelerate))
        chosen.check()
        sys.stderr.flush()
        raise typer.Exit(main.run(chosen))


def _here(given: str) -> str:
    """A path of the command line is one of the folder it was typed in; JSON is left as it is."""
    return given if not given or given.lstrip().startswith(("{", "[")) else str(pathlib.Path(given).absolute())
