"""What a start loads: each of these modules cost milliseconds of every pod's (see core.lean)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev import install
from cni_netdev.request import ANNOTATIONS
from tests.host import ROOT
from tests.injector import KEY

if TYPE_CHECKING:
    from tests.host import Host

pytestmark = pytest.mark.e2e

HEAVY = {
    *("asyncio", "click", "collections", "contextlib", "dataclasses", "enum", "functools"),
    *("importlib", "inspect", "ipaddress", "json", "logging", "multiprocessing", "pathlib"),
    *("pyroute2", "re", "socket", "subprocess", "tempfile", "threading", "traceback", "typing"),
    *("weakref", "yaml"),
    # Ours, for what these requests do not ask for.
    *(
        "cni_netdev.core.extras",
        "cni_netdev.core.outfit",
        "cni_netdev.core.tunables",
        "cni_netdev.core.rules",
        "cni_netdev.core.dad",
        "cni_netdev.core.vrf",
    ),
    *("cni_netdev.delegate", "cni_netdev.ipam", "cni_netdev.leasing"),
}
SCRIPT = """
import sys

sys.path += {paths!r}
import io, os

from cni_netdev.main import main

for verb in ("ADD", "DEL"):
    code = main({{**os.environ, "CNI_COMMAND": verb}}, io.BytesIO({text!r}), sys.stdout.buffer)
    print(code, *sorted(sys.modules))
"""


def test_a_venv_is_not_looked_into_at_each_start(tmp_path: Path) -> None:
    """The plugin is started by the interpreter that the venv links to, by the name it has there."""
    script = (
        "from pathlib import Path; from cni_netdev.install import install; install(Path('bin'))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    first = (tmp_path / "bin" / "cni-netdev").read_text().splitlines()[0]
    python = Path(first.removeprefix("#!").removesuffix(" -IS"))
    assert not python.is_relative_to(sys.prefix)
    assert python.samefile(sys.executable)
    links = (Path(sys.prefix) / "bin").glob("python*")
    assert str(python) in {os.readlink(each) for each in links if each.is_symlink()}


def test_what_is_installed_is_compiled(tmp_path: Path) -> None:
    """An image is read-only by the time of the first pod."""
    copy = tmp_path / "cni_netdev"
    shutil.copytree(ROOT / "cni_netdev", copy, ignore=shutil.ignore_patterns("__pycache__"))
    script = "from cni_netdev.install import install; install(Path('bin'))"
    start = f"import sys; from pathlib import Path; sys.path.insert(0, {str(tmp_path)!r})\n"
    subprocess.run([sys.executable, "-c", start + script], cwd=tmp_path, check=True)
    assert f"{str(tmp_path)!r}" in (tmp_path / "bin" / "cni-netdev").read_text()
    sources = {each.stem for each in (copy / "core").glob("*.py")}
    assert {each.name.partition(".")[0] for each in copy.glob("core/__pycache__/*.pyc")} == sources


@pytest.mark.parametrize("source", ["conflist", "JSON", "YAML"])
def test_add_and_del_load_nothing_heavy(host: Host, source: str) -> None:
    host.veth("nic0")
    devices = [{"name": "nic0", "mac": "02:00:00:00:00:01", "address": "192.168.2.2/24"}]
    texts = {
        "JSON": json.dumps(devices),
        "YAML": "- name: nic0\n  address: 192.168.2.2\n  prefix: 24\n",
    }
    asked: dict[str, Any] = {"devices": devices}
    if source in texts:
        asked = {"runtimeConfig": {ANNOTATIONS: {KEY: texts[source]}}}
    conf = {"cniVersion": "1.0.0", "name": "net", "type": "cni-netdev", **asked}
    script = SCRIPT.format(paths=install._library_paths(), text=json.dumps(conf).encode())
    environ = {
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": host.pod().path,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/",
    }
    done = subprocess.run(
        [sys.executable, "-IS", "-c", script],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    codes = [line for line in done.stdout.splitlines() if line.startswith("0 ")]
    assert len(codes) == 2, done.stdout
    for line in codes:
        assert HEAVY & set(line.split()) == set()
