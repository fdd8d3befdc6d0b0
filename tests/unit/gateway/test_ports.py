import os
import socket

import pytest

from mlship import errors
from mlship.gateway import ports


def test_a_taken_port_names_its_holder():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(errors.BackendError, match=rf"pid {os.getpid()}.*--port auto") as raised:
            ports.check("127.0.0.1", port)
    assert raised.value.reason is errors.Reason.CONFLICT


def test_a_free_port_passes():
    ports.check("127.0.0.1", ports.free("127.0.0.1"))


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(errors.BackendError, match="--host"):
        ports.check("192.0.2.1", 8080)
