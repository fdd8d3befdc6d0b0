"""Where everything lives under ``$MLSHIP_HOME``. Pure: it computes paths; ``main`` modules read the environment.

state.db            objects and events (control/sqlite.py)
control.sock        the control API, mode 0600;  control.pid, control.log, token, config.json
run/                sockets and process records of replicas and of Envoy (see ``sockets``)
logs/NS/NAME/       one log file a replica, rotated
cache/              content-addressed model store (storage/cache.py)
pools/NS/POOL/      entries of models that share processes (backends/local/entries.py)
proofs/             what was proven of compiled models (server/accelerate/proofs.py)
envoy/              bootstrap and the watched xds folder
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Mapping

# sun_path holds 108 bytes on Linux and 104 on macOS, the terminating NUL included.
MAX_SOCKET_PATH = 103
_LONGEST_SOCKET_NAME = 40


@dataclasses.dataclass(frozen=True, slots=True)
class Home:
    """The paths of one installation, all below ``root`` but for sockets whose path would be too long."""

    root: pathlib.Path

    @property
    def database(self) -> pathlib.Path:
        return self.root / "state.db"

    @property
    def control_socket(self) -> pathlib.Path:
        return self.sockets / "control.sock"

    @property
    def control_pid(self) -> pathlib.Path:
        return self.root / "control.pid"

    @property
    def control_log(self) -> pathlib.Path:
        return self.logs / "control.log"

    @property
    def config(self) -> pathlib.Path:
        """What the gateway listens on, remembered for the next start."""
        return self.root / "config.json"

    @property
    def token(self) -> pathlib.Path:
        return self.root / "token"

    @property
    def records(self) -> pathlib.Path:
        """One JSON file per supervised process, for adoption after a crash of the control plane."""
        return self.root / "run"

    @property
    def logs(self) -> pathlib.Path:
        return self.root / "logs"

    @property
    def cache(self) -> pathlib.Path:
        return self.root / "cache"

    @property
    def proofs(self) -> pathlib.Path:
        return self.root / "proofs"

    @property
    def pools(self) -> pathlib.Path:
        """``NS/POOL/models``: what a pool's processes serve, one entry a model (backends/local/entries.py)."""
        return self.root / "pools"

    @property
    def volumes(self) -> pathlib.Path:
        """``pvc://NAME/...`` is the folder NAME in here, or a link of that name to another folder."""
        return self.root / "volumes"

    @property
    def envoy(self) -> pathlib.Path:
        return self.root / "envoy"

    @property
    def sockets(self) -> pathlib.Path:
        """Folder for Unix sockets: ``root/run`` when paths fit in sun_path, else a short one named by root's hash."""
        inside = self.root / "run"
        if len(os.fsencode(inside)) + 1 + _LONGEST_SOCKET_NAME <= MAX_SOCKET_PATH:
            return inside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return pathlib.Path(tempfile.gettempdir()) / f"mlship-{os.getuid()}-{digest}"


def user_proofs(environ: Mapping[str, str]) -> pathlib.Path:
    """Where proofs are kept without an installation: ``$XDG_CACHE_HOME/mlship/proofs``, else below ``~/.cache``."""
    cache = environ.get("XDG_CACHE_HOME") or pathlib.Path(environ.get("HOME", "~")).expanduser() / ".cache"
    return pathlib.Path(cache).absolute() / "mlship" / "proofs"


def locate(environ: Mapping[str, str]) -> Home:
    """``$MLSHIP_HOME``, else ``$XDG_STATE_HOME/mlship``, else ``~/.local/state/mlship``."""
    if explicit := environ.get("MLSHIP_HOME"):
        return Home(pathlib.Path(explicit).expanduser().absolute())
    state = environ.get("XDG_STATE_HOME") or pathlib.Path(environ.get("HOME", "~")).expanduser() / ".local" / "state"
    return Home(pathlib.Path(state).absolute() / "mlship")
