"""Hostile text in every place that a tenant can write, through both front ends over real files.

Whatever it is: one printable line for each thing that is said, and no file but those with names of
ours.
"""

from __future__ import annotations

import io
import json
import os
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cni_netdev import main as module
from cni_netdev.core.annotations import KEYS
from cni_netdev.core.engine import Injector
from cni_netdev.core.errors import NetdevError, StateError
from cni_netdev.core.journal import FileJournal
from cni_netdev.core.policy import Policy
from nri_plugin import ttrpc
from nri_plugin.handlers import Handlers, Settings
from nri_plugin.limits import Limit
from nri_plugin.logs import Log
from nri_plugin.messages import PodSandbox
from nri_plugin.metrics import NoMetrics
from nri_plugin.statuses import refusal_of
from tests.bad_inputs import CONF, ENV
from tests.fakes import FakeKernel, World
from tests.workbench import PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_mock import MockerFixture

NASTY = (
    "a\nlevel=error msg=forged",
    "a\r\ncni-netdev: forged",
    "\x1b[2J\x1b]0;x\x07\x9b",
    "\u202eevil\u2066\u2028",
    "%s%n%d%(x)s",
    "{0}{x.__class__}{",
    "../../../etc/passwd",
    "/etc/passwd",
    "..",
    "a@b@c",
    "%2e%2e%2f",
    "$(id)`id`",
    "' \" \\",
    "\0",
    "",
    "ü☃",
    "x" * 300,
    "eth1",
)
UNICODE = st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ANY = UNICODE | st.text(st.characters(), max_size=8)  # with halves of surrogate pairs
SCALARS = ANY | st.integers() | st.booleans() | st.none() | st.floats()
KNOWN = st.sampled_from(("new_name", "mac", "mtu", "address", "addresses", "routes", "up", "name"))


# What the kernel takes for a link's name (dev_valid_name in net/core/dev.c), any other byte too.
LINK_NAMES = (
    st.binary(min_size=1, max_size=15)
    .map(lambda raw: raw.translate(None, b"/: \t\n\v\f\r\0").decode(errors="surrogateescape"))
    .filter(lambda name: name not in ("", ".", ".."))
)


def mostly(plain: str, others: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.integers(0, 3).flatmap(lambda number: st.just(plain) if number else others)


@st.composite
def wishes(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """Text that can be a request, mostly by its form, sometimes also right."""
    keys, values = KNOWN | texts, SCALARS | st.lists(SCALARS, max_size=2)
    device = st.dictionaries(keys, values, max_size=2).map(lambda more: {"name": "eth1", **more})
    odd = st.builds(lambda kind, value: {kind: value}, st.sampled_from(KINDS), values)
    devices = draw(st.lists(device | odd, min_size=1, max_size=2))
    form = draw(st.sampled_from(("right", "right", "json", "yaml", "text")))
    if form == "right":
        return '[{"name": "eth1"}]'
    if form == "text":
        return draw(texts)
    return json.dumps(devices) if form == "json" else f"- {{name: eth1, x: {devices!r}}}"


KINDS = ("name", "hwaddr", "pci_address", "kernel_path", "nme")


class Node:
    """A state directory and a log on disk, a host in memory, and what was written where."""

    def __init__(self, directory: Path, mocker: MockerFixture) -> None:
        self.directory = directory
        self.state, self.log = directory / "state", directory / "log"
        self.stderr: list[bytes] = []
        self.created: set[str] = set()
        self.world = World()
        write, open_ = os.write, os.open

        def writing(fd: int, data: bytes) -> int:
            if fd != 2:
                return write(fd, data)
            self.stderr.append(data)
            return len(data)

        def opening(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            fd = open_(path, flags, *rest, **more)
            if flags & os.O_CREAT:
                self.created.add(str(path))
            return fd

        mocker.patch("os.write", writing)
        mocker.patch("os.open", opening)

    def engine(self) -> Injector:
        """Over a new host, whose one link is hardware and so needs no pin."""
        self.world = World()
        self.world.add_namespace(PATH)
        self.world.add_link("eth1", kind=None, bus="0000:3b:02.1")
        return Injector(FakeKernel(self.world), FileJournal(str(self.state), 0.2))

    def rename_in_pod(self, name: str) -> None:
        """As a pod can do; its alias too."""
        for fake in self.world.namespaces[self.world.paths[PATH]].values():
            settings = fake.link.settings._replace(name=name, alias=name)
            fake.link = fake.link._replace(settings=settings, altnames=(f"{name}x",))

    @contextmanager
    def judged(self) -> Iterator[None]:
        """What is written during the block is as it must be."""
        self.stderr.clear()
        self.created.clear()
        self.log.write_text("")
        yield
        for each in self.stderr:
            line = each.decode()
            assert line.endswith("\n")
            assert line[:-1].isprintable()
        assert self.log.read_text("ascii").replace("\n", "").isprintable()
        for path in self.created - {str(self.log)}:
            assert FILE.fullmatch(path.removeprefix(f"{self.state}/")), path
        left = {each.relative_to(self.directory).as_posix() for each in self.directory.rglob("*")}
        directories = {"state", "state/records", "state/locks"}
        assert left - directories - {"log"} == {f"state/records/{name}" for name in self.records()}

    def records(self) -> list[str]:
        with suppress(FileNotFoundError):
            return os.listdir(self.state / "records")
        return []


QUOTED = r"(?:[A-Za-z0-9_.-]|%[0-9A-F]{2})"
KEY = rf"(?:cni|nri)@{QUOTED}+@{QUOTED}*\.json"
FILE = re.compile(
    rf"records/{KEY}\.[0-9]+\.tmp|locks/(?:attachment-{QUOTED}+|link-[0-9]+|pins)\.lock"
)
LOGFMT = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|[!#-<>-~]+)')


@pytest.fixture
def node(tmp_path: Path, mocker: MockerFixture) -> Node:
    return Node(tmp_path, mocker)


def test_through_cni(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    engines: list[Injector] = []
    monkeypatch.setattr(module, "_engine", lambda _: engines[-1])

    def call(environ: dict[str, str], conf: dict[str, Any]) -> Any:
        stdout = io.BytesIO()
        module.main(environ, io.BytesIO(json.dumps(conf).encode()), stdout)
        return json.loads(stdout.getvalue()) if stdout.getvalue() else {}

    @given(
        annotation=wishes(ANY),
        others=st.dictionaries(ANY, SCALARS, max_size=2),
        pod=st.tuples(ANY, ANY),
        container=mostly("c1", ANY),
        ifname=mostly("eth0", ANY),
        previous=st.dictionaries(ANY, SCALARS, max_size=2),
        renamed=LINK_NAMES,
    )
    @settings(max_examples=100)
    def run(
        annotation: str,
        others: dict[str, Any],
        pod: tuple[str, str],
        container: str,
        ifname: str,
        previous: dict[str, Any],
        renamed: str,
    ) -> None:
        engines.append(node.engine())
        key = "io.kubernetes.cri.pod-annotations"
        conf = {
            **CONF,
            "stateDir": str(node.state),
            "logFile": str(node.log),
            "logLevel": "debug",
            "runtimeConfig": {key: {**others, KEYS[0]: annotation}},
            "prevResult": {**previous, "cniVersion": "1.1.0"},
        }
        arguments = f"K8S_POD_NAMESPACE={pod[0]};K8S_POD_NAME={pod[1]}"
        names = {"CNI_CONTAINERID": container, "CNI_IFNAME": ifname, "CNI_ARGS": arguments}
        environ = {**ENV, **names, "CNI_NETNS": PATH}
        with node.judged():
            document = call(environ, conf)
            said = f"{document.get('msg', '')}{document.get('details', '')}"
            assert said.isprintable()
        node.rename_in_pod(renamed)
        with node.judged():
            call({**environ, "CNI_COMMAND": "DEL"}, conf)
        assert node.records() == []

    run()


def test_through_nri(node: Node) -> None:
    log = Log()
    log.become(str(node.log), "debug", "text")

    @given(
        annotation=wishes(UNICODE),
        others=st.dictionaries(UNICODE, UNICODE, max_size=2),
        names=st.tuples(UNICODE.filter(bool), UNICODE, UNICODE, UNICODE),
    )
    @settings(max_examples=100)
    def run(annotation: str, others: dict[str, str], names: tuple[str, str, str, str]) -> None:
        id_, name, namespace, container = names
        pod = PodSandbox(id_, name, "uid", namespace, others, {**others, KEYS[0]: annotation}, PATH)
        handlers = Handlers(node.engine(), Settings(Policy, adopt=True), log, NoMetrics())
        deeds: tuple[Callable[[], object], ...] = (
            lambda: handlers.create(pod, container),
            lambda: handlers.run(pod, Limit(60)),
            lambda: handlers.synchronize((pod,)),
            handlers.look_after,
            lambda: handlers.release(pod),
        )
        for deed in deeds:
            with node.judged():
                refusal = _refused(deed)
                assert refusal.isprintable()
                assert ttrpc.failure(1, 3, refusal)
                _see_that_lines_are_whole(node.log.read_text("ascii"))
        assert node.records() == []

    run()


def _refused(deed: Callable[[], object]) -> str:
    try:
        deed()
    except NetdevError as error:
        return refusal_of(error).message
    return ""


def _see_that_lines_are_whole(text: str) -> None:
    """Each of known fields, of which nobody's text made one more."""
    for line in text.splitlines():
        fields = LOGFMT.findall(f" {line}")
        assert "".join(f" {key}={value}" for key, value in fields) == f" {line}"
        keys = [key for key, _ in fields]
        assert keys[:3] == ["time", "level", "msg"]
        assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("kind", [StateError, ZeroDivisionError])
@pytest.mark.parametrize("nasty", NASTY)
def test_whatever_an_error_says(
    node: Node, monkeypatch: pytest.MonkeyPatch, kind: type[Exception], nasty: str
) -> None:
    def broken(_: str) -> Any:
        raise kind(nasty)

    monkeypatch.setattr(module, "_engine", broken)
    stdout = io.BytesIO()
    conf = {**CONF, "logFile": str(node.log), "devices": [{"name": "eth1"}]}
    with node.judged():
        module.main(ENV, io.BytesIO(json.dumps(conf).encode()), stdout)
        assert json.loads(stdout.getvalue())["msg"].isprintable()
    assert refusal_of(kind(nasty)).message.isprintable()


@pytest.mark.parametrize("nasty", ["%s%n%(x)s", "{0}{x.__class__}{"])
def test_text_is_no_format(node: Node, nasty: str) -> None:
    stdout = io.BytesIO()
    conf = {**CONF, "logFile": str(node.log), "devices": [{"name": "eth1", nasty: nasty}]}
    module.main(ENV, io.BytesIO(json.dumps(conf).encode()), stdout)
    assert nasty in json.loads(stdout.getvalue())["msg"]
    assert nasty in node.log.read_text()
    assert nasty in node.stderr[-1].decode()
