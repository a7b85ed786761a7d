from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev import result
from cni_netdev.core import errors
from cni_netdev.core.model import NetnsRef, Owner, Record
from cni_netdev.request import SUPPORTED
from tests.strategies import lents

VERSIONS = st.sampled_from(SUPPORTED)
EXTRA = st.dictionaries(st.sampled_from(("x", "custom")), st.integers(), max_size=1)


@st.composite
def results(draw: st.DrawFn, version: str) -> dict[str, Any]:
    """A result in the shape of its version."""
    newest, old = version == "1.1.0", version < "1.0.0"
    interfaces = [
        {"name": f"i{number}", **({"mtu": 1500, "pciID": "p"} if newest else {}), **draw(EXTRA)}
        for number in range(draw(st.integers(0, 3)))
    ]
    ips: list[dict[str, Any]] = [
        {
            "address": draw(st.sampled_from(("10.0.0.1/24", "fd00::1/64"))),
            "interface": number,
            **draw(EXTRA),
        }
        for number in range(len(interfaces))
    ]
    if old:
        ips = [{"version": "6" if ":" in each["address"] else "4", **each} for each in ips]
    routes = (
        [{"dst": "0.0.0.0/0", **({"mtu": 1400} if newest else {})}] if draw(st.booleans()) else []
    )
    dns: dict[str, Any] = (
        {"dns": {"nameservers": ["9.9.9.9"]}} if old or draw(st.booleans()) else {}
    )
    return {
        "cniVersion": version,
        "interfaces": interfaces,
        "ips": ips,
        "routes": routes,
        **dns,
        **draw(EXTRA),
    }


@given(st.data(), VERSIONS, VERSIONS)
def test_conversion_loses_only_what_a_version_cannot_say(
    data: st.DataObject, old: str, new: str
) -> None:
    before = data.draw(results(old))
    after = result.convert(before, new)
    assert after["cniVersion"] == new
    for key in before.keys() - {"cniVersion", "ips", "interfaces", "routes"}:
        assert after[key] == before[key]
    assert [each["interface"] for each in after["ips"]] == [
        each["interface"] for each in before["ips"]
    ]
    assert all(("version" in each) == (new < "1.0.0") for each in after["ips"])
    assert new == "1.1.0" or not any("mtu" in each for each in after["interfaces"])
    assert result.convert(after, new) == after
    if SUPPORTED.index(new) >= SUPPORTED.index(old) and "dns" in before:
        assert result.convert(after, old) == before


@given(st.data(), VERSIONS, st.lists(lents, max_size=3), st.booleans())
def test_ours_come_behind_and_indices_stay(
    data: st.DataObject, version: str, devices: list[Any], report: bool
) -> None:
    before = data.draw(st.none() | results(version))
    record = Record(Owner("cni", "n", "c", "i"), NetnsRef("/p", 1), "b", True, tuple(devices))
    after = result.with_devices(version, before, record, "/p", report_addresses=report)
    old = result.convert(before or {}, version)
    there = old.get("interfaces", [])
    assert after.get("interfaces", [])[: len(there)] == there
    names = [each["name"] for each in after.get("interfaces", [])[len(there) :]]
    assert names == [each.expected.name for each in devices]
    ips = after.get("ips", [])
    assert ips[: len(old.get("ips", []))] == old.get("ips", [])
    added = ips[len(old.get("ips", [])) :]
    assert len(added) == (sum(len(each.addresses) for each in devices) if report else 0)
    assert all(len(there) <= each["interface"] < len(after["interfaces"]) for each in added)


@pytest.mark.parametrize("version", SUPPORTED)
def test_an_empty_result_has_its_versions_shape(version: str) -> None:
    dns: dict[str, Any] = {"dns": {}} if version < "1.0.0" else {}
    assert result.passed_through(version, None) == {"cniVersion": version, **dns}


def test_every_error_of_the_core_has_a_code_of_its_own_kind() -> None:
    classes = [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.NetdevError)
    ]
    for each in classes:
        error = each.__new__(each)
        assert result.code_of(error) == result.CODES[each.__name__]
    assert result.code_of(ValueError()) == 999


def test_error_documents() -> None:
    assert result.error_document("1.0.0", 7, "m") == {"cniVersion": "1.0.0", "code": 7, "msg": "m"}
    assert result.error_document("1.0.0", 7, "m", "d")["details"] == "d"
    assert re.fullmatch(r"\d+", str(result.DIFFERS))
