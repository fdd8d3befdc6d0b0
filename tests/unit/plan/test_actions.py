"""Actions print themselves, and nothing secret with them."""

from __future__ import annotations

from mlship.plan import actions, observed

ID = observed.ReplicaId(observed.ServiceKey("team", "iris"), "0a1b2c3d", 1)
SPEC = actions.ProcessSpec(argv=("x",), env=(("TOKEN", actions.Secret("hush")),))


def test_actions_read_as_orders_with_their_reason() -> None:
    assert str(actions.FetchArtifact("file:///m", why="it changed")) == "fetch file:///m (it changed)"
    assert str(actions.StartReplica(ID, SPEC)) == "start replica team/iris-0a1b2c3d-1"
    assert str(actions.StopReplica(ID, why="done")) == "stop replica team/iris-0a1b2c3d-1 (done)"
    assert str(actions.ForgetArtifact("file:///m")) == "forget file:///m"


def test_signed_addresses_and_secrets_are_not_shown() -> None:
    assert "hush" not in str(actions.FetchArtifact("https://u:hush@h/m?sig=hush"))
    assert "hush" not in repr(actions.StartReplica(ID, SPEC))
    assert str(actions.Secret("hush")) == "<redacted>"
