"""Our CNI plugin in the test's own process: emulated, a start of Python takes seconds."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

from cni_netdev.main import main
from tests.host import Answer

if TYPE_CHECKING:
    from tests.host import Pod


def add(pod: Pod, *devices: dict[str, object]) -> Answer:
    """ADD of these devices to the pod, by its only attachment."""
    return _call("ADD", pod, devices)


def check(pod: Pod, *devices: dict[str, object]) -> Answer:
    """CHECK, with what an ADD would answer for an empty prevResult."""
    return _call("CHECK", pod, devices, prevResult={"cniVersion": "1.1.0"})


def delete(pod: Pod) -> Answer:
    """DEL of the attachment, which knows by itself what it holds."""
    return _call("DEL", pod, ())


def _call(verb: str, pod: Pod, devices: tuple[dict[str, object], ...], **more: object) -> Answer:
    environ = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": f"c-{pod.name}",
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": pod.path,
        "CNI_PATH": "/opt/cni/bin",
    }
    conf: dict[str, object] = {
        "cniVersion": "1.1.0",
        "name": "net",
        "type": "cni-netdev",
        "devices": devices,
    }
    conf.update(more)
    stdout = io.BytesIO()
    code = main(environ, io.BytesIO(json.dumps(conf).encode()), stdout)
    return Answer(code, stdout.getvalue().decode(), "")
