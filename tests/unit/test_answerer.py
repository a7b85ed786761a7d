"""Calls answered in a resident process: the same bytes as main's, or none at all."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev import main as plugin
from cni_netdev.answerer import Answerer
from cni_netdev.core.errors import DeviceNotFound, LockTimeout
from cni_netdev.main import Elsewhere
from cni_netdev.wire import Answer, Request
from tests.bad_inputs import CONF, ENV, TABLE, Bad

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

PREVIOUS = {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0"}], "custom": 1}
DEVICES = [{"name": "eth1"}]


def request(command: str, conf: dict[str, Any] | str, **environ: str) -> Request:
    text = conf if isinstance(conf, str) else json.dumps(conf)
    return Request({**ENV, "CNI_COMMAND": command, **environ}, text.encode())


def by_process(asked: Request, capfd: pytest.CaptureFixture[str]) -> Answer:
    """What a process of its own says."""
    capfd.readouterr()
    stdout = io.BytesIO()
    code = plugin.main(asked.environ, io.BytesIO(asked.stdin), stdout)
    return Answer(code, stdout.getvalue(), capfd.readouterr().err.encode())


@pytest.fixture
def engine(mocker: MockerFixture) -> Any:
    """Knows no record."""
    made = mocker.Mock()
    made.has.return_value = False
    made.detach.return_value = None
    made.unreadable.return_value = ()
    return made


@pytest.fixture
def answerer(engine: Any) -> Answerer:
    return Answerer("/run/cni-netdev/", engine)


PURE = [bad for bad in TABLE if bad.code in (1, 2, 4, 6, 7)]


@pytest.mark.parametrize("bad", PURE, ids=lambda bad: bad.title)
def test_bad_input(answerer: Answerer, bad: Bad, capfd: pytest.CaptureFixture[str]) -> None:
    asked = Request(bad.environ, bad.stdin.encode())
    assert answerer.answer(asked) == by_process(asked, capfd)
    looked = answerer.look(asked)
    assert looked in (None, answerer.answer(asked))


@pytest.mark.parametrize(
    "asked",
    [
        request("ADD", {**CONF, "prevResult": PREVIOUS}),
        request("ADD", CONF),
        request("ADD", "{"),
        request("DEL", CONF),
        request("VERSION", CONF),
    ],
)
def test_where_nothing_is_to_be_done_a_look_is_enough(
    answerer: Answerer, engine: Any, asked: Request, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = answerer.look(asked)
    assert answer is not None
    assert {each[0] for each in engine.method_calls} <= {"has"}
    assert answer == answerer.answer(asked)
    if asked.environ["CNI_COMMAND"] != "DEL":
        assert answer == by_process(asked, capfd)


@pytest.mark.parametrize(
    "asked",
    [
        request("ADD", {**CONF, "devices": DEVICES}),
        request(
            "ADD", json.dumps({**CONF, "devices": DEVICES}).replace("devices", "d\\u0065vices")
        ),
        request("ADD", {**CONF, "runtimeConfig": {"netDevices": DEVICES}}),
        request("CHECK", CONF),
        request("STATUS", CONF),
        request("GC", CONF),
        request("ADD", {**CONF, "prevResult": {"cniVersion": "1.1.0", "long": "x" * (1 << 16)}}),
    ],
)
def test_for_all_else_it_is_not(answerer: Answerer, engine: Any, asked: Request) -> None:
    assert answerer.look(asked) is None
    assert engine.method_calls == []


def test_a_del_of_a_record_is_more_than_a_look(answerer: Answerer, engine: Any) -> None:
    engine.has.return_value = True
    assert answerer.look(request("DEL", CONF)) is None
    assert answerer.answer(request("DEL", CONF)) == Answer(0, b"", b"")
    assert engine.detach.call_args.args[0] == ("cni", "c1", "eth0")


@pytest.mark.parametrize("command", ["ADD", "DEL", "STATUS"])
def test_another_state_directory_is_another_agents(answerer: Answerer, command: str) -> None:
    conf = {**CONF, "stateDir": "/run/other", "devices": DEVICES if command == "ADD" else []}
    with pytest.raises(Elsewhere, match="another state directory"):
        answerer.answer(request(command, conf))
    if command == "DEL":
        with pytest.raises(Elsewhere):
            answerer.look(request(command, conf))


@pytest.mark.parametrize("directory", ["/run/cni-netdev", "/run/cni-netdev//", ""])
def test_its_own_state_directory_however_it_is_written(answerer: Answerer, directory: str) -> None:
    assert answerer.answer(request("STATUS", {**CONF, "stateDir": directory})).code == 0


@pytest.mark.parametrize(("command", "method"), [("ADD", "attach"), ("DEL", "detach")])
def test_a_lock_is_waited_for_elsewhere(
    answerer: Answerer, engine: Any, command: str, method: str
) -> None:
    getattr(engine, method).side_effect = LockTimeout("link-7 is being worked on by process 9")
    with pytest.raises(Elsewhere, match="link-7 is being worked on"):
        answerer.answer(request(command, {**CONF, "devices": DEVICES}))


def test_what_nobody_waits_for_is_not_attached(answerer: Answerer, engine: Any) -> None:
    def attach(*arguments: Any, leases: Any) -> None:
        assert leases
        arguments[-1]()

    engine.attach.side_effect = attach
    with pytest.raises(Elsewhere, match="nobody waits"):
        answerer.answer(request("ADD", {**CONF, "devices": DEVICES}), lambda: False)


def test_errors_and_warnings_come_back(
    answerer: Answerer, engine: Any, mocker: MockerFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    engine.attach.side_effect = DeviceNotFound("no link is called eth1\x1b")
    mocker.patch.object(plugin, "_engine", return_value=engine)
    asked = request("ADD", {**CONF, "devices": DEVICES})
    answer = answerer.answer(asked)
    assert (answer.code, json.loads(answer.stdout)["code"]) == (1, 101)
    assert b"cni-netdev: ADD: code 101: no link is called eth1" in answer.stderr
    assert answer == by_process(asked, capfd)


def test_a_fault_is_told_as_a_process_tells_it(
    answerer: Answerer, engine: Any, mocker: MockerFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    engine.probe.side_effect = ZeroDivisionError
    mocker.patch.object(plugin, "_engine", return_value=engine)
    asked = request("STATUS", CONF)
    answer = answerer.answer(asked)
    assert json.loads(answer.stdout)["code"] == 999
    assert b"ZeroDivisionError" in answer.stderr
    assert answer == by_process(asked, capfd)


IPAM = {"type": "host-local", "subnet": "10.9.0.0/24"}


@pytest.mark.parametrize(
    ("command", "given"),
    [("ADD", True), ("DEL", True), ("DEL", False), ("CHECK", True), ("GC", True), ("STATUS", True)],
)
def test_an_ipam_plugin_is_run_elsewhere_before_anything_is_changed(
    answerer: Answerer, engine: Any, command: str, given: bool
) -> None:
    """given: whether the configuration names one; else the record does."""
    engine.has.return_value = not given
    engine.names.return_value = ("eth1",)
    engine.leases.return_value = ('{"type": "x"}', ("eth1",))
    engine.check.return_value = engine.leased.return_value = ()

    def changes(*_arguments: Any, leases: Any, **_keywords: Any) -> None:
        leases()
        raise AssertionError

    engine.attach.side_effect = changes
    if not given:
        engine.detach.side_effect = lambda _key, leases: leases()
    asked = request(command, {**CONF, "devices": DEVICES, **({"ipam": IPAM} if given else {})})
    with pytest.raises(Elsewhere, match="an IPAM plugin is to be run"):
        answerer.answer(asked)
    changed = {"ADD": 1, "DEL": 0 if given else 1}.get(command, 0)
    assert len(engine.attach.mock_calls + engine.detach.mock_calls) == changed
    assert engine.reap.mock_calls == []


def test_what_needs_no_ipam_plugin_is_answered(
    answerer: Answerer, engine: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    for command in ("ADD", "DEL"):
        asked = request(command, {**CONF, "ipam": IPAM, "prevResult": PREVIOUS})
        assert answerer.look(asked) == answerer.answer(asked)
        assert answerer.answer(asked).code == 0
    engine.leases.return_value = ("", ())
    engine.check.return_value = ()
    assert answerer.answer(request("CHECK", {**CONF, "devices": DEVICES})).code == 0
    assert capfd.readouterr().err == ""
