import json
import subprocess
import sys

import pytest

from mlship.server import pools


def test_what_somebody_has_set_stays():
    environ = {"OMP_NUM_THREADS": "5"}
    pools.declare(2, environ)
    assert environ == {"OMP_NUM_THREADS": "5", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    assert pools.limits(3, environ) == {"openmp": 5, "openblas": 2, "mkl": 2}


@pytest.mark.parametrize(("text", "number"), [("", 4), ("nonsense", 4), ("0", 4), ("-1", 4), ("2,1", 2), (" 3 ", 3)])
def test_what_makes_no_sense_is_not_followed(text, number):
    assert pools.limits(4, {"OMP_NUM_THREADS": text})["openmp"] == number


PROGRAM = """
import json, threading
import sklearn.ensemble  # OpenBLAS and OpenMP, loaded with one thread each
import threadpoolctl
from mlship.server import pools

def seen():
    return {one["internal_api"]: one["num_threads"] for one in threadpoolctl.threadpool_info()}

wanted = pools.limits(3, {})
pools.look()
before = seen()
pools.apply_to_process(wanted)
found = []
def work():
    pools.apply_to_thread(wanted)
    found.append(seen())
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(json.dumps([before, seen(), found[0]]))
"""


def test_libraries_that_are_there_are_set_for_the_process_or_the_thread(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True, timeout=100)
    before, process, thread = json.loads(done.stdout)
    assert before == {"openblas": 1, "openmp": 1}
    assert process == {"openblas": 3, "openmp": 1}
    assert thread == {"openblas": 3, "openmp": 3}
