"""Run one seed: prepare, let things happen, check, heal, and see that everything comes to its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from relaybroker.domain import inputs
from relaybroker.domain.broker import Broker
from relaybroker.domain.effects import Effect
from relaybroker.domain.entities import Delivery
from relaybroker.domain.events import Recorded
from relaybroker.domain.state import State
from relaybroker.testing.simulation import engine as engines
from relaybroker.testing.simulation import host as hosts
from relaybroker.testing.simulation.checks import Violation, check_fold
from relaybroker.testing.simulation.moves import MOVES
from relaybroker.testing.simulation.node import plain_harness
from relaybroker.testing.simulation.world import Plan, World, plan_of

HEAL_ROUNDS = 40
HEAL_STEP_S = 15.0
"""Ten minutes of a healthy world: every retry, back-off and pause has run out by then (the longest is a refused link's 300 s)."""


@dataclass(frozen=True)
class Outcome:
    """What came of one seed."""

    seed: int
    violation: str
    marks: Counter[str]
    events: int
    typed: int
    simulated_s: float
    chain: str
    """Chain value of the last record: the same history has the same."""


def run(
    seed: int,
    *,
    plan: Plan | None = None,
    make: Callable[[State], Broker] = lambda state: Broker(plain_harness, state),
    trace: Callable[[str], None] | None = None,
) -> Outcome:
    """Run a seed to its end; a broken promise, and any error of the core, is told in the outcome."""
    world = World(plan or plan_of(seed), make=make)
    return run_world(world, trace=trace)


def run_world(world: World, *, trace: Callable[[str], None] | None = None) -> Outcome:
    """Run a prepared world to its end."""
    if trace is not None:
        trace_world(world, trace)
    violation = ""
    try:
        live(world)
        heal(world)
    except Exception as error:
        violation = f"{type(error).__name__}: {error}"
        if trace is not None:
            trace(f"[{world.timeline.now:12.4f}] !! {violation}")
            raise
    return Outcome(
        seed=world.plan.seed,
        violation=violation,
        marks=world.marks.reached,
        events=world.disk.position,
        typed=world.promises.typed_total,
        simulated_s=world.timeline.now,
        chain=world.disk.chain.hex(),
    )


def live(world: World) -> None:
    """Let the moves of the plan happen."""
    prepare(world)
    plan, random = world.plan, world.random
    weights = [one.weight * plan.weights[one.name] for one in MOVES]
    for number in range(plan.moves):
        if world.timeline.now >= plan.lasts_s:
            break
        (chosen,) = random.choices(MOVES, weights)
        if world.trace is not None:
            world.trace(f"[{world.timeline.now:12.4f}] -- {chosen.name}")
        chosen.do(world)
        world.timeline.run(random.expovariate(1.0 / plan.pause_s))
        if number % plan.fold_every == plan.fold_every - 1:
            world.check()


def prepare(world: World) -> None:
    """The broker starts; some of its agents are known to the engine from earlier days."""
    for name in world.plan.names:
        if world.random.random() < 0.4:
            acked = world.random.randint(0, 5)
            agent = world.engine.create(name, acked=acked, next_seq=acked + 1)
            for _ in range(world.random.randint(0, 3)):
                msg_id = world.engine.fresh_message_id()
                world.engine.post(agent, engines.message(msg_id, f"text of {msg_id}"), msg_id)
    world.node.start()
    world.timeline.run(2.0)
    if world.plan.begins_with_all:
        for name in world.plan.names:
            world.node.put(
                inputs.SpawnRequested(request_id=world.request_id(), spec=inputs.SpawnSpec(name=name, cli="cat"))
            )


def heal(world: World) -> None:
    """Every fault ends and the engine offers what it has; then everything must come to rest, and be right.

    Raises:
        Violation: something never does.
    """
    healthy = replace(
        world.plan.engine,
        push_lost=0.0,
        reply_lost=0.0,
        call_failed=0.0,
        slow_register=0.0,
        refuse_register=0.0,
        reject_token=0.0,
    )
    world.engine.traits = healthy
    world.host.traits = hosts.Traits()
    world.slow_disk_until = 0.0
    world.node.armed = None
    world.engine.token_serial = world.node.token_serial
    if not world.node.is_up:
        world.timeline.run(210.0)
    why = "it was not looked at"
    for number in range(HEAL_ROUNDS):
        for session in world.sessions("blocked"):
            world.host.clear(session)
        for session in world.sessions("booting", "ready"):
            world.host.submit(session)
            world.host.free(session)
        if number in (4, 12, 20):
            world.engine.drop("eof")  # it comes back and offers every open row
        world.timeline.run(HEAL_STEP_S)
        why = unrest(world)
        if not why and number > 4:
            break
    if why:
        raise Violation(f"D9: after {HEAL_ROUNDS * HEAL_STEP_S:.0f} s without faults {why}")
    world.check()
    if world.plan.keeps_all and world.state is not None:
        check_fold(world.disk.recover(use_snapshot=False, extra=world.disk.unwritten), world.state)


def unrest(world: World) -> str:
    """What is not at rest yet; "" if everything is."""
    state = world.state
    if state is None or not world.node.is_online:
        return f"the link is not online ({state.link.state if state else 'no process'})"
    open_messages = [message.stream for message in state.messages.values()]
    if open_messages:
        return f"messages are not published: {open_messages}"
    if world.engine.invocations:
        return f"invocations have no result: {list(world.engine.invocations)}"
    undelivered = [
        f"{delivery.stream} {delivery.state} {delivery.reason}"
        for delivery in state.deliveries.values()
        if not delivery.ended and not (delivery.state == "injected" and not _is_awaited(world, delivery))
    ]
    if undelivered:
        return f"deliveries are open: {undelivered[:5]}"
    living = {registration.agent_id: registration.name for registration in state.live_registrations()}
    for agent_id, name in living.items():
        offered = world.engine.agents[agent_id]
        if world.engine.names.get(name) != agent_id:
            continue  # archived at the engine
        if not offered.online:
            return f"the engine thinks that {name} is not here"
        if offered.rows:
            return f"rows of {name} are not settled: {list(offered.rows)[:5]} (acked {offered.acked})"
    elsewhere = [agent.name for agent in world.engine.agents.values() if agent.online and agent.agent_id not in living]
    if elsewhere:
        return f"R1: the engine thinks that {elsewhere} are here"
    stuck = [
        registration.stream for registration in state.registrations.values() if registration.agent_id not in living
    ]
    if stuck:
        return f"registrations do not end: {stuck}"
    orphans = [
        session.session_id for session in world.host.sessions.values() if session.session_id not in state.workers
    ]
    if orphans:
        return f"programs run that nobody knows: {orphans}"
    return ""


def _is_awaited(world: World, delivery: Delivery) -> bool:
    """Whether its acknowledgement matters to anybody: its agent is here and the engine still has a row (not those that expired there)."""
    offered = world.engine.agents[delivery.agent_id]
    return world.state is not None and delivery.agent_id in world.state.agents and bool(offered.rows)


def trace_world(world: World, trace: Callable[[str], None]) -> None:
    """From now on, say everything that happens."""
    world.trace = trace
    promises: Any = world.promises
    written, leaving, cut = promises.written, promises.leaving, promises.cut

    def said(text: str) -> None:
        trace(f"[{world.timeline.now:12.4f}] {text}")

    def tell_written(recorded: list[Recorded]) -> None:
        for one in recorded:
            said(f"#{one.version} {one.stream} {one.event!r}"[:400])
        written(recorded)

    def tell_leaving(effect: Effect) -> None:
        if type(effect).__name__ != "Notify":
            said(f"   -> {effect!r}"[:400])
        leaving(effect)

    def tell_cut(lost: int, *, is_torn: bool) -> None:
        said(f"xx the process died; {lost} records are lost")
        cut(lost, is_torn=is_torn)

    promises.written, promises.leaving, promises.cut = tell_written, tell_leaving, tell_cut
