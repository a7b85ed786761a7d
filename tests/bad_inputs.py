"""Bad input to the plugin: what comes in, and the code and words that must come out.

Run against ``main`` in tests/unit and against the real process in tests/e2e, where each must leave
the host untouched.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

ENV = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/pod",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
}
CONF: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "cni-netdev"}


def _nested(levels: int) -> list[Any]:
    return [_nested(levels - 1)] if levels > 1 else []


class Bad(NamedTuple):
    """env: overrides; None removes.  stdin: the text.  said: words that the answer must have."""

    title: str
    code: int
    said: str
    env: dict[str, str | None]
    stdin: str

    @property
    def environ(self) -> dict[str, str]:
        merged = {**ENV, **self.env}
        return {key: value for key, value in merged.items() if value is not None}


def _env(title: str, code: int, said: str, **env: str | None) -> Bad:
    return Bad(title, code, said, env, json.dumps(CONF))


def _text(title: str, code: int, said: str, stdin: str) -> Bad:
    return Bad(title, code, said, {}, stdin)


def _conf(title: str, code: int, said: str, **conf: Any) -> Bad:
    return Bad(title, code, said, {}, json.dumps({**CONF, **conf}))


def _device(title: str, said: str, *, code: int = 7, **device: Any) -> Bad:
    return _conf(title, code, said, devices=[device])


def _nic(title: str, said: str, *, code: int = 7, **device: Any) -> Bad:
    return _device(title, said, code=code, name="nic1", **device)


def _route(title: str, said: str, **route: Any) -> Bad:
    return _nic(title, said, routes=[route])


def _annotation(title: str, said: str, text: Any) -> Bad:
    key = "io.kubernetes.cri.pod-annotations"
    return _conf(title, 7, said, runtimeConfig={key: {"netdevices.nri.containerd.io": text}})


def _policy(title: str, said: str, policy: Any) -> Bad:
    return _conf(title, 7, said, devices=[{"name": "nic1"}], policy=policy)


TABLE: tuple[Bad, ...] = (
    # the environment
    _env("no command", 4, "CNI_COMMAND", CNI_COMMAND=None),
    _env("unknown command", 4, "unknown CNI_COMMAND: 'MOVE'", CNI_COMMAND="MOVE"),
    _env("lower case command", 4, "unknown CNI_COMMAND", CNI_COMMAND="add"),
    _env("no container id", 4, "[CNI_CONTAINERID]", CNI_CONTAINERID=None),
    _env("empty container id", 4, "[CNI_CONTAINERID]", CNI_CONTAINERID=""),
    _env("several missing", 4, "[CNI_NETNS,CNI_IFNAME]", CNI_NETNS=None, CNI_IFNAME=None),
    _env("no path", 4, "[CNI_PATH]", CNI_PATH=None),
    _env("container id with a path", 4, "'../a'", CNI_CONTAINERID="../a"),
    _env("container id with a newline", 4, r"'a\n'", CNI_CONTAINERID="a\n"),
    _env("ifname with a slash", 4, "'a/b'", CNI_IFNAME="a/b"),
    _env("ifname of 16 bytes", 4, "at most 15 bytes", CNI_IFNAME="x" * 16),
    _env("ifname dots", 4, "'..'", CNI_IFNAME=".."),
    _env("args without =", 4, "CNI_ARGS: 'K8S'", CNI_ARGS="K8S"),
    # standard input
    _text("empty stdin", 6, "no JSON", ""),
    _text("bad JSON", 6, "no JSON", "{"),
    _text("two documents", 6, "no JSON", "{}{}"),
    _text("a list", 6, "no JSON object", "[]"),
    _text("nested too deep", 6, "no JSON", "[" * 100_000),
    _conf("prevResult nested too deep", 6, "deeper than 64 levels", prevResult={"x": _nested(64)}),
    _text("too large", 6, "more than 16777216 bytes", " " * (16 * 1024 * 1024 + 1)),
    _text("numeric version", 6, "cniVersion: 1.0 must be text", '{"cniVersion": 1.0, "name": "n"}'),
    _text("no version", 1, "'0.1.0' is not supported", '{"name": "net"}'),
    _conf("version too new", 1, "'9.9.9' is not supported", cniVersion="9.9.9"),
    _conf("version without chaining", 1, "'0.2.0' is not supported", cniVersion="0.2.0"),
    _conf("empty version", 1, "'' is not supported", cniVersion=""),
    _text("no name", 7, "name: is missing", '{"cniVersion": "1.0.0"}'),
    _conf("name with a path", 7, "'../x' is no network name", name="../x"),
    _conf("runtimeConfig no object", 6, "runtimeConfig", runtimeConfig=[]),
    _conf(
        "prevResult interfaces", 6, "prevResult.interfaces: 5 must be", prevResult={"interfaces": 5}
    ),
    _text("not a number", 6, "NaN is no JSON", '{"cniVersion": "1.0.0", "name": "n", "x": NaN}'),
    _conf("half a surrogate", 2, "logFile: '/\\ud800'", logFile="/\ud800"),
    _conf("prevResult no object", 6, "prevResult", prevResult="x"),
    # our own fields
    _conf("ipam no object", 2, "ipam: 'dhcp' must be an object", ipam="dhcp"),
    _conf("ipam without type", 2, "ipam.type: None is no name", ipam={"subnet": "10.0.0.0/24"}),
    _conf("ipam with a path", 2, "'../x' is no name of a plugin", ipam={"type": "../x"}),
    _conf("ipam that is ourselves", 2, "would call itself", ipam={"type": "cni-netdev"}),
    _conf("relative state directory", 2, "stateDir: 'x' is no absolute path", stateDir="x"),
    _conf("numeric log file", 2, "logFile: 7", logFile=7),
    _conf("unknown log level", 2, "logLevel: 'loud' is none of", logLevel="loud"),
    _conf("report no boolean", 2, "reportAddresses: 'yes'", reportAddresses="yes"),
    _conf("two policies", 2, "policy and policyFile", policy={}, policyFile="/p"),
    _conf("devices no list", 7, "devices: must be a list", devices={"name": "nic1"}),
    _conf("capability no list", 7, "netDevices: must be a list", runtimeConfig={"netDevices": "x"}),
    _conf(
        "deviceID no PCI address", 7, "is no PCI address", runtimeConfig={"deviceID": "mlx5.sf.1"}
    ),
    _conf(
        "annotations no object",
        7,
        "must be an object",
        runtimeConfig={"io.kubernetes.cri.pod-annotations": [1]},
    ),
    _conf(
        "too many devices",
        7,
        "65 devices are more than 64",
        devices=[{"name": f"n{n}"} for n in range(65)],
    ),
    # devices
    _conf("device no object", 7, "devices[0]: must be an object", devices=["nic1"]),
    _device("no selector", "none is given", new_name="x"),
    _nic("two selectors", "name and hwaddr are given", hwaddr="02:00:00:00:00:01"),
    _nic("unknown key", "devices[0].mtuu: unknown key; did you mean mtu?", mtuu=1),
    _nic("every fault at once", "devices[0].up: 3 is neither", mtu=70000, up=3, mac="x"),
    _nic("dhcp for a device", "devices[0].dhcp: is no key of a device", dhcp=True),
    _nic("dhcp with its remedy", '"ipam": {"type": "dhcp"}', dhcp="x", address="10.1.1.1/24"),
    _nic("rdma neither true nor false", "devices[0].rdma: 'maybe' is neither", rdma="maybe"),
    _nic("mtu above", "devices[0].mtu: 70000 is above 65535", mtu=70000),
    _nic("mtu below", "67 is below 68", mtu=67),
    _nic("mtu a float", "1400.5 is no whole number", mtu=1400.5),
    _nic("mtu a boolean", "True is no whole number", mtu=True),
    _nic("mtu hexadecimal", "'0x5dc' is no whole number", mtu="0x5dc"),
    _nic("new name too long", "must have 1 to 15 bytes", new_name="x" * 16),
    _nic("new name empty", "must have 1 to 15 bytes", new_name=""),
    _nic("new name with a slash", "is no name of a link", new_name="a/b"),
    _nic("new name with a template", "has a %", new_name="eth%d"),
    _nic("new name lo", "means something else", new_name="lo"),
    _device("name with a control character", "is no name of a link", name="a\x1b"),
    _nic("address no address", "'10.0.0' is no IP address", address="10.0.0"),
    _nic("address multicast", "cannot be the address of a link", address="224.0.0.1/24"),
    _nic("prefix too long", "prefix 33 is too long", address="10.0.0.1", prefix=33),
    _nic("prefix contradicts", "contradicts prefix 16", address="10.0.0.1/24", prefix=16),
    _nic("prefix alone", "there is none", prefix=24),
    _nic("netmask for prefix", "prefix length after the /", address="10.0.0.1/255.0.0.0"),
    _nic("address zone", "is no plain address", address="fe80::1%eth0/64"),
    _nic(
        "address twice",
        "10.0.0.1/24 is given more than once",
        address="10.0.0.1/24",
        addresses=["10.0.0.1/24"],
    ),
    _nic("addresses no list", "addresses: must be a list", addresses="10.0.0.1/24"),
    _nic("multicast MAC", "is a multicast address", mac="01:00:5e:00:00:01"),
    _nic("zero MAC", "is no address of a link", mac="00:00:00:00:00:00"),
    _nic("short MAC", "is no MAC", mac="02:00"),
    _device("PCI address", "is no PCI address", pci_address="3b:2"),
    _device("kernel path outside", "no plain path below", kernel_path="/etc/passwd"),
    _device("kernel path with dots", "no plain path below", kernel_path="/sys/devices/../../etc"),
    _nic("route without dst", "routes[0].dst: is needed", routes=[{"gw": "10.0.0.1"}]),
    _route("route with host bits", "did you mean 10.0.0.0/24?", dst="10.0.0.1/24"),
    _route("route families", "is no IPv6 address", dst="fd00::/64", gw="10.0.0.1"),
    _route("route unknown key", "unknown key; did you mean gw?", dst="default", gww="10.0.0.1"),
    _route("route scope", "is no scope", dst="10.0.0.0/8", scope="world"),
    _nic("queue too long", "devices[0].txqlen: 65536 is above 65535", txqlen=65536),
    _nic("offload size", "gso_ipv4_max_size: 1 is below 512", gso_ipv4_max_size=1),
    _nic(
        "neighbour without MAC", "neighbors[0].mac: is needed", neighbors=[{"address": "10.0.0.9"}]
    ),
    _nic("rule without table", "rules[0].table: is needed", rules=[{"from": "10.0.0.9"}]),
    _nic("rule for all", "rules[0]: needs one of from", rules=[{"family": "ipv4", "table": 7}]),
    _nic("altnames no list", "altnames: must be a list", altnames="a"),
    _nic("altname of the loopback", "altnames[1]: 'lo' means something else", altnames=["a", "lo"]),
    _nic("altname twice", "altnames: a is given more than once", altnames=["a", "a"]),
    _nic(
        "altname and name",
        "'net1' is the name in the pod of devices[0] already",
        new_name="net1",
        altnames=["net1"],
    ),
    _nic(
        "asked altname taken in the pod",
        "altnames: 'takenalt' is the",
        code=104,
        altnames=["takenalt"],
    ),
    _nic("routes of a link that is down", "up is false", up=False, routes=[{"dst": "10.0.0.0/8"}]),
    _conf(
        "same link twice",
        7,
        "is asked for by devices[0] already",
        devices=[{"name": "nic1"}, {"name": "nic1", "new_name": "b"}],
    ),
    _conf(
        "same name twice",
        7,
        "is the name in the pod of devices[0]",
        devices=[{"name": "nic1", "new_name": "x"}, {"name": "nic2", "new_name": "x"}],
    ),
    # annotations
    _annotation("annotation no list", "must be a list", "name: nic1"),
    _annotation("annotation no text", "must be text", 7),
    _annotation("annotation neither", "neither JSON nor YAML", "- name: [x"),
    _annotation("annotation alias", "anchors and aliases", "- &a {name: nic1}\n- *a"),
    _annotation("annotation tag", "is not taken", "!!python/object/apply:os.getcwd []"),
    _annotation("annotation key twice", "is given twice", "- {name: nic1, name: nic2}"),
    _annotation("annotation JSON key twice", "is given twice", '[{"name": "nic1", "name": "b"}]'),
    _annotation(
        "annotation two documents", "more than one YAML document", "- name: nic1\n---\n- name: b"
    ),
    _annotation("annotation nested", "nested deeper", "- " + "[" * 9 + "]" * 9),
    _annotation(
        "annotation number", "cannot be read", '[{"name": "nic1", "mtu": ' + "9" * 5000 + "}]"
    ),
    _annotation(
        "annotation of many faults", "and 14 more", "\n".join(f"- {{mtu: {n}}}" for n in range(32))
    ),
    _annotation("annotation large", "are more than 65536", "#" * 70_000),
    # policy
    _policy("policy no object", "policy: must be an object", []),
    _policy("policy unknown key", "unknown key; did you mean rules?", {"rule": []}),
    _policy("policy default", "neither allow nor deny", {"default": "maybe"}),
    _policy("rule without verb", "one key, allow or deny", {"rules": [{"permit": {}}]}),
    _policy("rule bad glob", "that nothing closes", {"rules": [{"allow": {"names": ["e[th"]}}]}),
    # what the host and the pod say
    _conf(
        "policy file missing",
        7,
        "cannot be read",
        devices=[{"name": "nic1"}],
        policyFile="/run/no-such-file",
    ),
    _device("no such link", "no link on the host has name 'nic9'", code=101, name="nic9"),
    _device("no such PCI device", "no link on the host", code=101, pci_address="0000:ff:1f.7"),
    _device("no such hwaddr", "no link on the host", code=101, hwaddr="02:00:00:00:00:99"),
    _device(
        "kernel path without a link",
        "no link on the host",
        code=101,
        kernel_path="/sys/devices/virtual/net",
    ),
    _device("loopback", "loopback", code=102, name="lo", new_name="x"),
    _device("bridge", "ties a link of kind bridge", code=102, name="br0"),
    _device("port of a bridge", "port of a bridge", code=102, name="port0"),
    _device("uplink", "default route", code=102, name="uplink"),
    _device("stacked", "stacked on it: mv0", code=102, name="lower"),
    _device("stacked elsewhere", "frames for 02:00:00:00:00:77", code=102, name="shared"),
    _device("stacked elsewhere, down", "a link in another namespace", code=102, name="shared2"),
    _device("a leg of the default route", "default route", code=102, name="leg"),
    _device("the default route's half", "default route", code=102, name="half"),
    _conf(
        "denied by rule",
        102,
        "policy.rules[0] (deny)",
        runtimeConfig={"netDevices": [{"name": "nic1"}]},
        policy={"rules": [{"deny": {"names": ["nic*"]}}]},
    ),
    _conf(
        "denied by default",
        102,
        "policy.default (deny)",
        runtimeConfig={"netDevices": [{"name": "nic1"}]},
        policy={"default": "deny"},
    ),
    _nic("name taken in the pod", "'taken' is the name", code=104, new_name="taken"),
    _nic("altname taken in the pod", "'takenalt' is the name", code=104, new_name="takenalt"),
    _nic(
        "route that cannot be",
        "add route 10.9.0.0/16 via 10.77.0.1",
        code=104,
        routes=[{"dst": "10.9.0.0/16", "gw": "10.77.0.1"}],
    ),
    _nic("IPv6 on a small MTU", "add address fd00::2/64", code=104, mtu=1000, address="fd00::2/64"),
    _nic(
        "ethtool's section",
        "devices[0].ethtool.feature: unknown key; did you mean features?",
        ethtool={"feature": {"tso": "off"}},
    ),
    _nic(
        "no such feature",
        "ethtool.features.tsso: nic1 has no 'tsso'; did you mean tso?",
        code=104,
        ethtool={"features": {"tsso": "off"}},
    ),
    _nic("programs", "devices[0].ebpf: 'off' must be detach", ebpf="off"),
    _nic("VF's VLAN", "devices[0].vf.vlan: 4095 is above 4094", vf={"vlan": 4095}),
    _nic("no VF", "nic1 is no SR-IOV virtual function", code=104, vf={"vlan": 100}),
    _env("netns missing", 8, "cannot be opened", CNI_NETNS="/run/netns/none"),
    _env("netns no namespace", 8, "is no network namespace", CNI_NETNS="/run/plain-file"),
    _env("netns of another type", 8, "another type", CNI_NETNS="/proc/self/ns/mnt"),
    _env("netns a directory", 8, "is no network namespace", CNI_NETNS="/run"),
    _env("netns of the host", 8, "is the host's own", CNI_NETNS="/proc/self/ns/net"),
)
_NIC1 = json.dumps({**CONF, "devices": [{"name": "nic1"}]})
# A call that asks for nothing never looks at its namespace.
TABLE = tuple(bad._replace(stdin=_NIC1) if bad.code == 8 else bad for bad in TABLE)
