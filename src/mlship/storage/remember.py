"""What addresses and archives became, so that bytes already in the cache are not downloaded or unpacked again.

A hint, never the truth: a record is used only together with a server that says "not modified" or a checksum that pins
the bytes, and only when the cache still holds the digest. A damaged record reads as none.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets

from mlship.storage import cache, files


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """``digest`` is what was published, under ``name``; ``etag`` and ``stamp`` are the server's at that time."""

    digest: str
    name: str
    etag: str = ""
    stamp: str = ""


def of_address(url: str) -> str:
    """The key of an address; a hash, since addresses may hold secrets."""
    return hashlib.sha256(f"address {url}".encode()).hexdigest()


def of_archive(digest: str, kind: str) -> str:
    """The key of an unpacked archive, by the digest of the archive's own bytes."""
    return hashlib.sha256(f"archive {kind} {digest}".encode()).hexdigest()


def recall(store: cache.Cache, key: str) -> Record | None:
    """The record of ``key`` whose digest the cache still holds, or None."""
    try:
        facts = json.loads((store.remembered / f"{key}.json").read_bytes())
        record = Record(**{field.name: str(facts[field.name]) for field in dataclasses.fields(Record)})
        return record if store.get(record.digest) is not None else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(store: cache.Cache, key: str, record: Record) -> None:
    """Write the record of ``key``, replacing the former one. Raises ``errors.BackendError``."""
    path = store.remembered / f"{key}.json"
    data = json.dumps(dataclasses.asdict(record)).encode()
    with files.into_cache(store.root, needed=len(data)):
        files.write_atomically(path, data, temporary=path.with_suffix(f".{secrets.token_hex(4)}.tmp"))
