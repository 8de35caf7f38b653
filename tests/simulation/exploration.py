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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from random import Random
from typing import IO, Any

import msgspec

from relaybroker import __version__
from relaybroker.domain import inputs, state
from relaybroker.domain.broker import Broker
from relaybroker.domain.state import State
from relaybroker.replay.session import FORMAT, Header, Writer, starting_state
from relaybroker.replay.turns import turns_of
from relaybroker.testing.simulation import engine as engines
from relaybroker.testing.simulation import host as hosts
from relaybroker.testing.simulation.node import Crash, plain_harness
from relaybroker.testing.simulation.run import heal, trace_world
from relaybroker.testing.simulation.timeline import Appointment, Pipe, Timeline
from relaybroker.testing.simulation.world import Plan, World
from tests.simulation.canonical import FIRST_POSITION, canonical, owner, under_way

ANY = 1 << 30
"""Exceptions from the usual order that are not counted."""
SOON_S = 0.25
"""What takes less than this takes no time here; what is due later is a timer, and lets time pass."""
TIMERS = ("Node._woken",)
"""What is a timer however soon it is due."""
AT_ONCE = ("Node._step", "Disk._written", "Host._pump", "Host._verify")
"""What happens as soon as it can. To decide about an input later is to get it later, a kill before the commit is one before the input, and
the other two are seen by the broker alone, through a pipe."""
Make = Callable[[State], Broker]


class NoChance(Random):
    """Chance without chance: nothing fails, everything takes the least time."""

    def random(self) -> float:
        return 0.999

    def uniform(self, a: float, b: float) -> float:
        return a if a > 0.0 or b > 1.0 else 0.0

    def getrandbits(self, k: int) -> int:
        return 0

    def choice(self, seq: Any) -> Any:
        return seq[0]

    def randint(self, a: int, b: int) -> int:
        return a


class Unordered(Timeline):
    """A timeline whose appointments may be kept in any order."""

    is_free = False
    """Whether short delays count as none."""

    def after(self, delay: float, what: Callable[..., None], *arguments: Any) -> Appointment:
        is_instant = self.is_free and delay <= SOON_S and what.__qualname__ not in TIMERS
        return super().after(0.0 if is_instant else delay, what, *arguments)

    def keep(self, appointment: Appointment) -> None:
        """Let this happen next, whatever else is due."""
        when = next(when for when, _, one in self._heap if one is appointment)
        self.now = max(self.now, when)
        appointment.cancelled = True
        appointment.what(*appointment.arguments)


# --- what may happen ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """A small world, and what may happen in it beside what follows by itself."""

    name: str
    says: str
    acts: Mapping[str, int]
    """Act -> how often it may happen."""
    faults: int = 2
    """How many of the acts that are faults may happen in all."""
    names: tuple[str, ...] = ("ann",)
    timers: int = 1
    """How often time may pass."""
    policy: str = "ask"
    has_doors: bool = False
    """Its programs have doors of their own."""


def _post(world: World, name: str) -> None:
    agent = world.engine.named(name)
    if agent is not None:
        msg_id = world.engine.fresh_message_id()
        world.engine.post(agent, engines.message(msg_id, f"text of {msg_id}"), msg_id)


def _again(world: World) -> None:
    """Every open row is offered once more."""
    for agent in world.engine.agents.values():
        for seq in agent.rows:
            world.engine.push(agent, seq)


def _ask(make: Callable[[World], inputs.Input]) -> Callable[[World], None]:
    def act(world: World) -> None:
        world.node.put(make(world))

    return act


def _one(world: World) -> Any:
    return next(iter(world.host.sessions.values()), None)


def _with_session(do: Callable[[World, Any], None]) -> Callable[[World], None]:
    def act(world: World) -> None:
        session = _one(world)
        if session is not None:
            do(world, session)

    return act


def _agent_sends(world: World, sender: str, to: str) -> None:
    agent_id = world.engine.names[sender]
    request_id = world.request_id()
    text = f"{engines.OF_AGENT}{agent_id} {request_id}"
    world.node.put(inputs.SendRequested(request_id=request_id, to=to, text=text, agent_id=agent_id))


ACTS: Mapping[str, Callable[[World], Any]] = {
    "post": lambda world: _post(world, world.plan.names[0]),
    "post to the other": lambda world: _post(world, world.plan.names[-1]),
    "fetch": lambda world: world.fetch(world.engine.names[world.plan.names[0]], 5),
    "release": _ask(lambda world: inputs.ReleaseRequested(request_id=world.request_id(), name=world.plan.names[0])),
    "answer": lambda world: _agent_sends(world, world.plan.names[0], world.plan.names[-1]),
    "dialog": _with_session(lambda world, session: world.host.open_dialog(session)),
    "dialog ends": _with_session(lambda world, session: world.host.clear(session)),
    "at work": _with_session(lambda world, session: world.host.occupy(session, "agent_busy", 300.0)),
    "free again": _with_session(lambda world, session: world.host.free(session)),
}
FAULTS: Mapping[str, Callable[[World], Any]] = {
    "kill": lambda world: world.node.crash(Crash(survive=0.0, stay_down_s=0.1)),
    "kill before effects": lambda world: setattr(world.node, "armed", Crash(survive=1.0, effects=0.0, stay_down_s=0.1)),
    "kill amid effects": lambda world: setattr(world.node, "armed", Crash(survive=1.0, effects=0.5, stay_down_s=0.1)),
    "machine": lambda world: world.node.crash_machine(1.0, 0.1),
    "again": _again,
    "drop": lambda world: world.engine.drop("eof"),
    "cut host": lambda world: world.node.cut_host(),
    "host dies": lambda world: world.host.die(),
    "program ends": _with_session(lambda world, session: world.host.exit(session, 1)),
    "engine restarts": lambda world: world.engine.restart(0.1),
}


_KILLS = ("kill", "kill before effects", "kill amid effects")


def _with(*acts: str, **often: int) -> dict[str, int]:
    """Each act once, and these more often."""
    return dict.fromkeys(acts, 1) | often


_ALL = (
    Scenario("order", "three messages, and an offer that comes again", _with("again", post=3)),
    Scenario("kills", "kills, and an offer that comes again", _with("again", *_KILLS, post=2)),
    Scenario("machine", "a machine that dies and takes what is not on disk", _with("again", "machine", post=2)),
    Scenario("link", "a link that breaks, an engine that restarts", _with("again", "drop", "engine restarts", post=2)),
    Scenario("host", "a host that dies or is cut off", _with("cut host", "host dies", "kill", post=2)),
    Scenario(
        "program", "a program that ends, an agent that is released", _with("program ends", "release", "kill", post=2)
    ),
    Scenario(
        "fetch", "an agent that fetches what is being typed", _with("fetch", "at work", "free again", *_KILLS, post=2)
    ),
    Scenario(
        "dialog", "a dialog that comes up at any moment", _with("dialog", "dialog ends", "kill", "cut host", post=2)
    ),
    Scenario(
        "at most once", "doubt that is not typed again", _with("kill", "host dies", post=2), policy="at_most_once"
    ),
    Scenario("at least once", "doubt that is typed again", _with("kill", "host dies", post=2), policy="at_least_once"),
    Scenario(
        "door", "a program with a door of its own", _with(*_KILLS, "host dies", "program ends", post=2), has_doors=True
    ),
    Scenario(
        "among agents",
        "agents here write to each other while the engine goes",
        _with("engine restarts", *_KILLS, answer=2),
        names=("ann", "bob"),
    ),
)
SCENARIOS: Mapping[str, Scenario] = {one.name: one for one in _ALL}


# --- one world ------------------------------------------------------------------------------------------------------------------


class Explored:
    """A world, and what may still happen to it."""

    def __init__(self, scenario: Scenario, make: Make | None = None, exceptions: int = ANY) -> None:
        self.scenario = scenario
        self.world = _world(scenario, make or (lambda state: Broker(plain_harness, state)))
        self.begin = state.encode(_core_of(self.world).state)
        """The core's state where the exploration begins."""
        self._has_begun = False
        """Whether anything has happened but acts."""
        self.budget = dict(scenario.acts) | {
            "faults": scenario.faults,
            "timers": scenario.timers,
            "exceptions": exceptions,
        }

    def choices(self) -> dict[str, Callable[[], None]]:
        """What may happen next, by a name that is the same in every run; first what is due first."""
        timeline = self._timeline
        possible: dict[str, Callable[[], None]] = {}
        held_up = set()
        for appointment, when in under_way(timeline):
            pipe = getattr(appointment.what, "__self__", None)
            if isinstance(pipe, Pipe):
                if pipe.is_cut or id(pipe) in held_up:
                    continue
                held_up.add(id(pipe))
            is_timer = when > timeline.now
            if is_timer and not self.budget["timers"]:
                continue
            name = _named(possible, _label(appointment))
            possible[name] = functools.partial(self._keep, appointment, is_timer=is_timer, is_exception=bool(possible))
            if not self.budget["exceptions"]:
                break
        for name in self.scenario.acts:
            if self._may_act(name):
                possible[name] = functools.partial(self._act, name)
        return possible

    def _may_act(self, name: str) -> bool:
        if not self.budget[name]:
            return False
        if name in FAULTS:
            return self.budget["faults"] > 0 and self.world.node.is_up
        return self.budget["exceptions"] > 0 or not self._has_begun

    def is_decided(self) -> bool:
        """Whether nothing more can happen but what is due, in its order: so it does when the world is healed."""
        return not self.budget["exceptions"] and not any(self._may_act(name) for name in self.scenario.acts)

    def key(self) -> bytes:
        """The world's canonical form, and what may still happen."""
        return canonical(self.world, self.budget)

    @property
    def _timeline(self) -> Unordered:
        assert isinstance(self.world.timeline, Unordered)
        return self.world.timeline

    def _keep(self, appointment: Appointment, *, is_timer: bool, is_exception: bool) -> None:
        self._has_begun = True
        self.budget["timers"] -= is_timer
        self._except(is_exception)
        self._timeline.keep(appointment)
        self._settle()

    def _act(self, name: str) -> None:
        self.budget[name] -= 1
        self.budget["faults"] -= name in FAULTS
        self._except(name in ACTS and self._has_begun)
        (ACTS.get(name) or FAULTS[name])(self.world)
        self._settle()

    def _except(self, is_exception: bool) -> None:
        if is_exception and self.budget["exceptions"] < ANY:
            self.budget["exceptions"] -= 1

    def _settle(self) -> None:
        """Let happen what happens at once."""
        timeline = self._timeline
        while ready := [one for one, when in under_way(timeline) if _is_at_once(one) and when <= timeline.now]:
            timeline.keep(ready[0])

    def end(self) -> None:
        """Heal the world; it must come to rest, and be right."""
        self._timeline.is_free = False
        heal(self.world)


def _world(scenario: Scenario, make: Make) -> World:
    """The agents run and nothing is under way."""
    plan = Plan(seed=0, names=scenario.names, policy=scenario.policy, has_doors=scenario.has_doors)
    world = World(plan, make=make, timeline=Unordered())
    chance = NoChance()
    for part in (world, world.engine, world.host, world.node):
        name = "random" if part is world else "_random"
        setattr(part, name, chance)
    world._disk_random = world._agents_random = chance
    world.node.start()
    world.timeline.run(2.0)
    for name in scenario.names:
        spec = inputs.SpawnSpec(name=name, cli="claude", doors=(hosts.DOOR,) if scenario.has_doors else None)
        world.node.put(inputs.SpawnRequested(request_id=world.request_id(), spec=spec))
    world.timeline.run(20.0)
    assert len(world.sessions("ready")) == len(scenario.names)
    assert world.node.is_online
    _begin_log_at(world, FIRST_POSITION)
    world.timeline.is_free = True
    return world


def _core_of(world: World) -> Broker:
    assert world.node.core is not None
    return world.node.core


def _begin_log_at(world: World, position: int) -> None:
    """Renumber the log so that positions are numbers that nothing else is."""
    core, disk = _core_of(world), world.disk
    assert disk.is_idle
    core.state.position = disk.synced = position
    disk.base = position - len(disk.rows)
    disk.snapshot = (position, state.encode(core.state))
    world.promises._position = world.promises._synced = position


def _is_at_once(appointment: Appointment) -> bool:
    return appointment.what.__qualname__ in AT_ONCE


def _label(appointment: Appointment) -> str:
    words = [str(owner(appointment)[0]) if owner(appointment) else appointment.what.__qualname__]
    words += [word for one in appointment.arguments if (word := _word(one))]
    return " ".join(words)


def _word(value: Any) -> str:
    """What an argument is, without what another order would number differently."""
    match value:
        case {"type": kind, **more}:
            return f"{kind} {more.get('seq') or more.get('up_to_seq') or ''}".strip()
        case msgspec.Struct():
            return f"{type(value).__name__} {getattr(value, 'delivery_id', '').partition('@')[0]}".strip()
    return ""


def _named(taken: Mapping[str, Any], label: str) -> str:
    number = 2
    name = label
    while name in taken:
        name, number = f"{label} ({number})", number + 1
    return name


# --- the search -------------------------------------------------------------------------------------------------------------------


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


def furthest(scenario: Scenario, seconds: float, *, by_depth: bool, most: int = 99) -> tuple[int, Result]:
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
        if tried >= most:
            return tried, result


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


LONG = 60
SEPARATOR = " | "

if __name__ == "__main__":
    sys.exit(main())
