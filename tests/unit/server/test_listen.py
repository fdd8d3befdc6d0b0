from __future__ import annotations

import os
import pathlib
import socket
import stat

import pytest

from mlship import errors
from mlship.server import listen


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("s")


def test_a_unix_socket_is_for_its_owner_only(short: pathlib.Path) -> None:
    path = short / "a.sock"
    with listen.unix(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_dead_processs_socket_is_replaced(short: pathlib.Path) -> None:
    path = short / "a.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with listen.unix(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_live_socket_is_left_alone(short: pathlib.Path) -> None:
    path = short / "a.sock"
    with listen.unix(path):
        with pytest.raises(errors.BackendError, match="another process listens there"):
            listen.unix(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_file_that_is_no_socket_is_left_alone(short: pathlib.Path) -> None:
    path = short / "precious"
    path.write_text("data")
    with pytest.raises(errors.BackendError, match="is not a socket"):
        listen.unix(path)
    assert path.read_text() == "data"


def test_a_path_that_cannot_be_is_said(short: pathlib.Path) -> None:
    with pytest.raises(errors.BackendError, match="no folder"):
        listen.unix(short / "none" / "a.sock")
    with pytest.raises(errors.BackendError, match="bytes, the system takes 103"):
        listen.unix(short / ("x" * 120))


def test_a_taken_port_names_its_holder() -> None:
    with listen.tcp("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        with pytest.raises(errors.BackendError) as caught:
            listen.tcp("127.0.0.1", port)
    assert f"port {port} is taken: process {os.getpid()} (" in caught.value.message


def test_an_address_that_is_not_ours_is_said() -> None:
    with pytest.raises(errors.BackendError, match=r"cannot listen on 203\.0\.113\.1:8080"):
        listen.tcp("203.0.113.1", 8080)
    with pytest.raises(errors.BackendError, match=r"cannot listen on nowhere\.invalid"):
        listen.tcp("nowhere.invalid", 8080)


def test_nobody_holds_a_free_port() -> None:
    with listen.tcp("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
    assert listen.who_holds(port) == ""
