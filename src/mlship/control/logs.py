"""The control plane's own log: one JSON object a line in ``control.log``, rotated; on a terminal also for people."""

from __future__ import annotations

import datetime
import logging
import logging.handlers
import pathlib

import orjson

_LARGEST = 5 * 1024 * 1024
_KEPT = 3
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """A record as one JSON object; what was given as ``extra`` becomes fields."""

    def format(self, record: logging.LogRecord) -> str:
        body = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        body |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            body["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(body, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure(path: pathlib.Path, *, level: str, foreground: bool) -> None:
    """Send the program's log to ``path`` and, in the foreground, to stderr."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = logging.handlers.RotatingFileHandler(path, maxBytes=_LARGEST, backupCount=_KEPT, encoding="utf-8")
    file.setFormatter(JsonLines())
    handlers: list[logging.Handler] = [file]
    if foreground:
        terminal = logging.StreamHandler()
        terminal.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
        handlers.append(terminal)
    logging.basicConfig(level=level.upper(), handlers=handlers, force=True)
    # These tell every request and every handshake; the API has its own counters.
    for name in ("uvicorn", "httpx", "httpcore", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
