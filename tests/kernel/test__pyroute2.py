"""The way round pyroute2's package: notices a release in which it no longer works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parent.parent.parent
PATHS = [str(ROOT), *[each for each in sys.path if "site-packages" in each]]


def run(script: str) -> str:
    start = f"import sys; sys.path[:0] = {PATHS!r}\n"
    command = [sys.executable, "-IS", "-c", start + script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_rest_of_pyroute2_is_not_loaded() -> None:
    loaded = run(
        "from cni_netdev.core._pyroute2 import messages; messages();"
        "print(*sorted(each for each in sys.modules if each.startswith('pyroute2')))"
    ).split()
    assert "pyroute2.netlink.rtnl.ifinfmsg" in loaded
    assert "pyroute2" not in loaded
    assert not {"pyroute2.iproute", "pyroute2.ndb", "asyncio"} & set(loaded)


def test_the_real_package_can_still_be_imported() -> None:
    out = run(
        "from cni_netdev.core._pyroute2 import messages; messages();"
        "from pyroute2 import IPRoute; print(IPRoute.__name__)"
    )
    assert out == "IPRoute\n"
    after = (
        "import pyroute2; from cni_netdev.core._pyroute2 import messages; print(len(messages()))"
    )
    assert run(after) == "7\n"


def test_attributes_that_pyroute2_lacks_have_their_numbers() -> None:
    """linux/if_link.h: 62 to 67."""
    from cni_netdev.core._pyroute2 import messages

    names = [name for name, _ in messages().link.nla_map]
    assert names.index("IFLA_ALLMULTI") == 61
    assert names.index("IFLA_GSO_IPV4_MAX_SIZE") == 63
    assert names.index("IFLA_NETNS_IMMUTABLE") == 67


def test_without_pyroute2_the_error_says_so() -> None:
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}]\n"
        "from cni_netdev.core._pyroute2 import messages\n"
        "try: messages()\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-IS", "-c", script], capture_output=True, text=True, check=True
    )
    assert "pyroute2 is not installed" in done.stdout
