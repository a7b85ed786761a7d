from __future__ import annotations

import json

import pytest

from cni_netdev.core.annotations import KEYS
from cni_netdev.core.errors import RequestError
from cni_netdev.core.model import Owner
from cni_netdev.core.policy import Pod
from nri_plugin import pods
from nri_plugin.messages import PodSandbox
from tests.wire import POD


def asking(text: str, key: str = KEYS[0]) -> PodSandbox:
    return POD._replace(annotations={"other": "x", key: text})


@pytest.mark.parametrize("key", KEYS)
def test_the_devices_of_its_annotation(key: str) -> None:
    text = json.dumps([{"name": "eth1", "new_name": "net1", "mtu": 1400}, {"name": "eth2"}])
    first, second = pods.requests(asking(text, key))
    assert (first.selector.value, first.new_name, first.mtu) == ("eth1", "net1", 1400)
    assert (second.selector.value, second.new_name) == ("eth2", None)


@pytest.mark.parametrize("pod", [POD, asking(""), asking("null"), asking("[]"), PodSandbox("c1")])
def test_most_pods_ask_for_nothing(pod: PodSandbox) -> None:
    assert pods.requests(pod) == ()


def test_all_faults_at_once_with_their_paths() -> None:
    text = json.dumps([{"name": "eth1", "mtu": 70000}, {"nam": "eth2"}, {"name": "eth3", "mac": 5}])
    with pytest.raises(RequestError) as caught:
        pods.requests(asking(text))
    where = f"annotations[{KEYS[0]!r}]"
    paths = [fault.path for fault in caught.value.faults]
    assert f"{where}[0].mtu" in paths
    assert f"{where}[1].nam" in paths
    assert f"{where}[2].mac" in paths
    assert "did you mean name?" in str(caught.value)


def test_a_link_that_is_named_twice_is_refused() -> None:
    with pytest.raises(RequestError):
        pods.requests(asking(json.dumps([{"name": "eth1"}, {"name": "eth1"}])))


def test_the_hosts_network() -> None:
    pods.refuse_host_network(asking("[]"))
    with pytest.raises(RequestError) as caught:
        pods.refuse_host_network(asking("[]", KEYS[3])._replace(netns=""))
    (fault,) = caught.value.faults
    assert fault.path == f"annotations[{KEYS[3]!r}]"
    assert "host's network" in fault.message


def test_who_it_is_to_the_core() -> None:
    assert pods.owner(POD) == Owner("nri", "", "c1", "", "hpc/solver")
    assert pods.key(POD) == pods.owner(POD).key == ("nri", "c1", "")
    assert pods.owner(PodSandbox("c1")).pod == ""


def test_what_policy_sees() -> None:
    pod = POD._replace(labels={"b": "2", "a": "1"})
    assert pods.for_policy(pod) == Pod("solver", "hpc", (("a", "1"), ("b", "2")))
    assert pods.for_policy(PodSandbox("c1")) == Pod(None, None, ())
