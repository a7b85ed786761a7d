"""The architecture's rules, held against the imports in the sources."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "cni_netdev"
NRI = ROOT / "nri_plugin"
SOURCES = sorted(PACKAGE.rglob("*.py"))
NRI_SOURCES = sorted(NRI.glob("*.py"))
NRI_TESTS = ROOT / "tests" / "unit" / "nri"
TESTS = {
    path.stem.removeprefix("test_")
    for path in (ROOT / "tests").rglob("test_*.py")
    if path.parent != NRI_TESTS
}

# What has no test file of its own name, and where it is tested.
TESTED_BY = {
    "__init__": "",
    "errors": "test_result: each has its code",
    "model": "everywhere; it has no behaviour of its own to speak of",
    "ports": "contract",
    "libc": "netns, pins",
    "attach": "engine, kernel/test_intruders",
    "kernel": "contract/test_netns",
    "looks": "contract/test_netns",
    "changes": "contract/test_netns, kernel/test_restore",
    "netlink": "contract/test_netns, e2e/test_killed",
    "settle": "engine, kernel/test_restore",
    "steps": "plan",
    "objects": "devices, nri/test_config",
    "values": "devices, with the table of bad inputs",
    "descriptors": "kernel/test_stacked",
    "qdisc": "kernel/test_restore",
    "rules": "contract/test_netns",
    "vrf": "vm/test_extras, outfit",
    "rtnl": "contract/test_netns, kernel/test_restore",
    "execute": "engine, contract/test_netns",
    "hostside": "vf, tuning, ebpf, userspace: over the engine",
    "compare": "e2e/test_verbs",
    "request": "main, with the table of bad inputs",
    "commands": "e2e/test_verbs",
    "calls": "agent",
    "resident": "e2e/test_agent",
    "warm": "e2e/test_agent: what a first call need not load any more",
    "ctl": "e2e/test_netdevctl",
    "ctl_shared": "ctl_policy, e2e/test_netdevctl",
    "install": "e2e/test_netdevctl",
    "validate": "e2e/test_netdevctl",
    "policyfile": "trusted and decoding, policysource, e2e/test_verbs",
}

NRI_TESTED_BY = {
    "__init__": "",
    "errors": "ttrpc, statuses: it has no behaviour of its own",
    "metrics": "handlers, prometheus: it has no behaviour of its own",
    "assembly": "e2e/test_nri_runtime: configurations right and wrong",
    "main": "e2e/test_nri_runtime: wrong use",
}


def imports(path: Path) -> set[tuple[str, int]]:
    """(module, line) of everything that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {(alias.name, node.lineno) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {(f"{module}.{alias.name}", node.lineno) for alias in node.names}
    return found


def offenders(
    paths: list[Path], forbidden: tuple[str, ...], allowed: tuple[str, ...] = ()
) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in paths
        for module, line in sorted(imports(path))
        if (module + ".").startswith(tuple(f"{each}." for each in forbidden))
        and not (module + ".").startswith(tuple(f"{each}." for each in allowed))
    ]


def uses_of(module: str, path: Path) -> set[str]:
    """What a file takes of a module, as in ``os.path``."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == module
    }


def test_the_core_knows_nothing_of_the_front_ends() -> None:
    core = [path for path in SOURCES if path.parent.name == "core"]
    assert len(core) > 20
    assert offenders(core, ("cni_netdev", "nri_plugin"), ("cni_netdev.core",)) == []


def test_one_module_imports_pyroute2() -> None:
    others = [path for path in SOURCES if path.name != "_pyroute2.py"]
    assert offenders(others, ("pyroute2",)) == []


def test_the_engines_logic_is_free_of_input_and_output() -> None:
    pure = (
        "engine",
        "attach",
        "adopt",
        "holdings",
        "pinning",
        "plan",
        "hostside",
        "tuning",
        "vf",
        "userspace",
        "guards",
        "rdma",
        "wifi",
        "recover",
        "restore",
        "execute",
        "extras",
        "outfit",
        "tunables",
        "compare",
        "admission",
        "policy",
        "decoding",
        "devices",
        "objects",
        "printable",
        "codec",
        "model",
    )
    paths = [PACKAGE / "core" / f"{name}.py" for name in pure]
    own = (
        "netlink",
        "kernel",
        "looks",
        "changes",
        "rtnl",
        "journal",
        "locks",
        "pins",
        "netns",
        "sysfs",
        "bpf",
        "libc",
    )
    system = ("os", "socket", "subprocess", "ctypes", *(f"cni_netdev.core.{each}" for each in own))
    assert offenders(paths, system) == []


@pytest.mark.parametrize("name", ["main", "request", "commands", "result"])
def test_the_path_of_every_pod_loads_nothing_heavy(name: str) -> None:
    """At module level; tests/unit/test_main.py looks at what is really loaded."""
    tree = ast.parse((PACKAGE / f"{name}.py").read_text())
    heads = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {
        alias.name if isinstance(node, ast.Import) else node.module or ""
        for node in heads
        for alias in node.names
    }
    ours = {"cni_netdev", "cni_netdev.request", "cni_netdev.core.quickjson"}
    light = {"__future__", "errno", "os", "time", "gc", *ours}
    assert modules <= light


def test_what_shim_and_agent_say_is_free_of_input_and_output() -> None:
    system = ("socket", "_socket", "selectors", "subprocess", "threading", "cni_netdev.agent")
    assert offenders([PACKAGE / "wire.py"], system) == []
    assert uses_of("os", PACKAGE / "wire.py") <= {"fsdecode"}
    assert (
        offenders([PACKAGE / "answerer.py", PACKAGE / "core" / "rounds.py"], ("os", *system)) == []
    )


def test_the_package_itself_is_empty() -> None:
    assert (PACKAGE / "__init__.py").read_text() == ""


def test_every_module_has_its_tests() -> None:
    modules = {path.stem for path in SOURCES}
    assert modules - TESTS - set(TESTED_BY) == set()
    assert set(TESTED_BY) & TESTS == set(), "has a test file by now"
    assert set(TESTED_BY) - modules == set(), "is gone"


# --- nri_plugin ------------------------------------------------------------------------------


def test_the_nri_front_end_knows_the_core_and_not_its_sibling() -> None:
    """But for main, which puts both in one process and hands the one to the other."""
    assert len(NRI_SOURCES) > 15
    others = [path for path in NRI_SOURCES if path.stem != "main"]
    assert offenders(others, ("cni_netdev",), ("cni_netdev.core",)) == []
    main = [NRI / "main.py"]
    assert offenders(main, ("cni_netdev",), ("cni_netdev.core", "cni_netdev.hosted")) == []


def test_the_wire_and_what_it_says_are_free_of_input_and_output() -> None:
    pure = (
        "mux",
        "ttrpc",
        "messages",
        "session",
        "errors",
        "statuses",
        "pods",
        "config",
        "identity",
        "limits",
        "handlers",
        "metrics",
    )
    paths = [NRI / f"{name}.py" for name in pure]
    own = ("transport", "service", "prometheus", "assembly")
    system = ("socket", "subprocess", "asyncio", "select", "signal", "prometheus_client")
    assert offenders(paths, (*system, *(f"nri_plugin.{each}" for each in own))) == []
    of_paths = {"config", "identity"}
    assert offenders([path for path in paths if path.stem not in of_paths], ("os",)) == []
    for path in paths:
        assert uses_of("os", path) <= {"path"}, path.name
    threads = [path for path in paths if path.stem != "limits"]
    assert offenders(threads, ("threading", "concurrent")) == []


@pytest.mark.parametrize(
    ("library", "where"),
    [
        ("asyncio", {"transport", "service", "main"}),
        ("google.protobuf", {"ttrpc", "messages"}),
        ("prometheus_client", {"prometheus"}),
        ("pyroute2", set()),
    ],
)
def test_a_library_stands_behind_few_modules(library: str, where: set[str]) -> None:
    others = [path for path in NRI_SOURCES if path.stem not in where]
    assert offenders(others, (library,)) == []


def test_every_module_of_the_nri_front_end_has_its_tests() -> None:
    assert (NRI / "__init__.py").read_text() == ""
    modules = {path.stem for path in NRI_SOURCES}
    tested = {path.stem.removeprefix("test_") for path in NRI_TESTS.glob("test_*.py")}
    assert modules - tested - set(NRI_TESTED_BY) == set()
    assert set(NRI_TESTED_BY) & tested == set(), "has a test file by now"
    assert set(NRI_TESTED_BY) - modules == set(), "is gone"
