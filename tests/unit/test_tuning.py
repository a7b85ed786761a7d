"""What ethtool sets, by name: what may be asked for, and how it lies in the kernel's blocks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev.core.errors import CannotApply, Fault
from cni_netdev.core.objects import Object
from cni_netdev.core.tuning import (
    FLAGS,
    MOST,
    NUMBERS,
    Tunable,
    faults,
    feature_bits,
    features_of,
    flags_of,
    meant,
    numbers_of,
    parse,
    unmet,
    with_flags,
    with_numbers,
)
from tests.workbench import OWNER, PATH, Bench, request

FEATURES = ("tx-scatter-gather", "", "tx-tcp-segmentation", "tx-tcp6-segmentation", "rx-gro")
# All but the first can be set, the last never changes; segmentation is on for IPv4.
WORDS = ((0b11100, 0b00100, 0b00101, 0b10000),)


def parsed(value: object) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    found: list[Fault] = []
    return parse(Object(value, "d.ethtool", found)), [str(each) for each in found]


def test_what_is_asked_for_has_one_form_and_an_order() -> None:
    asked = {
        "features": {"tcp-segmentation-offload": "Off", "rx-gro": True},
        "coalesce": {"adaptive-rx": "on", "rx-usecs": "8"},
        "rings": {"rx": 512},
        "private_flags": {"legacy-rx": False},
    }
    assert parsed(asked) == (
        (
            ("private_flags.legacy-rx", "off"),
            ("rings.rx", "512"),
            ("coalesce.adaptive-rx", "on"),
            ("coalesce.rx-usecs", "8"),
            ("features.rx-gro", "on"),
            ("features.tso", "off"),
        ),
        [],
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "d.ethtool: must be an object, not []"),
        ({"feature": {}}, "d.ethtool.feature: unknown key; did you mean features?"),
        ({"features": "tso"}, "d.ethtool.features: must be an object, not 'tso'"),
        ({"features": {"tso": "no"}}, "d.ethtool.features.tso: 'no' is neither on nor off"),
        ({"features": {"a\n": "on"}}, r"d.ethtool.features.a\n: is no name that ethtool prints"),
        ({"features": {"x" * 32: "on"}}, "is no name that ethtool prints"),
        (
            {"features": {"tso": "on", "tcp-segmentation-offload": "off"}},
            "d.ethtool.features.tcp-segmentation-offload: is features.tso already",
        ),
        ({"rings": {"rx": -1}}, "d.ethtool.rings.rx: -1 is below 0"),
        ({"rings": {"rx_": 1}}, "d.ethtool.rings.rx_: unknown key; did you mean rx?"),
        ({"coalesce": {"adaptive-rx": 2}}, "2 is neither on nor off"),
        ({"features": {f"f{n}": "on" for n in range(MOST + 1)}}, "65 settings are more than 64"),
    ],
)
def test_what_is_wrong_is_told(value: object, said: str) -> None:
    _, found = parsed(value)
    assert len(found) == 1
    assert said in found[0]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=4), st.lists))
def test_whatever_is_given_only_faults_come_of_it(value: Any) -> None:
    for section in (*FLAGS, *NUMBERS):
        parsed({section: value})
        parsed({section: {"rx": value}})


# --- against what a link has -----------------------------------------------------------------

OFFERED = (
    *features_of(FEATURES, WORDS),
    *numbers_of("rings", (64, 0, 0, 64, 32, 0, 0, 32)),
)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("features.tsoo", "on", "nic1 has no 'tsoo'; did you mean tso?"),
        ("features.rx-grow", "on", "nic1 has no 'rx-grow'; did you mean rx-gro?"),
        ("features.zz", "on", "nic1 has no 'zz'; `ethtool` lists its"),
        ("features.sg", "off", "is fixed at on by nic1's driver"),
        ("features.rx-gro", "on", "is fixed at off by nic1's driver"),
        ("rings.rx", "65", "65 is above nic1's maximum of 64"),
        ("rings.rx-mini", "1", "is fixed at 0 by nic1's driver"),
        ("channels.rx", "1", "nic1 has no channels that could be set"),
        ("private_flags.x", "on", "nic1 has no private flags that could be set"),
    ],
)
def test_what_the_link_cannot_do_is_told(key: str, value: str, said: str) -> None:
    (fault,) = faults(((key, value),), OFFERED, "nic1", "devices[0]")
    assert str(fault).startswith(f"devices[0].ethtool.{key}: {said}")


@pytest.mark.parametrize(
    "pair", [("features.tso", "off"), ("features.sg", "on"), ("rings.rx", "64")]
)
def test_what_the_link_can_do_or_does_already(pair: tuple[str, str]) -> None:
    assert faults((pair,), OFFERED, "nic1", "devices[0]") == []


def test_several_features_are_on_as_soon_as_one_is() -> None:
    assert unmet((("features.tso", "on"), ("rings.rx", "32")), OFFERED) == ()
    assert unmet((("features.tso", "off"), ("rings.rx", "31"), ("channels.rx", "1")), OFFERED) == (
        "features.tso is on instead of off",
        "rings.rx is 32 instead of 31",
        "channels.rx is gone instead of 1",
    )


def test_a_name_of_ethtools_means_several_of_the_kernels() -> None:
    keys = [f"features.{name}" for name in FEATURES]
    assert meant("features.tso", keys) == (keys[2], keys[3])
    assert meant("features.rx-gro", keys) == meant("features.gro", keys) == (keys[4],)
    assert meant("features.tx-*", keys) == ()


# --- the kernel's blocks ---------------------------------------------------------------------


def test_only_what_can_be_set_is() -> None:
    wanted = (("features.tso", "on"), ("features.sg", "off"), ("features.gro", "on"))
    assert feature_bits(FEATURES, WORDS, wanted) == ((0b11100, 0b11100),)
    assert feature_bits(FEATURES, WORDS, (("features.tso", "off"),)) == ((0b01100, 0),)


@given(st.sampled_from(sorted(NUMBERS)), st.data())
def test_a_number_that_is_set_is_told_and_no_other_changes(
    section: str, data: st.DataObject
) -> None:
    names = NUMBERS[section]
    words = tuple(data.draw(st.lists(st.integers(0, 9), min_size=len(names), max_size=len(names))))
    name = data.draw(st.sampled_from([each for each in names if each]))
    key, value = f"{section}.{name}", "on" if name.startswith("adaptive") else "7"
    after = with_numbers(section, words, ((key, value), ("features.rx", "on")))
    assert sum(was != is_ for was, is_ in zip(words, after, strict=True)) <= 1
    assert {each.key: each.value for each in numbers_of(section, after)}[key] == value


@given(st.integers(0, 7), st.sampled_from(["a", "b", "c"]), st.booleans())
def test_a_flag_that_is_set_is_told_and_no_other_changes(bits: int, name: str, on: bool) -> None:
    names, key, value = ("a", "b", "c"), f"private_flags.{name}", "on" if on else "off"
    after = with_flags(names, bits, ((key, value),))
    was, is_ = (dict(_told(flags_of(names, each))) for each in (bits, after))
    assert is_ == {**was, key: value}


def _told(tunables: list[Tunable]) -> list[tuple[str, str]]:
    return [(each.key, each.value) for each in tunables]


def test_more_names_than_bits_are_left_out() -> None:
    assert features_of(FEATURES, ()) == []
    assert feature_bits(FEATURES, (), (("features.tso", "on"),)) == ()


# --- the engine ------------------------------------------------------------------------------

ASKED = (("rings.rx", "32"), ("features.tso", "off"))


def test_it_is_set_in_the_pod_checked_and_put_back(bench: Bench) -> None:
    before = bench.at_home()
    bench.attach(request(new_name="net1", ethtool=ASKED))
    assert unmet(ASKED, bench.kernel.open(PATH).tunables("net1")) == ()
    assert bench.engine.check(OWNER.key, PATH, {}) == ()
    bench.kernel.open(PATH).tune("net1", (("features.tso", "on"),))
    assert bench.engine.check(OWNER.key, PATH, {}) == (
        "net1: ethtool's features.tso is on instead of off",
    )
    bench.engine.detach(OWNER.key)
    assert bench.at_home() == before


def test_what_it_cannot_do_is_refused_before_anything_is_changed(bench: Bench) -> None:
    bad = (("rings.rx", "65"), ("features.tos", "off"), ("features.highdma", "off"))
    with pytest.raises(CannotApply) as refused:
        bench.attach(request(new_name="net1", ethtool=bad))
    for said in ("maximum of 64", "no 'tos'; did you mean tso?", "fixed at on"):
        assert said in str(refused.value)
    assert not [event for event in bench.world.events if event.startswith(("move", "tune"))]
