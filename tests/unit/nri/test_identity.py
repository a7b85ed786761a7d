from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from nri_plugin.identity import NAME, Identity, identity

if TYPE_CHECKING:
    from collections.abc import Mapping

LAUNCHED = {"NRI_PLUGIN_SOCKET": "3", "NRI_PLUGIN_NAME": "theirs", "NRI_PLUGIN_IDX": "07"}
OWN = f"/usr/bin/{NAME}"


@pytest.mark.parametrize(
    ("name", "index", "program", "environ", "wanted"),
    [
        (None, "10", OWN, {}, Identity(NAME, "10")),
        ("mine", "00", OWN, {}, Identity("mine", "00")),
        (None, None, "/opt/nri/plugins/20-netdev", {}, Identity("netdev", "20")),
        ("mine", None, "20-netdev", {}, Identity("mine", "20")),
        (None, "30", "20-netdev", {}, Identity(NAME, "30")),
        (None, None, "20-a-b", {}, Identity("a-b", "20")),
        ("mine", "10", "20-netdev", LAUNCHED, Identity("theirs", "07", 3)),
        (None, None, "20-netdev", {"NRI_PLUGIN_SOCKET": "3"}, Identity("netdev", "20", 3)),
        (None, "10", OWN, {"NRI_PLUGIN_NAME": "theirs"}, Identity(NAME, "10")),
    ],
)
def test_who_we_are(
    name: str | None, index: str | None, program: str, environ: Mapping[str, str], wanted: Identity
) -> None:
    assert identity(name, index, program, environ) == wanted


@pytest.mark.parametrize("index", [None, "", "1", "100", "1a", "-1", "٣٣", "10\n"])
def test_an_index_has_two_digits(index: str | None) -> None:
    with pytest.raises(ValueError, match=f"index {re.escape(repr(index))} must be two digits"):
        identity(None, index, OWN, {})


@pytest.mark.parametrize("name", ["a b", "ä", "a/b", "a\n"])
def test_a_name_that_the_runtime_would_refuse(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        identity(name, "10", OWN, {})


@pytest.mark.parametrize("socket", ["", "-1", "x", "٣", "3 "])
def test_a_descriptor_is_a_number(socket: str) -> None:
    with pytest.raises(ValueError, match="is no descriptor"):
        identity(None, None, OWN, {**LAUNCHED, "NRI_PLUGIN_SOCKET": socket})


def test_flags_say_nothing_to_a_launched_plugin() -> None:
    with pytest.raises(ValueError, match="must be two digits"):
        identity("mine", "10", OWN, {"NRI_PLUGIN_SOCKET": "3"})
