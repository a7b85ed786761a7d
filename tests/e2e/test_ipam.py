"""Addresses from IPAM plugins: the real ones, and one that says what we like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev.request import ANNOTATIONS
from tests import faulty
from tests.agent import CniAgent
from tests.daemon import Daemon
from tests.host import PEERS, PTP, STATE_DIR, Answer
from tests.injector import KEY
from tests.ipam import LEASES, Recorder, leases
from tests.linkstate import capture, differences
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host import Host, Pod

pytestmark = pytest.mark.e2e

POOL = {"type": "host-local", "subnet": "10.9.0.0/24", "routes": [{"dst": "172.30.0.0/16"}]}
TWO = [{"name": "nic1", "new_name": "net1"}, {"name": "nic2", "new_name": "net2"}]
CONF: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "cni-netdev"}
BOTH = {**CONF, "devices": TWO, "ipam": POOL}
ONE = {**BOTH, "devices": TWO[:1]}


@pytest.fixture
def node(cni: Host) -> Host:
    for number, name in enumerate(("nic1", "nic2"), 1):
        cni.configured(name, number)
    return cni


@pytest.fixture
def recorder(node: Host) -> Recorder:
    return Recorder(node)


def entry(ipam: dict[str, Any], *devices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "cni-netdev", "devices": list(devices) or TWO, "ipam": ipam, **more}


def home(host: Host) -> bool:
    return {"nic1", "nic2"} <= set(host.names())


# --- leases ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_two_devices_get_two_leases_and_give_them_back(node: Host, version: str) -> None:
    before = {name: capture(name) for name in ("nic1", "nic2")}
    pod, network = node.pod(), node.conflist(entry(POOL), version=version)
    result = node.cnitool("add", network, pod.path).ok()
    assert sorted(ifname for _, ifname in leases().values()) == ["net1", "net2"]
    assert pod.addresses("net1") + pod.addresses("net2") == ["10.9.0.2/24", "10.9.0.3/24"]
    ips = [(each["address"], each["gateway"], each["interface"]) for each in result["ips"]]
    assert ips == [("10.9.0.2/24", "10.9.0.1", 0), ("10.9.0.3/24", "10.9.0.1", 1)]
    assert [each["gw"] for each in result["routes"]] == ["10.9.0.1"] * 2
    assert pod.json("route show 172.30.0.0/16")[0]["gateway"] == "10.9.0.1"
    if version >= "0.4.0":
        node.cnitool("check", network, pod.path).ok()
    node.cnitool("del", network, pod.path).ok()
    assert leases() == {}
    for name, state in before.items():
        assert differences(state, capture(name)) == []
    assert node.left_over() == []


def test_beside_the_main_interface_of_the_same_network(node: Host) -> None:
    """Whose leases are in the same place, under its own CNI_IFNAME."""
    pod, network = node.pod(), node.conflist(PTP, entry(POOL))
    result = node.cnitool("add", network, pod.path).ok()
    assert sorted(ifname for _, ifname in leases().values()) == ["eth0", "net1", "net2"]
    assert [each["address"][:9] for each in result["ips"]] == ["10.200.0."], "a chain's are its own"
    node.cnitool("check", network, pod.path).ok()
    node.cnitool("del", network, pod.path).ok()
    assert leases() == {}


def test_asked_for_in_a_chain_they_are_reported(node: Host) -> None:
    pod, network = node.pod(), node.conflist(PTP, entry(POOL, reportAddresses=True))
    result = node.cnitool("add", network, pod.path).ok()
    assert [each.get("gateway") for each in result["ips"][1:]] == ["10.9.0.1", "10.9.0.1"]
    assert [each["interface"] for each in result["ips"][1:]] == [2, 3]


def test_static_addresses_with_all_that_comes_with_them(node: Host) -> None:
    static = {
        "type": "static",
        "addresses": [
            {"address": "10.7.0.5/24", "gateway": "10.7.0.1"},
            {"address": "fd07::5/64", "gateway": "fd07::1"},
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "fd70::/16", "gw": "fd07::9"}],
        "dns": {"nameservers": ["10.7.0.53"]},
    }
    pod, network = node.pod(), node.conflist(entry(static, {"name": "nic1"}), version="1.1.0")
    result = node.cnitool("add", network, pod.path, ifname="data0").ok()
    assert pod.addresses("data0") == ["10.7.0.5/24", "fd07::5/64"]
    assert [each["gateway"] for each in result["ips"]] == ["10.7.0.1", "fd07::1"]
    assert pod.json("route show default")[0]["gateway"] == "10.7.0.1"
    assert pod.json("-6 route show fd70::/16")[0]["gateway"] == "fd07::9"
    assert result["dns"] == {"nameservers": ["10.7.0.53"]}
    node.cnitool("check", network, pod.path, ifname="data0").ok()
    node.cnitool("del", network, pod.path, ifname="data0").ok()
    assert home(node)


def test_devices_with_an_address_keep_theirs_and_nobody_else_is_asked(
    node: Host, recorder: Recorder
) -> None:
    pod = node.pod()
    own = [{**TWO[0], "address": "192.168.2.2/24"}, {**TWO[1], "keep_addresses": True}]
    for conf in ({**CONF, "ipam": recorder.ipam}, {**BOTH, "devices": own, "ipam": recorder.ipam}):
        node.plugin("ADD", conf, netns=pod.path).ok()
        node.plugin("CHECK", {**conf, "devices": []}, netns=pod.path).ok()
        node.plugin("DEL", conf, netns=pod.path).ok()
        assert recorder.asked() == []
    mixed = {**BOTH, "devices": [own[0], TWO[1]], "ipam": recorder.ipam}
    node.plugin("ADD", mixed, netns=pod.path).ok()
    assert pod.addresses("net1") == ["192.168.2.2/24"]
    assert pod.addresses("net2") == ["10.8.0.2/24"]
    assert recorder.asked() == ["ADD net2"]


def test_the_same_add_again_takes_no_second_lease(node: Host) -> None:
    pod = node.pod()
    first = node.plugin("ADD", BOTH, netns=pod.path).ok()
    held = leases()
    assert node.plugin("ADD", BOTH, netns=pod.path).ok() == first
    assert leases() == held


def test_what_it_is_told(node: Host, recorder: Recorder) -> None:
    """All as we got it, but for the name; the links do not move before it has answered."""
    pod = node.pod()
    conf = {**BOTH, "ipam": {**recorder.ipam, "own": [1]}, "other": {"x": "\u00e9"}}
    node.plugin("ADD", conf, netns=pod.path).ok()
    node.plugin("CHECK", conf, netns=pod.path).ok()
    node.plugin("DEL", conf, netns=pod.path).ok()
    calls = recorder.calls()
    assert [f"{each.verb} {each.ifname}" for each in calls] == [
        *("ADD net1", "ADD net2", "CHECK net1", "CHECK net2", "DEL net1", "DEL net2")
    ]
    assert all((each.conf, each.container) == (conf, "c1") for each in calls)
    assert [set(each.inside) & {"net1", "net2"} for each in calls[:2]] == [set(), set()]
    assert set(calls[-1].inside) & {"net1", "net2"} == set(), "devices come home first"


def test_one_that_asks_through_the_link_finds_it_in_the_pod(node: Host) -> None:
    pod, dhcp = node.pod(), Recorder(node, "dhcp")
    node.plugin("ADD", {**BOTH, "ipam": dhcp.ipam}, netns=pod.path).ok()
    assert [set(each.inside) >= {"net1", "net2"} for each in dhcp.calls()] == [True, True]
    assert pod.addresses("net2") == ["10.8.0.2/24"]
    node.plugin("DEL", {**BOTH, "ipam": dhcp.ipam}, netns=pod.path).ok()
    assert dhcp.asked() == ["DEL net1", "DEL net2"]
    dhcp.says(**{"ADD net2": {"code": 11, "msg": "no offer"}})
    code, said = node.plugin("ADD", {**BOTH, "ipam": dhcp.ipam}, netns=pod.path).error()
    assert (code, "ipam dhcp for net2: ADD: no offer (code 11)" in said) == (107, True)
    assert home(node)
    assert dhcp.asked() == ["ADD net1", "ADD net2", "DEL net1", "DEL net2"]


UDHCPD = """\
interface nic1p
start 10.5.0.20
end 10.5.0.29
option subnet 255.255.255.0
option router 10.5.0.1
lease_file {0}/leases
pidfile {0}/pid
"""


def test_an_address_of_a_real_dhcp_server_by_the_real_daemon(node: Host) -> None:
    """The plugin only asks its daemon, which asks through the link, in the pod."""
    before, pod, directory = capture("nic1"), node.pod(), node.directory
    node.ip("addr add 10.5.0.1/24 dev nic1p")
    (directory / "leases").touch()
    (directory / "udhcpd.conf").write_text(UDHCPD.format(directory))
    conf = {**ONE, "ipam": {"type": "dhcp"}}
    code, said = node.plugin("ADD", conf, netns=pod.path).error()
    assert (code, "error dialing DHCP daemon" in said) == (107, True)
    server = ["busybox", "udhcpd", "-f", str(directory / "udhcpd.conf")]
    daemon = [str(PEERS / "dhcp"), "daemon"]
    with (
        Daemon(server, directory / "udhcpd.log"),
        Daemon(daemon, directory / "dhcp.log") as dhcp,
    ):
        until(Path("/run/cni/dhcp.sock").exists, dhcp.log_file.read_text)
        result = node.plugin("ADD", conf, netns=pod.path).ok()
        (address,) = pod.addresses("net1")
        assert address.startswith("10.5.0.2")
        assert result["ips"] == [{"address": address, "interface": 0, "gateway": "10.5.0.1"}]
        assert pod.json("route show default")[0]["gateway"] == "10.5.0.1"
        node.plugin("CHECK", conf, netns=pod.path).ok()
        node.plugin("DEL", conf, netns=pod.path).ok()
        assert "releasing lease" in dhcp.log_file.read_text()
    node.ip("addr del 10.5.0.1/24 dev nic1p")
    assert differences(before, capture("nic1")) == []


# --- failures --------------------------------------------------------------------------------


def test_a_failed_add_leaves_no_lease_and_moves_nothing(node: Host) -> None:
    before = {name: capture(name) for name in ("nic1", "nic2")}
    small = {**POOL, "rangeStart": "10.9.0.7", "rangeEnd": "10.9.0.7"}
    pod, network = node.pod(), node.conflist(entry(small))
    answer = node.cnitool("add", network, pod.path)
    assert "ipam host-local for net2" in answer.stdout + answer.stderr
    assert leases() == {}
    for name, state in before.items():
        assert differences(state, capture(name)) == []
    assert node.left_over() == []


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ({"code": 5, "msg": "disk full"}, "ADD: disk full (code 5)"),
        ("{", "its answer is no JSON: {"),
        ("", "its answer is no JSON"),
        ({"ips": []}, "ips: has no address"),
        ({"cniVersion": "7", "ips": []}, "of version '7'"),
        ({"ips": [{"address": "10.8.0/24"}]}, "ips[0].address: '10.8.0/24' is no IP address"),
    ],
)
def test_whatever_it_says_wrong_is_told_and_undone(
    node: Host, recorder: Recorder, says: Any, words: str
) -> None:
    recorder.says(**{"ADD net2": says})
    code, said = node.plugin("ADD", {**BOTH, "ipam": recorder.ipam}, netns=node.pod().path).error()
    assert (code, words in said) == (107, True), said
    assert recorder.asked() == ["ADD net1", "ADD net2", "DEL net1", "DEL net2"]
    assert home(node)
    assert node.left_over() == []


def test_a_device_that_is_refused_takes_no_lease(node: Host, recorder: Recorder) -> None:
    """By policy, by a name that the pod has, by a route that no address leads to."""
    pod = node.pod()
    pod.ip("link add taken type ifb")
    denied = {
        **CONF,
        "ipam": recorder.ipam,
        "policy": {"rules": [{"deny": {"names": ["nic1"]}}]},
        "runtimeConfig": {ANNOTATIONS: {KEY: "- name: nic1\n"}},
    }
    taken = {**BOTH, "ipam": recorder.ipam, "devices": [{"name": "nic1", "new_name": "taken"}]}
    for conf, code in ((denied, 102), (taken, 104)):
        assert node.plugin("ADD", conf, netns=pod.path).error()[0] == code
        assert recorder.asked() == []
    routes = [{"dst": "10.77.0.0/16", "gw": "10.66.0.1"}]
    late = {**BOTH, "ipam": recorder.ipam, "devices": [{**TWO[0], "routes": routes}]}
    assert node.plugin("ADD", late, netns=pod.path).error()[0] == 104
    assert recorder.asked() == ["ADD net1", "DEL net1"]
    down = {**BOTH, "ipam": recorder.ipam, "devices": [{**TWO[0], "up": False}]}
    recorder.says(ADD={"ips": [{"address": "10.8.0.2/24"}], "routes": [{"dst": "10.0.0.0/8"}]})
    code, said = node.plugin("ADD", down, netns=pod.path).error()
    assert (code, "devices[0].up: is false" in said) == (104, True)
    assert recorder.asked() == ["ADD net1", "DEL net1"]
    assert home(node)
    assert node.left_over() == []


def test_a_plugin_that_is_not_there(node: Host) -> None:
    pod, conf = node.pod(), {**BOTH, "ipam": {"type": "nowhere"}}
    code, said = node.plugin("ADD", conf, netns=pod.path).error()
    assert (code, "ipam nowhere for net1: there is no such plugin in /" in said) == (107, True)
    assert node.plugin("STATUS", conf).error()[0] == 50
    assert home(node)


# --- DEL -------------------------------------------------------------------------------------


def test_del_can_be_repeated(node: Host) -> None:
    pod = node.pod()
    node.plugin("ADD", BOTH, netns=pod.path).ok()
    for _ in range(2):
        node.plugin("DEL", BOTH, netns=pod.path).ok()
        assert leases() == {}


def test_when_the_namespace_or_a_link_is_gone(node: Host) -> None:
    pod = node.pod()
    node.plugin("ADD", BOTH, netns=pod.path).ok()
    pod.ip("link delete net2")
    pod.delete()
    node.plugin("DEL", BOTH, netns="").ok()
    assert leases() == {}
    assert "nic1" in node.names()
    assert node.left_over() == []


TEXT = "- {name: nic1, new_name: net1}\n- {kernel_path: /sys/devices/virtual/net/nic2}\n"
ONLY = {"prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0"}]}}
CHAIN = {"prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0"}, {"name": "nic1"}]}}


@pytest.mark.parametrize(
    ("more", "given_back"),
    [
        ({"devices": TWO}, {"net1", "net2"}),
        ({"runtimeConfig": {ANNOTATIONS: {KEY: TEXT}}}, {"net1", "nic2"}),
        ({"devices": [{"name": "nic1"}], **ONLY}, {"eth0"}),
        ({"devices": [{"name": "nic1"}], **CHAIN}, {"nic1"}),
        ({"devices": [{"name": "nic9"}, {"name": "nic1"}]}, {"nic1"}),
        ({"devices": [{**TWO[0], "address": "10.1.1.1/24"}]}, set()),
        ({"devices": [{"nme": 7}]}, set()),
        ({}, set()),
    ],
)
def test_without_a_record_the_configuration_says_what_to_give_back(
    node: Host, more: dict[str, Any], given_back: set[str]
) -> None:
    """As after a reboot: host-local keeps its leases on disk, the records are in a tmpfs."""
    pod, names = node.pod(), ("net1", "net2", "nic1", "nic2", "eth0")
    conf = {**CONF, "ipam": POOL}
    for name in names:
        node.plugin("ADD", conf, netns=pod.path, ifname=name, program="host-local").ok()
    pod.delete()
    for _ in range(2):
        node.plugin("DEL", {**conf, **more}, netns="").ok()
        assert {ifname for _, ifname in leases().values()} == set(names) - given_back


@pytest.mark.parametrize("then", [{}, {"ipam": {"type": "nowhere"}}, {"ipam": 7}])
def test_the_record_says_what_to_give_back_when_the_configuration_changed(
    node: Host, then: dict[str, Any]
) -> None:
    pod = node.pod()
    node.plugin("ADD", BOTH, netns=pod.path).ok()
    node.plugin("DEL", {**CONF, **then}, netns=pod.path).ok()
    assert leases() == {}
    assert node.left_over() == []


def test_a_torn_record_says_nothing_so_the_configuration_does(node: Host) -> None:
    pod = node.pod()
    node.plugin("ADD", BOTH, netns=pod.path).ok()
    (record,) = (STATE_DIR / "records").iterdir()
    record.write_text("{")
    node.plugin("DEL", BOTH, netns=pod.path).ok()
    assert leases() == {}


def test_taking_the_plugin_away_tells_of_leases(node: Host, recorder: Recorder) -> None:
    pod, conf = node.pod(), {**ONE, "ipam": recorder.ipam}
    node.plugin("ADD", conf, netns=pod.path).ok()
    told = node.netdevctl("release", "c1")
    assert (told.code, "addresses of net1 stay leased" in told.stdout) == (0, True)
    table = node.netdevctl("attachments").stdout
    assert "only leases" in table
    told = node.netdevctl("uninstall", "--bin-dir", str(node.bin_dir))
    assert told.code == 0
    assert "c1/eth0 has addresses leased, which are not given back any more" in told.stderr


def test_what_is_not_taken_back_is_an_error_after_the_devices_are_home(
    node: Host, recorder: Recorder
) -> None:
    pod, conf = node.pod(), {**BOTH, "ipam": recorder.ipam}
    node.plugin("ADD", conf, netns=pod.path).ok()
    recorder.says(**{"DEL net1": {"code": 11, "msg": "database away"}})
    code, said = node.plugin("DEL", conf, netns=pod.path).error()
    assert (code, "ipam recorder for net1: DEL: database away" in said) == (107, True)
    assert home(node)
    assert node.netdevctl("recover").code == 0
    assert json.loads(node.netdevctl("attachments", "--json").stdout)[0]["leases"] == ["net1"]
    recorder.says()
    recorder.calls()
    node.plugin("DEL", CONF, netns=pod.path).ok()
    assert recorder.asked() == ["DEL net1"], "the other was given back"
    assert node.left_over() == []


def test_an_add_of_the_same_attachment_gives_back_first(node: Host, recorder: Recorder) -> None:
    pod, conf = node.pod(), {**BOTH, "ipam": recorder.ipam}
    recorder.says(ADD={"code": 5, "msg": "no"}, DEL={"code": 5, "msg": "no"})
    code, said = node.plugin("ADD", conf, netns=pod.path).error()
    assert (code, "for net2: DEL: no (code 5)" in said) == (107, True)
    assert node.plugin("ADD", conf, netns=pod.path).error()[0] == 104
    recorder.says()
    recorder.calls()
    node.plugin("ADD", conf, netns=pod.path).ok()
    assert recorder.asked() == ["DEL net1", "DEL net2", "ADD net1", "ADD net2"]


def test_who_is_brought_home_by_others_keeps_its_lease_until_its_del(node: Host) -> None:
    pod = node.pod()
    node.plugin("ADD", BOTH, netns=pod.path).ok()
    pod.delete()
    told = node.netdevctl("recover")
    assert "addresses of net1, net2 stay leased" in told.stdout
    assert (home(node), len(leases())) == (True, 2)
    assert "net1" not in node.netdevctl("recover").stdout, "it is told once"
    node.plugin("DEL", BOTH, netns=pod.path).ok()
    assert leases() == {}
    assert node.left_over() == []


# --- CHECK, GC, STATUS -----------------------------------------------------------------------


def test_check_notices_a_lease_that_is_gone(node: Host) -> None:
    pod, network = node.pod(), node.conflist(entry(POOL), version="1.1.0")
    node.cnitool("add", network, pod.path).ok()
    (LEASES / "net" / "10.9.0.3").unlink()
    answer = node.cnitool("check", network, pod.path)
    assert answer.code == 1
    said = answer.stdout + answer.stderr
    assert "ipam host-local for net2: CHECK: host-local: Failed to find address" in said
    assert "for net1" not in said


def test_check_says_that_an_address_was_taken_off(node: Host) -> None:
    pod = node.pod()
    node.plugin("ADD", BOTH, netns=pod.path).ok()
    pod.ip("addr del 10.9.0.2/24 dev net1")
    code, said = node.plugin("CHECK", BOTH, netns=pod.path).error()
    assert (code, "net1 has lost address 10.9.0.2/24" in said) == (106, True)


def test_gc_is_passed_on_with_our_own_names_among_what_stands(
    node: Host, recorder: Recorder
) -> None:
    pod, other = node.pod(), node.pod("other")
    conf = {**CONF, "ipam": recorder.ipam}
    node.plugin("ADD", {**conf, "devices": TWO[:1]}, netns=pod.path).ok()
    node.plugin("ADD", {**conf, "devices": TWO[1:]}, netns=other.path, container="c2").ok()
    recorder.calls()
    stands = [{"containerID": "c1", "ifname": "eth0"}]
    listed = {"cni.dev/valid-attachments": stands, "cni.dev/attachments": stands}
    node.plugin("GC", {**conf, **listed}, container="", ifname="").ok()
    released, collected = recorder.calls()
    assert (released.verb, released.ifname, released.container) == ("DEL", "net2", "c2")
    own = [*stands, {"containerID": "c1", "ifname": "net1"}]
    assert collected.conf == {**conf, **dict.fromkeys(listed, own)}
    assert "nic2" in node.names()
    assert pod.names() == ["lo", "net1"]
    node.plugin("GC", conf, container="", ifname="").ok()
    (collected,) = recorder.calls()
    assert collected.conf == conf, "no list is not an empty one"


def test_gc_and_status_say_what_the_plugin_says(node: Host, recorder: Recorder) -> None:
    conf = {**CONF, "ipam": recorder.ipam}
    node.plugin("STATUS", conf).ok()
    assert recorder.asked() == ["STATUS eth0"]
    recorder.says(STATUS={"code": 50, "msg": "not yet"}, GC={"code": 5, "msg": "cannot look"})
    code, said = node.plugin("STATUS", conf).error()
    assert (code, "ipam recorder: STATUS: not yet" in said) == (50, True)
    code, said = node.plugin("GC", {**conf, "cni.dev/valid-attachments": []}).error()
    assert (code, "ipam recorder: GC: cannot look (code 5)" in said) == (11, True)


def test_gc_and_status_with_the_real_host_local(node: Host) -> None:
    pod, network = node.pod(), node.conflist(entry(POOL), version="1.1.0")
    node.cnitool("add", network, pod.path).ok()
    node.cnitool("status", network, pod.path).ok()
    node.plugin("GC", {**BOTH, "cni.dev/valid-attachments": []}, container="", ifname="").ok()
    assert home(node)
    assert leases() == {}


# --- killed, and the agent -------------------------------------------------------------------


def by_del(host: Host, pod: Pod) -> None:
    host.plugin("DEL", ONE, netns=pod.path).ok()


def by_bare_del(host: Host, pod: Pod) -> None:
    host.plugin("DEL", CONF, netns=pod.path).ok()


def by_adding_again(host: Host, pod: Pod) -> None:
    host.plugin("ADD", ONE, netns=pod.path).ok()
    assert len(leases()) == 1
    by_del(host, pod)


@pytest.mark.parametrize(
    ("verb", "way"), [("ADD", by_bare_del), ("ADD", by_adding_again), ("DEL", by_del)]
)
def test_killed_at_every_step(node: Host, verb: str, way: Callable[[Host, Pod], None]) -> None:
    before = {name: capture(name) for name in ("nic1", "nic2")}
    faulty.install(node.bin_dir)
    pod, trace = node.pod(), node.directory / "trace"

    def begin() -> None:
        if verb == "DEL":
            node.plugin("ADD", ONE, netns=pod.path).ok()

    def call(**env: str) -> int:
        return node.plugin(verb, ONE, netns=pod.path, env=env).code

    begin()
    assert call(NETDEV_TRACE=str(trace)) == 0
    numbers = faulty.moments(trace.read_text().splitlines())
    by_del(node, pod)
    for number in numbers:
        begin()
        assert call(NETDEV_KILL_AT=f"{number}:after") == -9
        way(node, pod)
        node.netdevctl("recover")
        assert leases() == {}, number
        for name, state in before.items():
            assert differences(state, capture(name)) == [], number
        assert node.left_over() == [], number


def test_killed_while_the_plugin_is_at_work(node: Host) -> None:
    """It has given an address, of which we know nothing yet."""
    pod = node.pod()
    slain = node.bin_dir / "slain"
    slain.write_text(
        "#!/bin/sh\n"
        'if [ "$CNI_COMMAND" = ADD ]; then "${0%/*}/host-local" >/dev/null; kill -9 $PPID; fi\n'
        'exec "${0%/*}/host-local"\n'
    )
    slain.chmod(0o755)
    conf = {**BOTH, "ipam": {**POOL, "type": "slain"}}
    assert node.plugin("ADD", conf, netns=pod.path).code == -9
    assert list(leases().values()) == [("c1", "net1")]
    node.plugin("DEL", CONF, netns=pod.path).ok()
    assert leases() == {}
    assert home(node)
    assert node.left_over() == []


def test_a_process_and_the_agent_give_the_same_bytes(node: Host) -> None:
    pod, recorder = node.pod(), Recorder(node)
    conf, bare = {**BOTH, "ipam": recorder.ipam}, {**CONF, "ipam": recorder.ipam}
    calls: list[tuple[str, dict[str, Any]]] = [
        *(("ADD", bare), ("DEL", bare), ("DEL", conf)),
        *(("ADD", conf), ("ADD", conf), ("CHECK", conf), ("STATUS", conf)),
        ("GC", {**conf, "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}),
        *(("CHECK", CONF), ("DEL", CONF), ("DEL", conf), ("ADD", conf)),
        ("GC", {**CONF, "cni.dev/valid-attachments": []}),
    ]

    def all_answers() -> tuple[list[Answer], list[str]]:
        answers = [node.plugin(verb, each, netns=pod.path) for verb, each in calls]
        return answers, recorder.asked()

    by_process = all_answers()
    with CniAgent(node) as agent:
        by_agent = all_answers()
        told = agent.answered()
    assert by_agent == by_process
    assert {each.code for each in by_agent[0]} == {0}
    assert told == 3, "what takes no plugin is the agent's to answer"
    assert home(node)
