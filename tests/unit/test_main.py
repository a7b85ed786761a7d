"""The entry point: one document or none, and the right code, whatever comes in."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_netdev import main as module
from cni_netdev.main import main
from tests.bad_inputs import CONF, ENV, TABLE, Bad

ROOT = Path(__file__).parent.parent.parent
# What needs no look at the host or the pod.
PURE = [bad for bad in TABLE if bad.code in (1, 2, 4, 6, 7)]


def call(environ: dict[str, str], stdin: str) -> tuple[int, Any]:
    stdout = io.BytesIO()
    code = main(environ, io.BytesIO(stdin.encode()), stdout)
    text = stdout.getvalue()
    return code, json.loads(text) if text else None


@pytest.mark.parametrize("bad", PURE, ids=lambda bad: bad.title)
def test_bad_input(bad: Bad) -> None:
    code, document = call(bad.environ, bad.stdin)
    assert code == 1
    assert document["code"] == bad.code
    assert bad.said in f"{document['msg']} {document.get('details', '')}"


@given(st.dictionaries(st.sampled_from(tuple(ENV)), st.text(max_size=6)), st.text(max_size=30))
def test_any_input_gives_an_error_document(environ: dict[str, str], stdin: str) -> None:
    code, document = call({**environ, "CNI_COMMAND": environ.get("CNI_COMMAND", "ADD")}, stdin)
    assert (code, document.keys() >= {"cniVersion", "code", "msg"}) == (1, True)


def test_an_answer_comes_in_the_version_asked_for() -> None:
    assert (
        call(ENV, json.dumps({**CONF, "cniVersion": "0.4.0", "name": ""}))[1]["cniVersion"]
        == "0.4.0"
    )
    assert call(ENV, json.dumps({**CONF, "cniVersion": "9.9.9"}))[1]["cniVersion"] == "1.1.0"


def test_no_more_is_read_than_can_be_right() -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert 0 < size < 1 << 25
            return b" " * size

    stdout = io.BytesIO()
    assert main(ENV, Endless(), stdout) == 1
    assert json.loads(stdout.getvalue())["code"] == 6


@pytest.mark.parametrize("levels", [63, 64, 300, 900])
def test_a_deep_result_is_passed_on_or_refused_whole(levels: int) -> None:
    deep: list[Any] = []
    for _ in range(levels - 1):
        deep = [deep]
    result = {"cniVersion": "1.1.0", "x": deep}
    code, document = call(ENV, json.dumps({**CONF, "prevResult": result}))
    if levels < 64:
        assert (code, document) == (0, result)
    else:
        assert (code, document["code"]) == (1, 6)


def test_a_deep_result_keeps_nobody_from_ending(tmp_path: Path) -> None:
    nested = "[" * 500 + "]" * 500
    text = json.dumps({**CONF, "stateDir": str(tmp_path), "prevResult": "NESTED"})
    environ = {**ENV, "CNI_COMMAND": "DEL"}
    assert call(environ, text.replace('"NESTED"', f'{{"x": {nested}}}')) == (0, None)


def test_an_internal_error_is_one_document_too(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def broken(state_dir: str) -> Any:
        raise ZeroDivisionError(state_dir)

    monkeypatch.setattr(module, "_engine", broken)
    code, document = call(ENV, json.dumps({**CONF, "devices": [{"name": "x"}]}))
    assert (code, document["code"]) == (1, 999)
    assert "ZeroDivisionError" in document["msg"]
    assert "Traceback" in capfd.readouterr().err


def test_a_part_that_cannot_be_loaded_for_want_of_descriptors_is_no_fault_of_ours(
    monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def without(state_dir: str) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), state_dir)

    monkeypatch.setattr(module, "_engine", without)
    code, document = call(ENV, json.dumps({**CONF, "devices": [{"name": "x"}]}))
    assert (code, document["code"]) == (1, 5)
    assert "Too many open files" in document["msg"]
    assert "Traceback" not in capfd.readouterr().err


def test_an_answer_that_nobody_takes_is_an_error(capfd: Any) -> None:
    class Broken(io.BytesIO):
        def write(self, _data: Any) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    assert main({**ENV, "CNI_COMMAND": "VERSION"}, io.BytesIO(b"{}"), Broken()) == 1
    assert "Broken pipe" in capfd.readouterr().err


@pytest.mark.parametrize("closed", ["1", "0 1", "0 1 2", "2"])
def test_closed_standard_descriptors(closed: str) -> None:
    """The answer must never land in a file that happened to get number 1."""
    script = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
for number in {closed.split()!r}:
    os.close(int(number))
from cni_netdev.main import entry
os.environ.clear()
os.environ["CNI_COMMAND"] = "VERSION"
entry()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], input=b"{}", capture_output=True, check=False
    )
    assert done.returncode == (1 if "1" in closed or "0" in closed else 0)
    assert (b"supportedVersions" in done.stdout) == (closed == "2")


ASKS_NOTHING = {**CONF, "prevResult": {"cniVersion": "1.1.0", "ips": []}}


@pytest.mark.parametrize(
    "extra", [{}, {"runtimeConfig": {"io.kubernetes.cri.pod-annotations": None}}]
)
def test_a_pod_that_asks_for_nothing_pays_for_nothing(extra: dict[str, Any]) -> None:
    script = f"""
import io, sys
sys.path.insert(0, {str(ROOT)!r})
from cni_netdev.main import main
code = main({ENV!r}, io.BytesIO({json.dumps({**ASKS_NOTHING, **extra}).encode()!r}), io.BytesIO())
heavy = [name for name in sys.modules if name.partition(".")[0] in
         ("pyroute2", "yaml", "click", "typing", "logging", "socket", "json", "re", "collections")
         or "netdev.core." in name and name != "cni_netdev.core.quickjson"]
print(code, heavy)
"""
    done = subprocess.run(
        [sys.executable, "-IS", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0 []\n"
