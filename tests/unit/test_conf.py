"""Each file that an operator may copy from conf/ is valid, and they agree with each other.

That they also work is shown by e2e/test_daemonset and e2e/test_service.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from cni_netdev.core.annotations import find_annotation, parse_annotation
from cni_netdev.core.devices import EXTRA_KEYS
from cni_netdev.core.journal import AGENT_SOCKET
from cni_netdev.core.journal import DEFAULT_DIRECTORY as DIRECTORY
from cni_netdev.core.model import Selector
from cni_netdev.core.policy import Policy
from cni_netdev.ctl import cli as ctl
from cni_netdev.policysource import read_policy
from cni_netdev.validate import validate_text
from nri_plugin.config import Config, parse
from nri_plugin.main import DEFAULT_SOCKET, cli
from tests.confine import read_unit

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent
CONF = ROOT / "conf"


def text(name: str) -> str:
    return (CONF / name).read_text()


KINDS = {
    "10-pods.conflist": "conflist",
    "20-storage.conflist": "conflist",
    "30-hardware.conflist": "conflist",
    "30-ipam.conflist": "conflist",
    "policy.yaml": "policy",
    "pod.yaml": "pod manifest",
    "rdma-pod.yaml": "pod manifest",
    "sample-pod.yaml": "pod manifest",
    "tuned-pod.yaml": "pod manifest",
}
UNIT, AGENT, SOCKET = (
    "network-device-injector.service",
    "cni-netdev-agent.service",
    "cni-netdev-agent.socket",
)
OTHERS: dict[str, Callable[[str], Any]] = {
    "containerd-nri.toml": tomllib.loads,
    "crio-nri.conf": tomllib.loads,
    "daemonset.yaml": lambda found: list(yaml.safe_load_all(found)),
    UNIT: lambda _: read_unit(CONF / UNIT),
    AGENT: lambda _: read_unit(CONF / AGENT),
    SOCKET: lambda _: read_unit(CONF / SOCKET, "Socket"),
    "network-device-injector.yaml": parse,
    "Dockerfile": lambda found: stages(found),  # noqa: PLW0108 - defined below,
}
CONFIG_MAP, DAEMON_SET = yaml.safe_load_all(text("daemonset.yaml"))
SPEC = DAEMON_SET["spec"]["template"]["spec"]
(CONTAINER,) = SPEC["containers"]


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """(instruction, what follows) of each line."""
    lines = [line for line in dockerfile.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_every_file_is_checked() -> None:
    assert {path.name for path in CONF.iterdir()} == {*KINDS, *OTHERS}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_it_is_valid(name: str, kind: str) -> None:
    assert validate_text(text(name)) == (kind, ())


@pytest.mark.parametrize(("name", "read"), OTHERS.items())
def test_it_can_be_read(name: str, read: Callable[[str], Any]) -> None:
    assert read(text(name))


@pytest.mark.parametrize("name", [*KINDS, *OTHERS])
def test_it_is_in_the_documents(name: str) -> None:
    for document in ("README.md", "docs/nri.md"):
        assert f"`{name}`" in (ROOT / document).read_text()


def test_the_policy_is_read_as_one() -> None:
    assert len(read_policy(text("policy.yaml"), "policy.yaml").policy.rules) == 4


# --- the sample ------------------------------------------------------------------------------


def test_the_sample_is_the_go_injectors() -> None:
    pod = yaml.safe_load(text("sample-pod.yaml"))
    assert pod["metadata"]["name"] == "bbdev0"
    assert [each["image"].split(":")[0] for each in pod["spec"]["containers"]] == ["busybox"] * 2
    found = find_annotation(pod["metadata"]["annotations"])
    assert found is not None
    (device,) = parse_annotation(found[1])
    assert device.selector == Selector("name", "dummy0")
    assert (device.new_name, device.addresses, device.mtu) == ("eth33", ("192.168.2.2/24",), 1500)


def test_the_tuned_pod_shows_every_key_that_few_need() -> None:
    found = find_annotation(yaml.safe_load(text("tuned-pod.yaml"))["metadata"]["annotations"])
    assert found is not None
    devices = parse_annotation(found[1])
    assert {key for each in yaml.safe_load(found[1]) for key in each} >= set(EXTRA_KEYS)
    assert all(device.extras for device in devices)


# --- the plugin's configuration --------------------------------------------------------------


def test_the_configuration_denies_what_it_does_not_allow() -> None:
    config = parse(text("network-device-injector.yaml"))
    assert config.policy is not None
    assert not config.policy.default_allow
    assert config.log_level == "info"
    assert config.metrics == ("127.0.0.1", 9400)
    assert config.policy_file is None


def test_what_is_commented_out_is_valid_too() -> None:
    """With the comment signs off, and the policy that would stand beside the other."""
    whole = re.sub(r"^( *)#(?=\w)", r"\1", text("network-device-injector.yaml"), flags=re.MULTILINE)
    assert "\npolicyFile: " in whole
    assert "\n  file: " in whole
    without = re.sub(r"\npolicy:\n(?:[ #].*\n|\n)*", "\n", whole)
    assert parse(without).log_file is not None
    for name in ("containerd-nri.toml", "crio-nri.conf"):
        required = tomllib.loads(re.sub(r"^( *)#(?=\w)", r"\1", text(name), flags=re.MULTILINE))
        assert re.search(r"required_plugins': \['network-device-injector'\]", str(required))


def test_what_the_runtimes_are_told_agrees() -> None:
    containerd = tomllib.loads(text("containerd-nri.toml"))
    assert containerd["version"] == 3
    nri = containerd["plugins"]["io.containerd.nri.v1.nri"]
    crio = tomllib.loads(text("crio-nri.conf"))["crio"]["nri"]
    assert crio["nri_listen"] == nri["socket_path"] == DEFAULT_SOCKET
    assert crio["enable_nri"] is not nri["disable"]
    for key in ("registration", "request"):
        assert crio[f"nri_plugin_{key}_timeout"] == nri[f"plugin_{key}_timeout"]
    assert (crio["nri_plugin_dir"], crio["nri_plugin_config_dir"]) == (
        nri["plugin_path"],
        nri["plugin_config_path"],
    )
    tolerate = nri["default_validator"]["tolerate_missing_plugins_annotation"]
    assert (
        crio["default_validator"]["nri_validator_tolerate_missing_plugins_annotation"] == tolerate
    )
    assert DAEMON_SET["spec"]["template"]["metadata"]["annotations"] == {tolerate: "true"}


# --- the service and the DaemonSet -----------------------------------------------------------


def arguments(words: list[str]) -> dict[str, Any]:
    """The command line as the program takes it.  Raises what click raises."""
    return cli.make_context("network-device-injector", list(words)).params


def test_the_service_runs_the_program_with_the_configuration() -> None:
    program, *words = read_unit(CONF / UNIT)["ExecStart"].split()
    assert program == "/opt/cni-netdev/bin/network-device-injector"
    assert arguments(words)["file"] == "/etc/cni-netdev/network-device-injector.yaml"
    assert "RuntimeDirectory" not in read_unit(CONF / UNIT)


def test_the_agents_service_runs_the_command() -> None:
    program, name, *words = read_unit(CONF / AGENT)["ExecStart"].split()
    assert program == "/opt/cni-netdev/bin/netdevctl"
    assert ctl.commands[name].make_context(name, list(words)).params["state_dir"] == DIRECTORY


def test_the_agents_socket_is_where_shims_ask() -> None:
    unit = read_unit(CONF / SOCKET, "Socket")
    assert unit["ListenStream"] == f"{DIRECTORY}/{AGENT_SOCKET}"
    assert (unit["SocketMode"], unit["DirectoryMode"]) == ("0600", "0700")
    assert Path(SOCKET).stem == Path(AGENT).stem


def test_the_agent_has_no_more_rights_than_the_plugin_with_one_inside() -> None:
    agent, plugin = read_unit(CONF / AGENT), read_unit(CONF / UNIT)
    for key in ("CapabilityBoundingSet", "RestrictAddressFamilies", "RestrictNamespaces"):
        assert set(agent[key].split()) <= set(plugin[key].split())
    for own in ("Type", "ExecStart", "RestrictAddressFamilies"):
        agent.pop(own)
        plugin.pop(own)
    assert agent == plugin


def test_the_daemon_set_leaves_cni_to_the_host() -> None:
    """A shim there is in another mount namespace."""
    assert daemon_config().agent_socket == ""


def test_both_have_the_same_capabilities() -> None:
    granted = read_unit(CONF / UNIT)["CapabilityBoundingSet"].split()
    assert CONTAINER["securityContext"]["capabilities"] == {
        "drop": ["ALL"],
        "add": [each.removeprefix("CAP_") for each in granted],
    }
    assert "privileged" not in CONTAINER["securityContext"]
    assert SPEC["hostNetwork"] is SPEC["hostPID"] is True


def in_container() -> dict[str, str]:
    """The files of the ConfigMap, by where the container has them."""
    volumes = {each["name"]: each for each in SPEC["volumes"]}
    (place,) = (
        each["mountPath"]
        for each in CONTAINER["volumeMounts"]
        if volumes[each["name"]].get("configMap") == {"name": CONFIG_MAP["metadata"]["name"]}
    )
    return {f"{place}/{name}": found for name, found in CONFIG_MAP["data"].items()}


def daemon_config() -> Config:
    return parse(in_container()[arguments(CONTAINER["args"])["file"]])


def test_the_config_maps_files_are_where_the_arguments_say() -> None:
    policy = read_policy(in_container()[str(daemon_config().policy_file)], "").policy
    assert isinstance(policy, Policy)
    assert not policy.default_allow
    assert len(policy.rules) == 1


def test_the_probes_ask_where_the_plugin_answers() -> None:
    for name, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        asked = CONTAINER[name]["httpGet"]
        assert ((asked["host"], asked["port"]), asked["path"]) == (daemon_config().metrics, path)


def test_the_mounts_are_those_that_the_plugin_uses() -> None:
    mounts = {each["name"]: each for each in CONTAINER["volumeMounts"]}
    places = {each["name"]: each.get("hostPath", {}).get("path") for each in SPEC["volumes"]}
    assert mounts.keys() == places.keys()
    assert mounts["nri"]["mountPath"] == places["nri"] == str(Path(DEFAULT_SOCKET).parent)
    # The paths that the runtime tells are the node's, and the journal is shared with its tools.
    assert mounts["netns"]["mountPath"] == places["netns"]
    assert mounts["netns"]["mountPropagation"] == "HostToContainer"
    assert mounts["state"]["mountPath"] == places["state"] == "/run/cni-netdev"


def test_the_selector_finds_the_pods() -> None:
    template = DAEMON_SET["spec"]["template"]["metadata"]["labels"]
    assert DAEMON_SET["spec"]["selector"]["matchLabels"] == template


# --- the image -------------------------------------------------------------------------------


def stages(dockerfile: str) -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions(dockerfile):
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest))
    return found


def test_what_the_image_copies_is_there() -> None:
    build, final = stages(text("Dockerfile"))
    for word, rest in build:
        if word == "COPY":
            *sources, target = rest.split()
            assert target.startswith("./")
            assert all((ROOT / source).exists() for source in sources)
    copied = {source for word, rest in build if word == "COPY" for source in rest.split()[:-1]}
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {name.split(".")[0] for name in packages["tool"]["setuptools"]["packages"]} <= copied
    assert {packages["project"]["readme"], *packages["project"]["license-files"]} <= copied
    assert [rest for word, rest in final if word == "COPY"] == [
        "--from=build /opt/cni-netdev /opt/cni-netdev"
    ]


def test_the_image_is_built_from_the_lock_and_nothing_else() -> None:
    commands = [json.loads(rest) for word, rest in stages(text("Dockerfile"))[0] if word == "RUN"]
    pips = [" ".join(each) for each in commands if each[0] == "pip"]
    fetched, *others = pips
    named = "--require-hashes -r requirements.lock"
    assert named in fetched
    assert named in (ROOT / "README.md").read_text()
    assert all("--no-index --find-links /wheels" in each for each in others)
    assert not [rest for word, rest in stages(text("Dockerfile"))[1] if word == "RUN"]


def test_the_image_runs_the_program_without_a_shell() -> None:
    final = dict(stages(text("Dockerfile"))[1])
    (program,) = json.loads(final["ENTRYPOINT"])
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert program == f"/opt/cni-netdev/bin/{DAEMON_SET['metadata']['name']}"
    assert Path(program).name in scripts
    assert "command" not in CONTAINER


def test_the_images_base_is_pinned_and_names_no_registry() -> None:
    (base,) = (rest for word, rest in instructions(text("Dockerfile")) if word == "ARG")
    assert re.fullmatch(r"BASE=python:3\.1[1-9]\.\d+-slim-\w+", base)
    assert [stage[0][1].split()[0] for stage in stages(text("Dockerfile"))] == ["${BASE}"] * 2
