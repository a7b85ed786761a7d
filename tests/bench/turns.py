"""Timing contenders in turns, so that a machine that slows down slows all of them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

ROUNDS = 40


class Sample(NamedTuple):
    """One run: from start to end, and the CPU time that it used, in milliseconds."""

    ms: float
    cpu: float | None = None


class Command(NamedTuple):
    """A process: its program's path and arguments, all of its environment, its standard input."""

    arguments: list[str]
    environ: dict[str, str]
    stdin: str = ""


Samples = list[Sample]
Contenders = dict[str, Callable[[], Sample]]


def timed(command: Command) -> Sample:
    """A process that must succeed."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(command.stdin.encode())
        given.seek(0)
        streams = ((given.fileno(), 0), (said.fileno(), 1), (said.fileno(), 2))
        actions = [(os.POSIX_SPAWN_DUP2, source, target) for source, target in streams]
        program = command.arguments[0]
        start = time.perf_counter()
        pid = os.posix_spawnp(program, command.arguments, command.environ, file_actions=actions)
        _, status, used = os.wait4(pid, 0)
        taken = time.perf_counter() - start
        said.seek(0)
        assert status == 0, said.read()
    return Sample(taken * 1000, (used.ru_utime + used.ru_stime) * 1000)


def process(command: Callable[[], Command]) -> Callable[[], Sample]:
    return lambda: timed(command())


def take_turns(contenders: Contenders, rounds: int = ROUNDS) -> dict[str, Samples]:
    """Each once a round, after one round that is not counted."""
    samples: dict[str, Samples] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, contender in contenders.items():
            sample = contender()
            if number:
                samples[name].append(sample)
    return samples


def middle(samples: Samples) -> float:
    return median(each.ms for each in samples)
