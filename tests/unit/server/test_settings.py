from __future__ import annotations

import pathlib

import pytest

from mlship import cores, errors
from mlship.server import settings


def test_defaults() -> None:
    found = settings.parse(["--model-path", "m.pkl"])
    assert found.source is not None
    assert (found.source.name, found.source.version, found.source.path) == ("model", "1", pathlib.Path("m.pkl"))
    assert (found.host, found.port, found.grpc_port) == ("127.0.0.1", 8080, None)
    assert found.max_body_bytes == 256 * 1024 * 1024
    assert found.worker_processes is None, "the model's own code says how many"


def test_every_flag_arrives() -> None:
    what = "--model-path m --model-name iris --model-version 7 --model-format sklearn --model-option a=b=c"
    where = "--model-option d= --http-socket /s/h --grpc-socket /s/g --host ::1 --port 0 --grpc-port 9"
    limits = "--max-body-bytes 5 --request-timeout 1.5 --workers 3 --queue-size 0 --drain-seconds 2"
    limits += " --max-batch-size 7 --batch-latency-ms 2.5 --worker-processes 0 --max-concurrency 6"
    found = settings.parse(f"{what} {where} {limits} --log-format text --log-level debug".split())
    assert found.model_options == {"a": "b=c", "d": ""}
    assert found.http_socket == pathlib.Path("/s/h")
    assert (found.max_body_bytes, found.request_timeout, found.workers, found.queue_size) == (5, 1.5, 3, 0)
    assert (found.max_batch_size, found.batch_latency_ms, found.worker_processes) == (7, 2.5, 0)
    assert found.max_concurrency == 6
    assert found.source is not None
    assert found.source.processes == 0
    assert (found.drain_seconds, found.log_format, found.log_level) == (2.0, "text", "debug")


@pytest.mark.parametrize(
    ("flags", "threads"),
    [("--cpus 1", 2), ("--cpus 5", 5), ("--cpus 64", 8), ("--cpus 1 --workers 1", 1), ("--workers 20", 20)],
)
def test_threads_follow_the_processors_unless_said_otherwise(flags: str, threads: int) -> None:
    assert settings.parse(["--model-path", "m", *flags.split()]).threads == threads


def test_processors_are_those_of_this_process() -> None:
    assert settings.Settings().cpus == cores.available()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "either --model-path"),
        ("--model-path a --model-repository b", "either --model-path"),
        ("--model-path a --model-name ../x", 'cannot be named "../x"'),
        ("--model-path a --model-version x", "not a model version"),
        ("--model-path a --port 99999", "expected 0 to 65535"),
        ("--model-path a --port x", "expected a whole number"),
        ("--model-path a --request-timeout 0", "positive number of seconds"),
        ("--model-path a --request-timeout nan", "positive number of seconds"),
        ("--model-path a --request-timeout x", "positive number of seconds"),
        ("--model-path a --batch-latency-ms -1", "positive number, or 0"),
        ("--model-path a --max-batch-size -1", "expected 0 to 1000000"),
        ("--model-path a --worker-processes 257", "expected 0 to 256"),
        ("--model-path a --model-option novalue", "expected K=V"),
        ("--model-path a --model-pat b", "unrecognized arguments"),
        ("--model-path a --log-format xml", "invalid choice"),
    ],
)
def test_wrong_flags_are_said(flags: str, said: str) -> None:
    with pytest.raises(errors.SpecError, match=said):
        settings.parse(flags.split())


def test_models_are_compiled_unless_that_is_switched_off() -> None:
    assert settings.parse(["--model-path", "m"]).accelerate == "auto"
    source = settings.parse(["--model-path", "m", "--accelerate", "exact", "--proof-cache", "d"]).source
    assert source is not None
    assert (source.accelerate, source.proofs) == ("exact", pathlib.Path("d"))
    with pytest.raises(errors.SpecError, match=r"--accelerate expected auto, exact, off, got 'fast'"):
        settings.parse(["--model-path", "m", "--accelerate", "fast"])
