from __future__ import annotations

from mlship.api import container


def test_the_abbreviations_of_kubernetes_keep_their_capitals() -> None:
    raw = {"hostIPC": True, "hostPID": True, "setHostnameAsFQDN": True, "hostNetwork": False}
    found = container.PodSpec.model_validate(raw)
    assert (found.host_ipc, found.host_pid, found.set_hostname_as_fqdn, found.host_network) == (True, True, True, False)
    assert found.model_dump(by_alias=True, exclude_none=True) == raw


def test_an_absent_list_is_not_an_empty_one() -> None:
    assert container.Container.model_validate({"name": "a"}).env is None
    assert container.Container.model_validate({"name": "a", "env": []}).env == ()
