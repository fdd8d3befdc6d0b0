import subprocess
import sys

from mlship.server import holes

PROGRAM = """
from mlship.server import holes
library = holes._library()
pieces = [library.malloc(2000) for _ in range(2000)]
for piece in pieces[::2]:
    library.free(piece)
before = holes.fill()
print(before > 1_000_000, holes._holes(library) * 10 < before)
"""


def test_what_was_free_between_is_taken():
    if holes._library() is None:
        return
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr) == ("True True\n", "")


def test_without_the_c_librarys_help_nothing_is_done(monkeypatch):
    class Other:
        def __init__(self, name):
            pass

    monkeypatch.setattr(holes.ctypes, "CDLL", Other)
    assert holes.fill() == 0
