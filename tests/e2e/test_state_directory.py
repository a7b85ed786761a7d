"""The state directory full, read-only, taken away, replaced, or anybody's.

While it cannot be used nothing is lent; what is lent comes home as soon as it can, and what nobody
can know any more is at least said.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_netdev.core import libc
from tests import children, seams
from tests.children import answer, with_faults
from tests.faults import Trial
from tests.host import STATE_DIR, run
from tests.injector import KEY, NriPlugin
from tests.nri_node import TWO, prepare, see_that_all_is_home, snapshot
from tests.nri_runtime import GoRuntime, pod
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.host import Answer, Host

pytestmark = pytest.mark.e2e

ASIDE = Path("/run/aside")
_MS_REMOUNT, _MS_RDONLY = 0x20, 0x1


@pytest.fixture
def trial(host: Host) -> Trial:
    return Trial(host)


def plugin(trial: Trial, verb: str, **conf: Any) -> Answer:
    return answer(lambda: trial.cni(verb, **conf))


def recover() -> Answer:
    return answer(lambda: children.netdevctl("recover"))


def all_home(trial: Trial) -> None:
    assert trial.watched.violations(*trial.pods()) == []
    assert trial.inside() == {}


# --- it cannot be written ---------------------------------------------------------------------


@contextmanager
def full() -> Iterator[str]:
    """Not a byte left; empty files can still be made."""
    filler = STATE_DIR / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 12)):
            pass
    yield "No space left on device"
    filler.unlink()


@contextmanager
def without_inodes() -> Iterator[str]:
    """Not even an empty file can be made."""
    fillers = []
    with suppress(OSError):
        for number in range(100):
            fillers.append(STATE_DIR / f"filler{number}")
            fillers[-1].touch()
    yield "No space left on device"
    for each in fillers:
        each.unlink(missing_ok=True)


@contextmanager
def read_only() -> Iterator[str]:
    libc.mount("", str(STATE_DIR), None, _MS_REMOUNT | _MS_RDONLY)
    yield "Read-only file system"
    libc.mount("", str(STATE_DIR), None, _MS_REMOUNT)


@contextmanager
def anybodys() -> Iterator[str]:
    STATE_DIR.chmod(0o777)
    yield "others may write it"
    STATE_DIR.chmod(0o700)


@contextmanager
def another_users() -> Iterator[str]:
    os.chown(STATE_DIR, 65534, 65534)
    yield "another user's"
    os.chown(STATE_DIR, 0, 0)


TROUBLES = (full, without_inodes, read_only, anybodys, another_users)


@pytest.fixture
def small(trial: Trial) -> Iterator[Trial]:
    """A state directory with room for a few records."""
    STATE_DIR.mkdir(mode=0o700)
    options = "mode=0700,size=128k,nr_inodes=24"
    run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(STATE_DIR))
    yield trial
    run("umount", "-R", str(STATE_DIR))


@pytest.mark.parametrize("trouble", TROUBLES)
def test_nothing_is_lent_and_it_is_said_why(small: Trial, trouble: Callable[[], Any]) -> None:
    (STATE_DIR / "records").mkdir(mode=0o700)
    with trouble() as words:
        for verb, code in (("ADD", 5), ("STATUS", 50)):
            assert plugin(small, verb).error()[0] == code
            assert words in plugin(small, verb).error()[1]
        plugin(small, "DEL").ok()
    all_home(small)
    plugin(small, "ADD").ok()
    plugin(small, "DEL").ok()
    all_home(small)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_is_lent_comes_home_now_or_as_soon_as_it_can(
    small: Trial, trouble: Callable[[], Any]
) -> None:
    small.tampered()
    with trouble() as words:
        plugin(small, "CHECK")
        for said in (
            plugin(small, "DEL"),
            plugin(small, "GC", **{"cni.dev/valid-attachments": []}),
        ):
            done = said.code == 0 and not small.inside()
            assert done or words in said.stdout + said.stderr, said
    if trouble is full:
        assert small.inside() == {}, "a full disk keeps no device in a pod"
    plugin(small, "DEL").ok()
    all_home(small)


# --- it is not there any more -----------------------------------------------------------------


def remove() -> None:
    """As an operator would: what is mounted in there cannot be removed."""
    shutil.copytree(STATE_DIR / "records", ASIDE, dirs_exist_ok=True)
    shutil.rmtree(STATE_DIR, ignore_errors=True)


def remove_from_elsewhere() -> None:
    """By somebody in another mount namespace, which unmounts the pins."""
    run("umount", "-R", "-l", *map(str, STATE_DIR.glob("pins-*")))
    shutil.rmtree(STATE_DIR)


@pytest.mark.parametrize("way", ["DEL", "GC", "recover"])
def test_whose_record_was_removed_is_said_and_its_namespace_let_go(trial: Trial, way: str) -> None:
    """The pins are still there, and would keep the pod's namespace for ever."""
    trial.attached()
    remove()
    assert not (STATE_DIR / "records").exists()
    said = {
        "DEL": lambda: plugin(trial, "DEL"),
        "GC": lambda: plugin(trial, "GC"),
        "recover": recover,
    }[way]()
    assert said.code == 0
    told = said.stdout + said.stderr
    assert "record was taken away" in told
    assert "nic2, nic1" in told
    assert trial.host.left_over() == []
    if way != "DEL":
        assert "no record is left of it" in plugin(trial, "DEL").stderr


def test_without_record_and_pin_del_says_what_it_cannot_bring_home(trial: Trial) -> None:
    trial.attached()
    remove_from_elsewhere()
    assert not STATE_DIR.exists()
    said = plugin(trial, "DEL")
    assert said.ok() is None
    for link, name in (("nic1", "nic2"), ("nic2", "nic1")):
        assert f"name {link!r} is not on the host and {name!r} is in the pod" in said.stderr
    again = plugin(trial, "DEL", devices=[{"name": "other"}])
    assert (again.code, again.stderr) == (0, "")


def test_one_that_is_taken_away_while_it_is_used(trial: Trial) -> None:
    """Before each file operation of ADD in turn: all is home again, or known and brought there."""
    _, events = with_faults(lambda: trial.cni("ADD"), {})
    plugin(trial, "DEL").ok()
    places = [
        event.place
        for event in events
        if event.where.partition(".")[0] in ("journal", "recordfiles", "locks", "pins")
    ]
    assert len(places) > 30
    for place in places[::4]:
        said = answer(lambda place=place: taken_away_at(trial, place))  # type: ignore[misc]
        assert "999" not in said.stdout, (place, said)
        told = said.stdout + said.stderr + plugin(trial, "DEL").stderr + recover().stdout
        if trial.inside():
            assert "no record is left of it" in told or "record was taken away" in told, place
            shutil.copytree(ASIDE, STATE_DIR / "records")
            plugin(trial, "DEL").ok()
        all_home(trial)
        shutil.rmtree(ASIDE, ignore_errors=True)


def taken_away_at(trial: Trial, place: tuple[str, str, int]) -> int:
    watch = seams.install()
    real = watch.around

    def around(event: seams.Event, *rest: Any) -> Any:
        if event.place == place:
            watch.on = False
            remove()
            watch.on = True
        return real(event, *rest)

    watch.around = around  # type: ignore[method-assign, assignment]
    return trial.cni("ADD")


# --- below the resident plugin ----------------------------------------------------------------


@pytest.fixture
def node(cni: Host) -> Host:
    return prepare(cni)


def rename(_: Path) -> None:
    STATE_DIR.rename("/run/elsewhere")


@pytest.mark.parametrize("accident", [lambda _: remove(), rename], ids=["removed", "renamed"])
def test_below_the_nri_plugin_it_is_put_back(node: Host, accident: Callable[[Path], None]) -> None:
    """From its memory, with the pins: the pod may end as it likes."""
    before = snapshot()
    with GoRuntime(node.directory) as runtime, NriPlugin(node, runtime.socket) as injector:
        injector.wait_for("synchronized")
        inside = node.pod("one")
        one = pod("one", {KEY: TWO}, netns=inside.path)
        runtime.run(one)
        records = {each.name: each.read_text() for each in (STATE_DIR / "records").iterdir()}
        accident(STATE_DIR)
        told = injector.wait_for("cannot look after the records")
        assert "was removed or replaced: 1 records" in told["error"]
        until(lambda: list(STATE_DIR.glob("pins-*/*")), lambda: "no pin")
        put = {each.name: each.read_text() for each in (STATE_DIR / "records").iterdir()}
        assert put.keys() == records.keys()
        for name, text in records.items():
            assert (
                json.loads(put[name])["record"]["devices"]
                == (json.loads(text)["record"]["devices"])
            )
        injector.kill()
        inside.delete()
        injector.start()
        if accident is rename:
            run("sh", "-c", "umount -l /run/elsewhere/pins-*/* /run/elsewhere/pins-*")
            shutil.rmtree("/run/elsewhere")
        see_that_all_is_home(node, before)
