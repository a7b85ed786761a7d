from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev.core.annotations import KEYS, MOST_BYTES, find_annotation, parse_annotation
from cni_netdev.core.errors import RequestError
from cni_netdev.core.model import DeviceRequest, Selector
from tests.strategies import requests
from tests.unit.test_devices import rendered


@given(st.lists(requests(), max_size=3))
def test_json_and_yaml_say_the_same(wishes: list[DeviceRequest]) -> None:
    plain = [rendered(each) for each in wishes]
    expected = [each.wish for each in wishes]
    for text in (
        json.dumps(plain),
        yaml.safe_dump(plain),
        yaml.safe_dump(plain, default_flow_style=True),
    ):
        assert [each.wish for each in parse_annotation(text)] == expected


@given(st.text())
def test_only_the_documented_error(text: str) -> None:
    with suppress(RequestError):
        parse_annotation(text)


@given(st.text("-[]{}:,&*! \n'\"#|>%?ab01~", max_size=40))
def test_only_the_documented_error_near_yaml(text: str) -> None:
    with suppress(RequestError):
        parse_annotation(text)


def test_the_originals_sample() -> None:
    text = "- name: dummy0\n  new_name: eth33\n  address: 192.168.2.2\n  prefix: 24\n  mtu: 1500\n"
    (request,) = parse_annotation(text)
    assert request == DeviceRequest(
        Selector("name", "dummy0"),
        new_name="eth33",
        addresses=("192.168.2.2/24",),
        mtu=1500,
        source="annotation",
        where="[0]",
    )


def test_scalars_that_yaml_would_turn_into_numbers() -> None:
    text = "- pci_address: 0000:03:00.0\n  mac: 02:10:10:10:10:10\n- hwaddr: 10:20:30:40:50:58"
    pci, hwaddr = parse_annotation(text)
    assert pci.selector.value == "0000:03:00.0"
    assert pci.mac == "02:10:10:10:10:10"
    assert hwaddr.selector.value == "10:20:30:40:50:58"


@pytest.mark.parametrize("text", ["", "  \n", "null", "~", "[]", "# nothing\n"])
def test_nothing_asked_for(text: str) -> None:
    assert parse_annotation(text) == ()


def test_the_first_key_present_wins() -> None:
    both = {KEYS[3]: "b", KEYS[1]: "a", "x": "y"}
    assert find_annotation(both) == (KEYS[1], "a")
    assert find_annotation({"x": "y"}) is None
    assert find_annotation(None) is None


@pytest.mark.parametrize("letter", ["#", "#é", "#\U0001f600"])
def test_the_most_bytes(letter: str) -> None:
    size = len(letter.encode())
    text = letter * (MOST_BYTES // size)
    assert parse_annotation(text + "#" * (MOST_BYTES - len(text.encode()))) == ()
    with pytest.raises(RequestError, match=f"{MOST_BYTES + 1} bytes are more than {MOST_BYTES}"):
        parse_annotation(text + "#" * (MOST_BYTES + 1 - len(text.encode())))


@pytest.mark.parametrize("value", [None, 7, ["- name: nic1"], {"name": "nic1"}, b"- name: nic1"])
def test_an_annotation_is_text(value: Any) -> None:
    with pytest.raises(RequestError, match="the annotation must be text"):
        parse_annotation(value)


def test_deep_and_wide_texts_end_quickly() -> None:
    for text in ("[" * 60_000, "{a: " * 15_000, "- " * 30_000, '[{"a":' * 10_000):
        with pytest.raises(RequestError):
            parse_annotation(text)
