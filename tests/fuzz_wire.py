"""Fuzz the wire by coverage: ``python -m tests.fuzz_wire SECONDS``, or ``make fuzz``.

The target is tests.wire.survive_anything, which the hypothesis tests run too; atheris (libFuzzer)
looks for bytes that reach further.  It is not in requirements.lock: it has wheels for Linux on
x86_64 alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

DIRECTORY = Path(__file__).parent.parent / ".build" / "fuzz"


def main(seconds: int) -> None:
    """Ends the process: 0 when nothing was found; else the input is in a file, which is named."""
    try:
        import atheris
    except ImportError as error:
        sys.exit(f"atheris cannot be imported ({error}); `make fuzz` installs it where it can")
    with atheris.instrument_imports(include=["nri_plugin"]):
        from tests import wire

    corpus = DIRECTORY / "corpus"  # kept: the next run begins where this one ended
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(_seeds(wire.conversation())):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={DIRECTORY}/",
        "-max_len=4096",
        "-timeout=10",
        "-rss_limit_mb=1024",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], wire.survive_anything)
    atheris.Fuzz()


def _seeds(conversation: bytes) -> list[bytes]:
    """By each way to use the bytes, in large portions and in small ones."""
    return [bytes([how, size]) + conversation for how in range(32) for size in (255, 6)]


if __name__ == "__main__":
    main(int(sys.argv[1]))
