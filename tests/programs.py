"""The programs under test: the checkout's, or a bundle's that was put down (`make test-dist`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_BUNDLES = os.environ.get("NETDEV_PROGRAMS")  # a bundle's directory of programs
ARE_BUNDLED = _BUNDLES is not None
DIRECTORY = Path(_BUNDLES) if _BUNDLES else Path(sys.executable).parent
NETDEVCTL = DIRECTORY / "netdevctl"
INJECTOR = DIRECTORY / "network-device-injector"
