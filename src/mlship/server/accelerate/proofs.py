"""Proofs on disk, so that each is paid for once: by model bytes, library versions, converter, mode and kind of CPU.

One file a proof: a line with the checksum of what follows, a line of JSON with what was proven of what, and the bytes
of the compiled form where making them again costs more than reading them. Files come into being whole, by a rename. A
file that is damaged, of another user, or of other facts than its name says is no proof: it is made again. The folder
is bounded: the proofs not used for longest go first. Nothing in here executes what it reads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import stat
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import orjson

import mlship
from mlship.protocol import messages
from mlship.server.accelerate import convert, kernel, verdict

MOST_BYTES = 1 << 30
MOST_FILES = 1000
_MARK = b"mlship-proof-1"
_SUFFIX = ".proof"
# What compiled forms are made with and run by; not imported only to be asked for their version.
_PACKAGES = ("onnx", "onnxruntime")
_CPU = pathlib.Path("/proc/cpuinfo")
_CPU_LINES = ("model name", "flags", "CPU implementer", "CPU part", "Features")

Facts = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Proof:
    """A verdict and the compiled form it is of; the form is empty when the original serves."""

    report: verdict.Report
    form: kernel.Form = dataclasses.field(default_factory=kernel.Form)


def facts(path: pathlib.Path, *, mode: verdict.Mode, signature: messages.Signature, library: str) -> Facts:
    """All that a verdict depends on, for the model at ``path`` as it is served here. Reads the model's bytes.

    Args:
        library: the module that the fitted object is of, imported by now; other libraries do not matter.

    Raises:
        OSError: the model cannot be read.
    """
    wanted = ("numpy", "scipy", library)
    return {
        "model": digest(path),
        "signature": hashlib.sha256(repr(signature).encode()).hexdigest(),
        "mode": mode.value,
        "converter": convert.VERSION,
        "mlship": mlship.__version__,
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in sorted(wanted) if name in sys.modules},
        "packages": {name: version(name) for name in _PACKAGES},
        "cpu": cpu(),
    }


def _version(name: str) -> str:
    return str(getattr(sys.modules[name], "__version__", ""))


def version(package: str) -> str:
    """The installed version of a package; empty when it is not there."""
    if package in sys.modules:
        return _version(package)
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def cpu() -> str:
    """The kind of processor: libraries choose their code, and so their last bits, by it."""
    try:
        lines = _CPU.read_text("utf-8", "replace").split("\n\n", 1)[0].splitlines()
    except OSError:
        lines = []
    said = [line for line in lines if line.startswith(_CPU_LINES)]
    return hashlib.sha256("\n".join([platform.machine(), *said]).encode()).hexdigest()[:16]


def digest(path: pathlib.Path) -> str:
    """SHA-256 of a file, or of a folder's files with their names. Raises OSError."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for one in sorted(part for part in path.rglob("*") if part.is_file()):
        with one.open("rb") as file:
            whole.update(f"{one.relative_to(path)}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class Proofs:
    """The proofs in one folder, which is made when the first is written."""

    folder: pathlib.Path
    most_bytes: int = MOST_BYTES
    most_files: int = MOST_FILES

    def path(self, known: Facts) -> pathlib.Path:
        """Where the proof for these facts lies."""
        text = orjson.dumps(known, option=orjson.OPT_SORT_KEYS)
        return self.folder / f"{hashlib.sha256(text).hexdigest()[:32]}{_SUFFIX}"

    def read(self, known: Facts) -> Proof | None:
        """The proof for these facts; None when there is none that is whole."""
        path = self.path(known)
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                if (
                    found.st_uid != os.geteuid()
                    or stat.S_IMODE(found.st_mode) & 0o022
                    or not stat.S_ISREG(found.st_mode)
                ):
                    return None
                proof = _decode(file.read(self.most_bytes), known)
            os.utime(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return proof

    def write(self, known: Facts, proof: Proof) -> None:
        """Keep a proof, and drop the oldest where there are too many. Raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".partial")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_encode(known, proof))
            pathlib.Path(partial).replace(self.path(known))
        except BaseException:
            with contextlib.suppress(OSError):
                pathlib.Path(partial).unlink()
            raise
        self._trim()

    def drop(self, known: Facts) -> None:
        """Forget a proof that turned out to be none."""
        with contextlib.suppress(OSError):
            self.path(known).unlink()

    def _trim(self) -> None:
        kept = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                found = path.stat()
                kept.append((found.st_mtime_ns, found.st_size, path))
        kept.sort(reverse=True)
        total = 0
        for number, (_, size, path) in enumerate(kept):
            total += size
            if number and (total > self.most_bytes or number >= self.most_files):
                with contextlib.suppress(OSError):
                    path.unlink()


def _encode(known: Facts, proof: Proof) -> bytes:
    head = {"facts": known, "report": proof.report.wire(), "notes": dict(proof.form.notes)}
    body = orjson.dumps(head) + b"\n" + proof.form.data
    return _MARK + b" " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _decode(data: bytes, known: Facts) -> Proof:
    first, _, body = data.partition(b"\n")
    mark, _, checksum = first.partition(b" ")
    if mark != _MARK or hashlib.sha256(body).hexdigest().encode() != checksum:
        raise ValueError("not a whole proof")
    line, _, form = body.partition(b"\n")
    head = orjson.loads(line)
    if head["facts"] != known:
        raise ValueError("a proof of something else")
    report = verdict.read(head["report"])
    if report.mode.value != known["mode"]:
        raise ValueError("a proof of another mode")
    return Proof(report, kernel.Form(form, head["notes"]))
