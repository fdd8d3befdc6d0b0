"""How much a fetch may take: bytes, files, time, attempts. One frozen object, made by whoever reads the settings.

Every refusal because of a limit names the field here, so that the reader knows what to raise.
"""

from __future__ import annotations

import dataclasses

GIB = 1 << 30


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one fetch.

    Args:
        max_bytes: of the artifact, downloaded or unpacked.
        max_files: of a folder or an archive.
        max_ratio: unpacked bytes per byte of an archive, checked once more than ``ratio_floor`` bytes are unpacked.
        connect_seconds, read_seconds: one connection attempt; one wait for the next bytes.
        total_seconds: the whole download, retries included.
        attempts: tries in a row that bring no new bytes.
        max_redirects: hops of one request.
    """

    max_bytes: int = 200 * GIB
    max_files: int = 100_000
    max_ratio: float = 200.0
    ratio_floor: int = 16 << 20
    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    total_seconds: float = 6 * 3600.0
    attempts: int = 5
    max_redirects: int = 5


def show(size: float) -> str:
    """A number of bytes for people: 512 B, 3.4 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
