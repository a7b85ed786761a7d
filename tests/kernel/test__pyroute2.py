"""The way round pyroute2's package: notices a release in which it no longer works."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cni_netdev.core._pyroute2 import messages
from cni_netdev.core.netlink import NLM_F_DUMP, Connection

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parent.parent.parent
PATHS = [str(ROOT), *[each for each in sys.path if "site-packages" in each]]


def run(script: str) -> str:
    start = f"import sys; sys.path[:0] = {PATHS!r}\n"
    command = [sys.executable, "-IS", "-c", start + script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


LOAD = "from cni_netdev.core._pyroute2 import messages\nmessages()\n"
# What each class is asked to say somewhere in the core: every kind of attribute that there is.
SAY = """
def say(messages):
    one = {"index": 3, "flags": 1, "change": 1}
    names = (b"a" * 15, b"up\\xff", b"alt")
    yield messages.link, one, [
        ("IFLA_IFNAME", names[0]), ("IFLA_ADDRESS", bytes(6)), ("IFLA_MTU", 1400),
        ("IFLA_IFALIAS", names[1]), ("IFLA_BROADCAST", bytes(20)), ("IFLA_LINKMODE", 1),
        ("IFLA_PROTO_DOWN", 1), ("IFLA_TXQLEN", 7), ("IFLA_GROUP", 5), ("IFLA_GSO_MAX_SEGS", 9),
        ("IFLA_GSO_IPV4_MAX_SIZE", 9), ("IFLA_NET_NS_FD", 4), ("IFLA_EXT_MASK", 8),
        ("IFLA_MASTER", 2), ("IFLA_XDP", {"attrs": [("IFLA_XDP_FD", -1), ("IFLA_XDP_FLAGS", 2)]}),
        ("IFLA_PROP_LIST", {"attrs": [("IFLA_ALT_IFNAME", names[2])]}),
    ]
    for family, address in ((2, "192.0.2.1"), (10, "2001:db8::1")):
        prefix = {"family": family, "prefixlen": 24, "scope": 0, "index": 3}
        yield messages.address, prefix, [
            ("IFA_LOCAL", address), ("IFA_ADDRESS", address), ("IFA_FLAGS", 2), ("IFA_PROTO", 9),
            ("IFA_RT_PRIORITY", 5), ("IFA_LABEL", names[2]),
            ("IFA_CACHEINFO", {"ifa_preferred": 0, "ifa_valid": 0xFFFFFFFF}),
        ]
        route = {"family": family, "dst_len": 24, "tos": 0, "table": 254, "proto": 4, "type": 1}
        yield messages.route, route, [
            ("RTA_TABLE", 254), ("RTA_DST", address), ("RTA_OIF", 3), ("RTA_GATEWAY", address),
            ("RTA_PREFSRC", address), ("RTA_PRIORITY", 8), ("RTA_PREF", 1),
            ("RTA_METRICS", {"attrs": [("RTAX_MTU", 1300), ("RTAX_ADVMSS", 1200)]}),
            ("RTA_VIA", {"family": 10, "addr": "2001:db8::2"}),
            ("RTA_MULTIPATH", [
                {"oif": 3, "hops": 1, "flags": 4, "attrs": [("RTA_GATEWAY", address)]},
            ]),
        ]
        near = {"family": family, "ifindex": 3, "state": 128, "flags": 8}
        yield messages.neighbour, near, [("NDA_DST", address), ("NDA_LLADDR", "02:00:00:00:00:02")]
    yield messages.traffic, {"index": 3}, [("TCA_KIND", "fq"), ("TCA_OPTIONS", bytes(8))]

for made, fields, attributes in say(messages()):
    for each in (made, made.__bases__[1]):
        message = each()
        message.update(fields)
        message["attrs"] = list(attributes)
        message.encode()
        print(each.__name__, message.data.hex())
"""


def test_nothing_is_loaded_beside_the_message_classes() -> None:
    """If this fails a release asks for more: see what, and give it to a stand-in."""
    out = run(f"before = set(sys.modules)\n{LOAD}print(*sorted(set(sys.modules) - before))")
    needed = {"_collections_abc", "_stat", "genericpath", "os", "os.path", "posixpath", "stat"}
    ours = {"__future__", "cni_netdev", "cni_netdev.core"}
    ours |= {f"cni_netdev.core.{each}" for each in ("_pyroute2", "lean", "linkmsg")}
    c_halves = {"_collections", "_functools", "_socket", "_struct"}
    assert set(out.split()) - ours - needed - c_halves == {"errno", "struct", "types"}


def test_messages_are_those_of_the_real_package() -> None:
    behind = run(LOAD + SAY)
    real = run(f"import pyroute2\n{LOAD}{SAY}")
    assert behind == real
    lines = behind.splitlines()
    assert len(lines) == 16
    assert lines[::2] == lines[1::2], "in fewer calls, but the same"


@pytest.mark.parametrize("kind", ["link", "address", "route", "neighbour"])
def test_what_the_kernel_says_is_read_as_by_pyroute2(host: Host, kind: str) -> None:
    host.configured("nic1")
    host.ip("link add link nic1p name vl type macvlan mode bridge")
    connection = Connection()
    made = getattr(messages(), kind)
    get = {"link": 18, "address": 22, "route": 26, "neighbour": 30}[kind]
    replies = connection.request("list", made(), get, NLM_F_DUMP)
    connection.close()
    assert len(replies) >= 4
    for reply in replies:
        plain = made.__bases__[1](reply.data)
        plain.decode()
        assert [(each.name, repr(each.value)) for each in reply["attrs"]] == [
            (each.name, repr(each.value)) for each in plain["attrs"]
        ]
        names = [name for name, kind in made.fields if not kind.endswith("x")]
        assert [reply[name] for name in names] == [plain[name] for name in names]


def test_what_is_read_late_of_a_reply_is_there(host: Host) -> None:
    """The collector of garbage may come at any moment; a gateway would be lost."""
    host.configured("nic1")
    host.ip("-6 addr add fd77::1/64 dev nic1 nodad")
    host.ip("-6 route add fd78::/64 nexthop via fd77::8 dev nic1 nexthop via fd77::9 dev nic1")
    connection = Connection()
    replies = connection.request("list", messages().route(), 26, NLM_F_DUMP)
    connection.close()
    (hops,) = [
        each.value for reply in replies for each in reply["attrs"] if each.name == "RTA_MULTIPATH"
    ]
    gc.collect()
    assert [dict(each["attrs"])["RTA_GATEWAY"] for each in hops] == ["fd77::8", "fd77::9"]


def test_a_vfs_message_is_that_of_the_real_package() -> None:
    said = """
from cni_netdev.core import vfinfo
from cni_netdev.core._pyroute2 import messages, vf_message
messages()
message = vfinfo.change(3, 2, (("vlan", "100"), ("qos", "3"), ("proto", "802.1ad")))
message.encode()
print(message.data.hex())
"""
    assert run(said) == run(f"import pyroute2\n{said}")


def test_the_configuration_is_that_of_the_real_package() -> None:
    script = (
        "from cni_netdev.core._pyroute2 import _stand_ins\n"
        "ours = vars(_stand_ins()['pyroute2.config'])\n"
        "from pyroute2 import config\n"
        "print([name for name, value in ours.items()"
        " if name[:1] != '_' and value != getattr(config, name)])"
    )
    assert run(script) == "[]\n"


def test_the_real_package_can_still_be_imported() -> None:
    out = run(f"{LOAD}from pyroute2 import IPRoute, netlink; print(IPRoute.__name__, netlink.log)")
    assert out == "IPRoute <Logger pyroute2.netlink (WARNING)>\n"
    after = (
        "import pyroute2; from cni_netdev.core._pyroute2 import messages; print(len(messages()))"
    )
    assert run(after) == "8\n"


def test_what_a_stand_in_lacks_the_real_module_has_afterwards() -> None:
    """An odd address is logged with a traceback's help, long after loading."""
    odd = (
        "neighbour = messages().neighbour\n"
        "message = neighbour()\n"
        "message['attrs'] = [('NDA_LLADDR', '02:00:00:00:00:02')]\n"
        "message.encode()\n"
        "message.data[28] = 9\n"
        "again = neighbour(message.data)\n"
        "again.decode()\n"
        "print(again['attrs'][0].value, 'logging' in sys.modules)"
    )
    assert run(LOAD + odd) == "02:00:00:00:00 True\n"


@pytest.mark.parametrize(
    "asks",
    ["from typing import Protocol", "import socket; socket.create_server", "open('/nowhere')"],
)
def test_a_release_that_asks_for_more_is_loaded_with_less_of_it(asks: str, tmp_path: Path) -> None:
    """The package alone stood in for, or nothing."""
    copy = tmp_path / "pyroute2"
    spec = find_spec("pyroute2")
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "netlink" / "__init__.py").open("a") as file:
        file.write(f"\n{asks}\n")
    ahead = f"sys.path.insert(0, {str(tmp_path)!r})\n"
    if "nowhere" in asks:
        with pytest.raises(subprocess.CalledProcessError):
            run(ahead + LOAD)
    else:
        assert run(f"{ahead}{LOAD}print('typing' in sys.modules)") == "True\n"


def test_attributes_that_pyroute2_lacks_have_their_numbers() -> None:
    """linux/if_link.h: 62 to 67."""
    names = [name for name, _ in messages().link.nla_map]
    assert names.index("IFLA_ALLMULTI") == 61
    assert names.index("IFLA_GSO_IPV4_MAX_SIZE") == 63
    assert names.index("IFLA_NETNS_IMMUTABLE") == 67


def test_without_pyroute2_the_error_says_so() -> None:
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}]\n"
        "from cni_netdev.core._pyroute2 import messages\n"
        "try: messages()\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-IS", "-c", script], capture_output=True, text=True, check=True
    )
    assert "pyroute2 is not installed" in done.stdout
