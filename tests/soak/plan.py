"""What a round of the soak does, drawn from its seed and number alone; pure.

    Round   a node with nothing lent ... and again with nothing lent
      Bout  lanes of steps side by side, with kills; then everything rests and is looked at
        Step  one thing that a pod, its runtime or an operator does

The same seed and number give the same round on any machine; how its lanes interleave is the
machine's affair.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.soak import links

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BOUTS, STEPS, LOOKS = 2, 7, 1
FRONTS = ("cni", "cri", "go")
LANES = ("cni", "cni", "cri", "cri", "go")
_MOST_PODS_OF_A_LANE = 2
_STRAYING = 0.2  # of the pods ask for links of any lane, and often find them held
_MOST_KILLS_OF_A_BOUT = 4
_LONGEST_WAIT = 0.15  # seconds from the step at which a kill is due, about as long as a step
_LONGEST_ABSENCE = 0.6  # seconds that a killed resident stays away

# Weights, here and below.
VICTIMS = {
    "cni-netdev": 5,
    "network-device-injector": 4,
    "netdevctl agent": 4,
    "containerd": 3,
    "nri-runtime": 1,
    "netdevctl": 1,
}
CHANNELS = {"devices": 3, "annotation": 3, "capability": 2, "cnitool": 3}
_WISHES = {
    "links": 80,
    "nothing": 4,
    "malformed": 3,
    "missing": 3,
    "denied": 3,
    "guarded": 3,
    "inapplicable": 4,  # which the kernel finds out after moving it
}
_DEEDS = {
    "cni": {"end": 6, "tamper": 4, "again": 2, "check": 2},
    "cri": {"end": 6, "tamper": 4, "create": 3},
    "go": {"end": 6, "tamper": 4, "create": 3},
}
_LOOKS = {"recover": 3, "attachments": 2, "devices": 1, "status": 1}
ENDINGS = {
    "cni": {
        "told": 6,
        "told twice": 2,
        "namespace first": 3,
        "namespace first, with a process inside": 2,
        "never told": 3,
        "never told, with a process inside": 2,
    },
    "cri": {"told": 6, "namespace first": 2, "processes first": 2},
    "go": {
        "told": 5,
        "removed without a stop": 2,
        "namespace first": 3,
        "never told": 3,
        "never told, with a process inside": 2,
    },
}
TAMPERINGS = (
    "renamed",
    "forged",
    "resized",
    "deaf",
    "listening",
    "readdressed",
    "stacked",
    "filtered",
    "queued",
    "bridged",
    "sysctls",
    "swapped",
    "hidden",
)
AT_REST = {"nothing": 2, "gc": 2, "recover": 1}
CLOSINGS = {"told": 3, "gc": 2, "never told": 2}


class Wish(NamedTuple):
    """What a pod asks for.

    devices: as in an annotation; ``hwaddr`` holds a link's name, since MACs are not known yet.
    links: those of links.LENDABLE among them.  fault: why it must be refused, or "".
    """

    devices: tuple[Mapping[str, Any], ...] = ()
    links: tuple[str, ...] = ()
    fault: str = ""


class Step(NamedTuple):
    """what: start, end, tamper...  front: one of FRONTS, or operator, who has no pod.

    how: by which channel, in which way.
    """

    what: str
    front: str
    pod: str = ""
    how: str = ""
    wish: Wish = Wish()


class Kill(NamedTuple):
    """Due ``wait`` seconds after so many steps of the bout have begun; back ``away`` s later."""

    steps: int
    wait: float
    victim: str
    away: float


class Bout(NamedTuple):
    """lanes: the steps of each of LANES, and of an operator who looks around meanwhile.

    at_rest: what the operator does afterwards.
    """

    lanes: tuple[tuple[Step, ...], ...]
    kills: tuple[Kill, ...]
    at_rest: str


class Round(NamedTuple):
    """chained: containerd's conflist has the CNI plugin too, for the same annotation.

    closing: how the pods that are left at the end go.
    """

    number: int
    chained: bool
    bouts: tuple[Bout, ...]
    closing: str


def draw(seed: str, number: int) -> Round:
    """The round of this number."""
    dice = random.Random(f"{seed}/{number}")  # noqa: S311 - to be had again, not to be secret
    shares = [links.LENDABLE[n :: len(LANES)] for n in range(len(LANES))]
    drawers = [
        _Lane(dice, front, f"r{number}l{n}", share)
        for n, (front, share) in enumerate(zip(LANES, shares, strict=True))
    ]
    bouts = tuple(_bout(dice, drawers) for _ in range(BOUTS))
    return Round(number, dice.random() < 0.3, bouts, _one_of(dice, CLOSINGS))


def _bout(dice: random.Random, drawers: Sequence[_Lane]) -> Bout:
    operator = tuple(Step(_one_of(dice, _LOOKS), "operator") for _ in range(LOOKS))
    lanes = (*(drawer.steps() for drawer in drawers), operator)
    steps = sum(map(len, lanes))
    kills = [
        Kill(
            dice.randrange(steps),
            round(dice.uniform(0, _LONGEST_WAIT), 3),
            _one_of(dice, VICTIMS),
            round(dice.uniform(0, _LONGEST_ABSENCE), 3),
        )
        for _ in range(dice.randrange(_MOST_KILLS_OF_A_BOUT + 1))
    ]
    return Bout(lanes, tuple(sorted(kills)), _one_of(dice, AT_REST))


class _Lane:
    """Draws the steps of one lane, which has some pods of one front end at a time.

    share: the links that its pods ask for, if they do not stray.
    """

    def __init__(
        self, dice: random.Random, front: str, name: str, share: Sequence[links.Link]
    ) -> None:
        self._dice = dice
        self._front = front
        self._name = name
        self._share = share
        self._pods: dict[str, Wish] = {}
        self._made = 0

    def steps(self) -> tuple[Step, ...]:
        return tuple(self._step() for _ in range(STEPS))

    def _step(self) -> Step:
        few = len(self._pods) < _MOST_PODS_OF_A_LANE
        if not self._pods or (few and self._dice.random() < 0.6):
            return self._start()
        pod = self._dice.choice(list(self._pods))
        what = _one_of(self._dice, _DEEDS[self._front])
        if what == "end":
            del self._pods[pod]
            return Step(what, self._front, pod, _one_of(self._dice, ENDINGS[self._front]))
        how = self._dice.choice(TAMPERINGS) if what == "tamper" else ""
        return Step(what, self._front, pod, how)

    def _start(self) -> Step:
        self._made += 1
        pod = f"{self._front}-{self._name}p{self._made}"
        how = _one_of(self._dice, CHANNELS) if self._front == "cni" else "annotation"
        kind = _one_of(self._dice, _WISHES)
        self._pods[pod] = wish(self._dice, kind, how, self._among())
        return Step("start", self._front, pod, how, self._pods[pod])

    def _among(self) -> Sequence[links.Link]:
        """What a new pod may ask for: any link, or one of the lane's own that none of its has."""
        if self._dice.random() < _STRAYING:
            return links.LENDABLE
        asked = {name for each in self._pods.values() for name in each.links}
        return [link for link in self._share if link.name not in asked] or links.LENDABLE


def wish(dice: random.Random, kind: str, channel: str, among: Sequence[links.Link]) -> Wish:
    """kind: one of _WISHES.  The operator's own devices are not bound by rules."""
    if kind == "nothing":
        return Wish()
    if kind == "denied" and channel == "devices":
        kind = "guarded"
    if kind == "inapplicable":
        among = [link for link in among if link.name != links.WITHOUT_MAC]
    chosen = dice.sample(among, min(len(among), dice.choice((1, 1, 1, 2, 2, 3))))
    devices = [_device(dice, link, number) for number, link in enumerate(chosen)]
    names = tuple(link.name for link in chosen)
    if kind == "links":
        return Wish(tuple(devices), names)
    bad: dict[str, dict[str, Any]] = {
        "malformed": {"name": links.LENDABLE[0].name, "mtu": 70000},
        "missing": {"name": links.MISSING},
        "denied": {"name": links.DENIED},
        "guarded": {"name": dice.choice(links.GUARDED)},
        "inapplicable": {"name": links.WITHOUT_MAC, "mac": "02:50:a4:00:00:ff"},
    }
    return Wish((*devices[1:], {**bad[kind], "new_name": "bad0"}), names[1:], kind)


def _device(dice: random.Random, link: links.Link, number: int) -> dict[str, Any]:
    """A request that nothing is wrong with."""
    device: dict[str, Any] = _selector(dice, link)
    if dice.random() < 0.7:
        device["new_name"] = dice.choice(("fast", "net", link.name[:3])) + str(number + 40)
    if dice.random() < 0.7:
        device["addresses"] = [f"192.168.{link.number}.2/24", f"fd99:{link.number}::2/64"]
        device["routes"] = [{"dst": f"10.77.{link.number}.0/24", "gw": f"192.168.{link.number}.1"}]
    if dice.random() < 0.5:
        device["mtu"] = dice.choice((1280, 1350, 1400))
    if dice.random() < 0.3 and link.kind != "ifb":
        device["mac"] = f"02:50:a4:00:00:{link.number:02x}"
    if dice.random() < 0.2:
        device["keep_addresses"] = True
    elif "routes" not in device and dice.random() < 0.2:
        device["up"] = False
    return device


def _selector(dice: random.Random, link: links.Link) -> dict[str, Any]:
    ways = [
        {"name": link.name},
        {"name": link.name},
        {"kernel_path": f"/sys/devices/virtual/net/{link.name}"},
        {"hwaddr": link.name},
    ]
    if link.altname:
        ways.append({"name": link.altname})
    return dice.choice(ways)


def _one_of(dice: random.Random, weights: Mapping[str, int]) -> str:
    return dice.choices(list(weights), list(weights.values()))[0]
