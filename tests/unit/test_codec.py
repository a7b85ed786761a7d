from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev.core.codec import decode, encode
from cni_netdev.core.errors import RecordUnreadable
from cni_netdev.core.model import Record
from tests.strategies import records

GOLDEN = Path(__file__).parent / "record-v1.json"


@given(records)
def test_a_record_survives_the_way_to_disk_and_back(record: Record) -> None:
    assert decode(encode(record)) == record


def test_a_record_of_this_version_stays_readable() -> None:
    """An upgraded plugin brings home what the old one lent: if this fails, raise the version."""
    record = decode(GOLDEN.read_text())
    assert record.devices[0].home.link.name == "nic1"
    assert is_within(json.loads(GOLDEN.read_text()), json.loads(encode(record)))


def is_within(old: object, new: object) -> bool:
    """Whether nothing of the old is gone or otherwise; there may be fields that are newer."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and is_within(value, new[key]) for key, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(is_within, old, new))
    return old == new


def test_a_torn_record_is_never_half_read() -> None:
    text = GOLDEN.read_text().rstrip()
    for cut in range(len(text)):
        with pytest.raises(RecordUnreadable):
            decode(text[:cut])


@given(st.data())
def test_a_changed_record_is_read_or_refused_whole(data: st.DataObject) -> None:
    document = json.loads(GOLDEN.read_text())
    holder = document
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if isinstance(holder[key], dict | list) and data.draw(st.booleans()):
            holder = holder[key]
            continue
        holder[key] = data.draw(
            st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just([])
        )
        break
    with suppress(RecordUnreadable):
        assert isinstance(decode(json.dumps(document)), Record)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON"),
        ("null", "not one of ours"),
        ("[]", "not one of ours"),
        ("{}", "not one of ours"),
        ('{"version": 2, "record": {}}', "version 2, this plugin reads 1"),
        ('{"version": 1}', "does not fit"),
        ('{"version": 1, "record": {"owner": {}}}', "does not fit"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_what_is_no_record(text: str, said: str) -> None:
    with pytest.raises(RecordUnreadable, match=said):
        decode(text)


def test_unknown_fields_are_refused() -> None:
    document = json.loads(GOLDEN.read_text())
    document["record"]["owner"]["colour"] = "red"
    with pytest.raises(RecordUnreadable, match="unknown colour"):
        decode(json.dumps(document))
