"""Flags, what is remembered, and which of them wins."""

from __future__ import annotations

import pathlib

import pytest

from mlship import errors
from mlship.control import settings
from mlship.gateway import render


def test_flags():
    asked = settings.parse(["--port", "auto", "--host", "0.0.0.0", "--api-port", "9000", "--log-level", "debug"])
    assert asked == settings.Settings(port=0, host="0.0.0.0", api_port=9000, log_level="debug")
    assert settings.parse([]) == settings.Settings()


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "", "８０"])
def test_what_is_no_port(port, capsys):
    with pytest.raises(SystemExit):
        settings.parse(["--port", port])
    assert "auto" in capsys.readouterr().err


def test_what_is_remembered_comes_back(tmp_path: pathlib.Path):
    config = tmp_path / "home" / "config.json"
    assert settings.remembered(config) is None
    listen = render.Listen(host="127.0.0.1", port=9123, domain="models.test")
    settings.remember(config, listen)
    assert settings.remembered(config) == listen
    assert [one.name for one in config.parent.iterdir()] == ["config.json"]


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"host": 1, "port": 2, "domain": "x"}', b"\xff"])
def test_a_broken_file_is_named(tmp_path: pathlib.Path, content: bytes):
    config = tmp_path / "config.json"
    config.write_bytes(content)
    with pytest.raises(errors.BackendError, match="Remove it"):
        settings.remembered(config)


def test_a_file_that_cannot_be_written(tmp_path: pathlib.Path):
    (tmp_path / "file").touch()
    with pytest.raises(errors.BackendError, match="cannot be written"):
        settings.remember(tmp_path / "file" / "config.json", render.Listen())


@pytest.mark.parametrize(
    ("asked", "before", "wished"),
    [
        ({}, None, render.Listen()),
        ({}, render.Listen(port=9000), render.Listen(port=9000)),
        ({"port": 9001}, render.Listen(port=9000), render.Listen(port=9001)),
        ({"port": 0}, None, render.Listen(port=0)),
        ({"port": 0}, render.Listen(port=9000), render.Listen(port=9000)),
        ({"host": "::1"}, render.Listen(port=9000, domain="d"), render.Listen(host="::1", port=9000, domain="d")),
        ({"domain": "x"}, None, render.Listen(domain="x")),
    ],
)
def test_who_wins(asked, before, wished):
    assert settings.wish(settings.Settings(**asked), before) == wished
