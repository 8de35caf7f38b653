"""What may happen next: people, other agents, the engine's operators, and everything that breaks.

A move is one function with a weight. A new kind of input gets a new function here, and the simulation drives it from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from relaybroker.domain import inputs
from relaybroker.testing.simulation import engine as engines
from relaybroker.testing.simulation.engine import OF_AGENT
from relaybroker.testing.simulation.node import Crash
from relaybroker.testing.simulation.world import World


class Move(NamedTuple):
    """One thing that may happen."""

    name: str
    weight: float
    do: Callable[[World], None]


MOVES: list[Move] = []


def move(weight: float) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    """Register a function as a move; `weight`: how likely it is beside the others."""

    def register(do: Callable[[World], None]) -> Callable[[World], None]:
        MOVES.append(Move(do.__name__, weight, do))
        return do

    return register


def _anyone(world: World) -> engines.Agent | None:
    """Some agent that the engine knows."""
    known = [world.engine.agents[agent_id] for agent_id in world.engine.names.values()]
    return world.random.choice(known) if known else None


# --- messages ---------------------------------------------------------------------------------------------------------------


@move(30)
def post(world: World) -> None:
    """A message for an agent."""
    agent = _anyone(world)
    if agent is not None:
        msg_id = world.engine.fresh_message_id()
        mode = world.random.choice(("wait", "wait", "steer"))
        world.engine.post(agent, engines.message(msg_id, f"text of {msg_id}"), msg_id, mode)


@move(3)
def burst(world: World) -> None:
    """Many messages at once."""
    agent = _anyone(world)
    if agent is not None:
        for _ in range(world.random.choice((5, 20, 60))):
            msg_id = world.engine.fresh_message_id()
            world.engine.post(agent, engines.message(msg_id, f"text of {msg_id}"), msg_id)


@move(0.015)
def flood(world: World) -> None:
    """More messages than a mailbox holds, for a while."""
    agent = _anyone(world)
    if agent is not None:
        for _ in range(1200):
            msg_id = world.engine.fresh_message_id()
            world.engine.post(agent, engines.message(msg_id, "flood"), msg_id)


@move(3)
def odd_payload(world: World) -> None:
    """A message that cannot or shall not be typed."""
    agent = _anyone(world)
    if agent is None:
        return
    msg_id = world.engine.fresh_message_id()
    payload = world.random.choice(
        (
            None,
            engines.message(msg_id, "hm", kind="weather.changed"),
            engines.message(msg_id, "+1", kind="message.reacted"),
            engines.message(msg_id, "my own", agent_id=agent.agent_id),
            engines.message(msg_id, "x" * 17_000),
        )
    )
    world.engine.post(agent, payload, msg_id)


@move(2)
def same_message_again(world: World) -> None:
    """The engine makes a second row of one message."""
    agent = _anyone(world)
    if agent is not None and agent.rows:
        row = world.random.choice(list(agent.rows.values()))
        world.engine.post(agent, row.payload, row.msg_id, twin=True)


@move(4)
def fan_out(world: World) -> None:
    """Something without sequence number, perhaps twice."""
    agent = _anyone(world)
    if agent is None or not agent.here:
        return
    key = f"inv{world.random.randint(1, 9)}"
    frame = {
        "type": "deliver",
        "agent": agent.name,
        "agent_id": agent.agent_id,
        "delivery_id": f"evt_action_completed_{key}_{agent.agent_id}",
        "msg_id": key,
        "seq": 0,
        "mode": "wait",
        "payload": {"type": "action.completed", "data": {"output": key}},
    }
    world.engine.say(frame)


@move(4)
def push_again(world: World) -> None:
    """Any open row is offered again, out of turn."""
    agent = _anyone(world)
    if agent is not None and agent.rows:
        world.engine.push(agent, world.random.choice(list(agent.rows)))


@move(2)
def forge(world: World) -> None:
    """Another message comes under a sequence number that is long settled."""
    agent = _anyone(world)
    story = world.promises.agents.get(agent.agent_id) if agent is not None else None
    settled = [seq for seq in story.covered if seq <= story.acked] if story is not None else []
    if agent is not None and settled and agent.here:
        msg_id = world.engine.fresh_message_id()
        seq = world.random.choice(settled[-3:])
        row = engines.Row(seq, msg_id, engines.message(msg_id, "forged"), 0.0)
        world.engine.say(engines.deliver(agent, row))


@move(1)
def misroute(world: World) -> None:
    """A frame for somebody who never lived here, or does not live here any more."""
    known = [agent for agent in world.engine.agents.values() if not agent.here]
    stranger = engines.Agent("777", "nobody")
    agent = world.random.choice([stranger, *known])
    msg_id = world.engine.fresh_message_id()
    row = world.engine.post(agent, engines.message(msg_id, "not for you"), msg_id)
    if row is not None:
        world.engine.say(engines.deliver(agent, row))


@move(2)
def settle_elsewhere(world: World) -> None:
    """A row is settled over REST: a hole in the sequence."""
    agent = _anyone(world)
    if agent is not None and agent.rows:
        world.engine.withdraw(agent, world.random.choice(list(agent.rows)))


@move(2)
def send(world: World) -> None:
    """A person sends a message through the local API."""
    to = world.random.choice((*world.plan.names, "nobody"))
    request_id = world.request_id()
    world.node.put(inputs.SendRequested(request_id=request_id, to=to, text=f"hello {request_id}"))


@move(1.5)
def agent_sends(world: World) -> None:
    """An agent sends with its own token, perhaps with a key, perhaps a second time, perhaps when it is no longer here."""
    agent = _anyone(world)
    if agent is None:
        return
    to, number = world.random.choice((*world.plan.names, "nobody")), world.random.randrange(40)
    request = inputs.SendRequested(
        request_id=world.request_id(),
        to=to,
        text=f"{OF_AGENT}{agent.agent_id} {number}",
        key=f"k{number}" if world.random.random() < 0.5 else "",
        agent_id=agent.agent_id,
    )
    world.node.put(request)
    if world.random.random() < 0.2:
        world.node.put(msgspec.structs.replace(request, request_id=world.request_id()))


@move(2)
def agent_answers(world: World) -> None:
    """An agent answers one of the newest messages of the log, by the id that it has here, or at the engine."""
    state = world.state
    if state is None:
        return
    under_way = [(one.event_id, one.recipient_id) for one in state.messages.values() if one.recipient_id]
    known = [(message_id, pair.recipient_id) for message_id, pair in state.pairs.items()]
    known += [(event_id, state.pairs[message_id].recipient_id) for event_id, message_id in state.published_as.items()]
    newest = [*known[-8:], *under_way]
    if newest:
        message_id, agent_id = world.random.choice(newest)
        request = inputs.SendRequested(
            request_id=world.request_id(),
            to=f"thread:{message_id}",
            text=f"{OF_AGENT}{agent_id} answers {message_id}",
            thread_id=message_id,
            agent_id=agent_id,
        )
        world.node.put(request)


@move(2)
def engine_is_away_and_agents_talk(world: World) -> None:
    """The engine goes, and agents of this node write to each other in the meantime."""
    if world.engine.is_up:
        world.engine.restart(world.random.choice((10.0, 120.0)))
    for _ in range(world.random.randint(1, 12)):
        world.timeline.run(world.random.expovariate(2.0))
        world.random.choice((agent_sends, agent_sends, agent_answers))(world)


@move(1)
def agents_talk(world: World) -> None:
    """One agent asks another in a channel or directly, and is answered in the thread; now and then with more than anybody may be typed."""
    agent = _anyone(world)
    if agent is None:
        return
    name = world.random.choice(world.plan.names)
    text = "x" * 17_000 if world.random.random() < 0.2 else f"{OF_AGENT}{agent.agent_id} asks"
    if world.random.random() < 0.3:
        asked = world.engine.say_in_channel(agent.agent_id, "general", text)
    elif name in world.engine.names and name != agent.name:
        asked = world.engine.say_directly(agent.agent_id, name, text)
    else:
        return
    world.timeline.after(world.random.uniform(0.1, 30.0), _answer, world, name, asked.msg_id)


def _answer(world: World, name: str, asked: str) -> None:
    agent = world.engine.named(name)
    if agent is not None:
        world.node.put(
            inputs.SendRequested(
                request_id=world.request_id(),
                to=f"thread:{asked}",
                text=f"{OF_AGENT}{agent.agent_id} answers",
                thread_id=asked,
                agent_id=agent.agent_id,
            )
        )


@move(1.5)
def agent_fetches(world: World) -> None:
    """An agent asks for what waits for it, most likely while it cannot be typed to."""
    stuck = world.sessions("blocked") or [one for one in world.sessions("ready") if one.occupied]
    agent_id = world.random.choice(stuck).agent_id if stuck else getattr(_anyone(world), "agent_id", "")
    if agent_id:
        world.fetch(agent_id, world.random.choice((1, 5, 100)))


@move(1)
def agent_reads_elsewhere(world: World) -> None:
    """An agent marks a message as read at the engine: its row is settled there, and everybody is told, if the frame comes through."""
    agent = _anyone(world)
    if agent is None or not agent.rows:
        return
    row = world.random.choice(list(agent.rows.values()))
    data = {"message_id": row.msg_id, "agent_id": agent.agent_id, "read_at": "2026-01-01T00:00:00.000Z"}
    world.engine.say(
        {
            "type": "deliver",
            "agent": agent.name,
            "agent_id": agent.agent_id,
            "delivery_id": f"evt_message_read_{row.msg_id}_{agent.agent_id}",
            "msg_id": row.msg_id,
            "seq": 0,
            "mode": "wait",
            "payload": {"type": "message.read", "data": data},
        }
    )


@move(0.5)
def agent_acts(world: World) -> None:
    """An agent joins a channel in its own name."""
    agent = _anyone(world)
    if agent is not None:
        given = {"channel": world.random.choice(("lab", "ops"))}
        act = world.random.choice(("join_channel", "leave_channel"))
        world.node.put(
            inputs.ActRequested(request_id=world.request_id(), agent_id=agent.agent_id, act=act, arguments=given)
        )


# --- agents -----------------------------------------------------------------------------------------------------------------


@move(8)
def spawn(world: World) -> None:
    """A person starts an agent."""
    name = world.random.choice(world.plan.names)
    task = "say hello" if world.random.random() < 0.3 else ""
    cli = world.random.choice(("claude", "cat", "bash"))
    restart = inputs.RestartPolicy(max_restarts=1) if cli == "cat" else None
    doors = ("inbox",) if world.plan.has_doors and cli == "claude" else None
    if doors and world.random.random() < 0.5:
        restart = inputs.RestartPolicy(max_restarts=3)
    spec = inputs.SpawnSpec(name=name, cli=cli, task=task, restart=restart, doors=doors)
    world.node.put(inputs.SpawnRequested(request_id=world.request_id(), spec=spec))


@move(1.5)
def release(world: World) -> None:
    """A person ends an agent."""
    name = world.random.choice(world.plan.names)
    world.node.put(inputs.ReleaseRequested(request_id=world.request_id(), name=name))


@move(0.7)
def spawn_and_release(world: World) -> None:
    """Somebody changes their mind at once."""
    spawn(world)
    world.timeline.after(world.random.uniform(0.0, 0.3), release, world)


@move(1)
def engine_spawns(world: World) -> None:
    """The engine places an agent here."""
    name = world.random.choice(world.plan.names)
    world.engine.invoke("spawn:cat", name, {"name": name})


@move(0.5)
def engine_releases(world: World) -> None:
    """The engine ends an agent here."""
    world.engine.invoke("release", world.random.choice(world.plan.names), {})


@move(0.3)
def new_identity(world: World) -> None:
    """A name that is free gets a new agent id."""
    agent = _anyone(world)
    if agent is not None and not agent.here:
        world.engine.create(agent.name)


@move(1)
def program_ends(world: World) -> None:
    """A program ends by itself."""
    running = world.sessions("booting", "ready", "blocked")
    if running:
        world.host.exit(world.random.choice(running), world.random.choice((0, 1)))


@move(1.5)
def dialog(world: World) -> None:
    """A dialog comes up, and somebody answers it after a while (or an hour)."""
    sessions = world.sessions("booting", "ready")
    if sessions:
        session = world.random.choice(sessions)
        world.host.open_dialog(session)
        world.timeline.after(world.random.choice((0.5, 20.0, 4000.0)), world.host.clear, session)


OCCUPATIONS = (
    ("agent_busy", 300.0),
    ("agent_busy", 0.0),
    ("agent_suspended", 0.0),
    ("composer_unclear", 0.0),
    ("human_driving", 0.0),
)


@move(2)
def occupation(world: World) -> None:
    """A program works or is stopped, a shell runs a command, a person types or left a text, for a while (or an hour)."""
    sessions = world.sessions("booting", "ready")
    if sessions:
        session = world.random.choice(sessions)
        reason, patience_s = world.random.choice(OCCUPATIONS)
        world.host.occupy(session, reason, patience_s)
        world.timeline.after(world.random.choice((0.5, 30.0, 900.0, 4000.0)), world.host.free, session)


@move(2)
def a_person_clears(world: World) -> None:
    """Somebody answers dialogs and clears half-typed texts."""
    for session in world.sessions("blocked"):
        world.host.clear(session)


@move(1)
def silence(world: World) -> None:
    """A program falls silent."""
    sessions = world.sessions("ready")
    if sessions:
        world.host.fall_silent(world.random.choice(sessions))


# --- what breaks --------------------------------------------------------------------------------------------------------------


@move(1.5)
def link_drops(world: World) -> None:
    """The socket ends."""
    world.engine.drop(world.random.choice(("eof", "eof", "superseded by another connection")))


@move(0.7)
def link_stalls(world: World) -> None:
    """No byte gets through, and nobody says so."""
    world.node.half_open(world.random.choice((2.0, 15.0, 70.0)))


@move(0.7)
def engine_restarts(world: World) -> None:
    """The engine is away for a while."""
    if world.engine.is_up:
        world.engine.restart(world.random.choice((0.5, 10.0, 120.0)))


@move(0.5)
def token_revoked(world: World) -> None:
    """The node's token is dead from the next dial on."""
    world.engine.revoke_token()
    world.engine.drop("eof")


@move(0.8)
def host_connection_breaks(world: World) -> None:
    """Broker and host lose each other; both live on."""
    if world.node.is_up:
        world.node.cut_host()
        world.marks.reach("the connection to the PTY host broke")


@move(0.4)
def host_dies(world: World) -> None:
    """Kill -9 of the PTY host."""
    world.host.die()
    world.marks.reach("the PTY host died")


@move(1.2)
def broker_dies_before_commit(world: World) -> None:
    """Kill -9 while a commit is under way: all, a part, or nothing of it is found again."""
    if world.node.is_up:
        survive = world.random.choice((0.0, world.random.random(), 1.0))
        world.node.crash(Crash(survive=survive, stay_down_s=_down(world)))
        world.marks.reach("crash before the commit")


@move(1.2)
def broker_dies_after_commit(world: World) -> None:
    """Kill -9 right after the next commit: none, some or all of its effects have gone out."""
    if world.node.is_up:
        effects = world.random.choice((0.0, world.random.random(), 1.0))
        world.node.armed = Crash(survive=1.0, effects=effects, stay_down_s=_down(world))
        middle = "crash in the middle of the effects"
        world.marks.reach("crash between commit and effects" if effects == 0.0 else middle)


def _down(world: World) -> float:
    return world.random.choice((0.05, 1.0, 30.0, 200.0))


@move(0.3)
def broker_and_host_die(world: World) -> None:
    """Kill -9 of both."""
    host_dies(world)
    broker_dies_before_commit(world)


@move(0.2)
def machine_crashes(world: World) -> None:
    """Everything on the machine dies; all, a part, or nothing of what was not synced is found again."""
    if not world.plan.keeps_all:
        return  # a long run has not the log that its checks would have to begin anew with
    share = world.random.choice((0.0, world.random.random(), 1.0))
    world.marks.reach("the machine crashed")
    if world.node.crash_machine(share, _down(world)):
        world.marks.reach("the machine took records with it")


@move(0.3)
def clean_stop(world: World) -> None:
    """The operator stops the broker, its agents live on (or not), and starts it again."""
    world.node.put(inputs.ShutdownRequested(reason="operator", agents_too=world.random.random() < 0.3))


@move(0.5)
def disk_slows_down(world: World) -> None:
    """Commits take up to two seconds for a while."""
    world.slow_disk_until = world.timeline.now + world.random.uniform(5.0, 60.0)


@move(0.4)
def clock_set_back(world: World) -> None:
    """The wall clock is set back."""
    world.timeline.wall_offset -= world.random.choice((0.5, 60.0, 3600.0, 10_800.0))
    world.marks.reach("the wall clock was set back")


@move(0.4)
def clock_set_forward(world: World) -> None:
    """The wall clock is set forward."""
    world.timeline.wall_offset += world.random.choice((0.5, 60.0, 600.0, 10_800.0))
    world.marks.reach("the wall clock was set forward")


@move(0.03)
def clock_leaps(world: World) -> None:
    """The wall clock is set forward by more than anything may wait."""
    world.timeline.wall_offset += 40 * 86_400.0


# --- time -----------------------------------------------------------------------------------------------------------------------


@move(0.5)
def quiet(world: World) -> None:
    """Nothing happens for a minute."""
    world.timeline.run(60.0)


@move(0.12)
def long_quiet(world: World) -> None:
    """Nothing happens for nearly an hour: whatever is held runs out."""
    world.timeline.run(3300.0)
