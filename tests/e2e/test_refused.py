"""Every netlink message of ADD and DEL refused in turn, in the real process on the real kernel."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests import faulty
from tests.agent import CniAgent
from tests.e2e.test_killed import LINKS
from tests.faults import CONF
from tests.linkstate import capture, differences
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host import Answer, Host, Pod

pytestmark = pytest.mark.e2e


@pytest.fixture(params=["process", "agent"])
def ready(host: Host, request: pytest.FixtureRequest) -> Iterator[Host]:
    host.install()
    for number, name in enumerate(LINKS, 1):
        host.configured(name, number)
    if request.param == "process":
        faulty.install(host.bin_dir)
        yield host
        return
    with CniAgent(host, program=faulty.netdevctl(host.directory)) as agent:
        first = host.pod("first")
        for verb in ("ADD", "DEL") * 2:  # which ask more, of sysctls that are not known yet
            call(host, verb, first).ok()
        yield host
        assert agent.answered() > len(LINKS)


def call(host: Host, verb: str, pod: Pod, **env: str) -> Answer:
    return host.plugin(verb, CONF, netns=pod.path, env=env)


def netlink_events(host: Host, verb: str, pod: Pod) -> dict[int, str]:
    """By their number, those events that are netlink messages."""
    trace = host.directory / f"trace-{verb}"
    call(host, verb, pod, NETDEV_TRACE=str(trace)).ok()
    lines = enumerate(trace.read_text().splitlines(), 1)
    return {number: line for number, line in lines if line.startswith("netlink")}


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EPERM, errno.ENOBUFS])
def test_a_refused_message_of_add_undoes_the_whole_list(ready: Host, code: int) -> None:
    before = {name: capture(name) for name in LINKS}
    pod = ready.pod()
    events = netlink_events(ready, "ADD", pod)
    call(ready, "DEL", pod).ok()
    assert len(events) > 20
    for number, message in events.items():
        answer = call(ready, "ADD", pod, NETDEV_FAIL_AT=f"{number}:{code}")
        # To be busy is one of the answers that this question has.
        hears = code == errno.EBUSY and message.startswith("netlink ask what is on link")
        said = (102, "is stacked on it") if hears else (105, "injected")
        assert answer.error()[0] == said[0], (number, answer.stdout)
        assert said[1] in answer.error()[1]
        for name in LINKS:
            assert differences(before[name], capture(name)) == [], number
        assert pod.names() == ["lo"]
        assert ready.left_over() == []


@pytest.mark.parametrize("code", [errno.EBUSY, errno.ENODEV])
def test_a_refused_message_of_del_is_told_and_made_good_later(ready: Host, code: int) -> None:
    """By `netdevctl recover`, or by the agent, which looks after it at once."""
    before = {name: capture(name) for name in LINKS}
    pod = ready.pod()
    call(ready, "ADD", pod).ok()
    told = 0

    def trouble() -> list[str]:
        if away := set(LINKS) - set(ready.names()):
            return [f"{away} away"]
        found = [line for name in LINKS for line in differences(before[name], capture(name))]
        return found + ready.left_over()

    for number in netlink_events(ready, "DEL", pod):
        call(ready, "ADD", pod).ok()
        answer = call(ready, "DEL", pod, NETDEV_FAIL_AT=f"{number}:{code}")
        assert answer.ok() is None
        if "injected" in answer.stderr:
            told += 1
            ready.netdevctl("recover")
        until(lambda: not trouble(), trouble)
    # Most are tried again at once; a refused look ends the call and is left to the next.
    assert told > 0
