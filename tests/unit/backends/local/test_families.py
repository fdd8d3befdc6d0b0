import pytest

from mlship.backends.local import families
from mlship.plan import actions

COMMAND = ("python", "-m", "mlship.server.main")


def spec(*flags, command=COMMAND, env=(), **rest):
    return actions.ProcessSpec(argv=(*command, *flags), env=tuple(env), **rest)


@pytest.mark.parametrize("name", sorted(families.FORMATS))
def test_our_server_with_a_known_format_is_forked(name):
    assert families.of(spec("--model-path", "x", "--model-format", name)) == name


def test_the_last_of_two_formats_counts_as_it_does_for_the_server():
    assert families.of(spec("--model-format", "onnx", "--model-format", "sklearn")) == "sklearn"


@pytest.mark.parametrize(
    "other",
    [
        spec("--model-format", "sklearn", command=("python", "-m", "my.server")),
        spec("--model-format", "sklearn", command=("/usr/bin/python3", "-m", "mlship.server.main")),
        spec(),
        spec("--model-format"),
        spec("--model-format=sklearn"),
        spec("--model-format", "pmml"),
        spec("--model-format", "sklearn", needs_port=True),
        spec("--model-format", "sklearn", env=[("PYTHONPATH", "/x")]),
        spec("--model-format", "sklearn", env=[("LD_PRELOAD", "x.so")]),
        spec("--model-format", "sklearn", env=[("KMP_AFFINITY", "x")]),
    ],
)
def test_all_else_starts_cold(other):
    assert families.of(other) == ""


def test_variables_that_are_read_later_are_no_hindrance():
    env = [("API_KEY", actions.Secret("x")), ("OMP_NUM_THREADS", "2")]
    assert families.of(spec("--model-format", "onnx", env=env)) == "onnx"


def test_a_share_is_given_unless_there_is_a_flag_or_a_variable():
    def given(one):
        return families.with_share(one, one.argv, 3)[len(one.argv) :]

    assert given(spec("--model-format", "onnx")) == ("--cpus", "3")
    assert given(spec("--cpus", "1")) == ()
    assert given(spec("--cpus=1")) == ()
    assert given(spec(env=[("OMP_NUM_THREADS", "2")])) == ("--cpus", "2")
    assert given(spec(env=[("OMP_NUM_THREADS", "0")])) == ("--cpus", "3")
    assert given(spec(env=[("OMP_NUM_THREADS", "nonsense")])) == ("--cpus", "3")
    assert given(spec(command=("envoy",))) == ()


def test_every_format_has_its_libraries():
    from mlship.server import preload

    assert set(preload.LIBRARIES) == families.FORMATS
