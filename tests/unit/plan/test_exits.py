"""How exits read, and which of them are final."""

from __future__ import annotations

import dataclasses

import pytest

from mlship.plan import exits, observed

ID = observed.ReplicaId(observed.ServiceKey("default", "iris"), "0a1b2c3d", 0)


def replica(code: int | None = None, signal: int | None = None, line: str = "", **more: object) -> observed.Replica:
    ended = observed.Exit(at=5.0, code=code, signal=signal, last_line=line)
    made = observed.Replica(ID, observed.Phase.BACKOFF, since=5.0, last_exit=ended)
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "signal", "line", "said"),
    [
        (1, None, "", "ended with exit code 1"),
        (1, None, "ImportError: x", "ended with exit code 1: ImportError: x"),
        (0, None, "", "ended with exit code 0"),
        (None, 9, "", "ended by SIGKILL (killed, often because memory ran out)"),
        (137, None, "", "ended by SIGKILL (killed, often because memory ran out)"),
        (None, 1, "", "ended by SIGHUP"),
        (None, 99, "", "ended by signal 99"),
        (255, None, "", "ended with exit code 255"),
        (None, None, "", "ended, how is not known"),
    ],
)
def test_exits_in_words(code: int | None, signal: int | None, line: str, said: str) -> None:
    assert exits.words(observed.Exit(at=0.0, code=code, signal=signal, last_line=line)) == said


def test_a_model_that_cannot_be_loaded_is_final_and_speaks_for_itself() -> None:
    failure = exits.of(replica(65, line="model x could not be loaded"))
    assert failure is not None
    assert (failure.final, failure.message) == (True, "model x could not be loaded")
    silent = exits.of(replica(65))
    assert silent is not None
    assert "cannot be loaded" in silent.message


def test_a_crash_is_final_only_after_some_tries() -> None:
    first, late = exits.of(replica(1)), exits.of(replica(1, restarts=exits.CRASH_LOOP))
    assert first is not None
    assert late is not None
    assert (first.final, late.final) == (False, True)
    again = exits.of(replica(1, restarts=9, phase=observed.Phase.STARTING))
    assert again is not None
    assert not again.final, "it is started again without a back-off: it had served long"


def test_a_replica_that_recovered_has_no_failure() -> None:
    assert exits.of(replica(1, phase=observed.Phase.RUNNING, ready=True)) is None
    assert exits.of(observed.Replica(ID, observed.Phase.STARTING, since=0.0)) is None


def test_a_start_that_took_too_long_is_not_blamed_on_our_own_signal() -> None:
    failure = exits.of(replica(signal=15, message="not ready 120 s after its start; it last said: loading"))
    assert failure is not None
    assert failure.message.startswith("not ready 120 s")


def test_codes_are_kubernetes_codes() -> None:
    for given, code in ((replica(3), 3), (replica(signal=9), 137), (replica(signal=99), None), (replica(), None)):
        failure = exits.of(given)
        assert failure is not None
        assert exits.exit_code(failure) == code


def test_long_lines_are_cut() -> None:
    assert len(exits.words(observed.Exit(at=0.0, code=1, last_line="x" * 5000))) < 400
