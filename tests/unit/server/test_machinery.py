from __future__ import annotations

import threading

from mlship.server import machinery, worker


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(worker.THREAD_PREFIX)]


def test_threads_begin_and_end_with_it() -> None:
    before = len(names())
    engine = machinery.Machinery.start(3)
    assert len(names()) == before + 5, (
        "three for inference, one each for loading and codecs, the private loop when it is needed"
    )
    assert engine.close(10)
    assert len(names()) == before


def test_code_that_does_not_end_is_said() -> None:
    engine, release = machinery.Machinery.start(1), threading.Event()
    engine.workers.submit(lambda: release.wait(30) and None)
    assert not engine.close(0.01)
    release.set()
    assert engine.close(10)
