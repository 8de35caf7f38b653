"""Every interleaving of a small world, up to a depth: the real core, with every promise checked at every step (ADR-0097).

    make explore EXPLORE_S=120                                 every scenario, each as far as it gets in that time
    python -m tests.simulation.exploration kills --seconds 60  one scenario
    python -m tests.simulation.exploration kills --play 'post | Engine.push | kill'    one schedule again, with what happens

The seeds of the simulation draw long histories at random; here nothing is left to chance. The world is the same (`World`), but time does
not order what happens: of everything that may happen next, each is tried. A frame, a report, a commit, an fsync, a timer may come before
or after any other that is under way (frames of one connection keep their order), and messages and faults may come at any point, each as
often as the scenario allows. Or everything happens in its usual order but so many times (`exceptions`), with faults at any point. Behind
the last step the world is healed, and must come to rest.

Two schedules that lead to the same world are continued once: a world is known by its canonical form (`tests.simulation.canonical`).

The search is depth first. Each alternative runs in a forked process of its own, so that no world has to be copied or played again; what was
seen is in shared memory. The schedule that breaks a promise is shortened until no step can be spared.
"""

from __future__ import annotations

import argparse
import functools
import gc
import math
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import IO

from relaybroker import __version__
from relaybroker.domain import state
from relaybroker.replay.session import FORMAT, Header, Writer, starting_state
from relaybroker.replay.turns import turns_of
from relaybroker.testing.simulation.run import trace_world
from tests.simulation.small_worlds import ANY, SCENARIOS, Explored, Make, Scenario

LONG = 60
"""Behind so many steps two messages have gone their way, whatever came between."""
SEPARATOR = " | "


class Seen:
    """Worlds that were continued, and how many steps were left then: a hash table in memory that forked processes share."""

    SLOTS = 1 << 22
    _WIDTH = 16

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self.SLOTS * self._WIDTH)

    def enter(self, key: bytes, left: int) -> bool:
        """Whether this world has not been continued so far yet; from now on it has."""
        key = key[: self._WIDTH - 1]
        slot = int.from_bytes(key[:8]) % self.SLOTS
        while True:
            at = slot * self._WIDTH
            known = self._memory[at : at + self._WIDTH]
            if known == bytes(self._WIDTH):
                break
            if known[:-1] == key:
                if known[-1] > left:
                    return False
                break
            slot = (slot + 1) % self.SLOTS
        self._memory[at : at + self._WIDTH] = key + bytes([left + 1])
        return True


@dataclass
class Result:
    """What a search has found."""

    worlds: int = 0
    steps: int = 0
    ends: int = 0
    is_whole: bool = True
    """Every schedule was tried; else the time was over, or one was found that breaks a promise."""
    schedule: tuple[str, ...] = ()
    """That schedule, without the steps that can be spared."""
    violation: str = ""


class Search:
    """One depth-first search over the schedules of a scenario, each of at most `depth` steps.

    `exceptions`: how often something else may happen next than what is due next, or an act that is no fault later than at the beginning
    (delay-bounded scheduling). With few exceptions a search reaches the end of what was begun.
    """

    def __init__(
        self,
        scenario: Scenario,
        depth: int,
        *,
        exceptions: int = ANY,
        make: Make | None = None,
        seconds: float = math.inf,
    ) -> None:
        self._scenario, self._depth, self._exceptions, self._make = scenario, depth, exceptions, make
        self._seen = Seen()
        self._counts = mmap.mmap(-1, 8 * len(_Count))
        self._until = time.monotonic() + seconds

    def run(self) -> Result:
        """Search, and shorten what was found."""
        explored = Explored(self._scenario, self._make, self._exceptions)
        with tempfile.TemporaryFile() as self._broken:
            self._fork(lambda: self._visit(explored, ()))
            self._broken.seek(0)
            lines = self._broken.read().decode().splitlines()
        worlds, steps, ends, stopped = map(self._count, _Count)
        result = Result(worlds, steps, ends, is_whole=not stopped)
        if lines:
            result.schedule, result.violation = self._shortened(tuple(lines[:-1]), lines[-1])
        return result

    def _visit(self, explored: Explored, path: tuple[str, ...]) -> None:
        left = self._depth - len(path)
        if not self._seen.enter(explored.key(), left):
            return
        self._add(_Count.WORLDS)
        choices = explored.choices() if left and not explored.is_decided() else {}
        for number, (name, do) in enumerate(choices.items(), 1):
            step = functools.partial(self._step, explored, do, (*path, name))
            if number == len(choices):
                step()  # nobody needs this world any more
            else:
                self._fork(step)
        if not choices:
            self._add(_Count.ENDS)
            self._try(explored.end, path)

    def _step(self, explored: Explored, do: Callable[[], None], path: tuple[str, ...]) -> None:
        if time.monotonic() > self._until:
            self._add(_Count.STOPPED)
        if self._count(_Count.STOPPED):
            return
        self._add(_Count.STEPS)
        if self._try(do, path):
            self._visit(explored, path)

    def _try(self, do: Callable[[], None], path: tuple[str, ...]) -> bool:
        try:
            do()
        except Exception as error:  # noqa: BLE001 - a broken promise, or any error of the core
            self._add(_Count.STOPPED)
            self._broken.write("\n".join((*path, _said(error))).encode())
            self._broken.flush()
            return False
        return True

    def _fork(self, do: Callable[[], None]) -> None:
        """Do it in a process that ends with it: this one's world stays as it is."""
        pid = os.fork()
        if not pid:
            code = 1
            gc.disable()  # it would touch every page that is shared
            try:
                do()
                code = 0
            finally:
                os._exit(code)
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError("the search itself failed; see above")

    def _count(self, what: _Count) -> int:
        return int.from_bytes(self._counts[what * 8 : what * 8 + 8])

    def _add(self, what: _Count) -> None:
        self._counts[what * 8 : what * 8 + 8] = (self._count(what) + 1).to_bytes(8)

    def _shortened(self, schedule: tuple[str, ...], violation: str) -> tuple[tuple[str, ...], str]:
        """Leave out each step without which a promise is broken all the same."""
        number = 0
        while number < len(schedule):
            shorter = schedule[:number] + schedule[number + 1 :]
            if said := play(self._scenario, shorter, make=self._make)[1]:
                schedule, violation = shorter, said
            else:
                number += 1
        return schedule, violation


class _Count(IntEnum):
    """Numbers that the forked processes share."""

    WORLDS = 0
    STEPS = 1
    ENDS = 2
    STOPPED = 3


def play(
    scenario: Scenario, schedule: Sequence[str], *, make: Make | None = None, tell: Callable[[str], None] | None = None
) -> tuple[Explored, str]:
    """Run one schedule and heal: the world, and the promise that was broken ("" = none). A step that is not possible is left out."""
    explored = Explored(scenario, make)
    if tell is not None:
        trace_world(explored.world, tell)
    try:
        for name in schedule:
            if (do := explored.choices().get(name)) is not None:
                if tell is not None:
                    tell(f"-- {name}")
                do()
        explored.end()
    except Exception as error:  # noqa: BLE001 - a broken promise, or any error of the core
        return explored, _said(error)
    return explored, ""


def write_session(explored: Explored, file: IO[bytes]) -> None:
    """What the log holds of a world, as a session for `relaybroker replay`."""
    disk = explored.world.disk
    assert disk.snapshot is not None
    begin = state.decode(explored.begin)
    assert begin is not None
    header = Header(
        session=FORMAT, broker=f"relaybroker/{__version__}", source="log", after=begin.position,
        name=explored.scenario.name, says=explored.scenario.says, state=starting_state(begin),
    )  # fmt: skip
    writer = Writer(file, header)
    for turn in turns_of(one for one in disk.records() if one.version > begin.position):
        writer.turn(turn)
    writer.end("range")


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


# --- the command ----------------------------------------------------------------------------------------------------------------------


def furthest(scenario: Scenario, seconds: float, *, by_depth: bool) -> tuple[int, Result]:
    """Search deeper and deeper, or with more and more exceptions, while there is time: how far all was tried, and the last result.

    Behind `LONG` steps two messages have gone their way, whatever came between.
    """
    until, tried = time.monotonic() + seconds, -1
    while True:
        left = until - time.monotonic()
        depth, exceptions = (tried + 1, ANY) if by_depth else (LONG, tried + 1)
        result = Search(scenario, depth, exceptions=exceptions, seconds=left).run()
        if not result.is_whole:
            return tried, result
        tried += 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.exploration", description=__doc__)
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], help="default: all")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each scenario (60)")
    parser.add_argument("--play", metavar="SCHEDULE", help="one schedule of one scenario, with everything that happens")
    parser.add_argument("--session", type=argparse.FileType("wb"), help="with --play: write its log as a session")
    given = parser.parse_args()
    chosen = [SCENARIOS[name] for name in given.scenarios or SCENARIOS]
    if given.play is not None:
        explored, violation = play(chosen[0], given.play.split(SEPARATOR), tell=print)
        if given.session:
            write_session(explored, given.session)
        print(violation or "every promise is kept")
        return bool(violation)
    broken = 0
    for scenario in chosen:
        print(f"{scenario.name}: {scenario.says}", flush=True)
        for by_depth, what in ((True, "steps"), (False, "exceptions from the usual order")):
            reached, result = furthest(scenario, given.seconds / 2, by_depth=by_depth)
            print(
                f"  every schedule of {reached} {what}; then {result.worlds} worlds, {result.ends} healed", flush=True
            )
            if result.violation:
                broken += 1
                print(f"  BROKEN: {result.violation}\n  {SEPARATOR.join(result.schedule)!r}", flush=True)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
