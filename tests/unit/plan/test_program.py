"""From a service to a command line."""

from __future__ import annotations

from typing import Any

import pytest

from mlship import errors
from mlship.api import runtime as runtimes
from mlship.api import service as services
from mlship.plan import actions, program


def effective(predictor: dict[str, Any], **metadata: Any) -> services.Effective:
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris", **metadata},
        "spec": {"predictor": predictor},
    }
    return services.effective(services.InferenceService.model_validate(document))


def model(**more: Any) -> dict[str, Any]:
    return {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "file:///m", **more}}


def container(**more: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "command": ["serve"], **more}]}


def runtime(**more: Any) -> runtimes.ServingRuntime:
    return runtimes.ServingRuntime.model_validate(
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "ServingRuntime",
            "metadata": {"name": "mine"},
            "spec": {"supportedModelFormats": [{"name": "sklearn"}], "containers": [{"name": "c", **more}]},
        }
    )


def own() -> runtimes.ClusterServingRuntime:
    return runtimes.builtin()[0]


def flag(spec: actions.ProcessSpec, name: str) -> str:
    return spec.argv[spec.argv.index(name) + 1]


@pytest.mark.parametrize(
    ("batcher", "flags"),
    [
        ({}, ("--max-batch-size", "32")),
        ({"maxBatchSize": 8, "maxLatency": 5}, ("--max-batch-size", "8", "--batch-latency-ms", "5")),
    ],
)
def test_a_batcher_becomes_flags(batcher: dict[str, Any], flags: tuple[str, ...]) -> None:
    spec = program.spec_of(effective({"batcher": batcher, **model()}), own())
    first = spec.argv.index("--max-batch-size")
    assert spec.argv[first : first + len(flags)] == flags
    assert ("--batch-latency-ms" in spec.argv) == ("maxLatency" in batcher)
    assert "--max-batch-size" not in program.spec_of(effective(model()), own()).argv


def test_a_limit_of_concurrency_becomes_a_flag() -> None:
    argv = program.spec_of(effective({"containerConcurrency": 4, **model()}), own()).argv
    assert argv[argv.index("--max-concurrency") + 1] == "4"
    assert "--max-concurrency" not in program.spec_of(effective({"containerConcurrency": 0, **model()}), own()).argv
    vast = program.spec_of(effective({"containerConcurrency": 2**40, **model()}), own()).argv
    assert vast[vast.index("--max-concurrency") + 1] == "1000000"


def test_a_batchers_timeout_ends_requests_earlier_never_later() -> None:
    for seconds, expected in ((7, "7"), (7000, "600")):
        spec = program.spec_of(effective({"batcher": {"timeout": seconds}, **model()}), own())
        assert flag(spec, "--request-timeout") == expected


def test_our_server_gets_the_model_its_sockets_and_limits() -> None:
    spec = program.spec_of(effective(model(args=["--queue-size", "5"])), own())
    assert spec.argv[:3] == ("python", "-m", "mlship.server.main")
    assert flag(spec, "--model-path") == "$(MLSHIP_MODEL_PATH)"
    assert flag(spec, "--model-name") == "iris"
    assert flag(spec, "--model-format") == "sklearn"
    assert flag(spec, "--http-socket") == "$(MLSHIP_HTTP_SOCKET)"
    assert flag(spec, "--grpc-socket") == "$(MLSHIP_GRPC_SOCKET)"
    assert flag(spec, "--log-format") == "json"
    assert spec.argv[-2:] == ("--queue-size", "5")
    assert spec.probe.path == "/v2/models/iris/ready"
    assert not spec.needs_port


@pytest.mark.parametrize(("timeout", "rung"), [(None, 600), (600, 600), (601, 3600), (86400, 86400), (100000, 100000)])
def test_the_server_has_a_coarser_limit_than_the_gateway(timeout: int | None, rung: int) -> None:
    predictor = model() if timeout is None else {**model(), "timeout": timeout}
    assert flag(program.spec_of(effective(predictor), own()), "--request-timeout") == str(rung)


def test_the_drain_ends_before_the_grace() -> None:
    spec = program.spec_of(effective({**model(), "terminationGracePeriodSeconds": 10}), own())
    assert (spec.stop_grace, flag(spec, "--drain-seconds")) == (10.0, "8")
    short = program.spec_of(effective({**model(), "terminationGracePeriodSeconds": 0}), own())
    assert (short.stop_grace, flag(short, "--drain-seconds")) == (0.0, "1")


def test_cores_become_threads_and_the_users_own_count_wins() -> None:
    spec = program.spec_of(
        effective(model(resources={"limits": {"cpu": "1500m"}}, env=[{"name": "OMP_NUM_THREADS", "value": "1"}])), own()
    )
    assert dict(spec.env) == {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    assert flag(spec, "--workers") == "2"
    assert "--workers" not in program.spec_of(effective(model()), own()).argv


def test_variables_that_sound_secret_do_not_print_themselves() -> None:
    env = [{"name": name, "value": "hush"} for name in ("HF_TOKEN", "DB_PASSWORD", "API_KEY", "AWS_SECRET")]
    spec = program.spec_of(effective(model(env=[*env, {"name": "MODE", "value": "fast"}])), own())
    assert "hush" not in repr(spec)
    assert [value for _, value in spec.env] == [actions.Secret("hush")] * 4 + ["fast"]


def test_a_container_gets_a_port_unless_it_takes_the_socket() -> None:
    ported = program.spec_of(effective(container(env=[{"name": "PORT", "value": "8080"}])), None)
    assert ported.needs_port
    assert "PORT" not in dict(ported.env), "the one that is free wins"
    socketed = program.spec_of(effective(container(args=["--uds", "$(MLSHIP_HTTP_SOCKET)"])), None)
    assert not socketed.needs_port
    by_variable = container(env=[{"name": "UDS", "value": "$(MLSHIP_HTTP_SOCKET)"}])
    assert not program.spec_of(effective(by_variable), None).needs_port


def test_a_container_sees_its_model_where_kserve_has_it() -> None:
    spec = program.spec_of(effective(container(args=["--dir=/mnt/models/v1"], workingDir="/srv")), None)
    assert spec.argv == ("serve", "--dir=$(MLSHIP_MODEL_PATH)/v1")
    assert spec.cwd == "/srv"
    assert dict(spec.env)["INFERENCE_SERVICE_NAME"] == "iris"


def test_a_container_says_how_it_is_asked() -> None:
    probe = {"httpGet": {"path": "healthz", "port": 1}, "periodSeconds": 5, "timeoutSeconds": 3}
    assert program.spec_of(effective(container(readinessProbe=probe)), None).probe == actions.Probe(
        "/healthz", 5.0, 3.0
    )
    assert program.spec_of(effective(container()), None).probe == actions.Probe()
    https = {"httpGet": {"path": "/x", "port": 1, "scheme": "HTTPS"}}
    assert program.spec_of(effective(container(readinessProbe=https)), None).probe.path == ""
    bare = {"httpGet": {"port": 1}}
    assert program.spec_of(effective(container(readinessProbe=bare)), None).probe.path == "/"


def test_a_startup_probe_gives_more_time() -> None:
    probe = {"httpGet": {"port": 1}, "periodSeconds": 10, "failureThreshold": 30, "initialDelaySeconds": 5}
    assert program.spec_of(effective(container(startupProbe=probe)), None).start_deadline == 305.0
    assert program.spec_of(effective(container()), None).start_deadline == 120.0


def test_a_runtime_of_the_users_is_run_as_written() -> None:
    found = runtime(
        command=["srv"], args=["--m={{.Name}}", "--f={{.Annotations.modelFormat}}"], env=[{"name": "A", "value": "1"}]
    )
    spec = program.spec_of(effective(model(args=["--more"], env=[{"name": "A", "value": "2"}])), found)
    assert spec.argv == ("srv", "--m=iris", "--f=sklearn", "--more")
    assert dict(spec.env)["A"] == "2"


def test_a_command_of_the_service_takes_the_place_of_the_runtimes() -> None:
    assert program.spec_of(effective(model(command=["mine"])), own()).argv[0] == "mine"


def test_what_cannot_be_run_here_is_refused() -> None:
    with pytest.raises(errors.SpecError, match="The runtime mine has no command"):
        program.spec_of(effective(model()), runtime(image="x"))
    with pytest.raises(errors.SpecError, match="The container of default/iris has no command"):
        program.spec_of(effective({"containers": [{"name": "c", "image": "x"}]}), None)
    with pytest.raises(errors.SpecError, match=r"metadata\.labels\.team"):
        program.spec_of(effective(model()), runtime(command=["x"], args=["{{.Labels.team}}"]))


def test_the_annotation_becomes_a_flag() -> None:
    asked = program.spec_of(effective(model(), annotations={"mlship.dev/accelerate": "exact"}), own())
    assert flag(asked, "--accelerate") == "exact"
    assert "--accelerate" not in program.spec_of(effective(model()), own()).argv


@pytest.mark.parametrize(
    ("timeout", "grace"), [(None, 65), (1, 65), (60, 65), (61, 605), (601, 3605), (86400, 86405), (100000, 100005)]
)
def test_a_replica_has_the_time_of_its_slowest_request_to_end(timeout: int | None, grace: int) -> None:
    predictor = model() if timeout is None else {**model(), "timeout": timeout}
    spec = program.spec_of(effective(predictor), own())
    assert (spec.stop_grace, flag(spec, "--drain-seconds")) == (grace, str(grace - 2))
    assert grace - 2 > (timeout or 60)
