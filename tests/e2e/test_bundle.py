"""The bundle on a node without Python, a libc or a shell: put down there, and the same tests on it.

What `make dist` packs is put down in an otherwise empty root file system, which is read-only from
then on.  The tests that are imported here run with its programs inside it; `make test-dist` runs
all of tests/e2e with them.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cni_netdev import bundle, install
from tests.agent import CniAgent
from tests.agent_node import ONE, unharmed
from tests.agent_node import prepare as with_links
from tests.bundles import BIN_DIR, UNPACKED, Node, build
from tests.conftest import agent_if_asked

# The same tests, by the fixtures below.
from tests.e2e.test_chain import (
    test_an_annotation_asks_like_a_capability,
    test_the_third_of_three_missing_leaves_the_first_two_alone,
)
from tests.e2e.test_netdevctl import (
    test_attachments_release_and_recover,
    test_devices_says_what_could_be_lent_and_who_holds_it,
    test_install_says_what_is_wrong,
    test_policy_test_says_beforehand_what_add_then_says,
    test_uninstall_looks_where_the_conflists_say,
    test_validate_a_file_with_many_manifests,
)
from tests.e2e.test_nri_runtime import test_the_runtime_restarts_again_and_again
from tests.e2e.test_verbs import (
    ready,
    test_check_says_what_differs,
    test_del_after_the_namespace_is_gone,
    test_gc_through_cnitool_and_of_a_dead_pod,
    test_nothing_asked_for_passes_the_result_through,
    test_status,
    test_version,
)
from tests.host import Host
from tests.injector import KEY, NriPlugin
from tests.nri_node import TWO, prepare, see_that_all_is_home, snapshot
from tests.nri_runtime import GoRuntime, pod

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

THE_SAME = (
    test_the_third_of_three_missing_leaves_the_first_two_alone,
    test_an_annotation_asks_like_a_capability,
    test_attachments_release_and_recover,
    test_devices_says_what_could_be_lent_and_who_holds_it,
    test_install_says_what_is_wrong,
    test_policy_test_says_beforehand_what_add_then_says,
    test_uninstall_looks_where_the_conflists_say,
    test_validate_a_file_with_many_manifests,
    test_the_runtime_restarts_again_and_again,
    ready,
    test_check_says_what_differs,
    test_del_after_the_namespace_is_gone,
    test_gc_through_cnitool_and_of_a_dead_pod,
    test_nothing_asked_for_passes_the_result_through,
    test_status,
    test_version,
)
INSTALL = ("install", "--bin-dir", BIN_DIR, "--conf-dir", "/etc/cni/net.d")
UNINSTALL = ("uninstall", "--bin-dir", BIN_DIR, "--conf-dir", "/etc/cni/net.d", "--bundle")


@pytest.fixture(scope="session")
def tree() -> Path:
    return build()


@pytest.fixture(scope="session")
def placed(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that it is put down on, and which no test changes."""
    made = Node(tmp_path_factory.mktemp("node"), tree)
    answer = made.unpacked(*INSTALL)
    assert answer.code == 0, answer.stderr
    yield made
    assert made.unpacked(*UNINSTALL).code == 0
    shutil.rmtree(made.directory)


@pytest.fixture
def host(host: Host, placed: Node) -> Host:
    placed.become_root_of(host)
    return host


@pytest.fixture
def cni(host: Host, request: pytest.FixtureRequest) -> Iterator[Host]:
    """Instead of that of tests/conftest.py: the plugin is in its place already."""
    with agent_if_asked(host, request):
        yield host


@pytest.fixture
def node(cni: Host) -> Host:
    return prepare(cni)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Host]:
    """A host of this machine, without the bundle."""
    with Host.enter(tmp_path / "plain") as made:
        yield made


@pytest.fixture
def bare(tree: Path, plain: Host) -> Node:
    """A node where nothing is installed yet, in the memory of a host."""
    return Node(plain.memory / "bare", tree)


def files_of(directory: Path) -> set[str]:
    return {
        str(each.relative_to(directory))
        for each in directory.rglob("*")
        if each.is_symlink() or not each.is_dir()
    }


def contents_of(directory: Path) -> dict[str, bytes]:
    """Of a link, where it leads."""
    found = {}
    for name in files_of(directory):
        path = directory / name
        found[name] = bytes(path.readlink()) if path.is_symlink() else path.read_bytes()
    return found


# --- putting it down -------------------------------------------------------------------------


def test_it_is_all_that_the_node_has(placed: Node) -> None:
    """Else the tests here would show less than they say."""
    alone = {"opt/cni/bin/cni-netdev", f"etc/cni/net.d/{install.EXAMPLE}"}
    own = (UNPACKED[1:], bundle.DEFAULT_PREFIX[1:])
    others = {each for each in files_of(placed.directory) if not each.startswith(own)}
    assert others == alone


def test_what_it_loads_is_its_own(placed: Node) -> None:
    """Each extension, with every library that it needs."""
    (version,) = bundle.versions(placed.directory / bundle.DEFAULT_PREFIX[1:])
    names = {each.name.partition(".")[0] for each in version.glob("lib/python3*/lib-dynload/*.so")}
    modules = sorted({*names, "yaml._yaml", "google._upb._message"})
    place = f"/{version.relative_to(placed.directory)}"
    script = (
        f"import sys, importlib; sys.path.append('{place}/{bundle.LIBRARIES}')\n"
        f"for each in {modules}: importlib.import_module(each)\n"
        "print(*{line.split()[5] for line in open('/proc/self/maps') if '/' in line})"
    )
    answer = placed.run(f"{place}/{bundle.PYTHON}", "-ISc", script)
    assert answer.code == 0, answer.stderr
    loaded = answer.stdout.split()
    assert len(loaded) > len(modules)
    assert [each for each in loaded if not each.startswith(place)] == []


def test_putting_it_down_again_changes_nothing(bare: Node) -> None:
    assert bare.unpacked(*INSTALL).code == 0
    before = contents_of(bare.directory)
    (version,) = bundle.versions(bare.directory / "opt/cni-netdev")
    inode = version.stat().st_ino
    assert bare.unpacked(*INSTALL).code == 0
    assert bare.run(f"{bundle.DEFAULT_PREFIX}/bin/netdevctl", *INSTALL).code == 0
    assert contents_of(bare.directory) == before
    assert version.stat().st_ino == inode


def test_a_damaged_one_is_put_right_from_a_whole_one_and_never_the_other_way(bare: Node) -> None:
    assert bare.unpacked(*INSTALL).code == 0
    before = contents_of(bare.directory)
    (version,) = bundle.versions(bare.directory / "opt/cni-netdev")
    for name, content in (
        ("CONTENTS", b"x"),
        ("bin/netdevctl", b""),
        (bundle.PYTHON, b"\x7fELF"),
        ("MANIFEST", b"cni-netdev 9 x86_64\n"),
    ):
        (version / name).write_bytes(content)
        assert bare.unpacked(*INSTALL).code == 0
        assert contents_of(bare.directory) == before
    shutil.rmtree(version / "conf")
    assert bare.unpacked(*INSTALL).code == 0
    assert contents_of(bare.directory) == before
    version.rename(version.with_name("away"))
    (bare.directory / UNPACKED[1:] / "CONTENTS").write_bytes(b"x")
    answer = bare.unpacked(*INSTALL)
    assert answer.code == 1
    assert f"the bundle is damaged: {UNPACKED}/CONTENTS" in answer.stderr
    assert not version.exists()


def test_another_installation_is_left_alone(bare: Node) -> None:
    (bare.directory / "opt/cni-netdev/bin").mkdir(parents=True)
    answer = bare.unpacked(*INSTALL)
    assert answer.code == 1
    assert "/opt/cni-netdev/bin is a directory" in answer.stderr
    assert not (bare.directory / BIN_DIR[1:]).exists()
    assert bare.unpacked(*INSTALL, "--prefix", "/opt/other").code == 0
    assert bare.run("/opt/other/bin/netdevctl", *UNINSTALL).code == 0
    assert not (bare.directory / "opt/other").exists()


def test_the_checkouts_own_netdevctl_has_no_bundle(host: Host) -> None:
    host.programs = Path(sys.executable).parent
    for command, option in (
        ("install", "--prefix=/x"),
        ("install", "--prune"),
        ("uninstall", "--bundle"),
    ):
        answer = host.netdevctl(command, "--bin-dir", "/nowhere", option)
        assert answer.code == 2
        assert "does not run from a bundle" in answer.stderr


# --- upgrade ---------------------------------------------------------------------------------


def another_version(node: Node) -> None:
    """In place of the one that was unpacked: a comment more."""
    tree = node.directory / UNPACKED[1:]
    with (tree / bundle.LIBRARIES / "cni_netdev" / "shim.py").open("a") as file:
        file.write("# a newer one\n")
    title = (tree / bundle.MANIFEST).read_text().splitlines()[0]
    (tree / bundle.MANIFEST).unlink()
    text = bundle.manifest(tree, title)
    (tree / bundle.MANIFEST).write_text(text)


def test_another_version_reads_the_records_and_the_old_one_stays_while_it_is_used(
    bare: Node, plain: Host
) -> None:
    """A pod has its device and an agent runs from the bundle before."""
    assert bare.unpacked(*INSTALL).code == 0
    versions = bare.directory / "opt/cni-netdev"
    (old,) = bundle.versions(versions)
    bare.become_root_of(plain, writable=True)
    pod = with_links(plain).pod()
    with unharmed(plain):
        with CniAgent(plain) as agent:
            plain.plugin("ADD", ONE, netns=pod.path).ok()
            assert agent.answered() == 1
            another_version(bare)
            upgraded = bare.unpacked(*INSTALL, "--prune")
            assert upgraded.code == 0
            assert f"{old.name} stays: process {agent.pid} runs from it" in upgraded.stderr
            assert len(bundle.versions(versions)) == 2
            plain.plugin("CHECK", ONE, netns=pod.path).ok()
            assert "another version" in agent.lines()[-1]["msg"]
            refused = bare.unpacked(*UNINSTALL)
            assert refused.code == 1
            assert "stop what is resident" in refused.stderr
        with CniAgent(plain) as agent:
            plain.plugin("CHECK", ONE, netns=pod.path).ok()
            plain.plugin("DEL", ONE, netns=pod.path).ok()
            assert agent.answered() == 2
    assert f"removed /opt/cni-netdev/{old.name}" in bare.unpacked(*INSTALL, "--prune").stdout
    assert old not in bundle.versions(versions)
    assert bare.unpacked(*UNINSTALL).code == 0
    assert not versions.exists()


# --- NRI -------------------------------------------------------------------------------------


def test_a_pod_of_the_nri_plugin(node: Host) -> None:
    before = snapshot()
    with GoRuntime(node.directory) as runtime, NriPlugin(node, runtime.socket):
        runtime.wait_for("plugins", count=1)
        inside = node.pod()
        one = pod("one", {KEY: TWO}, netns=inside.path)
        runtime.run(one)
        assert "192.168.2.2/24" in inside.addresses("eth33")
        runtime.stop(one)
        see_that_all_is_home(node, before)
