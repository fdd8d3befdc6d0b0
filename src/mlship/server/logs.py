"""Log lines on stderr: one line an event, as JSON or as text; ``main`` configures them once.

A line is: when, level, event, then fields. ``event`` is a short stable name, the rest of what there is to know is in
fields (``extra=fields(...)``). The request being served, if any, adds its ``request_id`` and ``trace_id`` by itself
(``REQUEST``). Whoever reads only the last line of a failed start finds the cause and the hint in it, so foreign
multi-line text is folded into one line.
"""

from __future__ import annotations

import contextvars
import datetime
import logging
import sys
import traceback
from collections.abc import Mapping
from typing import Any, TextIO

import orjson

from mlship import errors

_FIELDS = "mlship_fields"
_MAX_TEXT = 2000
_MAX_ERROR = 500
_MAX_TRACEBACK = 8000

# Set by the protocol edges for the time of one request: request_id and trace_id.
REQUEST: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("mlship_request", default={})  # noqa: B039


def fields(**values: Any) -> dict[str, Any]:
    """The ``extra`` of a logging call: ``LOG.info("loaded", extra=logs.fields(model=name))``."""
    return {_FIELDS: values}


def one_line(text: str, *, limit: int = _MAX_TEXT) -> str:
    """``text`` folded to one line of at most ``limit`` characters."""
    folded = " ".join(text.split())
    return folded if len(folded) <= limit else f"{folded[: limit - 1]}…"


def said(error: BaseException) -> str:
    """An error as a clause of another sentence: one line, without its full stop."""
    if isinstance(error, errors.MlshipError):
        return one_line(str(error), limit=400).rstrip(".")
    return one_line(f"{type(error).__name__}: {error}", limit=300).rstrip(".")


def _record_fields(record: logging.LogRecord) -> dict[str, Any]:
    found = dict(getattr(record, _FIELDS, {}))
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        found["error"] = one_line("".join(traceback.format_exception_only(error)), limit=_MAX_ERROR)
        found["traceback"] = "".join(traceback.format_exception(error))[-_MAX_TRACEBACK:]
    return {**found, **REQUEST.get()}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, tz=datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonFormatter(logging.Formatter):
    """``{"time":...,"level":...,"event":...,fields...}``"""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _time(record), "level": record.levelname.lower(), "event": one_line(record.getMessage())}
        return orjson.dumps(line | _record_fields(record), default=str).decode()


class TextFormatter(logging.Formatter):
    """``time LEVEL event key=value ...`` for people."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = (f"{key}={_plain(value)}" for key, value in _record_fields(record).items())
        head = f"{_time(record)} {record.levelname:<7} {one_line(record.getMessage())}"
        return " ".join([head, *pairs])


def _plain(value: Any) -> str:
    text = one_line(str(value))
    return f'"{text}"' if " " in text or not text else text


FORMATS = {"json": JsonFormatter, "text": TextFormatter}


def configure(*, form: str, level: str, stream: TextIO | None = None) -> None:
    """Send everything to ``stream`` (stderr), in the named form; libraries' chatter below WARNING is left out.

    Args:
        form: a key of ``FORMATS``.
        level: a level name of ``logging``, any case.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(FORMATS[form]())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("mlship").setLevel(level.upper())
    logging.captureWarnings(True)


def chosen() -> tuple[str, str]:
    """The form and level that ``configure`` was given, for a process that is to log alike; json and info before."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    form = next((name for name, kind in FORMATS.items() if any(type(one) is kind for one in formatters)), "json")
    level = logging.getLogger("mlship").level
    return form, logging.getLevelName(level or logging.INFO).lower()
