"""``python -m mlship.storage.main URI --cache DIR``: one fetch from a shell or an init container.

The same code that ``mlship deploy`` runs, alone: prints one JSON object (path, digest, size, stamp, seconds) on
standard output, progress on a terminal's standard error, and on failure one sentence there and exit status 1 (the
user's to mend), 2 (usage) or 3 (the machine's).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence

from mlship import errors
from mlship.storage import cache, fetch, limits, progress, uri


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch once; returns the exit status."""
    options = _parser().parse_args(arguments)
    report = _draw if sys.stderr.isatty() else _ignore
    try:
        # A relative path is the shell's habit, so it is resolved here, at the rim.
        text = str(pathlib.Path(options.uri).absolute()) if pathlib.Path(options.uri).exists() else options.uri
        found = fetch.fetch(
            uri.parse(text),
            cache=cache.Cache(options.cache),
            volumes=options.volumes,
            limits=dataclasses.replace(limits.Limits(), max_bytes=options.max_bytes),
            progress=report,
        )
    except errors.MlshipError as error:
        sys.stderr.write(f"{error}\n")
        return 1 if isinstance(error, errors.SpecError) else 3
    sys.stdout.write(json.dumps({**dataclasses.asdict(found), "path": str(found.path)}) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlship.storage.main", description="Fetch a model into a cache.")
    parser.add_argument("uri", help="a path, file://, http(s):// or pvc://, optionally with #sha256=...")
    parser.add_argument("--cache", type=pathlib.Path, required=True, help="the folder of the cache")
    parser.add_argument("--volumes", type=pathlib.Path, default=pathlib.Path("/mnt"), help="where pvc:// names live")
    parser.add_argument("--max-bytes", type=int, default=limits.Limits().max_bytes, help="the largest artifact taken")
    return parser


def _draw(now: progress.Progress) -> None:
    total = f" of {limits.show(now.total_bytes)}" if now.total_bytes is not None else ""
    end = "\n" if now.done_bytes == now.total_bytes else ""
    sys.stderr.write(f"\r\x1b[K{now.phase} {limits.show(now.done_bytes)}{total}, {limits.show(now.rate)}/s{end}")
    sys.stderr.flush()


def _ignore(_: progress.Progress) -> None:
    """No progress where nobody watches."""


if __name__ == "__main__":
    sys.exit(main())
