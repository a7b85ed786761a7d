from __future__ import annotations

from itertools import chain, count, repeat
from typing import TYPE_CHECKING

from cni_netdev.core import hidden

if TYPE_CHECKING:
    from pytest_mock import MockerFixture


def test_a_namespace_that_is_dying_is_given_a_moment(mocker: MockerFixture) -> None:
    mocker.patch.object(hidden, "namespaces", return_value=iter(()))
    slept = mocker.patch("time.sleep")
    answers = chain(repeat(True, 3), repeat(False))
    assert hidden.delete_stacked(7, 3, lambda: next(answers)) == ()
    assert slept.call_count == 3


def test_and_no_more_than_that(mocker: MockerFixture) -> None:
    mocker.patch.object(hidden, "namespaces", return_value=iter(()))
    mocker.patch("time.sleep")
    mocker.patch("time.monotonic", side_effect=count())
    assert hidden.delete_stacked(7, 3, lambda: True) == ()
