"""python -m tests.vm test [ARGUMENT OF PYTEST ...] | demo | run COMMAND ...

Runs the tests that need it, the demo, or any command in the virtual machine.
"""

from __future__ import annotations

import sys
import time

from tests.vm import boot

PYTHON = str(boot.ROOT / ".venv" / "bin" / "python")
# A test that hangs tells where before the machine is ended.
_PYTEST = ("-m", "pytest", "-v", "-m", "vm", "--durations=5", "-o", "faulthandler_timeout=300")


def command(words: list[str]) -> list[str] | None:
    """What is to be run in the guest; None for wrong usage."""
    colours = ["--color=yes"] if sys.stdout.isatty() else []
    match words:
        case ["test", *more]:
            return [PYTHON, *_PYTEST, *colours, "tests/vm", *more]
        case ["demo"]:
            return [PYTHON, "-m", "tests.demo.dummy0"]
        case ["run", program, *arguments]:
            return [program, *arguments]
    return None


def main(words: list[str]) -> int:
    wanted = command(words)
    if wanted is None:
        print(__doc__)
        return 2
    release = (boot.VM / "release").read_text().strip()
    print(f"booting Linux {release} in an emulator; it takes a while", flush=True)
    started = time.monotonic()
    try:
        code = boot.run(wanted, boot.emulated())
    except boot.GuestDied as error:
        print(error)
        return 1
    print(f"the virtual machine ran for {time.monotonic() - started:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
