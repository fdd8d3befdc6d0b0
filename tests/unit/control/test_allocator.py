"""The settings of the C library are taken, and a machine without them is left alone."""

import subprocess
import sys

from mlship.control import allocator


def test_glibc_takes_the_settings():
    # In a process of its own: they are for good.
    code = "from mlship.control import allocator; import sys; sys.exit(0 if allocator.frugal() else 1)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_another_system_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.frugal() is False
