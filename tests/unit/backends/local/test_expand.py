import sys

import pytest

from mlship.backends.local import expand
from mlship.plan import actions


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)$(B)y", "x12y"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
        ("$(B C)", "$(B C)"),
    ],
)
def test_references_as_in_kubernetes(text, expanded):
    assert expand.expand(text, {"A": "1", "B": "2"}) == expanded


def spec(*argv, **rest):
    return actions.ProcessSpec(argv=argv, **rest)


def test_variables_refer_to_those_before_them_and_to_what_is_provided():
    env = (("A", "$(PORT)"), ("B", "$(A)-$(LATER)"), ("LATER", "x"), ("KEY", actions.Secret("k-$(A)")))
    command = expand.command(spec("run", "$(B)", "$(KEY)", env=env), provided={"PORT": "80"}, inherited={})
    assert command.argv == ("run", "80-$(LATER)", "k-80")
    assert command.env == {
        "PYTHONUNBUFFERED": "1", "PORT": "80", "A": "80", "B": "80-$(LATER)", "LATER": "x", "KEY": "k-80"
    }  # fmt: skip
    assert "k-80" not in repr(command.env.__class__) and "env" not in repr(command)


def test_our_own_configuration_is_not_inherited_and_the_rest_is():
    inherited = {"PATH": "/bin", "MLSHIP_TOKEN": "x", "HOME": "/"}
    command = expand.command(spec("run", env=(("HOME", "/tmp"),)), provided={}, inherited=inherited)
    assert command.env == {"PATH": "/bin", "HOME": "/tmp", "PYTHONUNBUFFERED": "1"}


def test_python_is_the_interpreter_we_run_on():
    assert expand.command(spec("python", "x"), provided={}, inherited={}).argv == (sys.executable, "x")
    assert expand.command(spec("python3"), provided={}, inherited={}).argv == ("python3",)


def test_what_a_spec_refers_to_and_hides():
    secret = spec("run", env=(("A", actions.Secret("$(G)")), ("B", actions.Secret(""))))
    assert expand.refers_to(secret, "G")
    assert not expand.refers_to(secret, "H")
    assert expand.secrets(secret) == ("$(G)",)
