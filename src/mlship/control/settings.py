"""What the control plane is told: flags, and the listen address it remembers so that a restart keeps its URL.

``config.json`` in the home holds host, port and domain of the gateway. A flag wins over what is remembered, what is
remembered over the default. ``--port auto`` means any free port, and the same one again after a restart.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Sequence

import orjson

from mlship import errors
from mlship.gateway import render

LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """The flags. ``port`` None: the remembered or the default one; 0: any free one. ``api_port`` None: no port."""

    port: int | None = None
    host: str | None = None
    domain: str | None = None
    api_port: int | None = None
    log_level: str = "info"
    foreground: bool = False
    home: str = ""


def parse(argv: Sequence[str]) -> Settings:
    """The settings of a command line; ends the program with a usage message when it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m mlship.control.main", description="The local control plane.")
    parser.add_argument("--port", type=port, metavar="N|auto", help="port of the gateway (8080)")
    parser.add_argument("--host", help="address the gateway binds (127.0.0.1)")
    parser.add_argument("--domain", help="what host names of services end in (localhost)")
    parser.add_argument(
        "--api-port", type=port, metavar="N|auto", help="also serve the control API on this loopback port"
    )
    parser.add_argument("--log-level", choices=LOG_LEVELS, default="info")
    parser.add_argument("--foreground", action="store_true", help="write the log to the terminal, too")
    parser.add_argument("--home", default="", help="where everything is kept ($MLSHIP_HOME)")
    return Settings(**vars(parser.parse_args(argv)))


def port(text: str) -> int:
    """A port as a flag: a number, or ``auto`` for any free one (0). Raises argparse.ArgumentTypeError."""
    if text == "auto":
        return 0
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is no port: a number from 1 to 65535, or auto")
    return int(text)


def remembered(config: pathlib.Path) -> render.Listen | None:
    """What an earlier control plane listened on; None when there is nothing, or nothing usable: then flags decide."""
    try:
        body = orjson.loads(config.read_bytes())
        host, port_, domain = body["host"], body["port"], body["domain"]
    except FileNotFoundError:
        return None
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise errors.BackendError(
            f"the settings file {config} cannot be read: {str(error)[:300]}.", hint="Remove it: the flags decide then."
        ) from error
    if not (isinstance(host, str) and isinstance(port_, int) and isinstance(domain, str) and 0 < port_ < 65536):
        raise errors.BackendError(
            f"the settings file {config} holds no host, port and domain.", hint="Remove it: the flags decide then."
        )
    return render.Listen(host=host, port=port_, domain=domain)


def remember(config: pathlib.Path, listen: render.Listen) -> None:
    """Write what is listened on: whole or not at all. Raises BackendError."""
    descriptor, name = -1, ""
    try:
        config.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=config.parent, prefix=".config-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(dataclasses.asdict(listen), option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        pathlib.Path(name).replace(config)
    except OSError as error:
        with contextlib.suppress(OSError):
            pathlib.Path(name).unlink()
        raise errors.BackendError(
            f"the settings file {config} cannot be written: {error.strerror or error}.", hint="Check the disk."
        ) from error


def wish(asked: Settings, before: render.Listen | None) -> render.Listen:
    """What to listen on. Port 0 stands for any free one: asked for, and none remembered."""
    base = before or render.Listen()
    wanted = base.port if asked.port is None else asked.port
    if asked.port == 0:
        wanted = before.port if before else 0
    return render.Listen(host=asked.host or base.host, port=wanted, domain=asked.domain or base.domain)
