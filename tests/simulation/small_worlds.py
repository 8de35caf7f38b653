"""Small worlds of the simulation whose events may come in any order: what may happen in each, by names that are the same in every run.

Time does not order what happens, and nothing is left to chance: whatever fails is an act. `tests.simulation.exploration` tries every order.

Source: ADR-0097.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from relaybroker.domain import inputs, state
from relaybroker.domain.broker import Broker
from relaybroker.domain.state import State
from relaybroker.testing.simulation import engine as engines
from relaybroker.testing.simulation import host as hosts
from relaybroker.testing.simulation.node import Crash, plain_harness
from relaybroker.testing.simulation.run import heal
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
