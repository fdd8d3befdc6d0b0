import subprocess
import sys

import pytest

from mlship.server import preload

COUNT = """
import sys
from mlship.server import preload, zygote
preload.everything(sys.argv[1])
print(zygote.count_threads())
"""
QUIET = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


@pytest.mark.parametrize("framework", sorted(preload.LIBRARIES))
def test_importing_starts_no_thread(framework, monkeypatch):
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", COUNT, framework], capture_output=True, timeout=100)
    assert (done.stdout.decode().split(), done.returncode) == (["1"], 0), done.stderr.decode()


def test_a_library_that_is_not_there_is_left_out(monkeypatch):
    monkeypatch.setitem(preload.LIBRARIES, "python", ("no_such_module",))
    preload.everything("python")
