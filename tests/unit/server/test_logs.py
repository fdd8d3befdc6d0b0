from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from mlship.server import logs

LOG = logging.getLogger("mlship.test")


@pytest.fixture
def root() -> Iterator[None]:
    logger, mine = logging.getLogger(), logging.getLogger("mlship")
    kept = list(logger.handlers), logger.level, mine.level
    yield
    logger.handlers[:], level, own = kept
    logger.setLevel(level)
    mine.setLevel(own)
    logging.captureWarnings(False)


def written(form: str, level: str = "info") -> tuple[io.StringIO, None]:
    stream = io.StringIO()
    logs.configure(form=form, level=level, stream=stream)
    return stream, None


def test_a_json_line_has_time_level_event_and_fields(root: None) -> None:
    stream, _ = written("json")
    token = logs.REQUEST.set({"trace_id": "abc"})
    LOG.info("model ready", extra=logs.fields(model="iris", seconds=1.5))
    logs.REQUEST.reset(token)
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {"level": "info", "event": "model ready", "model": "iris", "seconds": 1.5, "trace_id": "abc"}


def test_an_exception_is_folded_into_one_line(root: None) -> None:
    stream, _ = written("json")
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        LOG.exception("failed")
    assert stream.getvalue().count("\n") == 1
    line = json.loads(stream.getvalue())
    assert line["error"] == "ValueError: first second"
    assert line["traceback"].startswith("Traceback")


def test_a_text_line_quotes_what_has_spaces(root: None) -> None:
    stream, _ = written("text")
    LOG.warning("odd", extra=logs.fields(why="two words", n=1))
    assert stream.getvalue().rstrip().endswith('WARNING odd why="two words" n=1')


def test_the_level_is_ours_and_libraries_start_at_warning(root: None) -> None:
    stream, _ = written("text", level="debug")
    LOG.debug("mine")
    logging.getLogger("somebody").info("chatter")
    assert "mine" in stream.getvalue()
    assert "chatter" not in stream.getvalue()


def test_long_foreign_text_is_capped() -> None:
    assert len(logs.one_line("x " * 10_000)) == 2000
    assert logs.one_line("a\n\n b", limit=10) == "a b"


def test_what_was_configured_can_be_handed_on(root: None) -> None:
    for form, level in (("text", "debug"), ("json", "warning")):
        written(form, level=level)
        assert logs.chosen() == (form, level)


def test_before_anything_is_configured_the_defaults_are_handed_on(root: None) -> None:
    logging.getLogger().handlers[:] = []
    logging.getLogger("mlship").setLevel(logging.NOTSET)
    assert logs.chosen() == ("json", "info")
