"""Pods that tamper with all that they can, through both front ends: the host is as it was."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.injector import KEY, NriPlugin
from tests.linkstate import differences, whole_host
from tests.nri_runtime import GoRuntime, pod
from tests.tricks import TOGETHER, TRICKS, make_again, play, prepare
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.host import Host, Pod

pytestmark = pytest.mark.e2e


class FrontEnd(NamedTuple):
    """end: gives what was said."""

    begin: Callable[[Pod, dict[str, Any]], object]
    end: Callable[[Pod], str]


@contextmanager
def by_cni(host: Host) -> Iterator[FrontEnd]:
    conf = {"cniVersion": "1.1.0", "name": "net", "type": "cni-netdev"}

    def begin(inside: Pod, device: dict[str, Any]) -> None:
        host.plugin("ADD", {**conf, "devices": [device]}, netns=inside.path).ok()

    def end(inside: Pod) -> str:
        answer = host.plugin("DEL", conf, netns=inside.path)
        answer.ok()
        return answer.stderr

    yield FrontEnd(begin, end)


@contextmanager
def by_nri(host: Host) -> Iterator[FrontEnd]:
    with GoRuntime(host.directory) as runtime, NriPlugin(host, runtime.socket) as plugin:
        runtime.wait_for("plugins", count=1)
        running: list[dict[str, Any]] = []

        def begin(inside: Pod, device: dict[str, Any]) -> None:
            running.append(pod("one", {KEY: json.dumps([device])}, netns=inside.path))
            runtime.run(running[0])

        def end(_: Pod) -> str:
            said = len(plugin.log_file.read_text())
            runtime.stop(running[0])
            runtime.remove(running.pop())
            return plugin.log_file.read_text()[said:]

        yield FrontEnd(begin, end)


@pytest.mark.parametrize("front", [by_cni, by_nri], ids=["cni", "nri"])
def test_the_host_is_as_it_was(cni: Host, front: Any) -> None:
    prepare(cni)
    make_again(cni)
    before = whole_host()
    with front(cni) as lending:
        for names in TOGETHER:
            tricks = [TRICKS[name] for name in names]
            inside, away = cni.pod(), cni.pod("away")
            lending.begin(inside, {"name": tricks[0].link, "new_name": "net1"})
            for trick in tricks:
                play(inside, trick, "net1", away.name)
            said = lending.end(inside)
            assert [each.told for each in tricks if each.told not in said] == []
            inside.delete()
            away.delete()
            make_again(cni)
            until(lambda: not changes(before), lambda: changes(before), 5)
            assert cni.left_over() == []


def changes(before: dict[str, Any]) -> list[str]:
    return differences(before, whole_host())
