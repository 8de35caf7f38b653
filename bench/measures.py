"""The measurements. Each has a broker of its own, started afresh, and gives figures by name; None = could not be had."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from bench import usage
from bench.figures import Progress, per_second, spread
from bench.session import Session, Spawned

Figures = dict[str, float | int | str | None]


class Plan(NamedTuple):
    """How much is measured. Seconds."""

    messages: int
    """One a second."""
    limit_s: float
    """Longest wait for a burst."""
    stall_s: float
    """Longest time without one more delivery."""
    events: int
    """In the long log."""
    rest_s: float = 5.0
    """Until what a broker at rest needs is read: it is what is measured, not synchronisation."""
    tool_calls: int = 200
    """Of agents' tools; of those that send, a quarter."""
    burst: float = 1.0
    """What share of the messages of each burst is sent."""


FULL = Plan(messages=60, limit_s=30, stall_s=10, events=1_000_000, tool_calls=4000)
QUICK = Plan(messages=10, limit_s=8, stall_s=4, events=100_000, tool_calls=1000)
BURSTS = ((1, 500), (10, 100), (50, 20))
CRASH = (10, 40)
"""Agents, and messages to each, in the crash measurement."""
IN_FLIGHT = 200
TYPED_BEFORE_KILL = 20
KILL_AFTER_S = 2.0


async def latency(name: str, plan: Plan) -> Figures:
    """One message a second to one agent."""
    async with Session(name) as session:
        spawned = await session.spawn(["a0"])
        await session.warm_up(["a0"])
        processes = session.processes()
        before, marks, began = usage.cpu_s(processes), [], time.monotonic()
        for number in range(plan.messages):
            await asyncio.sleep(max(0.0, began + number - time.monotonic()))
            marks.append(await session.send("a0"))
        await _finished(session, marks, plan)
        cpu = usage.cpu_s(processes) - before
        sent, notes, acks = session.sent, session.notes, session.engine.ack_times
        text = {mark: (notes.text[mark][0] - sent[mark][2]) / 1e6 for mark in marks if mark in notes.text}
        enter = {mark: (notes.enter[mark][0] - sent[mark][2]) / 1e6 for mark in marks if mark in notes.enter}
        acked = {mark: (acks[sent[mark][:2]] - sent[mark][2]) / 1e6 for mark in marks if sent[mark][:2] in acks}
        return {
            "start_s": round(session.start_s, 3),
            **_spawning(spawned[0]),
            **spread("text_ms", list(text.values())),
            **spread("enter_ms", list(enter.values())),
            **spread("ack_ms", list(acked.values())),
            "latency_messages": len(marks),
            "acked_before_typed": sum(acked[mark] < enter.get(mark, float("inf")) for mark in acked),
            "slow_cpu_ms": round(1000 * cpu / len(marks), 2),
        }


async def burst(name: str, plan: Plan, agents: int, each: int) -> Figures:
    """`each` messages to every agent at once. With many agents, memory too: with one agent, then with all after the burst."""
    key = f"burst_{agents}x{each}"
    each = max(1, round(each * plan.burst))
    async with Session(name) as session:
        first, *others = names = [f"a{number}" for number in range(agents)]
        spawned = await session.spawn([first])
        await session.warm_up([first])
        figures: Figures = {"start_s": round(session.start_s, 3), **_spawning(spawned[0])}
        one = usage.memory(session.processes())
        await session.spawn(others)
        await session.warm_up(others)
        written = [(to, session.write(to)) for _ in range(each) for to in names]
        marks = [mark for _to, (mark, _frame) in written]
        processes = session.processes()
        before, began = usage.cpu_s(processes), time.monotonic_ns()
        sending = asyncio.create_task(_send(session, written))
        state = await _finished(session, marks, plan)
        cpu = usage.cpu_s(processes) - before
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        if agents == BURSTS[-1][0]:
            full = usage.memory(processes)
            figures |= {"memory_1_resident": one.resident, "memory_1_private": one.private}
            figures |= {"memory_50_resident": full.resident, "memory_50_private": full.private}
            figures["memory_per_agent"] = round((full.private - one.private) / (agents - 1), 2)
        notes, acks = session.notes, session.engine.ack_times
        typed = [notes.enter[mark][0] for mark in marks if mark in notes.enter]
        acked = [acks[session.sent[mark][:2]] for mark in marks if session.sent[mark][:2] in acks]
        both = max(typed + acked, default=began)
        return figures | {
            f"{key}_state": "" if state == "done" else f"{state} at {min(len(typed), len(acked))} of {len(marks)}",
            f"{key}_seconds": round((both - began) / 1e9, 2) if state == "done" else None,
            f"{key}_typed_per_s": per_second(began, typed),
            f"{key}_acked_per_s": per_second(began, acked),
            f"{key}_per_s": per_second(began, [max(typed + acked)] * len(marks)) if state == "done" else None,
            f"{key}_cpu_ms": round(1000 * cpu / len(typed), 2) if typed else None,
        }


async def crash(name: str, plan: Plan) -> Figures:
    """Kill -9 of the broker with 200 in flight, a restart in the same folder; agents that died are started again by name."""
    agents, each = CRASH
    async with Session(name) as session:
        names = [f"a{number}" for number in range(agents)]
        await session.spawn(names)
        await session.warm_up(names)
        written = [(to, session.write(to)) for _ in range(each) for to in names]
        marks = [mark for _to, (mark, _frame) in written]
        await _send(session, written)
        until = time.monotonic() + KILL_AFTER_S
        while session.typed(marks) < TYPED_BEFORE_KILL and time.monotonic() < until:
            await asyncio.sleep(0.001)
        session.kill()
        in_flight = len(marks) - session.typed(marks)
        before = set(session.agents().values())
        await session.start()
        restarted = session.start_s
        await asyncio.sleep(1)  # helpers that lost their broker end in this time: what is measured, not synchronisation
        alive = set(session.agents().values())
        dead = [to for to in names if to not in session.agents()]
        await session.spawn(dead)
        await _finished(session, marks, plan)
        await asyncio.sleep(1)  # what is typed a second time comes late
        session.notes.look()
        texts, acks = session.notes.text, session.engine.ack_times
        lost = [mark for mark in marks if mark not in session.notes.enter]
        return {
            "crash_in_flight": in_flight,
            "crash_lost": len(lost),
            "crash_lost_acked": sum(session.sent[mark][:2] in acks for mark in lost),
            "crash_twice": sum(len(texts[mark]) > 1 for mark in marks if mark in texts),
            "crash_agents_alive": len(alive & before),
            "crash_agents": agents,
            "restart_s": round(restarted, 3),
        }


def _spawning(spawned: Spawned) -> Figures:
    return {"spawn_runs_s": round(spawned.runs, 3), "spawn_answered_s": round(spawned.answered, 3)}


async def _send(session: Session, written: list[tuple[str, tuple[int, str]]]) -> None:
    for to, message in written:
        await session.send(to, message)


async def _finished(session: Session, marks: list[int], plan: Plan) -> str:
    """Wait until all are typed and acknowledged, or nothing moves any more, or it takes too long."""
    progress = Progress(2 * len(marks), time.monotonic(), stall_s=plan.stall_s, limit_s=plan.limit_s)
    while (state := progress.state(session.typed(marks) + session.acked(marks), time.monotonic())) == "going":
        await asyncio.sleep(0.05)
    return state
