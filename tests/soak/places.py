"""Where the links are and what is left, seen with iproute2, /proc and the records' own text."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.host import STATE_DIR
from tests.linkstate import differences, everything
from tests.soak.links import BY_MARK

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from tests.host import Host

NAMED = Path("/run/netns")
HOST = "/proc/self/ns/net"


class Holding(NamedTuple):
    """A record of an attachment, as far as the soak needs it.

    path: of the pod's namespace.  pin: where it may be pinned.
    """

    front: str
    path: str
    pin: str
    complete: bool
    links: tuple[str, ...]


def records() -> list[Holding]:
    """Those in the state directory now."""
    found = []
    for file in sorted((STATE_DIR / "records").glob("*.json")):
        with suppress(FileNotFoundError):
            record = json.loads(file.read_text())["record"]
            pin = STATE_DIR / f"pins-{record['pinned_in']}" / file.stem
            found.append(
                Holding(
                    record["owner"]["front"],
                    record["netns"]["path"],
                    str(pin),
                    record["complete"],
                    tuple(each["home"]["link"]["settings"]["name"] for each in record["devices"]),
                )
            )
    return found


def namespace(path: str) -> int | None:
    """What a path leads to, to compare with another's while both are there; None: nowhere."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def inside(path: str) -> dict[str, str]:
    """By our links in a namespace, what they are called there; empty when it is gone."""
    command = ["nsenter", f"--net={path}", "ip", "-j", "link"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    shown = json.loads(done.stdout or "[]") if done.returncode == 0 else []
    return {
        BY_MARK[each["txqlen"]]: each["ifname"] for each in shown if each.get("txqlen") in BY_MARK
    }


def whereabouts() -> dict[str, list[int]]:
    """The namespaces in which each of our links is seen; one for each, if all is well."""
    paths = [HOST, *_below(NAMED), *_below(*STATE_DIR.glob("pins-*"))]
    once = {namespace(path): path for path in reversed(paths)}
    found: dict[str, list[int]] = {link: [] for link in BY_MARK.values()}
    for number, path in once.items():
        if number is not None:
            for link in inside(path):
                found[link].append(number)
    return found


def _below(*directories: Path) -> list[str]:
    return [str(each) for directory in directories for each in directory.glob("*")]


class Claim(NamedTuple):
    """What a pod was told that it has.  path: of the namespace that the link must be in."""

    pod: str
    link: str
    path: str


def astray(claims: Iterable[Claim], hidden: Collection[str]) -> dict[str, str]:
    """By link, what is wrong while nothing is being done, though plugins may be looking around.

    hidden: namespaces into which pods moved links further.
    """
    held: dict[str, list[Holding]] = {}
    for record in records():
        for link in record.links:
            held.setdefault(link, []).append(record)
    places = whereabouts()
    home = namespace(HOST)
    further = {namespace(path) for path in hidden}
    wrong = {}
    for link, where in places.items():
        holders = held.get(link, [])
        if len(where) != 1:
            wrong[link] = f"is in {len(where)} namespaces"
        elif len(holders) > 1:
            wrong[link] = f"is in {len(holders)} records: {holders}"
        elif where == [home] and any(each.complete for each in holders):
            wrong[link] = f"is on the host, but lent by {holders}"
        elif where != [home] and not holders:
            wrong[link] = f"is in namespace {where} without a record"
        elif where != [home] and where[0] not in further | _named_by(holders[0]):
            wrong[link] = f"is in namespace {where}, not in that of its record: {holders}"
    for pod, link, path in claims:
        if places[link] != [namespace(path)]:
            wrong.setdefault(link, f"is in {places[link]}, and {pod} ({path}) was told to have it")
    return wrong


def _named_by(record: Holding) -> set[int | None]:
    return {namespace(record.path), namespace(record.pin)} - {None}


# --- nothing is lent -----------------------------------------------------------------------------


class Untouched(NamedTuple):
    """A node with nothing lent, to be had again.

    inodes: of the links' sysfs directories, which no link made anew has.
    """

    links: Mapping[str, Any]
    inodes: Mapping[str, int]
    mounts: str

    @classmethod
    def now(cls) -> Untouched:
        links = everything()
        for state in links.values():
            _forget_promiscuity(state)
        return cls(links, {name: _inode(name) for name in links}, _mounts())


def _forget_promiscuity(state: dict[str, Any]) -> None:
    """Of a link that is down.

    What a macvlan on top made of it the kernel takes back only when it is up, or goes up next
    (net/core/dev_addr_lists.c, __dev_set_rx_mode).
    """
    if "UP" not in state["flags"]:
        state["link"].pop("promiscuity", None)


def _inode(name: str) -> int:
    with suppress(FileNotFoundError):
        return os.stat(f"/sys/class/net/{name}").st_ino
    return 0


def _mounts() -> str:
    return Path("/proc/self/mounts").read_text()


def not_home(before: Untouched, host: Host, residents: Collection[int]) -> list[str]:
    """What is not as it was; cheap looks first, since this is asked until it is empty.

    residents: the processes that live here.
    """
    found = [f"left over: {each}" for each in host.left_over()]
    found += [f"namespace {each.name} is left" for each in NAMED.glob("*")]
    found += [f"process {pid} is left: {what}" for pid, what in strangers(residents).items()]
    if found:
        return found
    found += [f"mount {each}" for each in _changed(before.mounts, _mounts())]
    now = Untouched.now()
    found += differences(before.links, now.links)
    return found + differences(before.inodes, now.inodes)


def _changed(before: str, now: str) -> list[str]:
    return sorted(set(before.splitlines()) ^ set(now.splitlines()))


def strangers(residents: Collection[int]) -> dict[int, str]:
    """Processes in our mount namespace that are neither residents nor ourselves."""
    ours = os.readlink("/proc/self/ns/mnt")
    found = {}
    for each in Path("/proc").iterdir():
        if each.name.isdecimal() and int(each.name) not in (*residents, os.getpid()):
            with suppress(OSError):
                if os.readlink(each / "ns" / "mnt") == ours:
                    found[int(each.name)] = (each / "cmdline").read_text().replace("\0", " ")
    return found
