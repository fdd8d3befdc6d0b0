"""What makes a revision another one, and what the status remembers of it."""

from __future__ import annotations

import dataclasses
import re

import pytest

from mlship.plan import actions, observed, revision

SPEC = actions.ProcessSpec(argv=("python", "-m", "x"), env=(("A", "1"), ("TOKEN", actions.Secret("hush"))))
URI = "https://h/m.pkl?sig=hush"
READY = observed.Artifact(URI, observed.ArtifactState.READY, digest="sha256:aa", path="/cache/aa")


def test_a_revision_is_eight_hex_digits_and_says_nothing_of_its_secrets() -> None:
    name = revision.short(SPEC, "sha256:aa")
    assert re.fullmatch(r"[0-9a-f]{8}", name)
    assert name == revision.short(dataclasses.replace(SPEC), "sha256:aa")


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(SPEC, argv=("python", "-m", "y")),
        dataclasses.replace(SPEC, env=(("A", "2"), ("TOKEN", actions.Secret("hush")))),
        dataclasses.replace(SPEC, env=(("A", "1"), ("TOKEN", actions.Secret("other")))),
        dataclasses.replace(SPEC, cwd="/srv"),
        dataclasses.replace(SPEC, probe=actions.Probe(path="/ready")),
        dataclasses.replace(SPEC, stop_grace=5.0),
    ],
)
def test_whatever_runs_differently_is_another_revision(other: actions.ProcessSpec) -> None:
    assert revision.short(other, "") != revision.short(SPEC, "")


def test_other_bytes_are_another_revision() -> None:
    assert revision.short(SPEC, "sha256:aa") != revision.short(SPEC, "sha256:bb")


def test_a_target_has_a_name_as_soon_as_the_bytes_are_known() -> None:
    there = revision.target(SPEC, uri=URI, artifact=READY, memory=None)
    assert (there.name, there.startable, there.model_path) == (revision.short(SPEC, "sha256:aa"), True, "/cache/aa")
    for artifact in (
        None,
        observed.Artifact(URI, observed.ArtifactState.FETCHING),
        dataclasses.replace(READY, uri="x"),
    ):
        missing = revision.target(SPEC, uri=URI, artifact=artifact, memory=None)
        assert (missing.name, missing.startable) == ("", False)
    without = revision.target(SPEC, uri="", artifact=None, memory=None)
    assert without.name
    assert without.startable


def test_memory_names_the_target_but_starts_nothing() -> None:
    made = revision.target(SPEC, uri=URI, artifact=READY, memory=None)
    memory = revision.recall(_stored(made), SPEC)
    assert memory is not None
    again = revision.target(SPEC, uri=URI, artifact=None, memory=memory)
    assert (again.name, again.startable, again.model_path) == (made.name, False, "")
    assert revision.target(SPEC, uri="file:///other", artifact=None, memory=memory).name == ""


def test_memory_of_the_bytes_outlives_a_changed_program() -> None:
    made = revision.target(SPEC, uri=URI, artifact=READY, memory=None)
    other = dataclasses.replace(SPEC, argv=("python", "-m", "y"))
    memory = revision.recall(_stored(made), other)
    assert revision.target(other, uri=URI, artifact=None, memory=memory).name == revision.short(other, "sha256:aa")


def test_memory_that_contradicts_itself_is_forgotten_whole() -> None:
    stored = _stored(revision.target(SPEC, uri=URI, artifact=READY, memory=None))
    assert revision.recall({**stored, "digest": "sha256:bb"}, SPEC) is None
    for nonsense in (None, [], "x", {}, {**stored, "digest": 3}, {**stored, "uri": None}):
        assert revision.recall(nonsense, SPEC) is None


def test_memory_holds_no_address() -> None:
    assert "hush" not in str(_stored(revision.target(SPEC, uri=URI, artifact=READY, memory=None)))
    assert revision.remember(revision.Target(SPEC), URI) is None


def _stored(made: revision.Target) -> dict[str, str]:
    memory = revision.remember(made, URI)
    assert memory is not None
    return memory.as_dict()
