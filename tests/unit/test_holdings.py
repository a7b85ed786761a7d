"""Who holds what, by records alone."""

from __future__ import annotations

import pytest

from cni_netdev.core import holdings
from cni_netdev.core.model import (
    DeviceRequest,
    Identity,
    Lent,
    Link,
    LinkSettings,
    NetnsRef,
    Owner,
    Record,
    RouteRequest,
    Selector,
    Snapshot,
)
from tests.workbench import FULL, OTHER, OWNER, request

BOOT = "this-boot"


def link(name: str, number: int, **fields: object) -> Link:
    settings = LinkSettings(name, 1500, f"02:00:00:00:00:{number:02x}", "", 1000, 0, 0)
    identity = Identity(number, 100 + number, None, f"0000:01:00.{number}")
    plain = Link(identity, settings, altnames=(f"{name}-alt",), kind="veth")
    return plain._replace(**fields)  # type: ignore[arg-type]


def lent(asked: DeviceRequest, home: Link) -> Lent:
    return Lent(asked, Snapshot(home), home.settings._replace(name=asked.new_name or home.name))


def record(*devices: Lent, owner: Owner = OWNER, complete: bool = True) -> Record:
    return Record(owner, NetnsRef("/p", 7), BOOT, complete, devices)


ETH1, ETH2 = link("eth1", 1), link("eth2", 2)
OWN = record(lent(FULL, ETH1))
OTHERS = record(lent(request("eth2"), ETH2), owner=OTHER)


def test_an_equal_request_is_one_wherever_it_was_written() -> None:
    again = FULL._replace(where="[7]", source="annotation")
    assert holdings.asked_by(again, [OTHERS, OWN]) == OWNER
    assert holdings.asked_by(FULL, [OTHERS]) is None
    assert holdings.asked_by(FULL, []) is None


@pytest.mark.parametrize(
    "wish",
    [
        {"selector": Selector("name", "eth1-alt")},
        {"new_name": None},
        {"addresses": FULL.addresses[::-1]},
        {"mtu": None},
        {"mac": "02:aa:00:00:00:02"},
        {"routes": (*FULL.routes, RouteRequest("10.8.0.0/16"))},
        {"up": False},
        {"keep_addresses": True},
    ],
    ids=lambda wish: next(iter(wish)),
)
def test_any_other_wish_is_another_request(wish: dict[str, object]) -> None:
    other = FULL._replace(**wish)  # type: ignore[arg-type]
    assert holdings.asked_by(other, [OWN]) is None
    assert holdings.missing([other], "c1", BOOT, [OWN]) == (str(other.selector),)


def test_missing_is_what_no_complete_record_of_the_sandbox_answers() -> None:
    asked = [FULL, request("eth2")]
    both = ("name 'eth1'", "name 'eth2'")
    assert holdings.missing(asked, "c1", BOOT, []) == both
    assert holdings.missing(asked, "c1", BOOT, [OWN, OTHERS]) == both[1:]
    assert holdings.missing(asked, "c2", BOOT, [OWN, OTHERS]) == both[:1]
    assert holdings.missing(asked, "c1", "another-boot", [OWN]) == both
    assert holdings.missing(asked, "c1", BOOT, [OWN._replace(complete=False)]) == both
    assert holdings.missing([], "c1", BOOT, []) == ()


def test_missing_counts_whatever_front_end_or_interface_has_it() -> None:
    nri = OTHERS._replace(owner=Owner("nri", "", "c1", ""))
    assert holdings.missing([FULL, request("eth2")], "c1", BOOT, [OWN, nri]) == ()


def test_a_link_is_held_by_identity() -> None:
    renamed = ETH1._replace(settings=ETH1.settings._replace(name="eth2"))
    assert holdings.holding(renamed.identity, [OTHERS, OWN]) == OWNER
    assert holdings.holding(link("eth1", 3).identity, [OTHERS, OWN]) is None


@pytest.mark.parametrize(
    ("selector", "holder"),
    [
        (Selector("name", "eth1"), OWN),
        (Selector("name", "eth1-alt"), OWN),
        (Selector("name", "net1"), None),
        (Selector("hwaddr", "02:00:00:00:00:02"), OTHERS),
        (Selector("pci_address", "0000:01:00.1"), OWN),
        (Selector("kernel_path", "/sys/devices/virtual/net/eth2"), OTHERS),
        (Selector("kernel_path", "/sys/devices/virtual/net/eth3"), None),
    ],
    ids=str,
)
def test_a_lent_link_answers_to_what_it_was_at_home(
    selector: Selector, holder: Record | None
) -> None:
    assert holdings.lent_for(DeviceRequest(selector), [OWN, OTHERS]) is holder


@pytest.mark.parametrize(
    ("fields", "holds"),
    [
        ({"kind": "macvlan", "lower": 9}, True),
        ({"kind": "macvlan", "lower": 8}, False),
        ({"kind": "macvlan", "lower": 9, "lower_elsewhere": True}, False),
        ({"kind": "veth", "lower": 9}, False),
    ],
)
def test_what_lies_on_a_link_holds_it(fields: dict[str, object], *, holds: bool) -> None:
    above = record(lent(request("mv"), link("mv", 4, **fields)))
    expected = OWNER if holds else None
    assert holdings.stacked_on(link("eth9", 9), [OTHERS, above]) == expected


def test_names_and_the_error_say_who_has_what() -> None:
    both = record(lent(FULL, ETH1), lent(request("eth2"), ETH2))
    assert holdings.names(both) == "eth1, eth2"
    assert holdings.names(record()) == ""
    assert str(holdings.held_by("eth1", OTHER)).startswith("eth1 is held by c2/eth0")
