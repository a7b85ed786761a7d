"""What IPAM plugins say and are told, in every version's form."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev.core.errors import LeaseRefused
from cni_netdev.core.model import Granted, Lease, RouteRequest
from cni_netdev.ipam import configuration, failure, granted, with_valid


def parsed(document: Any, version: str = "1.1.0") -> Granted:
    return granted(json.dumps(document).encode(), "net1", version)


IP = {"address": "10.9.0.2/24", "gateway": "10.9.0.1"}


@pytest.mark.parametrize(
    "document",
    [
        {"ip4": {"ip": "10.9.0.2/24", "gateway": "10.9.0.1", "routes": [{"dst": "0.0.0.0/0"}]}},
        {"cniVersion": "0.2.0", "ip4": {"ip": IP["address"], "gateway": IP["gateway"]}},
    ],
)
def test_results_of_the_first_versions(document: dict[str, Any]) -> None:
    found = parsed({"cniVersion": "0.1.0", **document})
    assert found.addresses == ("10.9.0.2/24",)
    assert found.lease == Lease("net1", (("10.9.0.2/24", "10.9.0.1"),))
    expected = (RouteRequest("0.0.0.0/0", gw="10.9.0.1"),) if "routes" in document["ip4"] else ()
    assert found.routes == expected


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", None, ""])
def test_results_of_later_ones(version: str | None) -> None:
    six = {"address": "FD07::5/64", "version": "6", "gateway": "fd07::1", "interface": 0}
    routes = [{"dst": "172.16.0.0/12"}, {"dst": "::/0"}, {"dst": "10.1.0.0/16", "gw": "10.9.0.9"}]
    found = parsed(
        {
            "cniVersion": version,
            "interfaces": None,
            "ips": [{**IP, "version": "4"}, six],
            "routes": routes,
            "dns": {"nameservers": ["10.0.0.53"]},
        }
    )
    assert found == Granted(
        Lease(
            "net1",
            (("10.9.0.2/24", "10.9.0.1"), ("fd07::5/64", "fd07::1")),
            '{"nameservers": ["10.0.0.53"]}',
        ),
        ("10.9.0.2/24", "fd07::5/64"),
        (
            RouteRequest("172.16.0.0/12", gw="10.9.0.1"),
            RouteRequest("::/0", gw="fd07::1"),
            RouteRequest("10.1.0.0/16", gw="10.9.0.9"),
        ),
    )


def test_all_that_a_route_may_have_and_what_go_writes_for_nothing() -> None:
    full = {"mtu": 1400, "advmss": 1360, "priority": 7, "table": 100, "scope": 253}
    empty = dict.fromkeys(full, 0)
    found = parsed(
        {
            "ips": [{"address": "10.9.0.2/24", "gateway": ""}],
            "routes": [{"dst": "10.0.0.0/8", "gw": "", **full}, {"dst": "11.0.0.0/8", **empty}],
            "dns": {},
        }
    )
    assert found.routes == (
        RouteRequest("10.0.0.0/8", None, None, 7, 100, 253, 1400, 1360),
        RouteRequest("11.0.0.0/8"),
    )
    assert found.lease == Lease("net1")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "no JSON object"),
        ({}, "ips: has no address"),
        ({"ips": None}, "ips: has no address"),
        ({"ips": {}}, "ips: must be a list"),
        ({"ips": [IP] * 65}, "65 entries are more than 64"),
        ({"ips": [IP], "routes": [{"dst": "10.0.0.0/8"}] * 257}, "257 entries are more than 256"),
        ({"ips": ["10.9.0.2/24"]}, "ips[0]: must be an object"),
        ({"ips": [{}]}, "ips[0].address: is missing"),
        ({"ips": [{"address": 7}]}, "ips[0].address: 7 must be text"),
        ({"ips": [{"address": "224.0.0.1/4"}]}, "cannot be the address of a link"),
        ({"ips": [{**IP, "gateway": "fd00::1"}]}, "of another family"),
        ({"ips": [{**IP, "gateway": "x"}]}, "ips[0].gateway: 'x' is no IP address"),
        ({"ips": [IP], "routes": [{"gw": "10.9.0.1"}]}, "routes[0].dst: is missing"),
        ({"ips": [IP], "routes": [{"dst": "10.0.0.1/8"}]}, "bits behind its prefix"),
        ({"ips": [IP], "routes": [{"dst": "10.0.0.0/8", "mtu": 70000}]}, "routes[0].mtu: 70000"),
        ({"ips": [IP], "dns": []}, ""),
        ({"ips": [IP], "dns": [1]}, "dns: must be an object"),
        ({"ips": [IP], "cniVersion": "2.0.0"}, "of version '2.0.0'"),
        ({"ips": [IP], "cniVersion": [1]}, "of version [1]"),
        ({"cniVersion": "0.2.0", "ips": [IP]}, "ips: has no address"),
        ({"cniVersion": "0.2.0", "ip4": 7}, "ips[0]: must be an object"),
    ],
)
def test_what_is_wrong_is_told_by_its_place(document: Any, said: str) -> None:
    if not said:
        assert parsed(document).addresses
        return
    with pytest.raises(LeaseRefused) as caught:
        parsed(document)
    assert said in caught.value.message


def test_all_faults_at_once() -> None:
    with pytest.raises(LeaseRefused, match=r"ips\[0\].*; ips\[1\].*; routes\[0\]"):
        parsed({"ips": [{}, {"address": "x"}], "routes": [{"dst": "x"}]})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("ips", "routes", "dns", "address", "gateway", "dst", "gw", "ip4")),
            inner,
            max_size=3,
        )
    ),
)


@given(st.binary(max_size=40) | _JSON.map(lambda each: json.dumps(each).encode()))
def test_whatever_comes_is_read_or_refused(stdout: bytes) -> None:
    with suppress(LeaseRefused):
        assert granted(stdout, "net1", "1.1.0").addresses
    code, said = failure(stdout, 1)
    assert isinstance(code, int)
    assert said


def test_what_a_failure_says() -> None:
    document = {"code": 11, "msg": "no range", "details": "all taken"}
    assert failure(json.dumps(document).encode(), 1) == (11, "no range; all taken")
    assert failure(b'{"code": 7, "msg": "bad"}', 1) == (7, "bad")
    assert failure(b"Segmentation fault\n", 139) == (0, "Segmentation fault")
    assert "exit code 2" in failure(b"", 2)[1]
    assert "signal 9" in failure(b"", -9)[1]
    assert len(failure(b"x" * 10_000, 1)[1]) < 400


def test_it_is_told_what_we_were_told() -> None:
    stdin = b'{ "ipam" : {"type": "a", "n": 1}, "x": 1e2 }'
    assert configuration(stdin, '{"n": 1, "type": "a"}') is stdin
    changed = json.loads(configuration(stdin, '{"type": "b"}'))
    assert changed == {"ipam": {"type": "b"}, "x": 100.0}


def test_gc_gets_our_own_names_in_whatever_list_there_is() -> None:
    stands = [{"containerID": "c1", "ifname": "eth0"}]
    own = {"containerID": "c1", "ifname": "net1"}
    confs: tuple[dict[str, list[dict[str, str]]], ...] = (
        {"cni.dev/valid-attachments": stands},
        {"cni.dev/attachments": []},
        {"cni.dev/valid-attachments": stands, "cni.dev/attachments": stands},
    )
    for conf in confs:
        told = json.loads(with_valid(json.dumps(conf).encode(), [("c1", "net1"), ("c1", "eth0")]))
        for key, listed in conf.items():
            assert own in told[key]
            assert told[key].count(stands[0]) == 1
            assert told[key][: len(listed)] == listed
        assert told.keys() == conf.keys()
    for missing in ({}, {"cni.dev/valid-attachments": None}):
        stdin = json.dumps(missing).encode()
        assert with_valid(stdin, [("c1", "net1")]) is stdin
    stdin = json.dumps({"cni.dev/valid-attachments": stands}).encode()
    assert with_valid(stdin, []) is stdin
