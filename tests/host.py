"""A host for tests: network and mount namespaces of their own, so that nothing touches the machine.

The calling process itself moves in (``Host.enter``), so that programs started from a test, and the
engine in the test's own process, see the test's links as the host's.  Leaving drops the namespaces
and all that was made in them.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_netdev import install
from cni_netdev.core.journal import AGENT_SOCKET
from tests import programs
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parent.parent
PEERS = ROOT / ".build" / "bin"
STATE_DIR = Path("/run/cni-netdev")
# The main interface of a pod, for conflists that have ours behind it.
PTP = {"type": "ptp", "ipMasq": False, "ipam": {"type": "host-local", "subnet": "10.200.0.0/24"}}
_CLONE_NEWNS, _CLONE_NEWNET = 0x20000, 0x40000000
_MS_REC_PRIVATE = 0x4000 | 0x40000
_MNT_DETACH = 2
_LIBC = ctypes.CDLL(None, use_errno=True)


def _call(function: str, *arguments: object) -> None:
    if getattr(_LIBC, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}; tests of the kernel need root")


def _return(fd: int) -> None:
    """Into the namespace open at ``fd``.

    EINVAL: a thread that was joined is still ending in the kernel, and shares our directory.
    """
    for _ in range(100):
        with suppress(OSError):
            _call("setns", fd, 0)
            return
        time.sleep(0.01)
    _call("setns", fd, 0)


def _detach_below(directory: str) -> None:
    """The machine's own mounts there: runc takes one that is covered for the one it looks for."""
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in reversed(places):
        if place.startswith(f"{directory}/"):
            _call("umount2", place.encode(), _MNT_DETACH)


def mount(source: str, target: str, flags: int, kind: str = "") -> None:
    """mount(2), in the caller's mount namespace."""
    texts = (source.encode(), target.encode(), kind.encode())
    _call("mount", *texts, ctypes.c_ulong(flags), None)


def run(*command: str, stdin: str = "", env: Mapping[str, str] | None = None) -> str:
    """The output of a program that must succeed."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


class Answer(NamedTuple):
    """What a plugin or cnitool said."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; None when there is nothing."""
        return json.loads(self.stdout) if self.stdout.strip() else None

    def ok(self) -> Any:
        """The document of a call that must have succeeded."""
        assert self.code == 0, self.stdout + self.stderr
        return self.document

    def error(self) -> tuple[int, str]:
        """The CNI code, and message with details, of a call that must have failed."""
        assert self.code == 1, self.stdout + self.stderr
        document = self.document
        return document["code"], f"{document['msg']} {document.get('details', '')}"


class Pod:
    """A named network namespace that stands for a pod."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = f"/run/netns/{name}"
        run("ip", "netns", "add", name)

    def ip(self, arguments: str) -> str:
        return run("ip", "-n", self.name, *arguments.split())

    def json(self, arguments: str) -> Any:
        return json.loads(run("ip", "-n", self.name, "-j", *arguments.split()) or "[]")

    def run(self, *command: str) -> str:
        return run("ip", "netns", "exec", self.name, *command)

    def names(self) -> list[str]:
        return [each["ifname"] for each in self.json("link")]

    def addresses(self, link: str) -> list[str]:
        """Addresses as CIDR, without the link-local ones that the kernel makes."""
        found = self.json(f"addr show dev {link}")[0]["addr_info"]
        return [f"{each['local']}/{each['prefixlen']}" for each in found if each["scope"] != "link"]

    def delete(self) -> None:
        run("ip", "netns", "delete", self.name)

    @contextmanager
    def process(self) -> Iterator[int]:
        """A process inside, for as long as the block; gives its pid."""
        command = ["ip", "netns", "exec", self.name, "sh", "-c", "echo ready; exec cat"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            yield child.pid
            child.kill()


class Host:
    """The host of one test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bin_dir = directory / "bin"
        self.conf_dir = directory / "net.d"
        self.programs = programs.DIRECTORY
        self.memory = Path("/var/lib")  # gone with the host
        self.conf_dir.mkdir(parents=True)
        self.bin_dir.mkdir()

    @classmethod
    @contextmanager
    def enter(cls, directory: Path) -> Iterator[Host]:
        """Move the calling process into a fresh host, and back at the end."""
        home = [os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY) for kind in ("net", "mnt")]
        place = os.getcwd()
        try:
            _call("unshare", _CLONE_NEWNET | _CLONE_NEWNS)
            _call("mount", None, b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None)
            for target in ("/run", "/var/lib"):
                _detach_below(target)
                mount("tmpfs", target, 0, "tmpfs")
            mount("sysfs", "/sys", 0, "sysfs")
            os.mkdir("/run/netns")
            run("ip", "link", "set", "lo", "up")
            # Without duplicate address detection a link is settled as soon as it is set.
            for which in ("all", "default"):
                Path(f"/proc/sys/net/ipv6/conf/{which}/accept_dad").write_text("0")
            yield cls(directory)
        finally:
            for fd in home:
                _return(fd)
                os.close(fd)
            os.chdir(place)

    # --- links -------------------------------------------------------------------------------

    def ip(self, arguments: str) -> str:
        return run("ip", *arguments.split())

    def json(self, arguments: str) -> Any:
        return json.loads(run("ip", "-j", *arguments.split()) or "[]")

    def names(self) -> list[str]:
        return [each["ifname"] for each in self.json("link")]

    def pod(self, name: str = "pod") -> Pod:
        return Pod(name)

    def veth(self, name: str, peer: str = "") -> str:
        """A veth that is up, with its peer beside it."""
        peer = peer or f"{name}p"
        self.ip(f"link add {name} type veth peer name {peer}")
        self.ip(f"link set {peer} up")
        self.ip(f"link set {name} up")
        return name

    def configured(self, name: str, number: int = 1) -> str:
        """A veth with all that an administrator may have set on it."""
        self.veth(name)
        net = f"10.{number}.0"
        for arguments in (
            f"link property add dev {name} altname {name}alt",
            f"link set {name} alias uplink-{name} txqueuelen 77 mtu 1450 group 5",
            f"link set {name} gso_max_size 32768 gro_max_size 32768",
            f"addr add {net}.1/24 dev {name} label {name}:x brd +",
            f"addr add {net}.2/24 dev {name} metric 50",
            f"addr add {net}.3/32 dev {name} noprefixroute",
            f"-6 addr add fd0{number}::1/64 dev {name} nodad",
            f"-6 addr add fd0{number}::2/64 dev {name} nodad",
            f"route add 172.{number}.0.0/16 via {net}.254 metric 7 proto 99 mtu 1300",
            f"route add 172.{number}.1.0/24 dev {name} table 77 scope link",
            f"-6 route add fd7{number}::/64 via fd0{number}::9 metric 12",
            f"addr add {net}.5/24 peer {net}.6 dev {name}",
            f"addr add 127.9.{number}.1/32 dev {name}",
            f"-6 addr add fe80::99/64 dev {name} nodad",
            f"-6 addr add fd0{number}::3/64 dev {name} nodad preferred_lft 0",
            f"route append 172.{number}.0.0/16 via {net}.253 metric 7 proto 99",
            f"route add local 10.{number + 100}.0.0/16 dev {name}",
            f"neigh add {net}.7 lladdr 02:00:00:00:00:07 dev {name}",
            f"-6 neigh add fd0{number}::7 lladdr 02:00:00:00:00:08 dev {name}",
            f"neigh add proxy {net}.8 dev {name}",
        ):
            self.ip(arguments)
        for key, value in (
            ("ipv4/conf/{}/rp_filter", "2"),
            ("ipv4/conf/{}/arp_ignore", "1"),
            ("ipv4/conf/{}/forwarding", "1"),
            ("ipv6/conf/{}/accept_ra", "0"),
            ("ipv6/conf/{}/use_tempaddr", "1"),
            ("ipv4/neigh/{}/gc_stale_time", "61"),
        ):
            Path("/proc/sys/net", key.format(name)).write_text(value)
        last = f"local fd0{number}::3 "  # by the kernel, some time after the address
        command = f"-6 route show table local dev {name}"
        until(lambda: last in self.ip(command), lambda: self.ip(command))
        return name

    # --- CNI ---------------------------------------------------------------------------------

    def install(self) -> Path:
        """Our plugin beside the real ones."""
        assert (PEERS / "cnitool").exists(), "cnitool is not built: run `make setup`"
        for peer in PEERS.iterdir():
            link = self.bin_dir / peer.name
            if not link.exists():
                link.symlink_to(peer)
        if not programs.ARE_BUNDLED:
            return install.install(self.bin_dir)
        run(str(programs.NETDEVCTL), "install", "--bin-dir", str(self.bin_dir))
        return self.bin_dir / install.PLUGIN

    def conflist(self, *plugins: dict[str, Any], name: str = "net", version: str = "1.0.0") -> str:
        """Write a conflist; gives the network's name."""
        document = {"cniVersion": version, "name": name, "plugins": list(plugins)}
        (self.conf_dir / f"{name}.conflist").write_text(json.dumps(document))
        return name

    def cnitool(
        self,
        verb: str,
        network: str,
        netns: str,
        *,
        cap_args: dict[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        ifname: str = "eth0",
    ) -> Answer:
        """The real cnitool with our plugin directory."""
        environ = {
            "PATH": os.environ["PATH"],
            "NETCONFPATH": str(self.conf_dir),
            "CNI_PATH": str(self.bin_dir),
            "CNI_IFNAME": ifname,
            **({"CAP_ARGS": json.dumps(cap_args)} if cap_args else {}),
            **(env or {}),
        }
        return answer_of([str(PEERS / "cnitool"), verb, network, netns], environ, "")

    def plugin(
        self,
        verb: str,
        conf: dict[str, Any] | str,
        *,
        netns: str | None = None,
        container: str = "c1",
        ifname: str = "eth0",
        env: Mapping[str, str] | None = None,
        program: str = "",
    ) -> Answer:
        """Our executable, or another plugin, with no environment but CNI's, from /."""
        environ = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": container,
            "CNI_IFNAME": ifname,
            "CNI_PATH": str(self.bin_dir),
            **({"CNI_NETNS": netns} if netns is not None else {}),
            **(env or {}),
        }
        text = conf if isinstance(conf, str) else json.dumps(conf)
        return answer_of([str(self.bin_dir / (program or install.PLUGIN))], environ, text)

    def netdevctl(self, *arguments: str, stdin: str = "") -> Answer:
        command = [str(self.programs / "netdevctl"), *arguments]
        return answer_of(command, {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}, stdin)

    def left_over(self) -> list[str]:
        """Records, locks and pins that are still there."""
        return sorted(
            str(each.relative_to(STATE_DIR))
            for each in STATE_DIR.rglob("*")
            if not each.is_dir() and each.name != AGENT_SOCKET
        ) + [line for line in Path("/proc/self/mounts").read_text().splitlines() if "pins" in line]


def answer_of(command: list[str], environ: Mapping[str, str], stdin: str) -> Answer:
    """What a program says with this environment and nothing else of it, from the root directory."""
    done = subprocess.run(
        command,
        env=dict(environ),
        cwd="/",
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)
