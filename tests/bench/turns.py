"""Timing contenders in turns, so that a machine that slows down slows all of them."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import IO, NamedTuple

# A move ends at one of several ticks of the kernel: the median of 40 is good to a tenth only.
ROUNDS = 100
_TICKS = 0.01  # seconds: one of a kernel with HZ=100, several of any other


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


def timed(commands: list[Command]) -> Sample:
    """Processes that start at one time and must succeed; until the last has ended."""
    with ExitStack() as stack:
        files = [stack.enter_context(_files(each)) for each in commands]
        start = time.perf_counter()
        pids = [_start(*each) for each in zip(commands, files, strict=True)]
        ends = [os.wait4(pid, 0) for pid in pids]
        taken = time.perf_counter() - start
        for (_, status, _), (_, said) in zip(ends, files, strict=True):
            said.seek(0)
            assert status == 0, said.read()
    return Sample(taken * 1000, sum(used.ru_utime + used.ru_stime for _, _, used in ends) * 1000)


@contextmanager
def _files(command: Command) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """What it is given, and what it says."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(command.stdin.encode())
        given.seek(0)
        yield given, said


def _start(command: Command, files: tuple[IO[bytes], IO[bytes]]) -> int:
    given, said = (each.fileno() for each in files)
    streams = ((given, 0), (said, 1), (said, 2))
    actions = [(os.POSIX_SPAWN_DUP2, source, target) for source, target in streams]
    program = command.arguments[0]
    return os.posix_spawnp(program, command.arguments, command.environ, file_actions=actions)


def process(command: Callable[[], Command]) -> Callable[[], Sample]:
    return lambda: timed([command()])


def together(commands: Callable[[], list[Command]]) -> Callable[[], Sample]:
    return lambda: timed(commands())


def take_turns(*phases: Contenders, rounds: int = ROUNDS) -> dict[str, Samples]:
    """Each once a round, phase after phase, after one round that is not counted.

    Inside a phase in another order each round, and each at another moment of the kernel's tick: a
    move ends at a tick, and waits for what is to be cleared up after the one before, which would
    always fall to the same contender.
    """
    samples: dict[str, Samples] = {name: [] for phase in phases for name in phase}
    shuffler = random.Random(ROUNDS)  # noqa: S311 - an order, the same for every run
    for number in range(rounds + 1):
        for phase in phases:
            for name, contender in shuffler.sample([*phase.items()], len(phase)):
                time.sleep(shuffler.uniform(0, _TICKS))
                sample = contender()
                if number:
                    samples[name].append(sample)
    return samples


def middle(samples: Samples) -> float:
    return median(each.ms for each in samples)
