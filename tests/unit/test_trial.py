from __future__ import annotations

from cni_netdev import trial
from cni_netdev.core.model import Forwarding, Route, Selector
from cni_netdev.core.policy import Pod, parse_policy
from cni_netdev.trial import Trial
from tests.workbench import OWNER, Bench, request

POLICY = parse_policy(
    {
        "default": "deny",
        "rules": [
            {"allow": {"names": ["eth*"], "namespaces": ["hpc"]}},
            {"allow": {"names": ["eth2"]}},
        ],
    }
)
HPC = Pod("solver", "hpc", ())
ASKED = ("annotation", "[0]")


def of(bench: Bench, pod: Pod, name: str, *, source: str = "annotation") -> Trial:
    wish = request(name, source=source, where="[0]")
    records = bench.journal.records()
    (found,) = trial.of_requests(bench.kernel.host, records, [wish], pod, POLICY)
    return found


def test_each_device_that_is_asked_for(bench: Bench) -> None:
    assert of(bench, HPC, "eth1") == Trial(
        *ASKED, "name 'eth1'", "eth1", allowed=True, why="policy.rules[0] (allow)"
    )
    assert of(bench, HPC._replace(namespace="web"), "eth1-alt") == Trial(
        *ASKED, "name 'eth1-alt'", "eth1", allowed=False, why="policy.default (deny)"
    )
    assert of(bench, HPC, "none") == Trial(
        *ASKED, "name 'none'", None, allowed=False, why="no link on the host has name 'none'"
    )


def test_rules_do_not_bind_the_conflists_own_devices_but_guards_do(bench: Bench) -> None:
    web = HPC._replace(namespace="web")
    found = of(bench, web, "eth1", source="config")
    assert found.allowed
    assert found.why == "asked for by the node's own configuration"
    bench.first.forwarding = [Forwarding(0x80, 2, (("NDA_LLADDR", "020000000077"),))]
    assert not of(bench, web, "eth1", source="config").allowed


def test_what_is_lent_is_judged_as_it_was_at_home(bench: Bench) -> None:
    bench.attach(request("eth2"), owner=OWNER._replace(pod="hpc/other"))
    assert of(bench, HPC._replace(namespace="web"), "eth2") == Trial(
        *ASKED,
        "name 'eth2'",
        "eth2",
        allowed=True,
        why="policy.rules[1] (allow); lent to c1/eth0 (hpc/other) now",
    )


def test_more_than_one_link(bench: Bench) -> None:
    for fake in (bench.first, bench.second):
        identity = fake.link.identity._replace(bus="0000:3b:02.1")
        fake.link = fake.link._replace(identity=identity)
    wish = request(selector=Selector("pci_address", "0000:3b:02.1"))
    (found,) = trial.of_requests(bench.kernel.host, (), [wish], HPC, POLICY)
    assert found.link is None
    assert "more than one link: eth1, eth2" in found.why


def test_every_link(bench: Bench) -> None:
    bench.first.routes.append(Route(2, "0.0.0.0/0", gateway="10.0.1.254"))
    first, second = trial.of_every_link(bench.kernel.host, HPC, POLICY)
    assert (first.link, first.allowed, second.link, second.allowed) == ("eth1", False, "eth2", True)
    assert "default route" in first.why
