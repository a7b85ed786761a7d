"""Others at work on a link while it is lent and while it comes home, before each event of ours.

They ask for none of our locks.  What comes home is the link as it was when it was lent, which is
as the last of them had left it; whoever took it first keeps it; and what they do once it is home
is theirs.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from cni_netdev.core.devices import parse_devices
from cni_netdev.core.engine import Injector
from cni_netdev.core.errors import DeviceNotFound, NetdevError, PolicyRefused
from cni_netdev.core.journal import FileJournal
from cni_netdev.core.kernel import SystemKernel
from cni_netdev.core.model import Owner
from cni_netdev.core.policy import Pod as PodOfPolicy
from cni_netdev.core.policy import Policy
from cni_netdev.core.restore import Release
from tests import faulty
from tests.linkstate import capture, differences
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.host import Host, Pod

pytestmark = pytest.mark.kernel

OWNER = Owner("cni", "net", "c1", "eth0")
OTHER = OWNER._replace(sandbox="c2")
# By its altname, which stays when udev renames it.
DEVICE = {"name": "nic1alt", "new_name": "net1", "address": "192.168.2.2/24", "mtu": 1400}


class Outcome(NamedTuple):
    """acted: whether the intruder could do anything.  left: the link as it left it, if at home.

    said: what we said.
    """

    acted: bool
    left: Any
    said: Release | NetdevError | None

    @property
    def release(self) -> Release:
        assert isinstance(self.said, Release)
        return self.said

    @property
    def error(self) -> NetdevError | None:
        return self.said if isinstance(self.said, NetdevError) else None


def at_rest(name: str) -> Any:
    """The link's state, once the kernel has made the routes of its IPv6 addresses."""
    seen: list[Any] = []

    def lacks_routes() -> set[str]:
        seen.append(capture(name))
        v6 = {each["local"] for each in seen[-1]["addresses"] if each["family"] == "inet6"}
        return v6 - {each["dst"] for each in seen[-1]["routes"] if each["type"] == "local"}

    until(lambda: not lacks_routes(), lambda: seen[-1])
    return seen[-1]


class Race:
    """One link that we lend and others want."""

    def __init__(self, host: Host, events: faulty.Events) -> None:
        self.host = host
        self.events = events
        events.on = False
        self.pod, self.other = host.pod(), host.pod("other")
        self.kernel = SystemKernel()
        self.engine = Injector(self.kernel, FileJournal())
        self.inode = 0
        # The kernel's own addresses would come whenever the carrier does.
        Path("/proc/sys/net/ipv6/conf/default/addr_gen_mode").write_text("1")
        host.ip("link add br0 type bridge")

    # --- what we do --------------------------------------------------------------------------

    def lend(self) -> None:
        attach(self.engine, OWNER, self.pod)

    def take_back(self) -> Release:
        release = self.engine.detach(OWNER.key)
        assert release is not None
        return release

    def new_link(self) -> Any:
        """A link made anew, as an administrator leaves it."""
        for name in set(self.host.names()) - {"lo", "br0"}:
            by_hand(f"link delete {name}")  # it may have gone with its peer
        self.host.veth("nic1")
        for arguments in (
            "link property add dev nic1 altname nic1alt",
            "addr add 10.1.0.1/24 dev nic1",
            "-6 addr add fd01::1/64 dev nic1 nodad",
            "route add 172.16.0.0/16 via 10.1.0.254",
        ):
            self.host.ip(arguments)
        Path("/proc/sys/net/ipv4/conf/nic1/rp_filter").write_text("2")
        self.inode = Path("/sys/class/net/nic1").stat().st_ino
        return at_rest("nic1")

    def events_of_the_way_back(self) -> list[str]:
        self.new_link()
        self.lend()
        return self.events_of(self.take_back)

    def events_of(self, act: Callable[[], object]) -> list[str]:
        """The events of an act that nobody disturbs."""
        self.events.restart()
        act()
        self.events.on = False
        return list(self.events.seen)

    def disturbed(
        self, act: Callable[[], Release | None], number: int, intrude: Callable[[], bool]
    ) -> Outcome:
        """The act, with an intruder before its n-th event."""
        acted, left = False, None

        def intruder() -> None:
            nonlocal acted, left
            acted = intrude()
            name = self.name_on_host()
            left = at_rest(name) if name else None

        said: Release | NetdevError | None
        self.events.restart()
        self.events.intruders[number] = intruder
        try:
            said = act()
        except NetdevError as error:
            said = error
        self.events.on = False
        self.events.intruders.clear()
        return Outcome(acted, left, said)

    # --- where it is -------------------------------------------------------------------------

    def inode_in(self, pod: Pod) -> int:
        """Of the only link in the pod."""
        (name,) = set(pod.names()) - {"lo"}
        return int(pod.run("stat", "-c", "%i", f"/sys/class/net/{name}/"))

    def name_on_host(self) -> str:
        """What the very link is called on the host; empty when it is not there."""
        for place in Path("/sys/class/net").iterdir():
            if place.exists() and place.stat().st_ino == self.inode:
                return place.name
        return ""

    def see_that_it_is_home_as(self, wanted: Any, moment: str) -> None:
        assert differences(wanted, at_rest(self.name_on_host())) == [], moment
        self.see_that_nothing_is_left(moment)

    def see_that_nothing_is_left(self, moment: str) -> None:
        assert self.host.left_over() == [], moment
        assert self.engine.recover() == (), moment


def attach(engine: Injector, owner: Owner, pod: Pod) -> None:
    requests = parse_devices([DEVICE], "config", "devices")
    engine.attach(owner, pod.path, requests, Policy(), PodOfPolicy())


@pytest.fixture
def race(cni: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Race]:
    made = Race(cni, faulty.patch(monkeypatch.setattr))
    for _ in range(2):  # the first ones ask more, of sysctls that are not known yet
        made.events_of_the_way_back()
    yield made
    made.kernel.close()


# --- daemons of the host ---------------------------------------------------------------------


def by_hand(*commands: str) -> bool:
    """Commands of `ip`; whether the first one found its link."""
    done = [
        subprocess.run(["ip", *each.split()], capture_output=True, check=False).returncode
        for each in commands
    ]
    return done[0] == 0


def udev() -> bool:
    return by_hand("link set nic1 name enp3s0", "link property add dev enp3s0 altname enx02")


def network_manager() -> bool:
    return by_hand(
        "link set nic1 down",
        "link set nic1 mtu 1380 address 02:77:00:00:00:01 txqueuelen 77 alias lan",
        "link set nic1 up",
        "addr flush dev nic1 scope global",
        "addr add 10.77.0.1/24 dev nic1",
        "-6 addr add fd77::1/64 dev nic1 nodad",
        "route flush 172.16.0.0/16",
        "route add 172.17.0.0/16 via 10.77.0.9",
    )


DAEMONS = (udev, network_manager)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_while_a_link_is_lent(race: Race, daemon: Callable[[], bool]) -> None:
    """It is lent as the daemon left it, and comes home so.

    Between our last look and the move nobody can know better than what was there before.
    """
    race.new_link()
    events = race.events_of(race.lend)
    race.take_back()
    move = 1 + next(number for number, each in enumerate(events) if "move link" in each)
    for number, event in enumerate(events, 1):
        moment = f"before event {number}, {event}"
        before = race.new_link()
        outcome = race.disturbed(race.lend, number, daemon)
        assert outcome.error is None, moment
        assert outcome.acted == (number <= move), moment
        (link,) = race.pod.json("link show net1")
        assert (link["mtu"], "UP" in link["flags"]) == (1400, True), moment
        assert race.pod.addresses("net1") == ["192.168.2.2/24"], moment
        release = race.take_back()
        assert (release.complete, release.notes) == (True, ()), moment
        race.see_that_it_is_home_as(outcome.left if number < move else before, moment)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_while_a_link_comes_home(race: Race, daemon: Callable[[], bool]) -> None:
    """All is as it was lent, whatever it did until our last look; what it added stays."""
    acted = []
    events = race.events_of_the_way_back()
    last_look = max(number for number, each in enumerate(events) if "addresses of" in each)
    assert last_look > max(number for number, each in enumerate(events) if "netlink add" in each)
    for number, event in enumerate(events, 1):
        moment = f"before event {number}, {event}"
        before = race.new_link()
        race.lend()
        outcome = race.disturbed(race.take_back, number, daemon)
        acted.append(outcome.acted)
        assert outcome.release.complete, moment
        assert race.pod.names() == ["lo"], moment
        race.see_that_nothing_is_left(moment)
        if number <= last_look:
            assert outcome.release.notes == (), moment
            assert lacking(before, at_rest("nic1")) == [], moment
    assert (acted[0], acted[-1]) == (False, True)


def lacking(before: Any, after: Any) -> list[str]:
    """Of the link as it was, what is not so any more; addresses and routes may be more."""
    lists = ("addresses", "link-local", "routes")
    found = differences({**before, **dict.fromkeys(lists)}, {**after, **dict.fromkeys(lists)})
    return found + [
        f"{each} is gone" for name in lists for each in before[name] if each not in after[name]
    ]


# --- who takes its name, or itself ------------------------------------------------------------


def test_its_name_is_taken_while_it_comes_home(race: Race) -> None:
    for number, event in enumerate(race.events_of_the_way_back(), 1):
        moment = f"before event {number}, {event}"
        before = race.new_link()
        race.lend()
        outcome = race.disturbed(race.take_back, number, lambda: by_hand("link add nic1 type ifb"))
        assert outcome.release.complete, moment
        race.see_that_nothing_is_left(moment)
        if outcome.acted:
            assert outcome.release.devices == ("nic1_0",), moment
            assert "another link has its name by now" in outcome.release.notes[0], moment
            after = capture("nic1_0")
            assert after["sysctls"] == before["sysctls"], moment
            assert [each["local"] for each in after["addresses"]] == ["10.1.0.1", "fd01::1"], moment
        else:
            race.see_that_it_is_home_as(before, moment)


class Taker(NamedTuple):
    """take: whether it got the link into the other pod.  give: from there back to the host."""

    take: Callable[[Race], bool]
    give: Callable[[Race], object]


def host_device(race: Race, verb: str) -> bool:
    conf = {"cniVersion": "1.0.0", "name": "hd", "type": "host-device", "device": "nic1"}
    answer = race.host.plugin(
        verb,
        conf,
        netns=race.other.path,
        container="c2",
        ifname="net1",
        program="host-device",
        env={"PATH": os.environ["PATH"]},
    )
    return answer.code == 0


def attached(engine: Injector, race: Race) -> bool:
    try:
        attach(engine, OTHER, race.other)
    except NetdevError:
        return False
    return True


def elsewhere(race: Race) -> Injector:
    """An instance with another state directory, which knows nothing of our locks and records."""
    return Injector(race.kernel, FileJournal("/run/elsewhere"))


def beside(race: Race) -> Injector:
    return Injector(race.kernel, FileJournal(lock_timeout=0))


TAKERS = {
    "ip": Taker(
        lambda _: by_hand("link set nic1 netns other"),
        lambda _: by_hand(f"-n other link set nic1 netns {os.getpid()}"),
    ),
    "host-device": Taker(
        lambda race: host_device(race, "ADD"), lambda race: host_device(race, "DEL")
    ),
    "another state directory": Taker(
        lambda race: attached(elsewhere(race), race),
        lambda race: elsewhere(race).detach(OTHER.key),
    ),
    "the same state directory": Taker(
        lambda race: attached(beside(race), race), lambda race: beside(race).detach(OTHER.key)
    ),
}


@pytest.mark.parametrize("name", TAKERS)
def test_somebody_takes_the_link_that_is_being_lent(race: Race, name: str) -> None:
    """One of the two has it, the other is told so; nobody takes it from who has it."""
    taker, won = TAKERS[name], set()
    race.new_link()
    events = race.events_of(race.lend)
    race.take_back()
    for number, event in enumerate(events, 1):
        moment = f"before event {number}, {event}"
        before = race.new_link()
        outcome = race.disturbed(race.lend, number, lambda: taker.take(race))
        won.add(outcome.acted)
        assert (outcome.error is None) == (not outcome.acted), moment
        holder, loser = (race.other, race.pod) if outcome.acted else (race.pod, race.other)
        assert (race.inode_in(holder), loser.names()) == (race.inode, ["lo"]), moment
        assert (race.engine.detach(OWNER.key) is None) == outcome.acted, moment
        assert race.engine.recover() == (), moment
        if outcome.acted:
            assert "nic1" in str(outcome.error), moment
            assert race.inode_in(race.other) == race.inode, moment
            taker.give(race)
            assert race.name_on_host() == "nic1", moment
        else:
            race.see_that_it_is_home_as(before, moment)
        assert race.host.left_over() == [], moment
    assert won == {True, False}


@pytest.mark.parametrize("name", ["ip", "host-device"])
def test_somebody_takes_the_link_that_came_home(race: Race, name: str) -> None:
    """It is free again as soon as it is there: theirs it stays."""
    taker, won = TAKERS[name], set()
    for number, event in enumerate(race.events_of_the_way_back(), 1):
        moment = f"before event {number}, {event}"
        race.new_link()
        race.lend()
        outcome = race.disturbed(race.take_back, number, lambda: taker.take(race))
        won.add(outcome.acted)
        assert outcome.release.complete, moment
        race.see_that_nothing_is_left(moment)
        assert race.pod.names() == ["lo"], moment
        assert (race.name_on_host() == "") == outcome.acted, moment
        if outcome.acted:
            assert race.inode_in(race.other) == race.inode, moment
    assert won == {True, False}


@pytest.mark.parametrize("which", ["second look", "move"])
@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("link delete nic1", DeviceNotFound),
        ("link set nic1 master br0", PolicyRefused),
        ("route add default via 10.1.0.254", PolicyRefused),
    ],
)
def test_what_may_not_be_lent_any_more(
    race: Race, which: str, command: str, error: type[NetdevError]
) -> None:
    race.new_link()
    events = race.events_of(race.lend)
    race.take_back()
    move = 1 + next(number for number, each in enumerate(events) if "move link" in each)
    pin = 1 + events.index("pin")
    before = race.new_link()
    outcome = race.disturbed(
        race.lend, pin if which == "second look" else move, lambda: by_hand(command)
    )
    if which == "move" and error is PolicyRefused:  # after our last look
        race.take_back()
        race.see_that_it_is_home_as(before, command)
        return
    assert isinstance(outcome.error, error)
    assert race.pod.names() == ["lo"]
    race.see_that_nothing_is_left(command)
    if outcome.left:
        assert differences(outcome.left, capture("nic1")) == []
